"""What software backends share: the packet queue, the waiters, the concurrency limit, timers,
routines.

One lock guards a port. The engine's system calls are made under it, except the one that waits: a
lock per handle would let two threads send at once, but they share the interpreter anyway, and each
lock costs 75 ns an operation.

Any number of threads may wait. One of them, the *poller*, runs the engine; the others sleep on a
lock of their own. Whoever has a packet hands it to the waiter that came last (PORT-07), be that the
poller or not; a poller that leaves makes another waiter the poller.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import sys
import threading
import time
import weakref
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any

from netpoll import status as nt
from netpoll.backends import routines, waitables
from netpoll.backends.base import Association, Backend, Capability, Engine, Inflight
from netpoll.backends.threads import end_with_this_thread
from netpoll.errors import PortClosed
from netpoll.handles import number_of
from netpoll.overlapped import FILES, Completion, FailedCompletion, Opcode, Overlapped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from netpoll.backends.routines import RoutineQueue

    AnyOverlapped = Overlapped[Any]

PENDING = nt.STATUS_PENDING
FAILURES = 0xC0000000
"""Statuses from here on are errors; below, from 0x80000000, are warnings, which do queue a
packet."""
TURNS_WITHOUT_POLL = 32
"""Batches taken from the queue before the engine is asked again, so that packets that never run dry
(posted ones, say) do not starve the handles and the timers."""
SWEEP = 0.05, 0.5
"""Seconds between looks for handles that were closed behind our back: in a busy port, and at most,
in an idle one. Readiness says nothing of them: the kernel forgets a descriptor silently when it is
closed."""
SWEEP_PER_HANDLE = 20e-6
"""Seconds to add for each handle, which bounds the cost of looking to about half a per cent."""
LONGEST_SLEEP = 0.5 if sys.platform == "win32" else 86400.0
"""Seconds; the loop around it goes on. Ctrl-C does not end the wait for a lock on Windows."""
LIVENESS = 0.5
"""Seconds after which a waiter that the concurrency limit holds back looks for threads that have
died while they counted as running."""


class _Waiter:
    """A thread that waits on the port."""

    __slots__ = ("packets", "routines", "signal", "thread")

    def __init__(self, thread: threading.Thread | None = None) -> None:
        self.signal = threading.Lock()
        self.signal.acquire()
        self.packets: list[AnyOverlapped | Completion] = []
        """What was handed to it."""
        self.thread = thread
        """Who it is, where the concurrency limit has to know."""
        self.routines: RoutineQueue | None = None
        """The routines that it may run, if the wait is alertable."""

    def wake(self) -> None:
        """End its sleep, or its next one. Wakes coalesce."""
        if self.signal.locked():
            # two threads may see it locked; the second release is the one wake too many
            with contextlib.suppress(RuntimeError):
                self.signal.release()


class SoftwarePort(Backend):
    """A completion port over an `Engine`."""

    # slots, because an object with more than 30 attributes loses CPython's fast way to reach them
    __slots__ = (
        "__weakref__",
        "_acquire",
        "_associations",
        "_bystanders",
        "_closed",
        "_concurrency",
        "_engine",
        "_lock",
        "_lone",
        "_max_inflight",
        "_next_sweep",
        "_now",
        "_nowhere",
        "_packets",
        "_poller",
        "_posted",
        "_posted_queued",
        "_release",
        "_running",
        "_specials",
        "_started",
        "_sweep_interval",
        "_taken",
        "_timer_numbers",
        "_timers",
        "_turns",
        "_waiters",
        "_waiting",
        "_waits",
        "name",
        "resubmit",
    )

    def __init__(
        self,
        make_engine: Callable[[threading.RLock], Engine],
        concurrency: int,
        max_inflight: int | None,
    ) -> None:
        # reentrant because only such a lock tells a thread that Ctrl-C interrupted whether it holds
        # it
        self._lock = threading.RLock()
        # bound once: an attribute chain costs 20 ns in each start
        self._acquire = self._lock.acquire
        self._release = self._lock.release
        self._engine = make_engine(self._lock)
        self.name: str = self._engine.name
        self._concurrency = concurrency
        if concurrency:
            _Places.limited = True
        self._max_inflight = max_inflight
        self._packets: deque[AnyOverlapped | Completion] = deque()
        """Finished operations, and ready-made packets that were posted."""
        self._posted_queued = 0
        self._turns = TURNS_WITHOUT_POLL
        self._lone = _Waiter()
        """The record of a thread that waits while no other does: making one costs 250 ns."""
        self._waiters: list[_Waiter] = []
        """Those that take packets and have none yet; the last one is served first."""
        self._bystanders: list[_Waiter] = []
        """Those that wait for something else and take none."""
        self._poller: _Waiter | None = None
        self._running: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        """Threads between taking a packet and their next wait; kept only under a concurrency
        limit."""
        self._associations: dict[int, Association] = {}
        self._nowhere = Association(self, -1)
        """What operations that work on no handle belong to: their packets carry no key."""
        self._nowhere.associated = True
        self._sweep_interval = SWEEP[0]
        self._next_sweep = 0.0
        self._now = time.monotonic()
        """The time of the last poll: good enough for the age of an operation, and free."""
        self._timers: list[tuple[float, int, AnyOverlapped]] = []
        self._timer_numbers = count()
        self._specials = 0
        """Pending operations that are not plain."""
        self._started = 0
        """Starts so far; counted only under `max_inflight`, elsewhere it can be told without."""
        self._taken = 0
        """Operations whose end the program has seen."""
        self._posted = 0
        self._waits = 0
        self._waiting = 0
        self._closed = False
        general = self._make_resubmit()
        self.resubmit: Callable[..., AnyOverlapped] = (
            self._engine.make_resubmit(self, general) or general
        )
        ports.add(self)

    def forget_threads(self) -> None:
        """In a child process: the threads that had the lock, or waited, are the parent's."""
        self._lock._at_fork_reinit()  # type: ignore[attr-defined]
        self._poller = None
        self._waiters.clear()
        self._bystanders.clear()
        self._lone = _Waiter()
        self._waiting = 0

    # -- handles ---------------------------------------------------------------------------------

    def associate(self, handle: Any, key: Any, skip_on_success: bool) -> None:
        with self._lock:
            self._check_open()
            association = self._look_up(handle)
            association.key = key
            association.skip_on_success = skip_on_success
            association.associated = True

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

    def prepare(self, operation: AnyOverlapped) -> None:
        with self._lock:
            self._check_open()
            operation._owner = self
            if operation.opcode is Opcode.TIMER or operation.opcode is Opcode.WAIT:
                operation._association = self._nowhere
                timer = operation.opcode is Opcode.TIMER
                operation._begin = _begin_timer if timer else self._begin_wait
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
            operation._skips = association.skip_on_success
            self._engine.prepare(operation)

    def start(self, operation: AnyOverlapped) -> None:
        self.resubmit(operation)

    def _make_resubmit(self) -> Callable[..., AnyOverlapped]:
        """The hot path, written as one function over closed-over names.

        Measured per call: 200 ns less than a method of the port that calls a method of the backend
        that looks six attributes up.
        """
        acquire, release, lock = self._lock.acquire, self._lock.release, self._lock
        packets, waiters, distribute = self._packets, self._waiters, self._distribute
        append = packets.append
        pending = PENDING

        # size may be given by position too: 10 ns less than by name
        def resubmit(overlapped: AnyOverlapped, size: int | None = None) -> AnyOverlapped:
            if overlapped._in_use:
                overlapped._refuse_use()
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
        elif operation._timeout is not None:
            self._set_timer(operation)

    def _begin_wait(self, operation: AnyOverlapped) -> bool:
        """Wait for the descriptor that tells of a process or an event (EMU-34)."""
        waitable = operation._address = waitables.open_waitable(operation.handle)
        operation._association = self._look_up(waitable)
        self._engine.prepare(operation)
        begin, operation._begin = operation._begin, self._begin_wait
        return begin(operation)

    def _end_wait(self, operation: AnyOverlapped) -> None:
        association, operation._association = operation._association, self._nowhere
        waitable, operation._address = operation._address, None
        if waitable is None:
            return
        if self._associations.get(association.fd) is association:
            del self._associations[association.fd]
            self._engine.detach(association)
        waitable.close()
        if not operation._final:
            try:
                operation._value = waitables.result_of(operation.handle)
            except OSError as error:  # this operation's failure, and nobody else's
                operation._final = nt.from_errno(error.errno or 0)

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
            if operation._plain_on is None:
                self._specials -= 1
            self._taken += 1
            operation._in_use = False
            operation.done = True
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
                self._end_wait(operation)
        if operation._routines is not None:
            operation._routines.forget(self)
            operation._routines = None

    def _finish(self, operation: AnyOverlapped) -> None:
        """An operation has ended: tell whoever is to know. Exactly once per start."""
        if operation._plain_on is None:
            self._specials -= 1
            if operation.opcode is Opcode.WAIT:
                self._end_wait(operation)
        if operation._routines is not None:
            queue, operation._routines = operation._routines, None
            operation.done = True
            self._taken += 1
            queue.add(operation, self)  # and no event (OVL-17)
        else:
            if operation.packet and operation._association.associated:
                self._packets.append(operation)
                if self._waiters:
                    self._distribute()
            else:
                self._taken += 1
                operation._in_use = False
                operation.done = True
            if operation.event is not None:
                operation.done = True  # OVL-05
                operation.event.set()
        if self._bystanders:
            self._wake_bystanders()

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
            if entry[2].opcode is Opcode.TIMER and self._is_due_to_run(entry)
        ]
        return pending

    def _check_room(self) -> None:
        self._check_open()
        limit = self._max_inflight
        if limit is not None and self._started - self._taken >= limit:
            raise nt.make_exception(
                nt.STATUS_QUOTA_EXCEEDED,
                inline=True,
                message=f"max_inflight: {limit} operations are in use; take completions first",
            )

    # -- timers ----------------------------------------------------------------------------------

    def _set_timer(self, operation: AnyOverlapped) -> None:
        assert operation._timeout is not None
        deadline = operation._deadline = time.monotonic() + operation._timeout
        heapq.heappush(self._timers, (deadline, next(self._timer_numbers), operation))
        if self._timers[0][2] is operation:
            self._engine.wake()
        if len(self._timers) > 64 and len(self._timers) > 4 * self._specials:
            # operations mostly end before their time: do not let dead entries pile up
            self._timers = [entry for entry in self._timers if self._is_due_to_run(entry)]
            heapq.heapify(self._timers)

    @staticmethod
    def _is_due_to_run(entry: tuple[float, int, AnyOverlapped]) -> bool:
        deadline, _, operation = entry
        return operation._final == PENDING and operation._deadline == deadline

    def _run_timers(self) -> float | None:
        """Stop what is overdue; seconds until the engine has to be back for the next timer, if any.
        0 if something was stopped, which somebody may be waiting for."""
        timers = self._timers
        stopped = False
        while timers:
            if self._is_due_to_run(timers[0]):
                left = timers[0][0] - time.monotonic()
                if left > 0:
                    return 0.0 if stopped else left
                stopped = self._stop(timers[0][2], nt.STATUS_IO_TIMEOUT) or stopped
            heapq.heappop(timers)
        return 0.0 if stopped else None

    # -- packets ---------------------------------------------------------------------------------

    def post(self, completion: Completion) -> None:
        with self._lock:
            self._check_open()
            self._posted += 1
            self._posted_queued += 1
            self._packets.append(completion)
            if self._waiters:
                self._distribute()

    def dequeue(self, limit: int, timeout: float | None, alertable: bool) -> list[Completion]:
        if _Places.limited:
            _places.leave(self)
        try:
            self._acquire()  # inside the try: see start()
            if self._packets:
                if self._turns and not (self._concurrency or alertable):
                    self._turns -= 1
                    return self._open(self._take(limit))
            elif not (
                alertable
                or self._waiters
                or self._specials
                or self._bystanders
                or self._poller
                or self._timers
                or self._concurrency
                or self._closed
            ):
                return self._turn(limit, timeout)
            return self._wait(limit, timeout, alertable)
        finally:
            try:
                self._release()
            except RuntimeError:
                assert not self._lock._is_owned()  # type: ignore[attr-defined]

    def _take(self, limit: int) -> list[AnyOverlapped | Completion]:
        """What is in the queue, `limit` at most."""
        packets = self._packets
        if len(packets) <= limit:
            batch = list(packets)
            packets.clear()
            return batch
        return [packets.popleft() for _ in range(limit)]

    def _open(self, batch: Sequence[AnyOverlapped | Completion]) -> list[Completion]:
        """Turn finished operations into completions: here `status` becomes visible (OVL-04)."""
        if self._posted_queued:
            taken: list[Completion] = [
                packet if isinstance(packet, Completion) else _completion(packet)
                for packet in batch
            ]
            posted = sum(packet.__class__ is Completion for packet in batch)
            self._posted_queued -= posted
            self._taken += len(batch) - posted
            return taken
        # _completion() written out: its call would cost 50 ns an operation
        taken = []
        append = taken.append
        new = Completion
        for operation in batch:
            if operation._final:  # type: ignore[union-attr]
                append(_completion(operation))  # type: ignore[arg-type]
                continue
            completion = new()
            completion.key = operation._association.key  # type: ignore[union-attr]
            completion.overlapped = operation
            completion.transferred = operation.transferred
            operation._in_use = False  # type: ignore[union-attr]
            operation.done = True  # type: ignore[union-attr]
            append(completion)
        self._taken += len(taken)
        return taken

    def _distribute(self) -> None:
        """Hand packets, oldest first, to waiters, youngest first, as far as the concurrency limit
        allows."""
        while self._packets and self._waiters and self._may_run():
            waiter = self._waiters.pop()
            waiter.packets.append(self._packets.popleft())
            if waiter.thread is not None:
                self._running.add(waiter.thread)
            self._wake(waiter)

    def _may_run(self) -> bool:
        """Whether one more thread may have a packet (PORT-04, PORT-05, EMU-12)."""
        limit = self._concurrency
        return not limit or sum(thread.is_alive() for thread in self._running) < limit

    def give_place_up(self, thread: threading.Thread) -> None:
        """`thread` has turned to another port."""
        with self._lock:
            self._running.discard(thread)
            self._distribute()

    # -- waiting ---------------------------------------------------------------------------------

    def _turn(self, limit: int, timeout: float | None) -> list[Completion]:
        """`_wait` where nobody else waits, nor anything but the engine has to be looked after: one
        turn of it, and what finished goes to this thread past the queue. As soon as it is not that
        simple any more, `_wait` goes on.

        Counted with callgrind: of the 29,400 instructions of a turn with one message it saves 1,400
        over the way through `_wait`, `_drive`, `_poll` and the queue.
        """
        now = self._now = time.monotonic()
        left = self._next_sweep - now
        if left <= 0:
            return self._wait(limit, timeout, False)
        if timeout is not None and timeout < left:
            left = timeout
        me, waiters = self._lone, self._waiters
        try:
            self._waits += 1
            self._waiting += 1
            self._poller = me
            waiters.append(me)
            finished = self._engine.poll(left)
            if (
                finished
                and len(finished) <= limit
                and len(waiters) == 1
                and not (me.packets or self._specials or self._bystanders or self._closed)
            ):
                self._turns = TURNS_WITHOUT_POLL
                self._sweep_interval = SWEEP[0]
                taken = self._open(finished)
                finished.clear()
                waiters.clear()
                return taken
        except BaseException:
            self._poller = None
            self._leave_wait(me)
            raise
        finally:
            self._waiting -= 1
            self._poller = None
            if self._closed:
                self._engine.close()
        self._lone = _Waiter()  # from here on this one is somebody among others
        if timeout is not None:
            timeout = max(0.0, timeout - (time.monotonic() - now))
        return self._wait(limit, timeout, False, me, finished)

    def _wait(
        self,
        limit: int,
        timeout: float | None,
        alertable: bool,
        me: _Waiter | None = None,
        finished: list[AnyOverlapped] | None = None,
    ) -> list[Completion]:
        """
        :param me: the record of this thread, where it waits already: with what the engine has
            `finished`
        """
        looked = me is not None
        if me is None:
            self._check_open()
            me = _Waiter()
            if self._concurrency:
                me.thread = threading.current_thread()
                self._running.discard(me.thread)
            if alertable:
                me.routines = routines.current()
            self._waiters.append(me)
            self._waits += 1
        self._waiting += 1
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            if finished and not self._closed:  # close() has ended them
                self._take_in(finished)
            if not self._turns and self._poller is None and not looked:
                self._poll(me, 0.0)  # packets never run dry: now it is the engine's turn
            self._turns = TURNS_WITHOUT_POLL
            if self._packets:
                self._distribute()
            self._drive(me, me.packets.__len__, deadline, looked=looked)
        except BaseException:
            # a signal handler raised, or the port was closed
            if me.thread is not None:
                self._running.discard(me.thread)
            self._leave_wait(me)
            raise
        finally:
            self._waiting -= 1
            if me in self._waiters:
                self._waiters.remove(me)
                if self._packets:
                    self._distribute()
            if self._poller is None and (self._waiters or self._bystanders):
                self._promote(me)
        if me.packets:
            # one packet woke us, and whatever else is there comes along (PORT-21)
            batch, me.packets = me.packets, []
            if len(batch) < limit:
                batch += self._take(limit - len(batch))
            if me.thread is not None:
                _places.take(self)
            return self._open(batch)
        if me.routines is not None and me.routines.due:
            self._release()
            try:
                me.routines.run()
            finally:
                reacquire(self._lock)
        return []

    def _leave_wait(self, me: _Waiter) -> None:
        """A wait was broken off: what was handed to it goes back."""
        self._packets.extendleft(reversed(me.packets))
        me.packets = []
        if me in self._waiters:
            self._waiters.remove(me)
        self._distribute()
        if self._poller is None and (self._waiters or self._bystanders):
            self._promote(me)

    def wait_for(self, operation: AnyOverlapped, timeout: float | None) -> bool:
        by_packet = operation.packet and operation._association.associated
        if by_packet and operation.event is None and operation.routine is None:
            return self.run_until(lambda: operation._final != PENDING, timeout)
        # the engine may know of its end already, in a start that another thread has made
        return self.run_until(lambda: operation.done, timeout)

    def run_until(self, finished: Callable[[], object], timeout: float | None) -> bool:
        with self._lock:
            if self._closed:
                return bool(finished())
            me = _Waiter()
            self._bystanders.append(me)
            try:
                deadline = None if timeout is None else time.monotonic() + timeout
                self._drive(me, finished, deadline)
            finally:
                self._bystanders.remove(me)
            return bool(finished())

    def _drive(
        self,
        me: _Waiter,
        finished: Callable[[], object],
        deadline: float | None,
        *,
        looked: bool = False,
    ) -> None:
        """Be the poller, or sleep while somebody else is, until `finished`, routines are due, or
        the deadline."""
        due = me.routines
        if due is not None:
            due.alert(lambda: self._alert(me))
        try:
            while not finished():
                if self._closed:
                    raise nt.make_exception(nt.STATUS_ABANDONED_WAIT_0)
                if due is not None and due.due:
                    return
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    if looked:
                        return
                    left = 0.0
                looked = True
                if self._concurrency and (left is None or left > LIVENESS):
                    left = LIVENESS
                if self._poller is None:
                    self._poll(me, left)
                else:
                    self._sleep(me, left)
                if self._packets:
                    self._distribute()
        finally:
            if due is not None:
                due.alert(None)
            if self._poller is None and (self._waiters or self._bystanders):
                self._promote(me)

    def _poll(self, me: _Waiter, left: float | None) -> None:
        """Run the engine once, and queue what finished."""
        self._poller = me
        try:
            now = self._now = time.monotonic()
            if now >= self._next_sweep and self._sweep(now):
                left = 0.0
            if self._timers:
                due = self._run_timers()
                if due is not None and (left is None or due < left):
                    left = due
            if left is None or left > self._next_sweep - now:
                left = self._next_sweep - now
            if me.packets:
                left = 0.0
            finished = self._engine.poll(left)
            if finished and not self._closed:  # close() has ended them
                self._take_in(finished)
        finally:
            self._poller = None
            if self._closed:
                self._engine.close()

    def _take_in(self, finished: list[AnyOverlapped]) -> None:
        """What the engine brought goes to the queue, and from there to whoever waits."""
        self._sweep_interval = SWEEP[0]
        self._finish_batch(finished)
        finished.clear()

    def _finish_batch(self, operations: list[AnyOverlapped]) -> None:
        if self._specials:
            for operation in operations:
                self._finish(operation)
        else:
            self._packets.extend(operations)
        if self._waiters:
            self._distribute()
        if self._bystanders:
            self._wake_bystanders()

    def _sleep(self, me: _Waiter, left: float | None) -> None:
        """Wait for a signal from the poller or from whoever has a packet."""
        self._release()
        try:
            me.signal.acquire(timeout=LONGEST_SLEEP if left is None else min(left, LONGEST_SLEEP))
        finally:
            reacquire(self._lock)

    def _wake(self, waiter: _Waiter) -> None:
        if waiter is self._poller:
            self._engine.wake()
        else:
            waiter.wake()

    def _wake_bystanders(self) -> None:
        for waiter in self._bystanders:
            self._wake(waiter)

    def _alert(self, waiter: _Waiter) -> None:
        """A routine of the waiter's thread is due. Called with the lock of another port, or of
        none, so it must not look at who polls: wake both ways."""
        waiter.wake()
        self._engine.interrupt()

    def _promote(self, leaving: _Waiter) -> None:
        """Nobody runs the engine: wake one who waits, so that it does."""
        for group in (self._waiters, self._bystanders):
            for waiter in reversed(group):
                if waiter is not leaving:
                    waiter.wake()
                    return

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

    def _check_open(self) -> None:
        if self._closed:
            raise nt.make_exception(
                nt.STATUS_INVALID_HANDLE, kind=PortClosed, message="the port is closed"
            )


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


def _begin_timer(operation: AnyOverlapped) -> bool:
    operation.transferred = 0
    return False  # and its time limit ends it


def _completion(operation: AnyOverlapped) -> Completion:
    """The packet of a finished operation."""
    completion: Completion
    status = operation._final
    if status:
        completion = FailedCompletion()
        completion.status = status
        completion.error = nt.win32_error(status)
    else:
        completion = Completion()
    completion.key = operation._association.key
    completion.overlapped = operation
    completion.transferred = operation.transferred
    operation._in_use = False
    operation.done = True
    return completion


class _Places(threading.local):
    """On which port with a concurrency limit this thread counts as running: on one at most
    (PORT-05)."""

    limited = False
    """Whether there ever was such a port; set on the class, for all threads."""
    port: SoftwarePort | None = None

    def take(self, port: SoftwarePort) -> None:
        self.port = port

    def leave(self, port: SoftwarePort) -> None:
        """The thread turns to `port`: wherever else it ran, its place is free."""
        other = self.port
        if other is not None and other is not port:
            self.port = None
            other.give_place_up(threading.current_thread())


_places = _Places()


def reacquire(lock: threading.RLock) -> None:
    """Take a lock back that was released around a blocking call, even if Ctrl-C falls into it."""
    try:
        lock.acquire()
    except BaseException:
        if not lock._is_owned():  # type: ignore[attr-defined]
            reacquire(lock)
        raise
