"""Debug mode (`NETPOLL_DEBUG=1`, `python -X dev`): mistakes that a program would not notice."""

from __future__ import annotations

import sys
import threading
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from netpoll.instruments.base import Instrument, operation_of
from netpoll.overlapped import SENDS, Completion, Opcode, Overlapped

if TYPE_CHECKING:
    from types import FrameType

    from netpoll.buffers import Pinned

    Operation = Overlapped[Any]

SENDING: Final = SENDS | {Opcode.WRITE}
PACKAGE: Final = str(Path(__file__).resolve().parent.parent)


class Checks(Instrument):
    """Remembers where each pending operation was started, and warns (`RuntimeWarning`) if the
    buffers of a send changed while it was pending: what went out may be the old bytes, the new
    ones, or some of both."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started: dict[int, tuple[str, int | None]] = {}
        """By identity: where, and the checksum of what is to be sent."""

    def starting(self, operation: Operation) -> None:
        site = _site(sys._getframe(1))
        checksum = _checksum(operation) if operation.opcode in SENDING else None
        with self._lock:
            self._started[id(operation)] = site, checksum

    def not_started(self, operation: Operation, error: BaseException) -> None:
        self._forget(operation)

    def ended_inline(self, operation: Operation) -> None:
        self._forget(operation)

    def completed(self, completion: Completion) -> None:
        operation = operation_of(completion)
        known = None if operation is None else self._forget(operation)
        if operation is None or known is None or known[1] is None or operation._in_use:
            return  # nothing to compare, or another thread has started it again already
        if _checksum(operation) != known[1]:
            warnings.warn(
                f"the buffers of {operation!r} changed while it was pending, started at "
                f"{known[0]}: they belong to the operation until its completion is taken",
                RuntimeWarning,
                stacklevel=4,
            )

    def where(self, operation: Operation) -> str | None:
        known = self._started.get(id(operation))
        return None if known is None else known[0]

    def _forget(self, operation: Operation) -> tuple[str, int | None] | None:
        with self._lock:
            return self._started.pop(id(operation), None)


def _site(frame: FrameType | None) -> str:
    """The innermost line that is not netpoll's own."""
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    return "?" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _checksum(operation: Operation) -> int:
    view: Pinned = operation._view
    number = 0
    for part in view if isinstance(view, list) else [view]:
        number = zlib.crc32(part, number)
    return number
