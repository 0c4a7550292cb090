"""Disconnects: their entries, and what their completions mean."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from netpoll.backends import sockets
from netpoll.backends.io_uring import constants as uring

if TYPE_CHECKING:
    from netpoll.backends.io_uring.entries import Native
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]


def prepare_disconnect(operation: Operation, record: sockets.SocketAssociation) -> None:
    sockets.check_disconnect(operation)
    operation._queue = record.writing
    operation._native.rewrite = write_disconnect
    write_disconnect(operation)


def write_disconnect(operation: Operation) -> None:
    native: Native = operation._native
    native.size = operation._size
    native.write(
        uring.IORING_OP_SHUTDOWN, sockets.association_of(operation).fd, length=socket.SHUT_WR
    )
    operation._call = finish_disconnect


def finish_disconnect(operation: Operation, result: int) -> bool:
    sockets.disconnected(operation, -result)
    return True
