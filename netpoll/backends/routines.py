"""Completion routines: each thread's queue of those that are due, and the alertable wait without a
port.

A routine runs in the thread that started its operation, inside an alertable wait and nowhere else
(APC-01). So a finished operation goes to the queue of its issuing thread, and if that thread is in
an alertable wait, the wait is ended.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from netpoll import status as nt

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll.backends.base import Backend
    from netpoll.overlapped import Overlapped

ROTATION = 0.02
"""Seconds given to each port in turn when one alertable sleep has to drive several of them."""
SLICE = 0.5
"""Seconds that a thread without a port waits at a time."""


class RoutineQueue:
    """One thread's finished operations whose routines have not run yet."""

    def __init__(self) -> None:
        self._due: deque[Overlapped[Any]] = deque()
        self._wake: Callable[[], object] | None = None
        self._pending: dict[Backend, int] = {}
        self._lock = threading.Lock()

    @property
    def due(self) -> bool:
        """Whether a routine waits to be run."""
        return bool(self._due)

    def expect(self, backend: Backend) -> None:
        """An operation with a routine was started on `backend` by this thread."""
        with self._lock:
            self._pending[backend] = self._pending.get(backend, 0) + 1

    def forget(self, backend: Backend) -> None:
        """That start failed, so there will be no routine."""
        with self._lock:
            self._pending[backend] -= 1
            if not self._pending[backend]:
                del self._pending[backend]

    def add(self, operation: Overlapped[Any], backend: Backend) -> None:
        """`operation` has finished (any thread)."""
        self.forget(backend)
        self._due.append(operation)
        if wake := self._wake:
            wake()

    def alert(self, wake: Callable[[], object] | None) -> None:
        """The owner enters an alertable wait that `wake` ends, or leaves it."""
        self._wake = wake

    def run(self) -> bool:
        """Run what is due, in the owner; whether there was anything (APC-03).

        A routine may start operations and may be re-entered by an alertable wait of its own. One
        that raises ends the wait with its exception; the others stay due.
        """
        ran = False
        while self._due:
            operation = self._due.popleft()
            ran = True
            routine = operation.routine
            operation._in_use = False
            assert routine is not None
            error = nt.winsock_error(operation._final) if operation._final else 0
            routine(error, operation.transferred, operation, 0)
        return ran

    def backends(self) -> list[Backend]:
        """Where this thread's operations with routines are pending."""
        with self._lock:
            return list(self._pending)


_this_thread = threading.local()


def current() -> RoutineQueue:
    """The calling thread's queue."""
    try:
        return _this_thread.queue  # type: ignore[no-any-return]
    except AttributeError:
        queue = _this_thread.queue = RoutineQueue()
        return queue


def sleep(timeout: float | None, alertable: bool = True) -> bool:
    """`SleepEx`: wait `timeout` seconds, or until completion routines of this thread have run.

    While it waits it drives the ports on which this thread has operations with routines, so that
    they progress even when nobody waits on those ports (EMU-11).

    :param timeout: seconds; `None` is forever, 0 runs what is due
    :param alertable: `False` makes it an ordinary sleep, which runs nothing
    :return: whether routines ran (`WAIT_IO_COMPLETION`, APC-01)
    """
    if timeout is not None and not timeout >= 0:
        raise ValueError(f"a timeout is a number of seconds, 0 or more, or None; not {timeout!r}")
    queue = current()
    if not alertable:
        _idle(threading.Event(), timeout)
        return False
    deadline = None if timeout is None else time.monotonic() + timeout
    idle = threading.Event()
    while not queue.run():
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        backends = queue.backends()
        for backend in backends:
            turn = left if len(backends) == 1 else ROTATION if left is None else min(ROTATION, left)
            backend.run_until(lambda: queue.due, turn)
        if not backends:
            queue.alert(idle.set)
            try:
                if not queue.due and not _idle(idle, left):
                    return queue.run()
            finally:
                queue.alert(None)
        elif left == 0:  # the time is over, and each port was looked at after that
            return queue.run()
    return True


def _idle(event: threading.Event, timeout: float | None) -> bool:
    # Ctrl-C does not end an Event.wait() on Windows: slices can be interrupted in between
    if timeout is None:
        timeout = math.inf
    deadline = time.monotonic() + timeout
    while not event.wait(min(timeout, SLICE)):
        timeout = deadline - time.monotonic()
        if timeout <= 0:
            return False
    return True
