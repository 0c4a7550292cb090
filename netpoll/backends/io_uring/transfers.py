"""Disconnects and files: their entries, and what their completions mean."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any

from netpoll.backends import sockets
from netpoll.backends.files import send_on
from netpoll.backends.io_uring import constants as uring
from netpoll.backends.queues import DONE

if TYPE_CHECKING:
    from netpoll.backends.io_uring.entries import Native
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]


def prepare_disconnect(operation: Operation, record: sockets.SocketAssociation) -> None:
    sockets.check_disconnect(operation)
    operation._queue = record.writing
    operation._native.rewrite = write_disconnect
    write_disconnect(operation)
    operation._perform = disconnect_at_once


def disconnect_at_once(operation: Operation) -> bool:
    try:
        operation.handle.shutdown(socket.SHUT_WR)
    except OSError as error:
        return finish_disconnect(operation, -(error.errno or errno.EIO))
    return finish_disconnect(operation, 0)


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


def prepare_sendfile(operation: Operation, record: sockets.SocketAssociation) -> None:
    sockets.check_connected(operation)
    operation._queue = record.writing
    operation._native.rewrite = write_sendfile
    write_sendfile(operation)
    operation._perform = send_on


def write_sendfile(operation: Operation) -> None:
    native: Native = operation._native
    native.size = operation._size
    fd = sockets.association_of(operation).fd
    native.write(uring.IORING_OP_POLL_ADD, fd, flags=uring.POLLOUT)
    operation._call = finish_sendfile


def finish_sendfile(operation: Operation, result: int) -> bool:
    """There is room in the socket: send from the file, as much as that is."""
    if result < 0:
        operation._address.close()
        sockets.fail(operation, -result)
        return True
    return send_on(operation) == DONE
