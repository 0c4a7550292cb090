"""The packet queue of a port of netpoll's own, and who of the waiters gets what under the
concurrency limit; how they wait is in `waiting.py`.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

from netpoll import status as nt
from netpoll.backends.base import Backend, Engine
from netpoll.backends.waiters import Places, Waiter
from netpoll.errors import PortClosed
from netpoll.overlapped import Completion, FailedCompletion, Overlapped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from netpoll.backends.base import Observer
    from netpoll.backends.timers import Timer

    AnyOverlapped = Overlapped[Any]

PENDING = nt.STATUS_PENDING
TURNS_WITHOUT_POLL = 32
"""Batches taken from the queue before the engine is asked again, so that packets that never run dry
(posted ones, say) do not starve the handles and the timers."""
SWEEP = 0.05, 0.5
"""Seconds between looks for handles that were closed behind our back: in a busy port, and at most,
in an idle one. Readiness says nothing of them: the kernel forgets a descriptor silently when it is
closed."""


class PacketQueue(Backend):
    """What a port does with operations that have ended, and with threads that wait for them.

    The layers above it are waiting (`waiting.py`), starts and ends (`starts.py`) and the port
    (`software.py`). They are one object, because each call and each look-up between two would be
    paid for every message.
    """

    __slots__ = (
        "__weakref__",
        "_acquire",
        "_bystanders",
        "_closed",
        "_concurrency",
        "_engine",
        "_lock",
        "_lone",
        "_next_sweep",
        "_now",
        "_observer",
        "_packets",
        "_poller",
        "_posted",
        "_posted_queued",
        "_release",
        "_running",
        "_specials",
        "_sweep_interval",
        "_taken",
        "_timers",
        "_turns",
        "_waiters",
        "_waiting",
        "_waits",
    )

    def __init__(self, make_engine: Callable[[threading.RLock], Engine], concurrency: int) -> None:
        # reentrant because only such a lock tells a thread that Ctrl-C interrupted whether it holds
        # it
        self._lock = threading.RLock()
        # bound once: an attribute chain costs 20 ns in each start
        self._acquire = self._lock.acquire
        self._release = self._lock.release
        self._engine = make_engine(self._lock)
        self._concurrency = concurrency
        if concurrency:
            Places.limited = True
        self._packets: deque[AnyOverlapped | Completion] = deque()
        """Finished operations, and ready-made packets that were posted."""
        self._posted_queued = 0
        self._turns = TURNS_WITHOUT_POLL
        self._lone = Waiter()
        """The record of a thread that waits while no other does: making one costs 250 ns."""
        self._waiters: list[Waiter] = []
        """Those that take packets and have none yet; the last one is served first."""
        self._bystanders: list[Waiter] = []
        """Those that wait for something else and take none."""
        self._poller: Waiter | None = None
        self._running: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        """Threads between taking a packet and their next wait; kept only under a concurrency
        limit."""
        self._sweep_interval = SWEEP[0]
        self._next_sweep = 0.0
        self._now = time.monotonic()
        """The time of the last poll: good enough for the age of an operation, and free."""
        self._timers: list[Timer] = []
        """A heap, see `timers.py`."""
        self._specials = 0
        """Pending operations that are not plain."""
        self._taken: int = 0
        """Operations whose end the program has seen."""
        self._posted = 0
        self._waits: int = 0
        self._waiting: int = 0
        self._closed = False
        self._observer: Observer | None = None
        """Asked by what is not plain only: the others end in packets, which tell by themselves."""

    def observe(self, observer: Observer) -> None:
        self._observer = observer

    def forget_threads(self) -> None:
        """In a child process: the threads that had the lock, or waited, are the parent's."""
        self._lock._at_fork_reinit()  # type: ignore[attr-defined]
        self._poller = None
        self._waiters.clear()
        self._bystanders.clear()
        self._lone = Waiter()
        self._waiting = 0

    def _check_open(self) -> None:
        if self._closed:
            raise nt.make_exception(
                nt.STATUS_INVALID_HANDLE, kind=PortClosed, message="the port is closed"
            )

    def post(self, completion: Completion) -> None:
        with self._lock:
            self._check_open()
            self._posted += 1
            self._posted_queued += 1
            self._packets.append(completion)
            if self._waiters:
                self._distribute()

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

    def _wake(self, waiter: Waiter) -> None:
        if waiter is self._poller:
            self._engine.wake()
        else:
            waiter.wake()

    def _may_run(self) -> bool:
        """Whether one more thread may have a packet (PORT-04, PORT-05, EMU-12)."""
        limit = self._concurrency
        return not limit or sum(thread.is_alive() for thread in self._running) < limit

    def give_place_up(self, thread: threading.Thread) -> None:
        """`thread` has turned to another port, or waits for something else."""
        with self._lock:
            self._running.discard(thread)
            self._distribute()

    def take_place_back(self, thread: threading.Thread) -> None:
        """That wait is over: `thread` runs, even if that is one too many for a while (PORT-06)."""
        with self._lock:
            self._running.add(thread)


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
