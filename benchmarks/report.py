"""The results as Markdown."""

from collections.abc import Callable

from benchmarks.results import Results, Spread

REFERENCES = ("asyncio-sock", "c-epoll")
"""What the summary compares with besides the baseline."""


def render(results: Results) -> str:
    """Return the tables, the machine and everything that did not run."""
    parts = [_notes(results)]
    if results.samples:
        parts = [_summary(results), _ratios(results), _costs(results), _rates(results), *parts]
    return "\n\n".join(part for part in [*parts, _environment(results)] if part)


def _measured(results: Results) -> list[str]:
    """The subjects with samples, the baseline first."""
    seen = {sample.subject for sample in results.samples}
    return sorted(
        (name for name in results.subjects if name in seen),
        key=lambda name: (name != results.baseline, results.subjects.index(name)),
    )


def _summary(results: Results) -> str:
    subjects = _measured(results)
    others = [
        other for other in dict.fromkeys((results.baseline, *REFERENCES)) if other in subjects
    ]
    rows = [
        [name, *(_spread(results.overall(name, other)) for other in others)] for name in subjects
    ]
    if not any(cell.strip("–") for row in rows for cell in row[1:]):
        return ""
    return (
        "### Overall: CPU time per message\n\n"
        "Median over the cells with 10 to 1,000 busy connections (best to worst cell).\n\n"
        + _table(["", *(f"÷ {other}" for other in others)], rows)
    )


def _ratios(results: Results) -> str:
    if results.baseline not in _measured(results):
        return ""
    return (
        f"### CPU time per message, {results.baseline} = 1\n\n"
        "Median of the ratios of each round (smallest to largest). Lower is better.\n\n"
        + _matrix(results, lambda cell, name: _spread(results.ratio(cell, name, results.baseline)))
    )


def _costs(results: Results) -> str:
    return "### CPU time per message, µs\n\nMedian over the rounds.\n\n" + _matrix(
        results, lambda cell, name: _number(results.cost(cell, name), ".2f")
    )


def _rates(results: Results) -> str:
    def rate(cell: str, name: str) -> str:
        value = results.rate(cell, name)
        return "–" if value is None else f"{value / 1000:.1f}"

    return (
        "### Thousand messages per second\n\n"
        "For orientation: the load has one CPU too, and is the limit for the fast ones.\n\n"
        + _matrix(results, rate)
    )


def _matrix(results: Results, entry: Callable[[str, str], str]) -> str:
    subjects = _measured(results)
    seen = {sample.cell for sample in results.samples}
    rows = [
        [cell, *(entry(cell, name) for name in subjects)] for cell in results.cells if cell in seen
    ]
    return _table(["", *subjects], rows)


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


def _spread(spread: Spread | None) -> str:
    return "–" if spread is None else f"{spread.median:.2f} ({spread.low:.2f}–{spread.high:.2f})"


def _number(spread: Spread | None, form: str) -> str:
    return "–" if spread is None else format(spread.median, form)


def _table(head: list[str], rows: list[list[str]]) -> str:
    """Columns padded to one width, so that it reads well as plain text too."""
    table = [head, *rows]
    widths = [max(3, *(len(row[column]) for row in table)) for column in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = ["| " + " | ".join(_pad(row, widths)) + " |" for row in (head, rule, *rows)]
    return "\n".join(lines)


def _pad(row: list[str], widths: list[int]) -> list[str]:
    return [row[0].ljust(widths[0])] + [
        text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)
    ]
