"""Each operation: its submission entry, ready-made, and what its completion means.

`prepare` writes the 64 bytes once; a start copies them. A finisher is called with the kernel's
result where that is not plain success. It answers `True` if the operation has ended, one way or the
other, and `False` if it goes on: it has then changed the entry to what comes next.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from typing import TYPE_CHECKING, Any, Final, cast

from netpoll import buffers
from netpoll import status as nt
from netpoll.backends import addresses, sockets
from netpoll.backends.base import Capability
from netpoll.backends.io_uring import constants as uring
from netpoll.backends.io_uring.library import address_of
from netpoll.overlapped import Opcode, Overlapped

if TYPE_CHECKING:
    from collections.abc import Callable

    Operation = Overlapped[Any]
    Finisher = Callable[[Operation, int], bool]

SQE: Final = struct.Struct("=BBHiQQIIQ24x")
"""struct io_uring_sqe: opcode, flags, ioprio, fd, off, addr, len, the operation's flags, user_data;
the rest is zero."""
ADDRESS_AND_LENGTH: Final = struct.Struct("=QI")
ADDRESS: Final = 16
"""Where those are in an entry."""
IOVEC: Final = struct.Struct("=QQ")
MSGHDR: Final = struct.Struct("=QIxxxxQQQQIxxxx")
"""struct msghdr: name, its length, iov, their number, control, its length, flags."""
MSGHDR_FLAGS: Final = 48
MSG_WAITALL: Final[int] = getattr(socket, "MSG_WAITALL", 0)
SOCK_CLOEXEC: Final[int] = getattr(socket, "SOCK_CLOEXEC", 0)
ADDRESS_ROOM: Final = 128
"""struct sockaddr_storage."""
NEVER: Final = sys.maxsize
"""As the least result that is plain success: there is none."""

CAPABILITIES: Final = {
    Opcode.RECV_INTO: "IORING_OP_RECV, RECVMSG for several buffers, POLL_ADD for none",
    Opcode.RECV: "IORING_OP_RECV into a buffer of netpoll's",
    Opcode.SEND: "IORING_OP_SEND with MSG_WAITALL, SENDMSG for several buffers",
    Opcode.ACCEPT: "IORING_OP_ACCEPT, then RECV where data is waited for",
    Opcode.CONNECT: "IORING_OP_CONNECT, then SEND where it carries data",
}


def capability(opcode: str) -> Capability:
    """`Engine.capability`."""
    how = CAPABILITIES.get(cast("Opcode", opcode))
    if how is None:
        reason = f"there is no operation {opcode!r} in this version of netpoll"
        return Capability("unsupported", reason)
    return Capability("native", how)


class Native:
    """What the kernel is given for one operation, and keeps until its completion is taken."""

    __slots__ = ("cause", "entry", "kept", "moved", "size", "token", "tokens")

    def __init__(self, token: int, tokens: list[int]) -> None:
        self.token: int = token
        self.tokens: list[int] = tokens
        """Where the token goes back to."""
        self.entry: bytearray = bytearray(uring.SQE_SIZE)
        self.kept: Any = None
        """Memory of ours that the entry points to."""
        self.size: int = -1
        """How many bytes of the buffers the entry speaks of."""
        self.moved: int = 0
        """What went out so far, of a send that took more than one entry."""
        self.cause: int = 0
        """Why it was cancelled: the status that it is to end with."""

    def __del__(self) -> None:
        self.tokens.append(self.token)

    def write(
        self,
        opcode: int,
        fd: int,
        *,
        address: int = 0,
        length: int = 0,
        flags: int = 0,
        offset: int = 0,
    ) -> None:
        """Make the entry."""
        SQE.pack_into(self.entry, 0, opcode, 0, 0, fd, offset, address, length, flags, self.token)


def prepare(operation: Operation, native: Native) -> None:
    """Write the entry and choose the finisher; `native` is new.

    :raises OSError: the handle's state does not allow the operation
    :raises ValueError: an address that is none
    """
    record = sockets.association_of(operation)
    opcode = operation.opcode
    operation._native = native
    operation._least = NEVER
    if opcode is Opcode.CONNECT:
        sockets.check_connect(operation)
        operation._queue = record.writing
        write_connect(operation)
    elif opcode is Opcode.ACCEPT:
        operation._queue = record.reading
        write_accept(operation)
    elif opcode is Opcode.SEND:
        operation._queue = record.writing
        write_send(operation)
    else:
        operation._queue = record.reading
        write_receive(operation, record)


def write_entry(operation: Operation) -> None:
    """Write the entry for what the operation is to do next: on another number of bytes, or from the
    beginning again."""
    if operation.opcode is Opcode.SEND:
        write_send(operation)
    elif operation.opcode is Opcode.ACCEPT:
        write_accept(operation)
    else:
        write_receive(operation, sockets.association_of(operation))


# -- receive ---------------------------------------------------------------------------------------


def write_receive(operation: Operation, record: sockets.SocketAssociation) -> None:
    native: Native = operation._native
    native.size = operation._size
    operation._least = 1
    flags = operation.flags & ~sockets.DONTWAIT  # which would end it at once where there is nothing
    if record.stream and not operation._size:
        # a probe that consumes nothing (RECV-01, EMU-20)
        native.write(uring.IORING_OP_POLL_ADD, record.fd, flags=uring.POLLIN)
        operation._call = finish_probe
        operation._least = NEVER
    elif not record.stream or isinstance(operation._view, list):
        _write_message(operation, uring.IORING_OP_RECVMSG, flags)
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


def _write_message(operation: Operation, opcode: int, flags: int) -> None:
    """An entry with a msghdr, for several buffers or for what only that tells."""
    native: Native = operation._native
    view: buffers.Pinned = operation._view
    views = view if isinstance(view, list) else [view]
    header = _header(views[: sockets.IOV_MAX])
    native.kept = header
    fd = sockets.association_of(operation).fd
    native.write(opcode, fd, address=address_of(header[0]), length=1, flags=flags)


def _header(views: list[memoryview]) -> tuple[bytearray, bytearray]:
    vectors = bytearray(IOVEC.size * len(views))
    for index, view in enumerate(views):
        IOVEC.pack_into(vectors, IOVEC.size * index, address_of(view), len(view))
    header = bytearray(MSGHDR.pack(0, 0, address_of(vectors), len(views), 0, 0, 0))
    return header, vectors


# -- send ------------------------------------------------------------------------------------------


def write_send(operation: Operation) -> None:
    native: Native = operation._native
    size = native.size = operation._size
    native.moved = 0
    operation._least = size or NEVER
    operation._call = finish_send
    flags = operation.flags & ~sockets.DONTWAIT | MSG_WAITALL | sockets.NOSIGNAL
    if isinstance(operation._view, list):
        _write_message(operation, uring.IORING_OP_SENDMSG, flags)
    else:
        native.write(
            uring.IORING_OP_SEND,
            sockets.association_of(operation).fd,
            address=address_of(operation._view),
            length=size,
            flags=flags,
        )


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
        header = native.kept = _header(buffers.after(view, moved)[: sockets.IOV_MAX])
        ADDRESS_AND_LENGTH.pack_into(native.entry, ADDRESS, address_of(header[0]), 1)
    else:
        rest = view[moved:]
        ADDRESS_AND_LENGTH.pack_into(native.entry, ADDRESS, address_of(rest), len(rest))
    return False


# -- accept ----------------------------------------------------------------------------------------


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
    if operation._view is None:
        operation.transferred = operation._final = 0
        return True
    native.write(
        uring.IORING_OP_RECV,
        result,
        address=address_of(operation._view),
        length=operation._size,
    )
    operation._call = finish_first_receive
    return False


def finish_first_receive(operation: Operation, result: int) -> bool:
    """The data that an accept waits for: any amount, or the end of the stream (ACC-08, ACC-09)."""
    if result < 0:
        sockets.fail(operation, -result)
    else:
        operation.transferred = result
        operation._final = 0
    return True


# -- connect ---------------------------------------------------------------------------------------


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


def finish_connect(operation: Operation, result: int) -> bool:
    native: Native = operation._native
    record = sockets.association_of(operation)
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
