"""How every call that starts an operation does so, and answers in C."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

from netpoll import status as nt
from netpoll.winapi import constants as c
from netpoll.winapi.errors import winsock_code
from netpoll.winapi.events import Event, Tagged, event_of
from netpoll.winapi.handles import known, starting_port
from netpoll.winapi.overlapped import OVERLAPPED, Operation, refresh, see_end
from netpoll.winapi.waits import wait_alertably

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from netpoll import CompletionPort, Overlapped
    from netpoll.winapi.overlapped import Conclude

    CompletionRoutine = Callable[[int, int, Any, int], object]
    Start = Callable[[CompletionPort, Operation], object]

WSA_IO_PENDING: Final = nt.win32_error(nt.STATUS_PENDING)
WSAENOTSOCK: Final = nt.winsock_error(nt.STATUS_OBJECT_TYPE_MISMATCH)


def start(
    sock: socket.socket,
    overlapped: OVERLAPPED,
    begin: Start,
    *,
    routine: CompletionRoutine | None = None,
    conclude: Conclude | None = None,
) -> tuple[int, int]:
    """Start an operation of `overlapped`.

    :param begin: starts the operation that it is given on the port that it is given
    :return: the Winsock code and the bytes moved: 0 when it ended within its start; 997 when its
        end is to come, and is told by packet, event or routine; any other is a start that failed
    :raises TypeError: it is none
    :raises RuntimeError: `overlapped` is in use, which Windows would not notice (OVL-06)
    """
    if not isinstance(overlapped, OVERLAPPED):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"lpOverlapped is an OVERLAPPED or NULL, not {type(overlapped).__name__}")
    under_way = refresh(overlapped)
    if under_way is not None:
        raise RuntimeError(
            f"this {type(overlapped).__name__} is in use ({under_way!r}): see its completion "
            f"first, or have one for each operation (OVL-06)"
        )
    if routine is None and overlapped.hEvent and event_of(overlapped.hEvent) is None:
        return c.WSA_INVALID_HANDLE, 0
    operation = Operation(overlapped, conclude)
    record = known(sock)
    before = overlapped.Internal, record.last
    # the packet may be taken by another thread before this one is back (PORT-29)
    overlapped._operation = operation
    overlapped.Internal = nt.STATUS_PENDING
    record.last = weakref.ref(operation)
    try:
        _tell_event(operation, overlapped, routine)
        if not record.overlapped and operation.event is None:
            tell(operation, Event(manual_reset=True, signalled=False))
        begin(starting_port(sock), operation)
    except BaseException as error:
        operation.done = True  # nobody is to wait for it
        overlapped._operation = None
        overlapped.Internal, record.last = before
        if isinstance(error, OSError):
            return winsock_code(error), 0
        raise
    if isinstance(operation.event, Event):
        operation.event.started()
    if not record.overlapped:  # XFER-06
        wait_alertably(operation)
        status, moved = see_end(operation)
        return nt.winsock_error(status), moved
    ended = operation.ended
    if ended is None or ended[0] != threading.get_ident():
        return WSA_IO_PENDING, 0
    if routine is None:
        see_end(operation)
    return nt.winsock_error(ended[1]), ended[2]


def _tell_event(
    operation: Operation, overlapped: OVERLAPPED, routine: CompletionRoutine | None
) -> None:
    """OVL-17: a routine goes before an event."""
    event = None if routine is not None else overlapped.hEvent
    if isinstance(event, Tagged):
        operation.packet = False
        event = event.event
    if event:
        tell(operation, event)


def tell(operation: Operation, event: Event) -> None:
    """The end of `operation` sets `event`."""
    operation.event = event
    event.expect(operation)


def in_c(routine: CompletionRoutine | None) -> Callable[..., object] | None:
    """A completion routine, as the core calls it."""
    if routine is None:
        return None

    def run(error: int, transferred: int, operation: Overlapped[Any], flags: int) -> None:
        assert isinstance(operation, Operation)
        see_end(operation)
        count_routine()
        routine(error, transferred, operation.owner, flags)

    return run


class _Routines(threading.local):
    ran = 0


_routines = _Routines()


def count_routine() -> None:
    """A completion routine runs in this thread."""
    _routines.ran += 1


def routines_ran() -> int:
    """How many of this thread's routines have run so far: tells a wait that ended with them from
    one that ran out of time."""
    return _routines.ran
