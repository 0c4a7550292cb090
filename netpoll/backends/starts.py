"""How an operation starts and ends on a port of netpoll's own."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from netpoll import status as nt
from netpoll.backends import alone, datagrams, routines, timers
from netpoll.backends.base import Association
from netpoll.backends.packets import PENDING
from netpoll.backends.threads import end_with_this_thread
from netpoll.backends.waiting import Waiting
from netpoll.overlapped import FILES, Opcode, Overlapped

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from netpoll.backends.base import Engine

    AnyOverlapped = Overlapped[Any]

FAILURES = 0xC0000000
"""Statuses from here on are errors; below, from 0x80000000, are warnings, which do queue a
packet."""


class Starts(Waiting):
    """Starts, and what the end of an operation means to whom."""

    __slots__ = ("_associations", "_max_inflight", "_nowhere", "_started", "resubmit")

    def __init__(
        self,
        make_engine: Callable[[threading.RLock], Engine],
        concurrency: int,
        max_inflight: int | None,
    ) -> None:
        super().__init__(make_engine, concurrency)
        self._max_inflight = max_inflight
        self._associations: dict[int, Association] = {}
        """By descriptor."""
        self._nowhere = Association(self, -1)
        """What operations that work on no handle belong to: their packets carry no key."""
        self._nowhere.associated = True
        self._started = 0
        """Starts so far; counted only under `max_inflight`, elsewhere it can be told without."""
        general = self._make_resubmit()
        self.resubmit: Callable[..., AnyOverlapped] = (
            self._engine.make_resubmit(self, general) or general
        )

    @abstractmethod
    def _look_up(self, handle: Any) -> Association:
        """The record of `handle`, made on first sight."""

    @abstractmethod
    def _pending(self) -> list[AnyOverlapped]:
        """What has not ended."""

    def prepare(self, operation: AnyOverlapped) -> None:
        with self._lock:
            self._check_open()
            operation._owner = self
            if operation.opcode is Opcode.TIMER or operation.opcode is Opcode.WAIT:
                operation._association = self._nowhere
                timer = operation.opcode is Opcode.TIMER
                operation._begin = alone.begin_timer if timer else alone.begin_wait
                operation._skips = False
                return
            association = operation._association = self._look_up(operation.handle)
            if operation.routine is not None and association.associated:
                raise nt.make_exception(  # ASSOC-12
                    nt.STATUS_INVALID_PARAMETER,
                    inline=True,
                    message="a handle that is associated with a port takes no completion routine",
                )
            plain = (
                association.associated
                and operation.packet
                and operation.event is None
                and operation.opcode is not Opcode.CONNECT
                and operation._timeout is None
                and self._max_inflight is None
            )
            operation._plain_on = self if plain else None
            operation._skips = skips = association.skip_on_success
            if skips and self._observer is not None:
                operation._plain_on = None  # an end within its start is to be told of
            self._engine.prepare(operation)

    def start(self, operation: AnyOverlapped) -> None:
        self.resubmit(operation)

    def restart(self, operations: list[AnyOverlapped], first: int) -> int:
        with self._lock:
            return self._engine.restart(self, operations, first)

    def _make_resubmit(self) -> Callable[..., AnyOverlapped]:
        """The hot path, written as one function over closed-over names.

        Measured per call: 200 ns less than a method of the port that calls a method of the backend
        that looks six attributes up.
        """
        acquire, release, lock = self._lock.acquire, self._lock.release, self._lock
        packets, waiters, distribute = self._packets, self._waiters, self._distribute
        append = packets.append
        pending = PENDING

        # size and address may be given by position too: 10 ns less than by name
        def resubmit(
            overlapped: AnyOverlapped, size: int | None = None, address: Any = None
        ) -> AnyOverlapped:
            if overlapped._in_use:
                overlapped._refuse_use()
            if address is not None and overlapped._owner is self:
                self._engine.redirected(overlapped, datagrams.redirect(overlapped, address))
            if size is not None and size != overlapped._size:
                overlapped._resize(size)
            try:
                # acquire() and release() cost 75 ns, a with statement 150. The acquire stands
                # inside the try, so that a signal handler that raises right after it leaves no lock
                # behind.
                acquire()
                if overlapped._plain_on is not self:
                    self._start_special(overlapped)
                    return overlapped
                overlapped._in_use = True
                overlapped.done = False
                overlapped._final = pending
                begin = overlapped._begin  # into a local first: 7 ns less
                if not begin(overlapped):
                    overlapped._since = self._now
                elif overlapped._final:
                    self._finish_inline(overlapped)
                elif overlapped._skips:  # MODE-03
                    self._taken += 1
                    overlapped._in_use = False
                    overlapped.done = True
                else:
                    append(overlapped)
                    if waiters:
                        distribute()
            except BaseException:
                if overlapped._in_use:
                    self._recover(overlapped)
                raise
            finally:
                try:
                    release()
                except RuntimeError:  # Ctrl-C while waiting for the lock: it never was ours
                    assert not lock._is_owned()  # type: ignore[attr-defined]
            return overlapped

        return resubmit

    def _start_special(self, operation: AnyOverlapped) -> None:
        """Start an operation that has more to it than a packet at its end."""
        if operation._owner is not self:
            raise ValueError(
                f"{operation!r} is not prepared on this port; "
                f"start it with one of the port's operations first"
            )
        self._check_room()
        if operation.opcode is Opcode.CONNECT:
            self._engine.prepare(operation)  # the state of the socket decides, every time
        if operation.routine is not None:
            operation._routines = routines.current()
            operation._routines.expect(self)
        elif operation.event is not None:
            operation.event.clear()  # OVL-16
        operation._in_use = True
        operation.done = False
        operation._final = PENDING
        operation._since = self._now
        ends = operation.event is not None or operation.routine is not None
        if ends or not operation._association.associated:
            end_with_this_thread(operation, self)
        self._specials += 1
        self._started += 1
        if operation._begin(operation):
            self._finish_inline(operation)
        elif operation._timeout is not None and timers.push(
            self._timers, operation, self._specials
        ):
            self._engine.wake()

    def _finish_inline(self, operation: AnyOverlapped) -> None:
        """The operation ended within its start, and not in the plainest way."""
        if operation._final >= FAILURES:
            # failures at once have no packet, no event and no routine (XFER-03). What is only a
            # warning has them: a truncated datagram is a start that returns (UDP-02).
            self._withdraw(operation)
            if self._closed:
                self._check_open()
            raise nt.make_exception(operation._final, inline=operation.opcode not in FILES)
        if operation._skips and operation._association.associated:  # MODE-03
            self._taken += 1
            operation.done = True
            if operation._plain_on is None:
                self._specials -= 1
                if self._observer is not None:
                    self._observer.ended_inline(operation)
            operation._in_use = False
            if operation.event is not None:
                operation.event.set()
        else:
            self._finish(operation)

    def _recover(self, operation: AnyOverlapped) -> None:
        """A start was broken off, by Ctrl-C or because the engine found the handle closed: settle
        what became of it. What was queued, or had ended already, still has its completion."""
        if any(packet is operation for packet in self._packets):
            return
        association = operation._association
        nowhere = association is self._nowhere
        pending = self._pending() if nowhere else self._engine.pending(association)
        if any(each is operation for each in pending):
            return
        if operation._final < FAILURES and operation._final != PENDING:
            self._finish(operation)
        else:
            self._withdraw(operation)

    def _withdraw(self, operation: AnyOverlapped) -> None:
        """The start failed: there is no operation."""
        operation._in_use = False
        operation.done = True
        operation.transferred = 0
        if operation._final == PENDING:
            operation._final = nt.STATUS_INVALID_HANDLE
        if operation._plain_on is None:
            self._specials -= 1
            self._started -= 1
            if operation.opcode is Opcode.WAIT:
                alone.end_wait(self, operation)
        if operation._routines is not None:
            operation._routines.forget(self)
            operation._routines = None

    def _finish(self, operation: AnyOverlapped) -> None:
        """An operation has ended: tell whoever is to know. Exactly once per start."""
        if operation._plain_on is None:
            self._specials -= 1
            if operation.opcode is Opcode.WAIT:
                alone.end_wait(self, operation)
        if operation._routines is not None:
            queue, operation._routines = operation._routines, None
            if self._observer is not None:
                self._observer.ended(operation)
            operation.done = True
            self._taken += 1
            queue.add(operation, self)  # and no event (OVL-17)
        else:
            if operation.packet and operation._association.associated:
                self._packets.append(operation)
                if self._waiters:
                    self._distribute()
            else:
                if self._observer is not None:
                    self._observer.ended(operation)
                self._taken += 1
                operation._in_use = False
                operation.done = True
            if operation.event is not None:
                operation.done = True  # OVL-05
                operation.event.set()
        if self._bystanders:
            self._wake_bystanders()

    def _check_room(self) -> None:
        self._check_open()
        limit = self._max_inflight
        if limit is not None and self._started - self._taken >= limit:
            raise nt.make_exception(
                nt.STATUS_QUOTA_EXCEEDED,
                inline=True,
                message=f"max_inflight: {limit} operations are in use; take completions first",
            )
