"""How threads wait on a port of netpoll's own.

Any number of them may. One, the *poller*, runs the engine; the others sleep on a lock of their own.
Whoever has a packet hands it to the waiter that came last (PORT-07), be that the poller or not; a
poller that leaves makes another waiter the poller.
"""

from __future__ import annotations

import sys
import threading
import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from netpoll import status as nt
from netpoll.backends import routines, timers
from netpoll.backends.packets import PENDING, SWEEP, TURNS_WITHOUT_POLL, PacketQueue
from netpoll.backends.waiters import Places, Waiter, places, reacquire

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll.overlapped import Completion, Overlapped

    AnyOverlapped = Overlapped[Any]

LONGEST_SLEEP = 0.5 if sys.platform == "win32" else 86400.0
"""Seconds; the loop around it goes on. Ctrl-C does not end the wait for a lock on Windows."""
LIVENESS = 0.5
"""Seconds after which a waiter that the concurrency limit holds back looks for threads that have
died while they counted as running."""


class Waiting(PacketQueue):
    """Waits: for packets, and for the end of one operation."""

    __slots__ = ()

    @abstractmethod
    def _finish(self, operation: AnyOverlapped) -> None:
        """An operation has ended: tell whoever is to know. Exactly once per start."""

    @abstractmethod
    def _sweep(self, now: float) -> bool:
        """Retire the handles that were closed behind our back; whether there were any."""

    @abstractmethod
    def _stop(self, operation: AnyOverlapped, status: int) -> bool:
        """End an operation that is pending; whether it was."""

    def dequeue(self, limit: int, timeout: float | None, alertable: bool) -> list[Completion]:
        if Places.limited:
            places.leave(self)
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
            if timeout == 0 and not (
                finished
                or len(waiters) != 1
                or me.packets
                or self._packets
                or self._specials
                or self._bystanders
                or self._closed
            ):
                self._turns = TURNS_WITHOUT_POLL
                waiters.clear()
                return []
        except BaseException:
            self._poller = None
            self._leave_wait(me)
            raise
        finally:
            self._waiting -= 1
            self._poller = None
            if self._closed:
                self._engine.close()
        self._lone = Waiter()  # from here on this one is somebody among others
        if timeout is not None:
            timeout = max(0.0, timeout - (time.monotonic() - now))
        return self._wait(limit, timeout, False, me, finished)

    def _wait(
        self,
        limit: int,
        timeout: float | None,
        alertable: bool,
        me: Waiter | None = None,
        finished: list[AnyOverlapped] | None = None,
    ) -> list[Completion]:
        """
        :param me: the record of this thread, where it waits already: with what the engine has
            `finished`
        """
        looked = me is not None
        if me is None:
            self._check_open()
            me = Waiter()
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
                places.take(self)
            return self._open(batch)
        if me.routines is not None and me.routines.due:
            self._release()
            try:
                me.routines.run()
            finally:
                reacquire(self._lock)
        return []

    def _leave_wait(self, me: Waiter) -> None:
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

    def run_until(
        self,
        finished: Callable[[], object],
        timeout: float | None,
        alert: Callable[[Callable[[], object] | None], object] | None = None,
    ) -> bool:
        with self._lock:
            if self._closed:
                return bool(finished())
            me = Waiter()
            self._bystanders.append(me)
            try:
                if alert is not None:
                    alert(lambda: self._alert(me))
                deadline = None if timeout is None else time.monotonic() + timeout
                self._drive(me, finished, deadline)
            finally:
                if alert is not None:
                    alert(None)
                self._bystanders.remove(me)
            return bool(finished())

    def _drive(
        self,
        me: Waiter,
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

    def _poll(self, me: Waiter, left: float | None) -> None:
        """Run the engine once, and queue what finished."""
        self._poller = me
        try:
            now = self._now = time.monotonic()
            if now >= self._next_sweep and self._sweep(now):
                left = 0.0
            if self._timers:
                due = timers.run(self._timers, self._stop)
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

    def _sleep(self, me: Waiter, left: float | None) -> None:
        """Wait for a signal from the poller or from whoever has a packet."""
        self._release()
        try:
            me.signal.acquire(timeout=LONGEST_SLEEP if left is None else min(left, LONGEST_SLEEP))
        finally:
            reacquire(self._lock)

    def _wake_bystanders(self) -> None:
        for waiter in self._bystanders:
            self._wake(waiter)

    def _alert(self, waiter: Waiter) -> None:
        """A routine of the waiter's thread is due, or what it waits for has happened. Called with
        the lock of another port, or of none, so it must not look at who polls: wake both ways."""
        waiter.wake()
        self._engine.interrupt()

    def _promote(self, leaving: Waiter) -> None:
        """Nobody runs the engine: wake one who waits, so that it does."""
        for group in (self._waiters, self._bystanders):
            for waiter in reversed(group):
                if waiter is not leaving:
                    waiter.wake()
                    return
