"""Receives and sends: their entries, and what their completions mean."""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING, Any

from netpoll import buffers
from netpoll import status as nt
from netpoll.backends import sockets
from netpoll.backends.io_uring import constants as uring
from netpoll.backends.io_uring.entries import (
    ADDRESS,
    ADDRESS_AND_LENGTH,
    MSG_WAITALL,
    MSGHDR_FLAGS,
    NEVER,
    message_header,
    write_message,
)
from netpoll.backends.io_uring.library import address_of

if TYPE_CHECKING:
    from netpoll.backends.io_uring.entries import Native
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]


# -- receive ---------------------------------------------------------------------------------------


def prepare_receive(operation: Operation, record: sockets.SocketAssociation) -> None:
    operation._queue = record.reading
    operation._native.rewrite = write_receive
    write_receive(operation)
    if operation._call is finish_probe:
        operation._perform = probe_at_once
    elif operation._call is finish_receive and not isinstance(operation._view, list):
        operation._perform = receive_at_once


def write_receive(operation: Operation) -> None:
    native: Native = operation._native
    record = sockets.association_of(operation)
    native.size = operation._size
    operation._least = 1
    flags = operation.flags & ~sockets.DONTWAIT  # which would end it at once where there is nothing
    if record.stream and not operation._size:
        # a probe that consumes nothing (RECV-01, EMU-20)
        native.write(uring.IORING_OP_POLL_ADD, record.fd, flags=uring.POLLIN)
        operation._call = finish_probe
        operation._least = NEVER
    elif not record.stream or isinstance(operation._view, list):
        write_message(operation, uring.IORING_OP_RECVMSG, flags)
        operation._call = finish_receive if record.stream else finish_datagram
        if not record.stream:
            operation._least = NEVER
    else:
        native.write(
            uring.IORING_OP_RECV,
            record.fd,
            address=address_of(operation._view),
            length=operation._size,
            flags=flags,
        )
        operation._call = finish_receive


def receive_at_once(operation: Operation) -> bool:
    try:
        moved = operation.handle.recv_into(operation._view, 0, operation.flags | sockets.DONTWAIT)
    except BlockingIOError:
        return False
    except OSError as error:
        return finish_receive(operation, -(error.errno or errno.EIO))
    return finish_receive(operation, moved)


def probe_at_once(operation: Operation) -> bool:
    return finish_probe(operation, 0)


def finish_receive(operation: Operation, result: int) -> bool:
    if result < 0:
        sockets.fail(operation, -result)
    elif result:
        operation.transferred = result
        operation._final = 0
    else:
        sockets.end_of_stream(operation)
    return True


def finish_datagram(operation: Operation, result: int) -> bool:
    """One datagram. What does not fit is lost, and said to be (UDP-01, EMU-19)."""
    if result < 0:
        sockets.fail(operation, -result)
        return True
    header, *_ = operation._native.kept
    flags = struct.unpack_from("=I", header, MSGHDR_FLAGS)[0]
    operation.transferred = result
    operation._final = nt.STATUS_BUFFER_OVERFLOW if flags & sockets.MSG_TRUNC else 0
    return True


def finish_probe(operation: Operation, result: int) -> bool:
    """Readable; but is it data, an end or an error?"""
    if result < 0:
        sockets.fail(operation, -result)
        return True
    try:
        operation.handle.recv(1, socket.MSG_PEEK | sockets.DONTWAIT)
    except BlockingIOError:
        return False  # somebody else has read it
    except OSError as error:
        sockets.fail(operation, error.errno or errno.EIO)
        return True
    operation.transferred = 0
    operation._final = 0
    return True


# -- send ------------------------------------------------------------------------------------------


def prepare_send(operation: Operation, record: sockets.SocketAssociation) -> None:
    operation._queue = record.writing
    operation._native.rewrite = write_send
    write_send(operation)
    if record.stream and not isinstance(operation._view, list):
        operation._perform = send_at_once


def write_send(operation: Operation) -> None:
    native: Native = operation._native
    size = native.size = operation._size
    native.moved = 0
    operation._least = size or NEVER
    operation._call = finish_send
    flags = operation.flags & ~sockets.DONTWAIT | MSG_WAITALL | sockets.NOSIGNAL
    if isinstance(operation._view, list):
        write_message(operation, uring.IORING_OP_SENDMSG, flags)
    else:
        native.write(
            uring.IORING_OP_SEND,
            sockets.association_of(operation).fd,
            address=address_of(operation._view),
            length=size,
            flags=flags,
        )


def send_at_once(operation: Operation) -> bool:
    flags = operation.flags | sockets.DONTWAIT | sockets.NOSIGNAL
    try:
        moved = operation.handle.send(operation._view, flags)
    except BlockingIOError:
        return False
    except OSError as error:
        return finish_send(operation, -(error.errno or errno.EIO))
    return finish_send(operation, moved)


def finish_send(operation: Operation, result: int) -> bool:
    """All of it, however many entries it takes (SEND-04)."""
    native: Native = operation._native
    if result < 0:
        native.size = -1  # the entry may be in the middle: write it anew
        sockets.fail(operation, -result)
        return True
    native.moved += result
    moved = native.moved
    if moved >= operation._size:
        native.size = -1
        operation.transferred = moved
        operation._final = 0
        return True
    operation._least = NEVER
    view: buffers.Pinned = operation._view
    if isinstance(view, list):
        header = native.kept = message_header(buffers.after(view, moved)[: sockets.IOV_MAX])
        ADDRESS_AND_LENGTH.pack_into(native.entry, ADDRESS, address_of(header[0]), 1)
    else:
        rest = view[moved:]
        ADDRESS_AND_LENGTH.pack_into(native.entry, ADDRESS, address_of(rest), len(rest))
    return False
