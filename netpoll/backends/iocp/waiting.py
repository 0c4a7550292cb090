"""How threads wait on a port of Windows: for packets, and for the end of one operation.

Who of them gets which packet, under which concurrency limit, the kernel decides.
"""

from __future__ import annotations

import math
import threading
import time
from abc import abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from netpoll import status as nt
from netpoll.backends import routines
from netpoll.backends.iocp import constants as win
from netpoll.backends.iocp.library import ENTRY, ffi
from netpoll.backends.iocp.packets import WAKE_KEY, PacketQueue
from netpoll.errors import PortClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from netpoll.backends.iocp.library import Library
    from netpoll.backends.iocp.native import Native
    from netpoll.overlapped import Completion, Overlapped

    Operation = Overlapped[Any]

SLICE: Final = 0.1
"""Seconds that the main thread waits at a time. Ctrl-C does not end a wait in the kernel, and
nothing but `signal.set_wakeup_fd`, which belongs to the program, tells of it."""
LONGEST_WAIT: Final = 86400.0
"""Seconds; a wait takes milliseconds in a DWORD. The loop around it goes on."""
MOST_AT_ONCE: Final = 1 << 16
"""Packets; the array for them is kept for as long as the thread lives."""
BETWEEN_LOOKS: Final = 0.02
"""Seconds between two looks for an end that may not wake who waits for it."""


class _Thread(threading.local):
    """What a waiting thread needs, for as long as it lives."""

    def __init__(self) -> None:
        self.room = 0
        self.entries: Any = None
        self.taken = ffi.new("ULONG *")

    def entries_for(self, limit: int) -> Any:
        """An array of `limit` packets or more."""
        if self.room < limit:
            self.room = max(limit, 64)
            self.entries = ffi.new("OVERLAPPED_ENTRY[]", self.room)
        return self.entries


class Waiting(PacketQueue):
    """Waits: for packets, and for the end of one operation."""

    __slots__ = ("_early", "_freed", "_settled", "_thread", "_waiting", "_waits")

    def __init__(self, library: Library, concurrency: int) -> None:
        super().__init__(library, concurrency)
        self._early: deque[Completion] = deque()
        """Packets that were taken from the kernel and not delivered yet: by `Overlapped.wait`, or
        by a wait that Ctrl-C broke off."""
        self._thread = _Thread()
        self._settled = threading.Condition(self._lock)
        """Notified when an operation has ended; for `Overlapped.wait`."""
        self._waiting = 0
        self._waits = 0
        self._freed = False
        """Whether closing leaves it to the last thread here to close the kernel's port."""

    @abstractmethod
    def _on_event(self, operation: Operation) -> None:
        """Windows has set the operation's event (OVL-05, OVL-17)."""

    # -- for packets -------------------------------------------------------------------------------

    def dequeue(self, limit: int, timeout: float | None, alertable: bool) -> list[Completion]:
        limit = min(limit, MOST_AT_ONCE)
        with self._lock:
            self._check_open()
            self._waits += 1
            if self._early:
                return self._take_early(limit)
            self._waiting += 1
        try:
            taken, ran = self._wait(limit, timeout, alertable)
        finally:
            self._leave()
        if ran:
            routines.current().run()
        return taken

    def _take_early(self, limit: int) -> list[Completion]:
        early = self._early
        return [early.popleft() for _ in range(min(limit, len(early)))]

    def _wait(
        self, limit: int, timeout: float | None, alertable: bool
    ) -> tuple[list[Completion], bool]:
        """Wait for packets; also whether routines are due instead."""
        deadline = None if timeout is None else time.monotonic() + timeout
        due = routines.current() if alertable else None
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if due is not None and due.due:
                left = 0.0  # a packet goes first (PORT-25)
            taken = self._wait_once(limit, left, alertable)
            if self._closed:
                self._lose(taken)
                raise nt.make_exception(nt.STATUS_ABANDONED_WAIT_0)
            if not taken and self._early:
                with self._lock:
                    taken = self._take_early(limit)
            if taken:
                return taken, False
            if due is not None and due.due:
                return [], True
            if deadline is not None and time.monotonic() >= deadline:
                return [], False

    def _wait_once(self, limit: int, left: float | None, alertable: bool) -> list[Completion]:
        """One GetQueuedCompletionStatusEx; empty if it brought nothing for the program."""
        if left is None or left > SLICE:
            if threading.get_ident() == threading.main_thread().ident:
                left = SLICE
            elif left is not None:
                left = min(left, LONGEST_WAIT)
        milliseconds = win.INFINITE if left is None else math.ceil(1000 * left)
        thread = self._thread
        entries = thread.entries_for(limit)
        taken: list[Completion] = []
        entries[0].lpCompletionKey = 0  # tells a new packet from an old one
        thread.taken[0] = 0
        try:
            if not self._kernel32.GetQueuedCompletionStatusEx(
                self._port, entries, limit, thread.taken, milliseconds, alertable
            ):
                code = self._kernel32.GetLastError()
                if code not in (win.WAIT_TIMEOUT, win.WAIT_IO_COMPLETION):
                    raise nt.make_exception(nt.from_win32(code), kind=PortClosed)
                return taken
            packets = ffi.buffer(entries, thread.taken[0] * ENTRY.size)
            with self._lock:
                for packet in ENTRY.iter_unpack(packets):
                    self._open(packet, taken)
        except BaseException:
            self._keep(taken, entries, thread.taken[0])
            raise
        return taken

    def _lose(self, taken: Iterable[Completion]) -> None:
        """The port is closed: nobody can have these any more."""
        if self._observer is not None:
            with self._lock:
                self._observer.untaken(taken)

    def _keep(self, taken: list[Completion], entries: Any, number: int) -> None:
        """Ctrl-C broke the decoding off: what was taken from the kernel goes to the next wait."""
        if not entries[0].lpCompletionKey:
            return
        with self._lock:
            for packet in ENTRY.iter_unpack(ffi.buffer(entries, number * ENTRY.size)):
                # what has been opened is not in its table any more
                if packet[1] in self._table or packet[1] in self._posted_packets:
                    self._open(packet, taken)
            self._early.extend(taken)
            if self._waiting > 1:
                self._post_packet(WAKE_KEY, 0)

    def _leave(self) -> None:
        """A thread waits no more."""
        with self._lock:
            self._waiting -= 1
            if self._closed:
                if self._waiting:
                    self._post_packet(WAKE_KEY, 0)
                elif self._freed:
                    self._kernel32.CloseHandle(self._port)
            elif self._early and self._waiting:
                self._post_packet(WAKE_KEY, 0)
            self._settled.notify_all()

    # -- for one operation -------------------------------------------------------------------------

    def wait_for(self, operation: Operation, timeout: float | None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        looked = False  # who has no time wants to know all the same
        while not self._has_ended(operation):
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0 and looked:
                return False
            looked = True
            left = SLICE if left is None else max(0.0, min(left, SLICE))
            if operation.routine is not None:
                # the routine's end is told by an APC, which only takes note of it: not the
                # program's routine, so the wait is not alertable in its eyes (OVL-13)
                self._kernel32.SleepEx(math.ceil(1000 * min(left, BETWEEN_LOOKS)), 1)
            elif operation._native.event is not None:
                with self._lock:
                    if not self._has_ended(operation):
                        self._settled.wait(left)
            else:
                self._look_for_packet(operation, min(left, BETWEEN_LOOKS))
        if operation.event is not None:
            with self._lock:
                pass  # whoever has just ended it lets go of the lock when the event is set
        return True

    def _has_ended(self, operation: Operation) -> bool:
        if operation.done or self._closed:
            return True
        native: Native = operation._native
        if operation.routine is not None:
            return bool(native.overlapped.Internal != nt.STATUS_PENDING)
        if native.event is not None and not native.starts:
            # who only looks is not to wait until the watcher's thread has its turn
            if self._kernel32.WaitForSingleObject(native.event, 0) == win.WAIT_OBJECT_0:
                self._on_event(operation)
            return operation.done
        return False

    def _look_for_packet(self, operation: Operation, left: float) -> None:
        """An operation of a port tells of its end by its packet and nothing else (OVL-04). Where
        nobody else waits for packets, take them, for whoever waits next."""
        with self._lock:
            others = self._waiting
            if others:
                self._settled.wait(left)
                return
            self._waiting += 1
        try:
            taken = self._wait_once(64, left, False)
            with self._lock:
                if self._closed:
                    self._lose(taken)
                else:
                    self._early.extend(taken)
        finally:
            self._leave()

    def run_until(
        self,
        finished: Callable[[], bool],
        timeout: float | None,
        alert: Callable[[Callable[[], object] | None], object] | None = None,
    ) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not finished():
            left = SLICE if deadline is None else max(0.0, deadline - time.monotonic())
            self._kernel32.SleepEx(math.ceil(1000 * min(left, SLICE)), 1)
            if not left:
                break
        return finished()
