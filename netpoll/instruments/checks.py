"""Debug mode (`NETPOLL_DEBUG=1`, `python -X dev`): mistakes that a program would not notice."""

from __future__ import annotations

import os
import sys
import threading
import warnings
import weakref
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from netpoll.instruments.base import Instrument, operation_of
from netpoll.overlapped import SENDS, Completion, Opcode, Overlapped

if TYPE_CHECKING:
    from types import FrameType

    from netpoll.buffers import Pinned

    Operation = Overlapped[Any]

SENDING: Final = SENDS | {Opcode.WRITE}
PACKAGE: Final = str(Path(__file__).resolve().parent.parent) + os.sep


@dataclass(frozen=True, slots=True)
class _Start:
    """What is remembered of an operation until it ends."""

    operation: weakref.ref[Operation]
    where: str
    checksum: int | None
    """Of what is to be sent."""


class Checks(Instrument):
    """Remembers where each pending operation was started, and warns

    * (`RuntimeWarning`) if the buffers of a send changed while it was pending: what went out may
      be the old bytes, the new ones, or some of both
    * (`ResourceWarning`) of operations that were dropped unfinished: pending when the port is
      closed, with no packet to come, and with nobody who still has the `Overlapped`. What has a
      packet to come is the port's, and whoever closes that wants no more packets.
    """

    def __init__(self) -> None:
        # reentrant: the collector may finalize a port anywhere
        self._lock = threading.RLock()
        self._started: dict[int, _Start] = {}
        """By identity."""
        self._at_stake: list[tuple[weakref.ref[Operation], str]] = []
        """While the port closes: what would be dropped unfinished, with what to say then."""

    def starting(self, operation: Operation) -> None:
        site = _site(sys._getframe(1))
        checksum = _checksum(operation) if operation.opcode in SENDING else None
        with self._lock:
            self._started[id(operation)] = _Start(weakref.ref(operation), site, checksum)

    def not_started(self, operation: Operation, error: BaseException) -> None:
        self._forget(operation)

    def ended_inline(self, operation: Operation) -> None:
        self._forget(operation)

    def completed(self, completion: Completion) -> None:
        operation = operation_of(completion)
        if operation is not None:
            known = self._forget(operation)
            if not operation._in_use:  # else another thread has started it again already
                self._compare(operation, known)

    def ended(self, completion: Completion) -> None:
        operation: Operation = completion.overlapped
        self._compare(operation, self._forget(operation))

    def _compare(self, operation: Operation, known: _Start | None) -> None:
        if known is None or known.checksum is None or _checksum(operation) == known.checksum:
            return
        warnings.warn(
            f"the buffers of {operation!r} changed while it was pending, started at "
            f"{known.where}: they belong to the operation until its end is seen",
            RuntimeWarning,
            stacklevel=_level(),
        )

    def closing(self) -> None:
        with self._lock:
            for known in list(self._started.values()):
                operation = known.operation()
                if operation is None or operation.done:
                    continue
                if not (operation.packet and operation._association.associated):
                    said = f"dropped unfinished: {operation!r}, started at {known.where}"
                    self._at_stake.append((known.operation, said))

    def closed(self) -> None:
        at_stake, self._at_stake = self._at_stake, []
        for operation, said in at_stake:
            if operation() is None:  # it was netpoll alone that still had it
                warnings.warn(said, ResourceWarning, stacklevel=_level())

    def where(self, operation: Operation) -> str | None:
        known = self._started.get(id(operation))
        return None if known is None else known.where

    def _forget(self, operation: Operation) -> _Start | None:
        with self._lock:
            return self._started.pop(id(operation), None)


def _site(frame: FrameType | None) -> str:
    """The innermost line that is not netpoll's own."""
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    return "?" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _level() -> int:
    """The `stacklevel` with which the caller's warning names the program's line."""
    frame: FrameType | None = sys._getframe(1)
    level = 1
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
        level += 1
    return level


def _checksum(operation: Operation) -> int:
    view: Pinned = operation._view
    number = 0
    for part in view if isinstance(view, list) else [view]:
        number = zlib.crc32(part, number)
    return number
