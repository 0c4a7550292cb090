"""Disconnects and files: one try of each."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any

from netpoll.backends import sockets
from netpoll.backends.files import send_on
from netpoll.backends.queues import DONE

if TYPE_CHECKING:
    from netpoll.backends.files import FileTransfer
    from netpoll.backends.selectors.engine import Channel, SelectorsEngine
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]


def prepare_disconnect(engine: SelectorsEngine, operation: Operation, channel: Channel) -> None:
    sockets.check_disconnect(operation)
    operation._queue = channel.writing
    operation._perform = disconnect
    operation._begin = start_disconnect


def start_disconnect(operation: Operation) -> bool:
    queue = operation._queue
    with sockets.disconnecting(operation):
        queue.ready = True  # a shutdown never has to wait
        return bool(queue.start(operation))


def disconnect(operation: Operation) -> int:
    """The sends before it are out: end the stream."""
    try:
        operation.handle.shutdown(socket.SHUT_WR)
    except OSError as error:
        sockets.disconnected(operation, error.errno or errno.EIO)
    else:
        sockets.disconnected(operation, 0)
    return DONE


def prepare_sendfile(engine: SelectorsEngine, operation: Operation, channel: Channel) -> None:
    sockets.check_connected(operation)
    operation._queue = channel.writing
    operation._perform = send_on
    operation._begin = start_sendfile


def start_sendfile(operation: Operation) -> bool:
    transfer: FileTransfer = operation._address
    transfer.open()
    ended = True
    try:
        ended = bool(operation._queue.start(operation))
    finally:
        if ended:
            transfer.close()
    return ended
