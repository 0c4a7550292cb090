"""What software backends share: a completion port over an `Engine`.

One lock guards a port. The engine's system calls are made under it, except the one that waits: a
lock per handle would let two threads send at once, but they share the interpreter anyway, and each
lock costs 75 ns an operation.

Its layers: packets (`packets.py`), waits (`waiting.py`), starts and ends of operations
(`starts.py`), and here handles, cancels, and the port as a whole.
"""

from __future__ import annotations

import os
import time
import weakref
from typing import TYPE_CHECKING, Any

from netpoll import status as nt
from netpoll.backends import timers
from netpoll.backends.base import (
    Association,
    Capability,
    Engine,
    Inflight,
    MultishotReceives,
    Staging,
)
from netpoll.backends.packets import PENDING, SWEEP
from netpoll.backends.starts import FAILURES as FAILURES
from netpoll.backends.starts import Starts
from netpoll.backends.waiters import reacquire as reacquire
from netpoll.handles import number_of
from netpoll.overlapped import Opcode, Overlapped

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    AnyOverlapped = Overlapped[Any]

SWEEP_PER_HANDLE = 20e-6
"""Seconds to add for each handle, which bounds the cost of looking to about half a per cent."""


class SoftwarePort(Starts):
    """A completion port over an `Engine`."""

    # slots, because an object with more than 30 attributes loses CPython's fast way to reach them
    __slots__ = ("name",)

    def __init__(
        self,
        make_engine: Callable[[threading.RLock], Engine],
        concurrency: int,
        max_inflight: int | None,
    ) -> None:
        super().__init__(make_engine, concurrency, max_inflight)
        self.name: str = self._engine.name
        ports.add(self)

    # -- handles ---------------------------------------------------------------------------------

    def associate(self, handle: Any, key: Any, skip_on_success: bool) -> None:
        with self._lock:
            self._check_open()
            association = self._look_up(handle)
            association.key = key
            association.skip_on_success = skip_on_success
            association.associated = True

    def association(self, handle: Any) -> Association | None:
        with self._lock:
            return self._known(handle)

    def _look_up(self, handle: Any) -> Association:
        """The record of `handle`, made on first sight."""
        fd = handle.fileno()
        if fd < 0:
            raise nt.make_exception(nt.STATUS_INVALID_HANDLE, inline=True)
        association = self._associations.get(fd)
        if association is not None:
            if association.handle() is handle:
                return association
            # the number was closed behind our back and now belongs to another socket
            self._retire(association)
        association = self._associations[fd] = self._engine.attach(handle, fd)
        return association

    def _known(self, handle: Any) -> Association | None:
        association = self._associations.get(number_of(handle))
        if association is None or association.handle() is not handle:
            # by identity: a closed socket has no number any more
            for association in self._associations.values():
                if association.handle() is handle:
                    return association
            return None
        return association

    def _retire(self, association: Association) -> None:
        if self._associations.get(association.fd) is association:
            del self._associations[association.fd]
        self._finish_batch(self._engine.detach(association))

    def _sweep(self, now: float) -> bool:
        """Retire the handles that were closed behind our back; whether there were any."""
        closed = [each for each in self._associations.values() if not each.alive()]
        for association in closed:
            self._retire(association)
        interval = max(self._sweep_interval, SWEEP_PER_HANDLE * len(self._associations))
        self._next_sweep = now + interval
        self._sweep_interval = min(2 * self._sweep_interval, SWEEP[1])
        return bool(closed)

    def detach(self, handle: Any, release: Callable[[], object]) -> None:
        with self._lock:
            association = self._known(handle)
            if association is not None:
                if self._observer is not None:
                    for operation in self._engine.pending(association):
                        if operation._final == PENDING:
                            self._observer.stopping(operation, nt.STATUS_CONNECTION_ABORTED)
                self._retire(association)
            release()

    def shutdown(self, handle: Any, how: int) -> None:
        with self._lock:
            self._check_open()
            self._engine.shutdown(self._look_up(handle), how)

    def report_unreachable(self, handle: Any, on: bool) -> None:
        with self._lock:
            self._check_open()
            self._engine.report_unreachable(self._look_up(handle), on)

    # -- operations ------------------------------------------------------------------------------

    def cancel(self, operation: AnyOverlapped) -> bool:
        with self._lock:
            return self._stop(operation, nt.STATUS_CANCELLED)

    def abandon(self, operation: AnyOverlapped) -> None:
        self.cancel(operation)
        if operation.routine is not None:
            operation._in_use = False

    def _stop(self, operation: AnyOverlapped, status: int) -> bool:
        if not operation._in_use or operation._final != PENDING:
            return False
        if operation.opcode is Opcode.TIMER:
            operation._final = 0 if status == nt.STATUS_IO_TIMEOUT else status
        elif not self._engine.cancel(operation, status):
            return False
        over = operation.opcode is Opcode.TIMER and not operation._final  # which is no cancel
        if self._observer is not None and not over:
            self._observer.stopping(operation, status)
        if operation._final != PENDING:
            self._finish(operation)
        return True

    def cancel_all(self, handle: Any) -> bool:
        with self._lock:
            self._check_open()
            association = self._known(handle)
            if association is None:
                return False
            pending = self._engine.pending(association)
            # all of them, hence not any() of a generator
            stopped = [self._stop(operation, nt.STATUS_CANCELLED) for operation in pending]
            return any(stopped)

    def flush(self) -> None:
        with self._lock:
            self._check_open()
            self._engine.flush()

    def staging(self) -> Staging | None:
        with self._lock:
            return self._engine.staging()

    def multishot(self, mail: AnyOverlapped) -> MultishotReceives | None:
        with self._lock:
            if self._max_inflight is not None:
                return None  # which is about operations, and these are none
            mail._association = self._nowhere
            mail._owner = mail._plain_on = self
            return self._engine.multishot(mail)

    def inflight(self) -> list[Inflight]:
        now = time.monotonic()
        with self._lock:
            handed = [packet for waiter in self._waiters for packet in waiter.packets]
            operations = [
                packet for packet in (*self._packets, *handed) if isinstance(packet, Overlapped)
            ]
            return [
                Inflight(
                    opcode=operation.opcode or Opcode.RECV_INTO,
                    handle=operation.handle,
                    key=operation._association.key,
                    age=now - operation._since,
                    overlapped=operation,
                )
                for operation in (*self._pending(), *operations)
            ]

    def _pending(self) -> list[AnyOverlapped]:
        associations = self._associations.values()
        pending = [each for record in associations for each in self._engine.pending(record)]
        pending += [
            entry[2]
            for entry in self._timers
            if entry[2].opcode is Opcode.TIMER and timers.is_alive(entry)
        ]
        return pending

    # -- the port as a whole ---------------------------------------------------------------------

    def capability(self, opcode: str) -> Capability:
        return capability(opcode, self._engine.capability)

    def stats(self) -> dict[str, float]:
        with self._lock:
            inflight = len(self.inflight())
            return {
                "started": self._taken + inflight,
                "taken": self._taken,
                "inflight": inflight,
                "posted": self._posted,
                "queued": len(self._packets),
                "waits": self._waits,
                "waiting": self._waiting,
                **self._engine.stats(),
            }

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for operation in self._pending():
                if not self._stop(operation, nt.STATUS_CANCELLED):
                    self._finish(operation)
            for operation in self._engine.drain():
                self._finish(operation)
            # nobody can take these any more, so their end becomes visible now
            for packet in self._packets:
                if isinstance(packet, Overlapped):
                    if self._observer is not None:
                        self._observer.ended(packet)
                    self._taken += 1
                    packet._in_use = False
                    packet.done = True
            self._packets.clear()
            self._timers.clear()
            for association in self._associations.values():
                self._engine.refuse(association, nt.STATUS_INVALID_HANDLE)
            self._associations.clear()
            for waiter in (*self._waiters, *self._bystanders):
                self._wake(waiter)
            if self._poller is None:
                self._engine.close()


ports: weakref.WeakSet[SoftwarePort] = weakref.WeakSet()
"""Every one there is."""


def _in_child() -> None:
    for port in list(ports):
        port.forget_threads()


_os: Any = os  # Windows has no such name
if hasattr(_os, "register_at_fork"):
    _os.register_at_fork(after_in_child=_in_child)


def capability(opcode: str, of_engine: Callable[[str], Capability]) -> Capability:
    """How a port over an engine performs an operation."""
    if opcode == Opcode.TIMER:
        return Capability("emulated", "the port's heap of deadlines, looked at by its waits")
    return of_engine(opcode)
