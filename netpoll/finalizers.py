"""What is done at the end of the interpreter, and `__del__` that may run at any time, then too."""

from __future__ import annotations

import atexit
import contextlib
import sys
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def finalizer(method: Callable[[T], None]) -> Callable[[T], None]:
    """Make a `__del__` of `method`.

    When the interpreter ends, modules lose their names one after another (each becomes `None`), and
    what is still alive then is finalized in between: whatever the method has not done by itself,
    the end of the process does, so the error that comes of it is no one's.
    """
    # A closure, because this module's names go as well.
    is_finalizing = sys.is_finalizing

    def __del__(self: T) -> None:
        try:
            method(self)
        except (AttributeError, ImportError, TypeError):
            if not is_finalizing():
                raise

    return __del__


_warners: list[Callable[[], object]] = []
_closers: list[Callable[[], object]] = []


def warns_at_exit(function: Callable[[], None]) -> Callable[[], None]:
    """Have it called when the interpreter ends, before anything is closed: it sees what the program
    has left."""
    _warners.append(function)
    return function


def closes_at_exit(function: Callable[[], None]) -> Callable[[], None]:
    """Have it called when the interpreter ends, after those; the last one first."""
    _closers.append(function)
    return function


def _call_all(functions: list[Callable[[], object]]) -> None:
    """One that raises keeps no other from its turn."""
    with contextlib.ExitStack() as stack:
        for function in functions:
            stack.callback(function)


# the last one registered is called first
atexit.register(_call_all, _closers)
atexit.register(_call_all, _warners)
