"""Readiness as an operation: POLL_ADD, beside whatever else the socket has in the kernel."""

from __future__ import annotations

import selectors
from typing import TYPE_CHECKING, Any

from netpoll.backends import sockets
from netpoll.backends.io_uring import constants as uring
from netpoll.backends.io_uring.lines import Line

if TYPE_CHECKING:
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]


def prepare_poll(operation: Operation, record: sockets.SocketAssociation) -> None:
    operation._queue = Line()  # its own: polls wait for nobody
    operation._native.rewrite = write_poll
    write_poll(operation)


def prepare_wait(operation: Operation, record: sockets.SocketAssociation) -> None:
    operation.flags = selectors.EVENT_READ
    prepare_poll(operation, record)


def write_poll(operation: Operation) -> None:
    events = 0
    if operation.flags & selectors.EVENT_READ:
        events |= uring.POLLIN
    if operation.flags & selectors.EVENT_WRITE:
        events |= uring.POLLOUT
    operation._native.size = operation._size
    operation._native.write(
        uring.IORING_OP_POLL_ADD, sockets.association_of(operation).fd, flags=events
    )
    operation._call = finish_poll


def finish_poll(operation: Operation, result: int) -> bool:
    operation.transferred = 0
    if result < 0:
        sockets.fail(operation, -result)
        return True
    # an error or the end: no operation would block
    either = result & ~(uring.POLLIN | uring.POLLOUT)
    events = selectors.EVENT_READ if either or result & uring.POLLIN else 0
    events |= selectors.EVENT_WRITE if either or result & uring.POLLOUT else 0
    operation._value = events & operation.flags
    operation._final = 0
    return True
