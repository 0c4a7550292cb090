"""Accepts and connects: one try of each, and of what may follow it."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any, Final, cast

from netpoll import status as nt
from netpoll.backends import addresses, sockets
from netpoll.backends.queues import BLOCKED, DONE, EXHAUSTED, MOVED
from netpoll.backends.selectors.streams import send
from netpoll.backends.selectors.tries import fail, unblock
from netpoll.backends.sockets import DONTWAIT, NOSIGNAL, SCARCE, TRANSIENT

if TYPE_CHECKING:
    from netpoll.backends.selectors.engine import Channel, SelectorsEngine
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]

CONNECTING: Final = frozenset(
    getattr(errno, name)
    for name in ("EINPROGRESS", "EALREADY", "EINTR", "WSAEWOULDBLOCK")
    if hasattr(errno, name)
)


# -- accept ----------------------------------------------------------------------------------------


def prepare_accept(engine: SelectorsEngine, operation: Operation, channel: Channel) -> None:
    sockets.check_accept(operation)
    operation._queue = channel.reading
    operation._perform = accept
    operation._call = operation.handle.accept
    operation._native = engine
    operation._begin = operation._queue.start


def accept(operation: Operation) -> int:
    """One connection; with `receive=`, its first data too (ACC-07, ACC-08)."""
    unblock(operation)
    while True:
        try:
            sock, address = operation._call()
        except BlockingIOError:
            return BLOCKED
        except OSError as error:
            if error.errno in TRANSIENT:
                continue
            if error.errno in SCARCE:
                operation._native.lacks_descriptor(operation, error)
                return BLOCKED
            return fail(operation, error)
        operation._value = sock, address
        if not operation._size:  # a buffer without room waits for no data either (ACC-07)
            operation.transferred = operation._final = 0
            return DONE
        engine: SelectorsEngine = operation._native
        return DONE if engine.start_first_receive(operation, sock) else MOVED


def prepare_accept_many(engine: SelectorsEngine, operation: Operation, channel: Channel) -> None:
    prepare_accept(engine, operation, channel)
    operation._perform = accept_many


def accept_many(operation: Operation) -> int:
    """Every connection that is there."""
    accepted: list[tuple[socket.socket, Any]] = []
    number = sockets.accept_there(operation.handle, accepted, operation._address)
    if accepted:
        operation._value = accepted
        operation.transferred = operation._final = 0
        return DONE if number == 0 else EXHAUSTED
    if number == errno.EAGAIN:
        return BLOCKED
    error = OSError(number, os.strerror(number))
    if number in SCARCE:
        operation._native.lacks_descriptor(operation, error)
        return BLOCKED
    return fail(operation, error)


def receive_first(operation: Operation) -> int:
    """The data that an accept waits for: any amount, or the end of the stream (ACC-08, ACC-09)."""
    sock, _ = operation._value
    try:
        operation.transferred = sock.recv_into(operation._view, 0, DONTWAIT)
    except BlockingIOError:
        return BLOCKED
    except OSError as error:
        return fail(operation, error)
    operation._final = 0
    return DONE


# -- connect ---------------------------------------------------------------------------------------


def prepare_connect(engine: SelectorsEngine, operation: Operation, channel: Channel) -> None:
    sock = operation.handle
    operation._queue = channel.writing
    operation._call = sock.connect_ex
    operation._perform = connect
    operation._native = engine
    operation._begin = engine.start_connect
    sockets.check_connect(operation)


def connect(operation: Operation) -> int:
    """The first try of a connect: it always has its end in a packet, never here (CON-04)."""
    channel = cast("Channel", operation._association)
    code = operation._call(operation._address)
    if code == errno.ECONNABORTED:
        # Linux: the socket's last connect failed, which this call cleared away (CON-07)
        code = operation._call(operation._address)
    if code == errno.EAGAIN and operation.handle.family == addresses.UNIX:
        # there is no room in the listener's queue (Linux), and the socket is as it was
        operation._native.pause(operation, sockets.FULL_QUEUE_PAUSE)
        channel.refuse(nt.STATUS_INVALID_CONNECTION)
        return BLOCKED
    if code in CONNECTING:
        # transfers are refused meanwhile, as on Windows (CON-09)
        channel.reading.refusal = channel.writing.refusal = nt.STATUS_INVALID_CONNECTION
        operation._perform = finish_connect
        return BLOCKED
    return _connected(operation, channel, code)


def finish_connect(operation: Operation) -> int:
    """Writable: the connection stands, or SO_ERROR says why not."""
    channel = cast("Channel", operation._association)
    sock: socket.socket = operation.handle
    try:
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not code:
            sock.getpeername()
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            return BLOCKED  # woken for nothing
        return fail(operation, error)
    operation._perform = connect
    return _connected(operation, channel, code)


def _connected(operation: Operation, channel: Channel, code: int) -> int:
    channel.reading.refusal = channel.writing.refusal = 0
    operation.transferred = 0
    if code:
        operation._final = nt.from_errno(code)
        return DONE
    channel.reading.ready = False  # nothing can have come yet that readiness would not tell
    if not operation._size:
        operation._final = 0
        return DONE
    # the data that goes out with the connection; a copy, taken at the start (CON-02, CON-03)
    operation._socket_flags = DONTWAIT | NOSIGNAL
    operation._call = operation.handle.send
    operation._perform = send
    operation._native = None
    return send(operation)
