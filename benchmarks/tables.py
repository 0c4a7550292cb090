"""Markdown tables, with columns padded to one width so that they read well as plain text too."""

from benchmarks.results import Spread

NOTHING = "–"


def table(head: list[str], rows: list[list[str]]) -> str:
    widths = [max(3, *(len(row[column]) for row in [head, *rows])) for column in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = ["| " + " | ".join(_pad(row, widths)) + " |" for row in (head, rule, *rows)]
    return "\n".join(lines)


def _pad(row: list[str], widths: list[int]) -> list[str]:
    return [row[0].ljust(widths[0])] + [
        text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)
    ]


def spread(value: Spread | None, form: str = ".2f") -> str:
    if value is None:
        return NOTHING
    return f"{value.median:{form}} ({value.low:{form}}–{value.high:{form}})"


def median(value: Spread | None, form: str, factor: float = 1.0) -> str:
    return NOTHING if value is None else format(value.median * factor, form)
