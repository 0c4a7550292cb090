"""The waits of Win32: for events, sockets and threads, one or several; and for time."""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING, Any

from netpoll.winapi import constants as c
from netpoll.winapi.errors import SetLastError
from netpoll.winapi.events import Event
from netpoll.winapi.handles import is_socket, known
from netpoll.winapi.overlapped import OVERLAPPED, Operation, refresh, see_end
from netpoll.winapi.results import ERROR_IO_INCOMPLETE, GetOverlappedResult
from netpoll.winapi.waits import SLICE, WSAWaitForMultipleEvents, never, pause, seconds, wait_for

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence


def WaitForSingleObject(hHandle: Any, dwMilliseconds: int) -> int:
    """Wait for an event; for what was started last on a socket without a port and without an event
    (OVL-18); or for a `threading.Thread` to end.

    :return: WAIT_OBJECT_0, WAIT_TIMEOUT or WAIT_FAILED
    """
    if not is_socket(hHandle):
        return WaitForMultipleObjectsEx(1, [hHandle], c.FALSE, dwMilliseconds, c.FALSE)
    last = _signaller(hHandle)
    if last is None:
        pause(never, seconds(dwMilliseconds), alertable=False)
        return c.WAIT_TIMEOUT
    operation = last()
    ended = operation is None or wait_for(operation, seconds(dwMilliseconds))
    return c.WAIT_OBJECT_0 if ended else c.WAIT_TIMEOUT


def WaitForSingleObjectEx(hHandle: Any, dwMilliseconds: int, bAlertable: int) -> int:
    """As `WaitForSingleObject`; alertable, it returns WAIT_IO_COMPLETION when routines ran."""
    if not bAlertable:
        return WaitForSingleObject(hHandle, dwMilliseconds)
    return WaitForMultipleObjectsEx(1, [hHandle], c.FALSE, dwMilliseconds, bAlertable)


def WaitForMultipleObjects(
    nCount: int, lpHandles: Sequence[Any], bWaitAll: int, dwMilliseconds: int
) -> int:
    """Wait for one of the first `nCount` handles, or for all of them.

    :return: WAIT_OBJECT_0 and the index of the handle, WAIT_TIMEOUT or WAIT_FAILED
    """
    return WaitForMultipleObjectsEx(nCount, lpHandles, bWaitAll, dwMilliseconds, c.FALSE)


def WaitForMultipleObjectsEx(
    nCount: int, lpHandles: Sequence[Any], bWaitAll: int, dwMilliseconds: int, bAlertable: int
) -> int:
    """As `WaitForMultipleObjects`; alertable, it returns WAIT_IO_COMPLETION when routines ran."""
    events = [_as_event(each) for each in lpHandles[: max(0, nCount)]]
    standing = [each for each in events if isinstance(each, _Standing)]
    timeout = seconds(dwMilliseconds)
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    while True:
        for each in standing:
            each.look()
        left = max(0.0, deadline - time.monotonic())
        turn = min(left, SLICE) if standing else left
        milliseconds = c.INFINITE if turn == math.inf else math.ceil(1000 * turn)
        result = WSAWaitForMultipleEvents(nCount, events, bWaitAll, milliseconds, bAlertable)
        if result != c.WAIT_TIMEOUT or not left:
            return result


def _as_event(handle: Any) -> Any:
    if isinstance(handle, threading.Thread):
        return _Thread(handle)
    return _Socket(handle) if is_socket(handle) else handle


def _signaller(sock: socket.socket) -> Callable[[], Operation | None] | None:
    """What gives the operation that signals a socket, `None` where that has ended; `None` if none
    does: there was none yet, or the socket has the mode against it (MODE-07)."""
    record = known(sock)
    return None if record.modes & c.FILE_SKIP_SET_EVENT_ON_HANDLE else record.last


class _Standing(Event):
    """An event that stands for what is none. Nobody sets it: who waits has to look."""

    def __init__(self) -> None:
        super().__init__(manual_reset=True, signalled=False)

    def look(self) -> None:
        """Set it if that is signalled."""
        if not self.signalled and self._is_signalled():
            self.set()

    def _is_signalled(self) -> bool:
        raise NotImplementedError


class _Thread(_Standing):
    """A thread is signalled when it has ended."""

    def __init__(self, thread: threading.Thread) -> None:
        super().__init__()
        self._thread: threading.Thread = thread

    def _is_signalled(self) -> bool:
        return self._thread.ident is not None and not self._thread.is_alive()


class _Socket(_Standing):
    """A socket is signalled when what was started on it last has ended (OVL-18)."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        last = _signaller(sock)
        self._never: bool = last is None
        self._last: Operation | None = None if last is None else last()

    def _is_signalled(self) -> bool:
        return not self._never and (self._last is None or self._last.wait(0))

    def pending(self) -> list[Operation]:
        """The operation that signals it."""
        return [] if self._last is None or self._last.done else [self._last]


# -- for an operation, and for time ----------------------------------------------------------------


def GetOverlappedResultEx(
    hFile: Any, lpOverlapped: OVERLAPPED, dwMilliseconds: int, bAlertable: int
) -> tuple[int, int]:
    """As `GetOverlappedResult`, and waits for so long at most.

    :return: (TRUE, bytes transferred); or FALSE: 996, it is pending and there was no time to wait,
        258 when that is over, 192 when routines of this thread ran instead, else what the operation
        failed with
    """
    operation = refresh(lpOverlapped)
    if operation is not None:
        code = _wait(operation, dwMilliseconds, bool(bAlertable))
        if code:
            SetLastError(code)
            return c.FALSE, 0
        see_end(operation)
    return GetOverlappedResult(hFile, lpOverlapped, c.FALSE)


def _wait(operation: Operation, milliseconds: int, alertable: bool) -> int:
    """Why there is no result; 0 when there is one."""
    timeout = seconds(milliseconds)
    if timeout == 0:
        return 0 if operation.wait(0) else ERROR_IO_INCOMPLETE
    if not alertable:
        return 0 if wait_for(operation, timeout) else c.WAIT_TIMEOUT
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    while not operation.wait(0):
        left = deadline - time.monotonic()
        if pause(never, max(0.0, min(left, SLICE)), alertable=True):
            return c.WAIT_IO_COMPLETION
        if left <= 0:
            return c.WAIT_TIMEOUT
    return 0


def Sleep(dwMilliseconds: int) -> None:
    """Sleep; no routine runs meanwhile. Operations without a port go on."""
    pause(never, seconds(dwMilliseconds), alertable=False)
