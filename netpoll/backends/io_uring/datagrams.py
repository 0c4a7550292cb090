"""Datagrams: the entries of receives and sends, and what their completions mean."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Any, Final

from netpoll import messages
from netpoll import status as nt
from netpoll.backends import addresses, datagrams, sockets
from netpoll.backends.io_uring import constants as uring
from netpoll.backends.io_uring.entries import (
    MSGHDR_FLAGS,
    MSGHDR_NAME_LENGTH,
    NEVER,
    OTHER_FLAGS,
    write_message,
)
from netpoll.overlapped import Opcode

if TYPE_CHECKING:
    from netpoll.backends.io_uring.entries import DatagramNative, Native
    from netpoll.buffers import Pinned
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]

NAME_ROOM: Final = 128
"""struct sockaddr_storage."""
U32: Final = struct.Struct("=I")
U64: Final = struct.Struct("=Q")
IOVEC_LENGTH: Final = 8


# -- receive ---------------------------------------------------------------------------------------


def prepare_receive(operation: Operation, record: sockets.SocketAssociation) -> None:
    datagrams.check_bound(operation.handle)
    datagrams.check_buffers(operation)
    operation._queue = record.reading
    operation._native.room = addresses.SIZES.get(operation.handle.family, 0)
    named = operation.opcode is Opcode.RECVFROM_INTO
    if named:
        require_known(operation)
    # the entry is written when the kernel is to have it, which a try mostly saves
    operation._native.rewrite = write_receive_from if named else write_receive
    operation._perform = receive_datagram


def receive_datagram(operation: Operation) -> bool:
    """A try before the kernel is asked to wait."""
    sock: Any = operation.handle
    if sock.gettimeout() != 0.0:
        sock.setblocking(False)  # somebody changed it since (XFER-05)
    view: Pinned = operation._view
    flags = operation.flags & OTHER_FLAGS | sockets.DONTWAIT
    try:
        if operation._native.room and not isinstance(view, list):
            # the size that it had, which costs less than to be told of a flag
            moved, operation._value = sock.recvfrom_into(view, 0, flags | sockets.MSG_TRUNC)
            truncated = moved > operation._size
            operation.transferred = operation._size if truncated else moved
        else:
            views = view if isinstance(view, list) else [view]
            moved, _, flags, operation._value = sock.recvmsg_into(views, 0, flags)
            truncated = flags & sockets.MSG_TRUNC != 0
            operation.transferred = moved
    except BlockingIOError:
        return False
    except OSError as error:
        return fail(operation, error.errno or errno.EIO)
    operation._final = nt.STATUS_BUFFER_OVERFLOW if truncated else 0
    return True


def require_known(operation: Operation) -> None:
    """
    :raises OSError: a family whose addresses are not read here
    """
    family = operation.handle.family
    if family not in addresses.KNOWN:
        raise nt.make_exception(
            nt.STATUS_NOT_SUPPORTED,
            inline=True,
            message=f"io_uring reads and writes no addresses of family {family}; selectors does",
        )


def write_receive(operation: Operation) -> None:
    operation._least = NEVER
    operation._call = finish_datagram
    if not write_length(operation):
        write_message(operation, uring.IORING_OP_RECVMSG, operation.flags & OTHER_FLAGS)
    offer(operation)


def write_receive_from(operation: Operation) -> None:
    operation._least = NEVER
    operation._call = finish_receive_from
    if not write_length(operation):
        name = bytearray(NAME_ROOM)
        write_message(operation, uring.IORING_OP_RECVMSG, operation.flags & OTHER_FLAGS, name)
    offer(operation)


def offer(operation: Operation) -> None:
    """The receive may share a system call with others, if it asks for nothing special."""
    native: DatagramNative = operation._native
    if native.room and not operation.flags and not isinstance(operation._view, list):
        native.vector = bytes(native.kept[1])


def write_wait(operation: Operation) -> None:
    """To wait for a datagram and leave it there: those that come with it are taken together."""
    operation._least = NEVER
    operation._call = finish_wait
    operation._native.size = -1  # its own entry is to be written anew
    fd = sockets.association_of(operation).fd
    operation._native.write(uring.IORING_OP_POLL_ADD, fd, flags=uring.POLLIN)


def finish_wait(operation: Operation, result: int) -> bool:
    """Ready, or an error is to be had, or the pause is over: whoever tries will see."""
    return False


def write_length(operation: Operation) -> bool:
    """Where there is an entry, and one buffer, only its length can have changed."""
    native: Native = operation._native
    kept: Any = native.kept if native.size >= 0 else None
    native.size = operation._size
    if kept is None or isinstance(operation._view, list):
        return False
    header, vectors, name, _ = kept
    if native.name:
        name[:] = native.name
    U64.pack_into(vectors, IOVEC_LENGTH, operation._size)
    U32.pack_into(header, MSGHDR_NAME_LENGTH, len(name))
    return True


def finish_datagram(operation: Operation, result: int) -> bool:
    """One datagram. What does not fit is lost, and said to be (UDP-01, EMU-19)."""
    if result < 0:
        return fail(operation, -result)
    header = operation._native.kept[0]
    flags: int = U32.unpack_from(header, MSGHDR_FLAGS)[0]
    operation.transferred = result
    operation._final = nt.STATUS_BUFFER_OVERFLOW if flags & sockets.MSG_TRUNC else 0
    return True


def finish_receive_from(operation: Operation, result: int) -> bool:
    """One datagram, and whose."""
    if not finish_datagram(operation, result):
        return False
    if result >= 0:
        operation._value = take_name(operation._native)
    return True


def take_name(native: Native) -> Any:
    """The address that the kernel has written; there is room for the next one."""
    header, _, name, _ = native.kept
    used: int = U32.unpack_from(header, MSGHDR_NAME_LENGTH)[0]
    U32.pack_into(header, MSGHDR_NAME_LENGTH, len(name))
    return addresses.sender(bytes(name[:used]))


def fail(operation: Operation, number: int) -> bool:
    """End a receive with an errno, unless that is none of the program's business."""
    if datagrams.whose(operation, number) == datagrams.AGAIN:
        return False
    sockets.fail(operation, number)
    return True


# -- send ------------------------------------------------------------------------------------------


def prepare_send(operation: Operation, record: sockets.SocketAssociation) -> None:
    datagrams.check_buffers(operation)
    if operation._address is not None:
        require_known(operation)
    operation._queue = record.writing
    if not operation.flags and not operation._ancillary:
        operation._native.room = addresses.SIZES.get(operation.handle.family, 0)
    unix = operation.handle.family == addresses.UNIX
    operation._native.rewrite = write_send_wait if unix else write_send
    operation._call = finish_datagram_send
    operation._perform = send_datagram


def send_datagram(operation: Operation) -> bool:
    """A try before the kernel is asked to wait, which almost never has to."""
    sock: Any = operation.handle  # whose sendmsg type checkers do not see for Windows
    if sock.gettimeout() != 0.0:
        sock.setblocking(False)
    flags = operation.flags | sockets.DONTWAIT | sockets.NOSIGNAL
    address = operation._address
    view: Pinned = operation._view
    try:
        if isinstance(view, list) or operation._ancillary:
            views = view if isinstance(view, list) else [view]
            moved = sock.sendmsg(views, operation._ancillary or (), flags, address)
        elif address is None:
            moved = sock.send(view, flags)
        else:
            moved = sock.sendto(view, flags, address)
    except BlockingIOError:
        return False
    except OSError as error:
        return finish_datagram_send(operation, -(error.errno or errno.EIO))
    operation.transferred = moved
    operation._final = 0
    return True


def write_send(operation: Operation) -> None:
    operation._least = operation._size or NEVER
    operation._call = finish_datagram_send
    if not write_length(operation):
        write_send_message(operation)
    native: DatagramNative = operation._native
    if native.room and operation._address is not None and not isinstance(operation._view, list):
        native.vector = bytes(native.kept[1])
        native.name = bytes(native.kept[2])


def write_send_wait(operation: Operation) -> None:
    """To wait for room in the queue of the receiver, a Unix socket's, before the next try. SENDMSG
    is no way to wait there: the kernel (6.18) takes the data, finds the queue full, waits, and then
    sends a datagram with nothing in it."""
    operation._least = NEVER
    operation._call = finish_wait
    native: Native = operation._native
    native.size = -1  # it is to be written anew for the next wait
    if datagrams.is_told_of_room(operation):
        fd = sockets.association_of(operation).fd
        native.write(uring.IORING_OP_POLL_ADD, fd, flags=uring.POLLOUT)
    else:
        native.write_pause()


def readdress(operation: Operation, address: bytes) -> None:
    """The entry is to name another address."""
    require_known(operation)
    native: DatagramNative = operation._native
    if native.vector is not None:
        native.name = address
    else:
        native.size = -1  # it is to be written anew


def write_send_message(operation: Operation) -> None:
    """An entry with all that a sendmsg may have."""
    address, control = operation._address, operation._ancillary
    family = operation.handle.family
    name = bytearray(b"" if address is None else addresses.pack(family, address))
    flags = operation.flags & ~sockets.DONTWAIT | sockets.NOSIGNAL
    write_message(
        operation,
        uring.IORING_OP_SENDMSG,
        flags,
        name,
        bytearray(messages.pack(control)) if control else bytearray(),
    )


def finish_datagram_send(operation: Operation, result: int) -> bool:
    if result >= 0:
        operation.transferred = result
        operation._final = 0
        return True
    verdict = datagrams.whose(operation, -result)
    if verdict == datagrams.OWN:
        sockets.fail(operation, -result)
        return True
    if verdict == datagrams.REPORT:
        sockets.association_of(operation).report()  # the engine sees to the rest
    return False
