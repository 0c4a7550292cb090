"""The results as Markdown."""

from collections.abc import Callable

from benchmarks import report_kinds, targets
from benchmarks.cells import Kind
from benchmarks.results import Results
from benchmarks.tables import NOTHING, median, spread, table

REFERENCES = ("asyncio-sock", "c-epoll")
"""What the summary compares with besides the baseline."""
MATRIX = (Kind.ECHO, Kind.LATENCY)
"""The kinds of cells whose CPU time per message is comparable."""


def render(results: Results) -> str:
    """Return the tables, the machine and everything that did not run."""
    parts = [
        targets.render(results),
        _summary(results),
        _ratios(results),
        _costs(results),
        _rates(results),
        *report_kinds.render(results),
        _notes(results),
        _environment(results),
    ]
    return "\n\n".join(part for part in parts if part)


def _summary(results: Results) -> str:
    subjects = results.measured()
    others = [
        other for other in dict.fromkeys((results.baseline, *REFERENCES)) if other in subjects
    ]
    rows = [
        [name, *(spread(results.overall(name, other)) for other in others)]
        for name in subjects
        if name not in results.partial
    ]
    rows = [row for row in rows if any(text != NOTHING for text in row[1:])]
    if not rows:
        return ""
    return (
        "### Overall: CPU time per message\n\n"
        "Median over the cells with 10 to 1,000 busy connections (best to worst cell).\n\n"
        + table(["", *(f"÷ {other}" for other in others)], rows)
    )


def _ratios(results: Results) -> str:
    if results.baseline not in results.measured():
        return ""
    return _matrix(
        results,
        f"### CPU time per message, {results.baseline} = 1\n\n"
        "Median of the ratios of each round (smallest to largest). Lower is better.",
        lambda cell, name: spread(results.ratio(cell, name, results.baseline)),
    )


def _costs(results: Results) -> str:
    return _matrix(
        results,
        "### CPU time per message, µs\n\nMedian over the rounds.",
        lambda cell, name: median(results.cost(cell, name), ".2f"),
    )


def _rates(results: Results) -> str:
    def rate(cell: str, name: str) -> str:
        value = results.rate(cell, name)
        return NOTHING if value is None else f"{value / 1000:.1f}"

    return _matrix(
        results,
        "### Thousand messages per second\n\n"
        "For orientation: the load has one CPU too, and is the limit for the fast ones.",
        rate,
    )


def _matrix(results: Results, heading: str, entry: Callable[[str, str], str]) -> str:
    """Cells by subjects, without the subjects that have no part in them."""
    cells, subjects = results.cells_of(*MATRIX), results.measured()
    columns = {name: [entry(cell, name) for cell in cells] for name in subjects}
    shown = [name for name in subjects if any(text != NOTHING for text in columns[name])]
    if not shown:
        return ""
    rows = [[cell, *(columns[name][index] for name in shown)] for index, cell in enumerate(cells)]
    return heading + "\n\n" + table(["", *shown], rows)


def _notes(results: Results) -> str:
    lines = [f"* skipped: {name}: {reason}" for name, reason in results.skipped.items()]
    lines += [f"* failed: {what}: {reason}" for what, reason in results.failures.items()]
    if not results.complete:
        lines.append("* interrupted: what was measured until then is shown")
    return "\n".join(lines)


def _environment(results: Results) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in results.settings.items())
    facts = {**results.environment, "settings": settings}
    return "### Where\n\n" + "\n".join(f"* {name}: {value}" for name, value in facts.items())
