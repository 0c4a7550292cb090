"""What every method that starts an operation does, and the checks of its arguments."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from netpoll import status as nt
from netpoll.buffers import Pinned, total
from netpoll.errors import shown
from netpoll.handles import note_use, require_socket
from netpoll.overlapped import Opcode, Overlapped

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll.backends.base import Backend
    from netpoll.port import CompletionPort

    Routine = Callable[[int, int, Overlapped[Any], int], object]

A_CENTURY = 3.2e9
T = TypeVar("T")


class HasFileno(Protocol):
    """A file, a pipe, a socket, a pidfd: what has a descriptor."""

    def fileno(self) -> int: ...


class Starter:
    """Part of `CompletionPort`: makes operations and gives them to the backend."""

    _backend: Backend

    def _new(
        self,
        opcode: Opcode,
        handle: Any,
        overlapped: Overlapped[T] | None,
        routine: Routine | None,
        timeout: float | None,
        require: Callable[[Any], None] | None = require_socket,
    ) -> Overlapped[T]:
        """
        :param require: refuses what is no handle for this operation; `None` where it is about
            nothing that could be associated
        """
        if overlapped is None:
            overlapped = Overlapped()
        elif not isinstance(overlapped, Overlapped):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"overlapped is an Overlapped, not {type(overlapped).__name__}")
        elif overlapped._in_use:
            overlapped._refuse_use()
        if require is not None:
            require(handle)
            note_use(handle, cast("CompletionPort", self))
        overlapped._unprepare()
        overlapped.opcode = opcode
        overlapped.handle = handle
        overlapped.routine = routine
        overlapped._timeout = check_timeout(timeout)
        overlapped._deadline = 0.0  # an old one must not end the new start
        # how it stays if it is refused before it starts: what it has brought before is gone
        overlapped._final, overlapped.transferred = nt.STATUS_INVALID_PARAMETER, 0
        overlapped._value = overlapped._address = overlapped._ancillary = overlapped._native = None
        return overlapped

    def _begin(
        self,
        operation: Overlapped[T],
        buffers: Any,
        pinned: Pinned | None,
        flags: int,
        size: int | None = None,
    ) -> Overlapped[T]:
        operation.buffers = buffers
        operation.flags = flags
        operation._pinned = operation._view = pinned
        operation._size = 0 if pinned is None else total(pinned)
        if size is not None:
            operation._resize(size)
        self._backend.prepare(operation)
        operation._port = cast("CompletionPort", self)
        self._backend.start(operation)
        return operation


def check_timeout(timeout: float | None) -> float | None:
    """What waits take: seconds, or `None` for ever, which is what a century comes to.

    :raises ValueError: negative or not a number
    """
    if timeout is None:
        return None
    seconds = timeout if timeout.__class__ is float else _seconds(timeout)
    if not seconds >= 0:
        raise ValueError(f"a timeout is a number of seconds, 0 or more, or None; not {timeout!r}")
    return seconds if seconds < A_CENTURY else None


def _seconds(timeout: Any) -> float:
    """Of a `Decimal`, say, which has to become a float before anything is started."""
    try:
        return math.nan if isinstance(timeout, str | bytes | bytearray) else float(timeout)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def check_count(name: str, value: object, least: int, most: int | None = None) -> None:
    """
    :raises ValueError: no number (`True` is none), or none in that range
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} is a number of {least} or more, not {shown(value)}")
    if most is not None and value > most:
        raise ValueError(f"{name} is at most {most}, not {shown(value)}")
