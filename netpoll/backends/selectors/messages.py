"""Messages: receives and sends with an address or with control data, and one try of the latter."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

from netpoll import buffers
from netpoll import status as nt
from netpoll.backends import sockets
from netpoll.backends.queues import BLOCKED, DONE
from netpoll.backends.selectors import datagrams
from netpoll.backends.selectors.streams import (
    await_readability,
    prepare_receive,
    prepare_send,
    send_gathered,
)
from netpoll.backends.selectors.tries import fail, unblock
from netpoll.backends.sockets import DONTWAIT, IOV_MAX, MSG_TRUNC, NOSIGNAL
from netpoll.messages import Received
from netpoll.operations.flags import MSG_PARTIAL

if TYPE_CHECKING:
    from netpoll.backends.selectors.engine import Channel, SelectorsEngine
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]

CLOEXEC: Final = int(getattr(socket, "MSG_CMSG_CLOEXEC", 0))


def prepare_receive_message(
    engine: SelectorsEngine, operation: Operation, channel: Channel
) -> None:
    prepare_receive(engine, operation, channel)
    operation._call = operation.handle.recvmsg_into
    operation._socket_flags = operation.flags & ~MSG_PARTIAL | DONTWAIT | CLOEXEC
    operation._perform = receive_message
    operation._begin = operation._queue.start


def receive_message(operation: Operation) -> int:
    """One datagram, or what a stream has, with what travels beside it."""
    stream = sockets.association_of(operation).stream
    operation._value = Received([], 0, None)
    if stream and not operation._size:
        return await_readability(operation)
    unblock(operation)
    view: buffers.Pinned = operation._view
    views = view[:IOV_MAX] if isinstance(view, list) else [view]
    while True:
        try:
            moved, ancillary, flags, address = operation._call(
                views, operation._ancillary, operation._socket_flags
            )
        except BlockingIOError:
            return BLOCKED
        except OSError as error:
            if not stream and datagrams.retry_receive(operation, error):
                continue
            return fail(operation, error)
        operation._value = Received(ancillary, flags & ~CLOEXEC, None if stream else address)
        operation.transferred = moved
        if stream and not moved:
            sockets.end_of_stream(operation)
        else:
            truncated = flags & MSG_TRUNC and not stream
            operation._final = nt.STATUS_BUFFER_OVERFLOW if truncated else 0
        return DONE


def prepare_send_message(engine: SelectorsEngine, operation: Operation, channel: Channel) -> None:
    prepare_send(engine, operation, channel)
    if channel.stream and operation._ancillary:
        operation._socket_flags = operation.flags | DONTWAIT | NOSIGNAL
        operation._call = operation.handle.sendmsg
        operation._perform = send_message
        operation._begin = operation._queue.start


def send_message(operation: Operation) -> int:
    """On a stream: the control data goes with the first bytes, and once."""
    unblock(operation)
    view: buffers.Pinned = operation._view
    views = view if isinstance(view, list) else [view]
    if not operation._native:
        try:
            moved = operation._call(views[:IOV_MAX], operation._ancillary, operation._socket_flags)
        except BlockingIOError:
            return BLOCKED
        except OSError as error:
            return fail(operation, error)
        operation._native = buffers.after(views, moved)
        if not operation._native:
            operation._native = None
            operation.transferred = operation._size
            operation._final = 0
            return DONE
    return send_gathered(operation)
