"""Progress on standard error: a bar where rich is installed, plain lines where not."""

import sys
import time
from types import TracebackType
from typing import Protocol, Self


class Progress(Protocol):
    """A context manager that is told what goes on."""

    def say(self, text: str) -> None: ...
    def advance(self, steps: int) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class PlainProgress:
    """A line for each thing said, with the share done and the time passed."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._start = time.monotonic()

    def say(self, text: str) -> None:
        share = 100 * self._done // max(self._total, 1)
        print(f"{share:3} % {time.monotonic() - self._start:5.0f} s  {text}", file=sys.stderr)

    def advance(self, steps: int) -> None:
        self._done += steps

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class RichProgress:
    """A bar, drawn when something happens and never by a thread: the CPUs are being measured."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
        )
        self._task = self._bar.add_task("", total=total)

    def say(self, text: str) -> None:
        self._bar.update(self._task, description=text, refresh=True)

    def advance(self, steps: int) -> None:
        self._bar.update(self._task, advance=steps, refresh=True)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def create(total: int) -> Progress:
    """Return what fits: `total` steps will be taken."""
    if sys.stderr.isatty():
        try:
            return RichProgress(total)
        except ImportError:
            return PlainProgress(total)
    return PlainProgress(total)
