"""`__del__` that may run at any time, the end of the interpreter included."""

from __future__ import annotations

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
