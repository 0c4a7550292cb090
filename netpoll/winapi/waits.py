"""Waiting for events, and sleeping; `objects` has the waits for more than that."""

from __future__ import annotations

import contextlib
import math
import time
from typing import TYPE_CHECKING, Final

from netpoll.backends import routines
from netpoll.backends.waiters import places
from netpoll.winapi import constants as c
from netpoll.winapi.errors import SetLastError
from netpoll.winapi.events import Event, Tagged, changed, opened, watch
from netpoll.winapi.handles import unattended

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from netpoll.backends.base import Backend
    from netpoll.backends.routines import RoutineQueue
    from netpoll.winapi.overlapped import Operation

SLICE: Final = 0.02
"""Seconds: where several ports have to be looked after, each has its turn for that long."""
IDLE: Final = 0.5
"""Seconds that a thread waits at a time where no port has to be looked after. Ctrl-C does not end
such a wait on Windows."""


def WSAWaitForMultipleEvents(
    cEvents: int,
    lphEvents: Sequence[Event | Tagged],
    fWaitAll: int,
    dwTimeout: int,
    fAlertable: int,
) -> int:
    """Wait for one of the first `cEvents` events, or for all of them.

    :return: WSA_WAIT_EVENT_0 and the index of the event; WSA_WAIT_TIMEOUT; WSA_WAIT_IO_COMPLETION
        when routines ran; or WSA_WAIT_FAILED
    """
    handles = lphEvents[:cEvents]
    if not 0 < cEvents <= c.WSA_MAXIMUM_WAIT_EVENTS or len(handles) < cEvents:
        SetLastError(c.WSA_INVALID_PARAMETER)
        return c.WSA_WAIT_FAILED
    events = [event for each in handles if (event := opened(each)) is not None]
    if len(events) < cEvents:
        return c.WSA_WAIT_FAILED
    taken: list[int] = []

    def take() -> bool:
        index = None if taken else _take(events, bool(fWaitAll))
        if index is not None:
            taken.append(index)
        return bool(taken)

    ran = pause(take, seconds(dwTimeout), events, alertable=bool(fAlertable))
    if taken:
        return c.WSA_WAIT_EVENT_0 + taken[0]
    return c.WSA_WAIT_IO_COMPLETION if ran else c.WSA_WAIT_TIMEOUT


def _take(events: Sequence[Event], every: bool) -> int | None:
    """Which event ends the wait, if any does; an event that is not reset by hand is reset."""
    with changed:
        signalled = [each for each in events if each.signalled]
        if not signalled or (every and len(signalled) < len(events)):
            return None
        for each in signalled if every else signalled[:1]:
            each.signalled = each.manual_reset
        return 0 if every else events.index(signalled[0])


def SleepEx(dwMilliseconds: int, bAlertable: int) -> int:
    """Sleep; alertable, until completion routines of this thread have run. Operations without a
    port go on meanwhile.

    :return: WAIT_IO_COMPLETION if routines ran, else 0
    """
    ran = pause(never, seconds(dwMilliseconds), alertable=bool(bAlertable))
    return c.WAIT_IO_COMPLETION if ran else 0


def never() -> bool:
    return False


def wait_for(operation: Operation, timeout: float | None = None) -> bool:
    """Wait for the end of an operation; not alertable (OVL-13). Whether it has ended."""
    if operation.wait(0):
        return True
    with places.free():
        return operation.wait(timeout)


def wait_alertably(operation: Operation, timeout: float | None = None) -> bool:
    """The wait of a call that blocks: routines of this thread run in it (APC-05), but not if it
    has its end already, or no time.

    :param operation: has an event
    :param timeout: seconds; `None` is for ever
    :return: whether it has ended
    """
    event = operation.event
    assert isinstance(event, Event)
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    ended = operation.wait(0)
    while not ended and (left := deadline - time.monotonic()) > 0:
        pause(lambda: operation.done, None if left == math.inf else left, [event], alertable=True)
        ended = operation.done
    return ended


# -- how a thread waits ----------------------------------------------------------------------------


def pause(
    finished: Callable[[], bool],
    timeout: float | None,
    events: Sequence[Event] = (),
    *,
    alertable: bool,
) -> bool:
    """Wait until `finished()`, which one of `events` makes true, or until routines of this thread
    have run. The thread's place on a port with a concurrency limit is another's meanwhile
    (PORT-06).

    :param timeout: seconds; `None` is forever. What is to be seen at once is seen with 0, too
    :return: whether routines ran
    """
    if finished():
        return False
    queue = routines.current()
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    looked = False
    with places.free() if timeout != 0 else contextlib.nullcontext():
        while not finished():
            if alertable and queue.run():
                return True
            left = deadline - time.monotonic()
            if left <= 0 and looked:
                return False
            looked = True
            _let_go_on(finished, max(0.0, left), events, queue if alertable else None)
    return False


def _let_go_on(
    finished: Callable[[], bool], left: float, events: Sequence[Event], queue: RoutineQueue | None
) -> None:
    """Wait, and look after the ports meanwhile whose operations go on only while somebody does
    (EMU-11): those of the operations that set the events, of those without a port, and of this
    thread's routines."""
    pending = _pending(events)
    backends = [port._backend for each in pending if (port := each._port) is not None]
    backends = _distinct([*backends, *unattended()])
    driven = [each for each in backends if not each.progresses_alone]
    if queue is not None:
        driven = _distinct([*driven, *queue.backends()])

    def enough() -> bool:
        """Also when others are to set the events now, whose ports nobody looks after."""
        due = queue is not None and queue.due
        return finished() or due or not set(_pending(events)) <= set(pending)

    if not driven:
        with changed:
            changed.wait_for(enough, min(left, IDLE))
        return
    alone = len(driven) == 1 and not driven[0].progresses_alone
    turn = left if alone else min(left, SLICE)
    for backend in driven:
        backend.run_until(enough, None if turn == math.inf else turn, watch(events))


def _pending(events: Sequence[Event]) -> list[Operation]:
    """What is under way and will set one of them."""
    expected = [operation for event in events for operation in event.pending()]
    return [each for each in expected if each._port is not None]


def _distinct(backends: list[Backend]) -> list[Backend]:
    return list(dict.fromkeys(backends))


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
