"""Receives and sends: their entries, and what their completions mean."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any

from netpoll import buffers
from netpoll.backends import sockets
from netpoll.backends.descriptors import MOST_BYTES
from netpoll.backends.io_uring import constants as uring
from netpoll.backends.io_uring import datagrams
from netpoll.backends.io_uring.entries import (
    ADDRESS,
    ADDRESS_AND_LENGTH,
    MSG_WAITALL,
    NEVER,
    OTHER_FLAGS,
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
    if not record.stream:
        datagrams.prepare_receive(operation, record)
        return
    write = write_whole if operation.flags & MSG_WAITALL else write_receive
    operation._native.rewrite = write
    write(operation)
    if operation._call is finish_probe:
        operation._perform = probe_at_once
    elif operation._call is finish_receive and not isinstance(operation._view, list):
        operation._perform = receive_at_once


def write_receive(operation: Operation) -> None:
    native: Native = operation._native
    record = sockets.association_of(operation)
    native.size = operation._size
    operation._least = 1
    flags = operation.flags & OTHER_FLAGS
    if not operation._size:
        # a probe that consumes nothing (RECV-01, EMU-20)
        native.write(uring.IORING_OP_POLL_ADD, record.fd, flags=uring.POLLIN)
        operation._call = finish_probe
        operation._least = NEVER
    elif isinstance(operation._view, list):
        write_message(operation, uring.IORING_OP_RECVMSG, flags)
        operation._call = finish_receive
    else:
        native.write(
            uring.IORING_OP_RECV,
            record.fd,
            address=address_of(operation._view),
            length=min(operation._size, MOST_BYTES),
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


def write_whole(operation: Operation) -> None:
    """A receive of all there is room for. Not by the kernel's MSG_WAITALL, which would not tell of
    a reset that comes when some of it is there."""
    write_receive(operation)
    if operation._size:
        operation._native.moved = 0
        operation._call = finish_whole
        operation._least = operation._size


def finish_whole(operation: Operation, result: int) -> bool:
    """Until the buffers are full, or the stream ends (RECV-14)."""
    native: Native = operation._native
    if result > 0 and native.moved + result < operation._size:
        native.moved += result
        operation._least = NEVER
        write_rest(operation)
        return False
    native.size = -1  # the entry may be in the middle: write it anew
    if result < 0:
        native.moved = 0
        sockets.fail(operation, -result)
    else:
        native.moved += result
        end_whole(operation)
    return True


def end_whole(operation: Operation) -> None:
    """What has come by now is all that will."""
    native: Native = operation._native
    moved, native.moved = native.moved, 0
    if not moved:
        sockets.end_of_stream(operation)
        return
    operation.transferred = moved
    operation._final = 0


def finish_probe(operation: Operation, result: int) -> bool:
    """Readable; but is it data, an end or an error?"""
    if result < 0:
        sockets.fail(operation, -result)
        return True
    try:
        data = operation.handle.recv(1, socket.MSG_PEEK | sockets.DONTWAIT)
    except BlockingIOError:
        return False  # somebody else has read it
    except OSError as error:
        sockets.fail(operation, error.errno or errno.EIO)
        return True
    if data:
        operation.transferred = 0
        operation._final = 0
    else:
        sockets.end_of_stream(operation)
    return True


# -- send ------------------------------------------------------------------------------------------


def prepare_send(operation: Operation, record: sockets.SocketAssociation) -> None:
    if not record.stream:
        datagrams.prepare_send(operation, record)
        return
    operation._queue = record.writing
    operation._native.rewrite = write_send
    write_send(operation)
    if not isinstance(operation._view, list):
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
            length=min(size, MOST_BYTES),
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
    write_rest(operation)
    return False


def write_rest(operation: Operation) -> None:
    """Let the entry go on with what is left of the buffers."""
    native: Native = operation._native
    view: buffers.Pinned = operation._view
    if isinstance(view, list):
        header = native.kept = message_header(buffers.after(view, native.moved)[: sockets.IOV_MAX])
        ADDRESS_AND_LENGTH.pack_into(native.entry, ADDRESS, address_of(header[0]), 1)
    else:
        rest = view[native.moved :]
        length = min(len(rest), MOST_BYTES)
        ADDRESS_AND_LENGTH.pack_into(native.entry, ADDRESS, address_of(rest), length)
