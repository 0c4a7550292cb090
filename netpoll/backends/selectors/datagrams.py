"""Datagrams: one try of a receive or a send."""

from __future__ import annotations

import errno
import functools
import sys
from typing import TYPE_CHECKING, Any

from netpoll import buffers
from netpoll import status as nt
from netpoll.backends import datagrams
from netpoll.backends.queues import BLOCKED, DONE
from netpoll.backends.selectors.tries import HAS_MSG, fail, unblock
from netpoll.backends.sockets import (
    DONTWAIT,
    FULL_QUEUE_PAUSE,
    INTERNET,
    MSG_TRUNC,
    NOSIGNAL,
    association_of,
)
from netpoll.operations.flags import MSG_PARTIAL

if TYPE_CHECKING:
    from netpoll.backends.selectors.engine import Channel, SelectorsEngine
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]


# -- receive ---------------------------------------------------------------------------------------


def prepare_receive(engine: SelectorsEngine, operation: Operation, channel: Channel) -> None:
    sock = operation.handle
    datagrams.check_bound(sock)
    datagrams.check_buffers(operation)
    operation._queue = channel.reading
    operation._socket_flags = operation.flags & ~MSG_PARTIAL | DONTWAIT
    operation._call = sock.recvmsg_into if HAS_MSG else sock.recvfrom_into
    operation._perform = receive if HAS_MSG else receive_copied
    sized = sys.platform == "linux" and sock.family in INTERNET
    if sized and not isinstance(operation._view, list):
        operation._socket_flags |= MSG_TRUNC
        operation._call = sock.recvfrom_into
        operation._perform = receive_sized
    operation._begin = operation._queue.start


def receive(operation: Operation) -> int:
    """One datagram. What does not fit is lost, and said to be (UDP-01, EMU-19)."""
    unblock(operation)
    view: buffers.Pinned = operation._view
    views = view if isinstance(view, list) else [view]
    while True:
        try:
            moved, _, flags, address = operation._call(views, 0, operation._socket_flags)
        except BlockingIOError:
            return BLOCKED
        except OSError as error:
            if retry_receive(operation, error):
                continue
            return fail(operation, error)
        operation.transferred = moved
        operation._value = address
        operation._final = nt.STATUS_BUFFER_OVERFLOW if flags & MSG_TRUNC else 0
        return DONE


def receive_sized(operation: Operation) -> int:
    """The same into one buffer of a Linux' Internet socket, which tells the size that a truncated
    datagram had if it is asked to: half a microsecond less than `recvmsg_into`."""
    unblock(operation)
    while True:
        try:
            moved, address = operation._call(operation._view, 0, operation._socket_flags)
        except BlockingIOError:
            return BLOCKED
        except OSError as error:
            if retry_receive(operation, error):
                continue
            return fail(operation, error)
        room = operation._size
        operation.transferred = moved if moved <= room else room
        operation._value = address
        operation._final = 0 if moved <= room else nt.STATUS_BUFFER_OVERFLOW
        return DONE


def receive_copied(operation: Operation) -> int:
    """The same where Python has no `recvmsg_into`. The sender of what was truncated is not told."""
    unblock(operation)
    view: buffers.Pinned = operation._view
    data = memoryview(bytearray(operation._size)) if isinstance(view, list) else view
    while True:
        operation._value = None
        try:
            moved, operation._value = operation._call(data, 0, operation._socket_flags)
        except BlockingIOError:
            return BLOCKED
        except OSError as error:
            if retry_receive(operation, error):
                continue
            fail(operation, error)
            if operation._final != nt.STATUS_BUFFER_OVERFLOW:
                return DONE
            moved = operation._size
        else:
            operation.transferred = moved
            operation._final = 0
        if isinstance(view, list):
            buffers.scatter(data[:moved], view)
        return DONE


def retry_receive(operation: Operation, error: OSError) -> bool:
    """Whether what the system said is none of the program's business."""
    return datagrams.whose(operation, error.errno or errno.EIO) == datagrams.AGAIN


# -- send ------------------------------------------------------------------------------------------


def prepare_send(engine: SelectorsEngine, operation: Operation, channel: Channel) -> None:
    datagrams.check_buffers(operation)
    operation._queue = channel.writing
    operation._socket_flags = operation.flags | DONTWAIT | NOSIGNAL
    operation._native = None
    operation._perform = functools.partial(send, engine)
    operation._begin = operation._queue.start


def send(engine: SelectorsEngine, operation: Operation) -> int:
    """One datagram, to the operation's address or to the socket's peer."""
    unblock(operation)
    while True:
        try:
            operation.transferred = _transmit(operation)
        except BlockingIOError:
            if not datagrams.is_told_of_room(operation):
                engine.pause(operation, FULL_QUEUE_PAUSE)
            return BLOCKED
        except OSError as error:
            verdict = datagrams.whose(operation, error.errno or errno.EIO)
            if verdict == datagrams.OWN:
                return fail(operation, error)
            if verdict == datagrams.REPORT:
                engine.report(association_of(operation))
            continue
        operation._final = 0
        return DONE


def _transmit(operation: Operation) -> int:
    sock: Any = operation.handle
    view: buffers.Pinned = operation._view
    address, flags = operation._address, operation._socket_flags
    if HAS_MSG and (isinstance(view, list) or operation._ancillary):
        views = view if isinstance(view, list) else [view]
        moved: int = sock.sendmsg(views, operation._ancillary or (), flags, address)
        return moved
    data = b"".join(view) if isinstance(view, list) else view
    moved = sock.send(data, flags) if address is None else sock.sendto(data, flags, address)
    return moved
