"""Figures that change in place, on a terminal: by rich where it is installed, one plain line
otherwise.
"""

from __future__ import annotations

import logging
import shutil
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self


class Screen:
    """Where no figures are wanted: only `note` shows anything. A context manager, like the
    others.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()

    def update(self, values: Sequence[tuple[str, str]]) -> None:
        """Show these names and values instead of those before."""

    def note(self, text: str) -> None:
        """A line that stays, on stderr."""
        print(text, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the terminal as it should be."""


class PlainScreen(Screen):
    """One line that is written over."""

    def __init__(self) -> None:
        self._width = 0

    def update(self, values: Sequence[tuple[str, str]]) -> None:
        line = "  ".join(f"{name} {value}" for name, value in values)
        line = line[: shutil.get_terminal_size().columns - 1]
        print("\r" + line.ljust(self._width), end="", flush=True)
        self._width = len(line)

    def note(self, text: str) -> None:
        self.end()
        super().note(text)

    def end(self) -> None:
        print("\r" + " " * self._width + "\r", end="", flush=True)
        self._width = 0


class RichScreen(Screen):
    """A small table.

    :raises ImportError: rich is not installed
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        # refreshed by update() alone: one more thread would compete with those that serve
        self._live = Live(
            console=Console(),
            auto_refresh=False,
            transient=True,
            redirect_stderr=sys.stderr.isatty(),  # a log file shall stay one
        )
        self._live.start()

    def update(self, values: Sequence[tuple[str, str]]) -> None:
        from rich.table import Table

        grid = Table.grid(padding=(0, 2))
        for name, value in values:
            grid.add_row(f"[dim]{name}[/dim]", f"[bold]{value}[/bold]")
        self._live.update(grid, refresh=True)

    def end(self) -> None:
        self._live.stop()


def open_screen(*, quiet: bool) -> Screen:
    """The best there is for this standard output."""
    if quiet or not sys.stdout.isatty():
        return Screen()
    try:
        return RichScreen()
    except ImportError:
        return PlainScreen()


class ScreenHandler(logging.Handler):
    """Shows what netpoll logs (running out of descriptors, say) without spoiling the figures."""

    def __init__(self, screen: Screen) -> None:
        super().__init__(logging.WARNING)
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._screen.note(f"netpoll: {record.getMessage()}")
        except Exception:
            self.handleError(record)
