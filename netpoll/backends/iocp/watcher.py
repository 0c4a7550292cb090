"""The thread that a port starts once it has to notice something that queues no packet: an event
that Windows sets, or a time limit that is over.

Most ports never have one.
"""

from __future__ import annotations

import heapq
import math
import threading
import time
import weakref
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from netpoll.backends.iocp.library import NULL, ffi

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll.backends.iocp.functions import Handle, Kernel32
    from netpoll.backends.iocp.library import Library
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]

MOST_EVENTS: Final = 63
"""What one WaitForMultipleObjects takes, less the one that ends the wait."""
LONGEST_WAIT: Final = 86400.0


class Watcher:
    """Calls functions when Windows has set an event, or when a time has come; from its own thread,
    started when it is first needed."""

    def __init__(self, library: Library, expire: Callable[[Operation, float], object]) -> None:
        """
        :param expire: called with an operation and its deadline once that has come
        """
        self._expire = expire
        self._kernel32 = library.kernel32
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wake: Handle = NULL
        self._closed = False
        self._timers: list[tuple[float, int, Operation]] = []
        self._numbers = count()
        self._sweep_at = 64
        self._events: dict[int, tuple[Handle, Callable[[], object]]] = {}
        self._start = 0

    def at(self, deadline: float, operation: Operation) -> None:
        """Have `operation` expire once `time.monotonic()` has reached `deadline`."""
        with self._lock:
            heapq.heappush(self._timers, (deadline, next(self._numbers), operation))
            if len(self._timers) > self._sweep_at:
                # operations mostly end before their time: do not let dead entries pile up
                self._timers = [entry for entry in self._timers if _is_due_to_expire(entry)]
                heapq.heapify(self._timers)
                self._sweep_at = 64 + 2 * len(self._timers)
            self._stir()

    def when_set(self, number: int, event: Handle, call: Callable[[], object]) -> None:
        """Call once `event` is set.

        :param number: identifies the request, for `forget`
        """
        with self._lock:
            self._events[number] = event, call
            self._stir()

    def forget(self, number: int) -> None:
        """Nobody is interested in that event any more."""
        with self._lock:
            self._events.pop(number, None)

    def close(self) -> None:
        """End the thread, and wait until it has ended."""
        with self._lock:
            self._closed = True
            self._events.clear()
            self._timers.clear()
            thread = self._thread
            if thread is None:
                return
            self._stir()
        if thread is not threading.current_thread():
            thread.join()

    def _stir(self) -> None:
        """Have the thread look again; there is one from now on."""
        if self._thread is None and not self._closed:
            wake = self._kernel32.CreateEventW(NULL, 0, 0, NULL)
            self._wake = ffi.gc(wake, self._kernel32.CloseHandle)
            self._thread = threading.Thread(
                target=_run,
                args=(weakref.ref(self), self._wake, self._kernel32),
                name="netpoll watcher",
                daemon=True,
            )
            self._thread.start()
        self._kernel32.SetEvent(self._wake)

    def _watched(self) -> tuple[list[tuple[int, Handle]], int] | None:
        """The events to wait for now, by number, and for how many milliseconds; `None`: no more."""
        with self._lock:
            if self._closed:
                return None
            timeout = self._until_next_timer()
            watched = [(number, event) for number, (event, _) in self._events.items()]
        # more events than one call takes are looked at in turns, none longer than a moment
        if len(watched) > MOST_EVENTS:
            start = self._start = (self._start + MOST_EVENTS) % len(watched)
            watched = (watched[start:] + watched[:start])[:MOST_EVENTS]
            timeout = min(timeout, 20)
        return watched, timeout

    def _look(self, watched: list[tuple[int, Handle]], taken: int) -> None:
        """Call what is due.

        :param taken: which event the wait has ended with
        """
        for index, (number, event) in enumerate(watched):
            # whose signal that wait has taken, a second one would not see again (WAIT-02)
            if index + 1 == taken or self._kernel32.WaitForSingleObject(event, 0) == 0:
                with self._lock:
                    due = self._events.get(number)
                    if due is None or due[0] is not event:
                        continue
                    del self._events[number]
                due[1]()
        self._run_timers()

    def _until_next_timer(self) -> int:
        """Milliseconds, rounded up so that the wait is not early."""
        left = self._timers[0][0] - time.monotonic() if self._timers else LONGEST_WAIT
        return math.ceil(1000 * min(max(left, 0.0), LONGEST_WAIT))

    def _run_timers(self) -> None:
        while True:
            with self._lock:
                if not self._timers or self._timers[0][0] > time.monotonic():
                    return
                deadline, _, operation = heapq.heappop(self._timers)
            self._expire(operation, deadline)


def _run(reference: weakref.ref[Watcher], wake: Handle, kernel32: Kernel32) -> None:
    """What the thread does. While it waits it keeps neither the watcher nor the port behind that:
    a port that the program drops is to be noticed, and warned of."""
    handles = ffi.new("HANDLE[]", MOST_EVENTS + 1)
    handles[0] = wake
    while True:
        watcher = reference()
        turn = None if watcher is None else watcher._watched()
        del watcher
        if turn is None:
            return
        watched, timeout = turn
        for index, (_, event) in enumerate(watched):
            handles[index + 1] = event
        taken = kernel32.WaitForMultipleObjects(len(watched) + 1, handles, 0, timeout)
        watcher = reference()
        if watcher is not None:
            watcher._look(watched, taken)
        del watcher


def _is_due_to_expire(entry: tuple[float, int, Operation]) -> bool:
    deadline, _, operation = entry
    return operation._in_use and operation._deadline == deadline
