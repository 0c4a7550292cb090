"""Messages with control data: the entries of receives and sends, and what their completions
mean."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Any, Final

from netpoll import buffers, messages
from netpoll.backends import datagrams as shared
from netpoll.backends import sockets
from netpoll.backends.io_uring import constants as uring
from netpoll.backends.io_uring import datagrams
from netpoll.backends.io_uring.entries import (
    ADDRESS,
    ADDRESS_AND_LENGTH,
    MSGHDR_CONTROL_LENGTH,
    MSGHDR_FLAGS,
    NEVER,
    OTHER_FLAGS,
    message_header,
    write_message,
)
from netpoll.backends.io_uring.library import address_of
from netpoll.backends.io_uring.streams import finish_send, prepare_send, write_receive

if TYPE_CHECKING:
    from netpoll.backends.io_uring.entries import Native
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]

CLOEXEC: Final = int(getattr(socket, "MSG_CMSG_CLOEXEC", 0))
U64: Final = struct.Struct("=Q")


# -- receive ---------------------------------------------------------------------------------------


def prepare_receive_message(operation: Operation, record: sockets.SocketAssociation) -> None:
    if not record.stream:
        shared.check_bound(operation.handle)
        shared.check_buffers(operation)
        datagrams.require_known(operation)
    operation._queue = record.reading
    operation._native.rewrite = write_receive_message
    write_receive_message(operation)


def write_receive_message(operation: Operation) -> None:
    stream = sockets.association_of(operation).stream
    operation._value = messages.Received([], 0, None)
    if stream and not operation._size:
        write_receive(operation)  # a probe
        return
    operation._native.size = operation._size
    operation._least = NEVER
    operation._call = finish_receive_message
    write_message(
        operation,
        uring.IORING_OP_RECVMSG,
        operation.flags & OTHER_FLAGS | CLOEXEC,
        bytearray() if stream else bytearray(datagrams.NAME_ROOM),
        bytearray(operation._ancillary),
    )


def finish_receive_message(operation: Operation, result: int) -> bool:
    """One datagram, or what a stream has, with what travels beside it."""
    stream = sockets.association_of(operation).stream
    if not datagrams.finish_datagram(operation, result):
        return False
    if result < 0:
        return True
    header, _, _, control = operation._native.kept
    used: int = U64.unpack_from(header, MSGHDR_CONTROL_LENGTH)[0]
    U64.pack_into(header, MSGHDR_CONTROL_LENGTH, len(control))
    flags: int = datagrams.U32.unpack_from(header, MSGHDR_FLAGS)[0]
    operation._value = messages.Received(
        messages.unpack(bytes(control[:used])),
        flags & ~CLOEXEC,
        None if stream else datagrams.take_name(operation._native),
    )
    if stream and not result:
        sockets.end_of_stream(operation)
    return True


# -- send ------------------------------------------------------------------------------------------


def prepare_send_message(operation: Operation, record: sockets.SocketAssociation) -> None:
    prepare_send(operation, record)
    if record.stream and operation._ancillary:
        operation._native.rewrite = write_send_message
        write_send_message(operation)
        at_once: Any = None  # a plain send() would leave the control data behind
        operation._perform = at_once


def write_send_message(operation: Operation) -> None:
    """On a stream. Without MSG_WAITALL: kernels of some age send the control data again with each
    part."""
    operation._native.size = operation._size
    operation._native.moved = 0
    operation._least = operation._size or NEVER
    operation._call = finish_send_message
    operation._address, address = None, operation._address
    datagrams.write_send_message(operation)
    operation._address = address


def finish_send_message(operation: Operation, result: int) -> bool:
    """The control data has gone with the first bytes; the rest goes without."""
    native: Native = operation._native
    if result < 0 or native.moved + result >= operation._size:
        return finish_send(operation, result)
    native.moved += result
    operation._least = NEVER
    view: buffers.Pinned = operation._view
    left = buffers.after(view if isinstance(view, list) else [view], native.moved)
    header = native.kept = message_header(left[: sockets.IOV_MAX])
    ADDRESS_AND_LENGTH.pack_into(native.entry, ADDRESS, address_of(header[0]), 1)
    return False
