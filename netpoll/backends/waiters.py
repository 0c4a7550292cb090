"""Threads that wait on a port of netpoll's own: the record of one, and where each counts as
running."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Generator

    from netpoll.backends.routines import RoutineQueue
    from netpoll.overlapped import Completion, Overlapped


class Waiter:
    """A thread that waits on the port."""

    __slots__ = ("packets", "routines", "signal", "thread")

    def __init__(self, thread: threading.Thread | None = None) -> None:
        self.signal: threading.Lock = threading.Lock()
        self.signal.acquire()
        self.packets: list[Overlapped[Any] | Completion] = []
        """What was handed to it."""
        self.thread: threading.Thread | None = thread
        """Who it is, where the concurrency limit has to know."""
        self.routines: RoutineQueue | None = None
        """The routines that it may run, if the wait is alertable."""

    def wake(self) -> None:
        """End its sleep, or its next one. Wakes coalesce."""
        if self.signal.locked():
            # two threads may see it locked; the second release is the one wake too many
            with contextlib.suppress(RuntimeError):
                self.signal.release()


class Limited(Protocol):
    """A port that counts the threads that run."""

    def give_place_up(self, thread: threading.Thread) -> None:
        """`thread` has turned to another port, or waits for something else."""

    def take_place_back(self, thread: threading.Thread) -> None:
        """That wait is over: `thread` runs, even if that is one too many for a while."""


class Places(threading.local):
    """On which port with a concurrency limit this thread counts as running: on one at most
    (PORT-05)."""

    limited = False
    """Whether there ever was such a port; set on the class, for all threads."""
    port: Limited | None = None

    def take(self, port: Limited) -> None:
        self.port = port

    def leave(self, port: Limited) -> None:
        """The thread turns to `port`: wherever else it ran, its place is free."""
        other = self.port
        if other is not None and other is not port:
            self.port = None
            other.give_place_up(threading.current_thread())

    @contextlib.contextmanager
    def free(self) -> Generator[None]:
        """The thread waits for something that is no packet: its place is another's meanwhile
        (PORT-06)."""
        port, self.port = self.port, None
        if port is None:
            yield
            return
        thread = threading.current_thread()
        port.give_place_up(thread)
        try:
            yield
        finally:
            if self.port is None:  # no routine that ran in the wait has turned to another port
                self.port = port
                port.take_place_back(thread)


places: Places = Places()


def reacquire(lock: threading.RLock) -> None:
    """Take a lock back that was released around a blocking call, even if Ctrl-C falls into it."""
    try:
        lock.acquire()
    except BaseException:
        if not lock._is_owned():  # type: ignore[attr-defined]
            reacquire(lock)
        raise
