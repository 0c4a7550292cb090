"""Readiness as an operation: nothing is tried, the selector's word is the result."""

from __future__ import annotations

import selectors
from typing import TYPE_CHECKING, Any

from netpoll.backends.selectors.readiness import READ, WRITE

if TYPE_CHECKING:
    from netpoll.backends.selectors.engine import Channel, SelectorsEngine
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]


def prepare_poll(engine: SelectorsEngine, operation: Operation, channel: Channel) -> None:
    read, write = operation.flags & selectors.EVENT_READ, operation.flags & selectors.EVENT_WRITE
    operation._socket_flags = (READ if read else 0) | (WRITE if write else 0)
    operation._begin = engine.start_poll


def prepare_wait(engine: SelectorsEngine, operation: Operation, channel: Channel) -> None:
    operation._socket_flags = READ
    operation._begin = engine.start_poll


def on_ready(channel: Channel, ready: int, finished: list[Operation]) -> None:
    """End the polls that wait for what the handle is ready for."""
    if ready & ~(READ | WRITE):
        ready |= READ | WRITE  # an error or the end: no operation would block
    for operation in channel.polls:
        bits = operation._socket_flags & ready
        if bits:
            channel.forget_poll(operation)
            operation._value = (selectors.EVENT_READ if bits & READ else 0) | (
                selectors.EVENT_WRITE if bits & WRITE else 0
            )
            operation._final = 0
            finished.append(operation)
