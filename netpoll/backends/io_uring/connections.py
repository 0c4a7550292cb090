"""Accepts and connects: their entries, and what their completions mean or lead to."""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING, Any, Final

from netpoll import status as nt
from netpoll.backends import addresses, sockets
from netpoll.backends.descriptors import MOST_BYTES
from netpoll.backends.io_uring import constants as uring
from netpoll.backends.io_uring.entries import NEVER
from netpoll.backends.io_uring.library import address_of
from netpoll.backends.io_uring.streams import write_send

if TYPE_CHECKING:
    from netpoll.backends.io_uring.entries import Native
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]

SOCK_CLOEXEC: Final[int] = getattr(socket, "SOCK_CLOEXEC", 0)
ADDRESS_ROOM: Final = 128
"""struct sockaddr_storage."""


# -- accept ----------------------------------------------------------------------------------------


def prepare_accept(operation: Operation, record: sockets.SocketAssociation) -> None:
    sockets.check_accept(operation)
    operation._queue = record.reading
    operation._native.rewrite = write_accept
    write_accept(operation)


def write_accept(operation: Operation) -> None:
    native: Native = operation._native
    native.size = operation._size
    room = bytearray(ADDRESS_ROOM)
    length = bytearray(struct.pack("=I", ADDRESS_ROOM))
    native.kept = room, length
    native.write(
        uring.IORING_OP_ACCEPT,
        sockets.association_of(operation).fd,
        address=address_of(room),
        offset=address_of(length),
        flags=SOCK_CLOEXEC,
    )
    operation._call = finish_accept


def finish_accept(operation: Operation, result: int) -> bool:
    """One connection; with `receive=`, its first data too (ACC-07, ACC-08)."""
    native: Native = operation._native
    room, length = native.kept
    used = struct.unpack("=I", length)[0]
    length[:] = struct.pack("=I", ADDRESS_ROOM)
    if result < 0:
        if -result in sockets.TRANSIENT:
            return False
        sockets.fail(operation, -result)
        return True
    listener: socket.socket = operation.handle
    sock = socket.socket(listener.family, listener.type, listener.proto, fileno=result)
    try:
        peer = addresses.unpack(bytes(room[:used]))
    except ValueError:
        peer = sock.getpeername()
    operation._value = sock, peer
    if not operation._size:  # a buffer without room waits for no data either (ACC-07)
        operation.transferred = operation._final = 0
        return True
    native.write(
        uring.IORING_OP_RECV,
        result,
        address=address_of(operation._view),
        length=min(operation._size, MOST_BYTES),
    )
    operation._call = finish_first_receive
    return False


def prepare_accept_many(operation: Operation, record: sockets.SocketAssociation) -> None:
    sockets.check_accept(operation)
    operation._queue = record.reading
    operation._native.rewrite = write_accept_many
    write_accept_many(operation)
    operation._perform = accept_at_once


def write_accept_many(operation: Operation) -> None:
    write_accept(operation)
    operation._call = finish_accept_many


def finish_accept_many(operation: Operation, result: int) -> bool:
    """One connection, and the others that are there."""
    if not finish_accept(operation, result):
        return False
    if not operation._final:
        accepted = operation._value = [operation._value]
        sockets.accept_there(operation.handle, accepted, operation._address)
    return True


def accept_at_once(operation: Operation) -> bool:
    accepted: list[tuple[socket.socket, Any]] = []
    number = sockets.accept_there(operation.handle, accepted, operation._address)
    if accepted:
        operation._value = accepted
        operation.transferred = operation._final = 0
    elif number != errno.EAGAIN and number not in sockets.SCARCE:
        sockets.fail(operation, number)  # it does not listen, say (ACC-02)
    else:
        return False
    return True


def finish_first_receive(operation: Operation, result: int) -> bool:
    """The data that an accept waits for: any amount, or the end of the stream (ACC-08, ACC-09)."""
    if result < 0:
        sockets.fail(operation, -result)
    else:
        operation.transferred = result
        operation._final = 0
    return True


# -- connect ---------------------------------------------------------------------------------------


def prepare_connect(operation: Operation, record: sockets.SocketAssociation) -> None:
    sockets.check_connect(operation)
    operation._queue = record.writing
    operation._native.rewrite = write_connect
    write_connect(operation)


def write_connect(operation: Operation) -> None:
    native: Native = operation._native
    native.size = operation._size
    address = native.kept = bytearray(addresses.pack(operation.handle.family, operation._address))
    native.write(
        uring.IORING_OP_CONNECT,
        sockets.association_of(operation).fd,
        address=address_of(address),
        offset=len(address),
    )
    operation._call = finish_connect


def finish_pause(operation: Operation, result: int) -> bool:
    write_connect(operation)
    return False


def finish_connect(operation: Operation, result: int) -> bool:
    native: Native = operation._native
    record = sockets.association_of(operation)
    if result == -errno.EAGAIN:
        # there is no room in the queue of the listener, a Unix socket
        native.write_pause()
        operation._call = finish_pause
        return False
    if result == -errno.ECONNABORTED and not native.moved:
        # the socket's last connect failed, which this call cleared away (CON-07)
        native.moved = 1
        return False
    record.refuse(0)
    operation.transferred = 0
    if result < 0:
        operation._final = nt.from_errno(-result)
        return True
    if not operation._size:
        operation._final = 0
        return True
    # the data that goes out with the connection; a copy, taken at the start (CON-02, CON-03)
    write_send(operation)
    operation._least = NEVER
    return False
