"""Operations that work on no handle of the port's: timers, and waits for processes and events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from netpoll import status as nt
from netpoll.backends import waitables

if TYPE_CHECKING:
    from netpoll.backends.starts import Starts
    from netpoll.overlapped import Overlapped

    AnyOverlapped = Overlapped[Any]


def begin_timer(operation: AnyOverlapped) -> bool:
    operation.transferred = 0
    return False  # and its time limit ends it


def begin_wait(operation: AnyOverlapped) -> bool:
    """Wait for the descriptor that tells of a process or an event (EMU-34)."""
    port = cast("Starts", operation._owner)
    waitable = operation._address = waitables.open_waitable(operation.handle)
    operation._association = port._look_up(waitable)
    port._engine.prepare(operation)
    begin, operation._begin = operation._begin, begin_wait
    return bool(begin(operation))


def end_wait(port: Starts, operation: AnyOverlapped) -> None:
    association, operation._association = operation._association, port._nowhere
    waitable, operation._address = operation._address, None
    if waitable is None:
        return
    if port._associations.get(association.fd) is association:
        del port._associations[association.fd]
        port._engine.detach(association)
    waitable.close()
    if not operation._final:
        try:
            operation._value = waitables.result_of(operation.handle)
        except OSError as error:  # this operation's failure, and nobody else's
            operation._final = nt.from_errno(error.errno or 0)
