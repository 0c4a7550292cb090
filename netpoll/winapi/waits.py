"""Waiting for events and sockets, and sleeping."""

from __future__ import annotations

import math
import socket
import time
from typing import TYPE_CHECKING, Any, Final

import netpoll
from netpoll.backends import routines
from netpoll.winapi import constants as c
from netpoll.winapi.errors import SetLastError
from netpoll.winapi.events import Event, changed, is_open
from netpoll.winapi.handles import is_socket, known

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netpoll.winapi.overlapped import Operation

SLICE: Final = 0.02
"""Seconds: a wait for events lets their operations go on for that long, and then looks again."""


def WSAWaitForMultipleEvents(
    cEvents: int,
    lphEvents: Sequence[Event],
    fWaitAll: int,
    dwTimeout: int,
    fAlertable: int,
) -> int:
    """Wait for one of the first `cEvents` events, or for all of them.

    :return: WSA_WAIT_EVENT_0 and the index of the event; WSA_WAIT_TIMEOUT; WSA_WAIT_IO_COMPLETION
        when routines ran; or WSA_WAIT_FAILED
    """
    events = lphEvents[:cEvents]
    if not 0 < cEvents <= c.WSA_MAXIMUM_WAIT_EVENTS or len(events) < cEvents:
        SetLastError(c.WSA_INVALID_PARAMETER)
        return c.WSA_WAIT_FAILED
    if not all(map(is_open, events)):
        return c.WSA_WAIT_FAILED
    timeout = seconds(dwTimeout)
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    looked = False
    while (index := _take(events, bool(fWaitAll))) is None:
        left = deadline - time.monotonic()
        if left <= 0 and looked:
            return c.WSA_WAIT_TIMEOUT
        looked = True
        if _progress(events, max(0.0, min(left, SLICE)), bool(fAlertable)):
            return c.WSA_WAIT_IO_COMPLETION
    return c.WSA_WAIT_EVENT_0 + index


def _take(events: Sequence[Event], every: bool) -> int | None:
    """Which event ends the wait, if any does; an event that is not reset by hand is reset."""
    with changed:
        signalled = [each for each in events if each.signalled]
        if not signalled or (every and len(signalled) < len(events)):
            return None
        for each in signalled if every else signalled[:1]:
            each.signalled = each.manual_reset
        return 0 if every else events.index(signalled[0])


def _progress(events: Sequence[Event], left: float, alertable: bool) -> bool:
    """Let what the events wait for go on, for a moment; whether routines ran."""
    pending = [operation for event in events for operation in event.pending()]
    if alertable:
        for operation in pending:
            operation.wait(0)
        return netpoll.sleep(left)
    if pending:
        for operation in pending[1:]:
            operation.wait(0)
        pending[0].wait(left)
    else:
        with changed:
            if not any(event.signalled for event in events):
                changed.wait(left)
    return False


def WaitForSingleObject(hHandle: Any, dwMilliseconds: int) -> int:
    """Wait for an event, or for what was started last on a socket without a port and without an
    event (OVL-18).

    :return: WAIT_OBJECT_0, WAIT_TIMEOUT or WAIT_FAILED
    """
    if isinstance(hHandle, Event):
        return WSAWaitForMultipleEvents(1, [hHandle], c.FALSE, dwMilliseconds, c.FALSE)
    if not isinstance(hHandle, socket.socket) or not is_socket(hHandle):
        SetLastError(c.WSA_INVALID_HANDLE)
        return c.WAIT_FAILED
    record = known(hHandle)
    if record.last is None or record.modes & c.FILE_SKIP_SET_EVENT_ON_HANDLE:  # MODE-07
        netpoll.sleep(seconds(dwMilliseconds), alertable=False)
        return c.WAIT_TIMEOUT
    last = record.last()
    ended = last is None or last.wait(seconds(dwMilliseconds))
    return c.WAIT_OBJECT_0 if ended else c.WAIT_TIMEOUT


def SleepEx(dwMilliseconds: int, bAlertable: int) -> int:
    """Sleep; alertable, until completion routines of this thread have run.

    :return: WAIT_IO_COMPLETION if routines ran, else 0
    """
    ran = netpoll.sleep(seconds(dwMilliseconds), alertable=bool(bAlertable))
    return c.WAIT_IO_COMPLETION if ran else 0


def wait_alertably(operation: Operation) -> None:
    """The wait of a call that blocks: routines of this thread run in it (APC-05)."""
    while not operation.wait(SLICE if routines.current().backends() else None):
        netpoll.sleep(0)


def progress_routines() -> bool:
    """Let the operations go on whose routines this thread will run; whether there are any."""
    queue = routines.current()
    backends = queue.backends()
    for backend in backends:
        backend.run_until(lambda: queue.due, 0)
    return bool(backends)


def seconds(milliseconds: int) -> float | None:
    """A wait's DWORD, as the core takes it."""
    milliseconds &= 0xFFFFFFFF
    return None if milliseconds == c.INFINITE else milliseconds / 1000
