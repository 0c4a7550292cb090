"""The engine over io_uring: entries queue up, one system call hands them over and waits.

Its layers, from the lowest: the table of what the kernel has (`table.py`), wake-ups
(`wakeups.py`), ends (`ends.py`), submissions (`submissions.py`), scarcity (`scarcity.py`),
completions (`completions.py`), datagrams by the dozen (`batching.py`), waits (`waiting.py`),
cancels (`cancels.py`), starts (`starts.py`), the hot path (`resubmits.py`), and here handles,
closing, fork() and exit. Each calls only itself and those below it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

from netpoll import status as nt
from netpoll.backends import datagrams, sockets, software
from netpoll.backends.io_uring import constants as uring
from netpoll.backends.io_uring import operations
from netpoll.backends.io_uring.lines import EndOfStream
from netpoll.backends.io_uring.multishot import MultishotReceive, MultishotReceives
from netpoll.backends.io_uring.resubmits import Resubmits
from netpoll.backends.io_uring.staging import Staging
from netpoll.backends.io_uring.table import PENDING, WAKE, Channel
from netpoll.finalizers import closes_at_exit

if TYPE_CHECKING:
    import threading

    from netpoll.backends.base import Association, Capability
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]

_os: Any = os
"""For names that are declared on Linux only."""
_logger = logging.getLogger("netpoll")

DRAIN: Final = 5.0
"""Seconds to wait, when the port closes, for the ends of what was cancelled."""

_engines: weakref.WeakSet[IoUringEngine] = weakref.WeakSet()
_left_over: list[object] = []
"""The memory that the kernel did not give back: it may still write there."""


class IoUringEngine(Resubmits):
    """OVERLAPPED operations as the kernel's own."""

    # slots in every layer: CPython's fast way to attributes in a dict ends with the 30th
    __slots__ = ()
    name = "io_uring"

    def __init__(self, lock: threading.RLock, single_issuer: bool = False) -> None:
        super().__init__(lock, single_issuer)
        _engines.add(self)

    # -- handles -----------------------------------------------------------------------------------

    def attach(self, handle: Any, fd: int) -> Channel:
        sockets.unblock(handle)
        return Channel(handle, fd)

    def detach(self, association: Association) -> list[Operation]:
        channel = cast("Channel", association)
        sockets.about_to_close(channel)
        channel.closing = False
        channel.refuse(nt.STATUS_INVALID_HANDLE)
        pending = self.pending(channel)
        for operation in pending:
            self._stop(operation, sockets.status_of_close(operation))
        self._await(pending)
        ended = [each for each in pending if each._final != PENDING]
        # in place: a poll in another thread holds this list while it waits
        self._finished[:] = [each for each in self._finished if each._association is not channel]
        return ended

    def shutdown(self, association: Association, how: int) -> None:
        channel = cast("Channel", association)
        sockets.shutdown(channel, how)
        if channel.closing:
            channel.closing = False
            channel.writing.wait(EndOfStream(channel))

    def refuse(self, association: Association, status: int) -> None:
        cast("Channel", association).refuse(status)

    def report_unreachable(self, association: Association, on: bool) -> None:
        datagrams.switch_reports(cast("Channel", association), on)

    # -- the engine as a whole ---------------------------------------------------------------------

    def staging(self) -> Staging:
        if self._staging is None:
            self._staging = Staging(self)
        return self._staging

    def multishot(self, mail: Operation) -> MultishotReceives | None:
        if self._multishot is None and self._may_call():
            with contextlib.suppress(OSError):  # this kernel is too old for them
                self._multishot = MultishotReceives(self)
                self._mail = mail
        return self._multishot

    def stats(self) -> dict[str, int]:
        return {"polls": self._polls, "wakes": self._wakes, "enters": self._ring.enters}

    @staticmethod
    def capability(opcode: str) -> Capability:
        return operations.capability(opcode)

    # -- closing -----------------------------------------------------------------------------------

    def drain(self) -> list[Operation]:
        """Every operation has been cancelled, and the port is about to close: wait for their
        ends."""
        if self._multishot is not None and not self._end_multishot():
            _left_over.append(self._multishot.memory)
        pending = self._in_kernel()
        deadline = time.monotonic() + DRAIN
        while any(each._final == PENDING for each in pending) and time.monotonic() < deadline:
            if self._may_call():
                self._submit()  # where another thread has asked for the ends
                self._await(pending)
            elif self._blocked:
                self._let_the_owner_drain()
            else:
                break  # only the owner could ask the kernel: the end of the ring has to do
        left = [each for each in pending if each._final == PENDING]
        if left:
            names = ", ".join(map(repr, left))
            if self._may_call():
                _logger.error("the kernel does not give back: %s", names)
            else:
                _logger.info("not closed by its only thread, a port keeps the memory of: %s", names)
            for operation in left:
                # not the operation, which the program may release or use again
                _left_over.append((operation._native, operation._pinned, operation._view))
                _left_over.append(operation._address)
                self._end(operation, nt.STATUS_CANCELLED)
        return pending

    def _end_multishot(self) -> bool:
        """End the receives that stay; whether the kernel is done with their memory."""
        receives = {each for each in self._table if each.__class__ is MultishotReceive}
        if not receives or not self._may_call():
            return not receives
        self._submit()
        for receive in receives:
            self._ring.cancel(receive.token)
        deadline = time.monotonic() + DRAIN
        self._take_in()
        while True:
            receives -= {
                receive for receive, _, flags in self._inbox if not flags & uring.IORING_CQE_F_MORE
            }
            if not receives or time.monotonic() >= deadline:
                return not receives
            self._ring.wait(0.001)
            self._take_in()

    def _let_the_owner_drain(self) -> None:
        """It is in its wait, and closes the engine when it comes out."""
        self.wake()
        lock: Any = self._lock
        held = lock._release_save()
        try:
            time.sleep(0.001)
        finally:
            lock._acquire_restore(held)

    def close(self) -> None:
        if self._ring.fd < 0:
            return
        _engines.discard(self)
        self.drain()
        # what they have brought is nobody's any more
        self._finished.clear()
        self._inbox.clear()
        self._table[:] = [None] * len(self._table)
        self._mail = None
        if self._may_call():
            self._ring.cancel(WAKE)
        self._ring.close()
        os.close(self._wake_fd)


def _refuse(*_: object) -> NoReturn:
    raise RuntimeError("this port is the parent process's: make a new one after fork()")


class ParentsEngine(IoUringEngine):
    """What an engine turns into in a child process: the ring, which the two share, is the
    parent's."""

    __slots__ = ()

    def pending(self, association: Association) -> list[Operation]:
        return []

    def drain(self) -> list[Operation]:
        return []

    def close(self) -> None:
        """The child's copies are closed already."""


for _name in ("attach", "detach", "shutdown", "prepare", "cancel"):
    setattr(ParentsEngine, _name, _refuse)
for _name in ("poll", "flush", "wake", "interrupt"):
    setattr(ParentsEngine, _name, _refuse)


def _in_child() -> None:
    """After fork(): the rings are the parent's."""
    for engine in list(_engines):
        with contextlib.suppress(BufferError):  # another thread is just looking at completions
            engine._ring.close()
        os.close(engine._wake_fd)
        engine._blocked = True  # so that a start has to wake, and is refused
        engine.__class__ = ParentsEngine
    _engines.clear()


if hasattr(_os, "register_at_fork"):
    _os.register_at_fork(after_in_child=_in_child)


@closes_at_exit
def _at_exit() -> None:
    """Whatever is pending when the interpreter ends must not write to memory that is gone."""
    for port in list(software.ports):
        if port.name == IoUringEngine.name:
            port.close()
