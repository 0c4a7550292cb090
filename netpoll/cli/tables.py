"""Tables: by rich on a terminal where it is installed, plain text everywhere else.

Plain text is also what goes into files and pipes: rich would wrap it at 80 columns there.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STYLES: Mapping[str, str] = {
    "usable": "green",
    "not usable": "dim",
    "native": "green",
    "emulated": "yellow",
    "unsupported": "dim",
    "passed": "green",
    "failed": "bold red",
    "expected failure": "yellow",
    "undecided": "dim",
    "not covered": "dim",
    "skipped": "dim",
}
"""How rich shows cells that are exactly these words."""


@dataclass
class Table:
    """Rows of text under a title and headers. A cell may have several lines."""

    title: str
    headers: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list["Sequence[str]"])
    emphasis: set[int] = field(default_factory=set[int])
    """Indices of the rows that need attention."""


def show(table: Table) -> None:
    """Print the table, and an empty line behind it."""
    if not (sys.stdout.isatty() and _show_rich(table)):
        print(plain(table))
    print()


def plain(table: Table) -> str:
    """The table as text, without trailing blanks; `!` marks the rows that need attention."""
    cells = [[cell.splitlines() or [""] for cell in row] for row in (table.headers, *table.rows)]
    widths = [max(len(line) for row in cells for line in row[i]) for i in range(len(cells[0]))]
    rule = [["-" * width] for width in widths]
    lines = [table.title, "=" * len(table.title)]
    for number, row in enumerate((cells[0], rule, *cells[1:])):
        for index in range(max(map(len, row))):
            texts = [cell[index] if index < len(cell) else "" for cell in row]
            padded = "  ".join(map(str.ljust, texts, widths))
            if table.emphasis:
                marked = not index and number - 2 in table.emphasis
                padded = ("! " if marked else "  ") + padded
            lines.append(padded.rstrip())
    return "\n".join(lines)


def _show_rich(table: Table) -> bool:
    """Whether rich is here and has printed the table."""
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table as RichTable
        from rich.text import Text
    except ImportError:
        return False
    grid = RichTable(title=table.title, title_justify="left", box=box.SIMPLE_HEAD)
    for header in table.headers:
        grid.add_column(header, overflow="fold")
    for number, row in enumerate(table.rows):
        # Text, so that brackets in a cell are not taken for markup
        cells = [Text(cell, style=STYLES.get(cell, "")) for cell in row]
        grid.add_row(*cells, style="bold red" if number in table.emphasis else "")
    Console().print(grid)
    return True
