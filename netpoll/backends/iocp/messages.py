"""WSARecvFrom, WSASendTo, WSARecvMsg and WSASendMsg.

A receive makes a Python address of what Windows has written when its packet is taken, so each
start has its own.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

from netpoll import messages
from netpoll import status as nt
from netpoll.backends import addresses
from netpoll.backends.datagrams import check_bound
from netpoll.backends.iocp.library import NULL, ffi
from netpoll.backends.iocp.native import Native, take_buffers
from netpoll.backends.iocp.streams import finish_datagram, prepare_receive, prepare_send
from netpoll.backends.sockets import MSG_TRUNC

if TYPE_CHECKING:
    from netpoll.backends.iocp.functions import WSAMSG
    from netpoll.backends.iocp.library import Library
    from netpoll.backends.iocp.native import Begin
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]

NAME_ROOM: Final = 128
"""SOCKADDR_STORAGE."""
FAILURES: Final = 0xC0000000


class Beside:
    """What a message has beside its data, for Windows to read or to write."""

    __slots__ = ("control", "message", "name", "name_length")

    def __init__(self, name: bytes, control: bytes) -> None:
        """
        :param name: an address, or room for one
        :param control: control data, or room for it
        """
        self.name: Any = ffi.new("char[]", name) if name else NULL
        self.name_length: Any = ffi.new("INT *", len(name))
        self.control: Any = ffi.new("char[]", control) if control else NULL
        self.message: WSAMSG = ffi.new("WSAMSG *")
        self.message.name = ffi.cast("struct sockaddr *", self.name)
        self.message.namelen = len(name)
        self.message.Control.buf = self.control
        self.message.Control.len = len(control)

    @property
    def sockaddr(self) -> Any:
        """The address as functions take it."""
        return self.message.name


def _packed(operation: Operation) -> bytes:
    address = operation._address
    return b"" if address is None else addresses.pack(operation.handle.family, address)


def _name_of(area: Beside, length: int) -> Any:
    """The address that Windows has written; `None` if it has not, as on a stream (RECV-20)."""
    if not area.sockaddr.sa_family:
        return None
    return addresses.sender(bytes(ffi.buffer(area.name, length)))


# -- receive ---------------------------------------------------------------------------------------


def prepare_receive_from(operation: Operation, library: Library) -> Native:
    check_bound(operation.handle)
    native = Native(_make_receive_from(library), finish_receive_from)
    take_buffers(native, operation, writable=True)
    native.area = Beside(bytes(NAME_ROOM), b"")
    return native


def _make_receive_from(library: Library) -> Begin:
    receive, last_error = library.ws2_32.WSARecvFrom, library.kernel32.GetLastError

    def begin_receive_from(operation: Operation, number: int) -> int:
        native: Native = operation._native
        area: Beside = native.area
        if operation._size != native.armed:
            native.arm(operation._view, operation._size)
        native.flags[0] = operation.flags  # the last receive has overwritten them
        area.name_length[0] = NAME_ROOM
        area.sockaddr.sa_family = 0
        failed = receive(
            number,
            native.wsabufs,
            native.buffer_count,
            native.transferred,
            native.flags,
            area.sockaddr,
            area.name_length,
            native.overlapped,
            native.routine,
        )
        return last_error() if failed else 0

    return begin_receive_from


def finish_receive_from(operation: Operation, status: int) -> int:
    area: Beside = operation._native.area
    operation._value = None if status >= FAILURES else _name_of(area, area.name_length[0])
    return finish_datagram(operation, status) if _is_datagram(operation) else status


def _is_datagram(operation: Operation) -> bool:
    kind: int = operation.handle.type
    return kind != socket.SOCK_STREAM


def prepare_receive_message(operation: Operation, library: Library) -> Native:
    operation._value = messages.Received([], 0, None)
    if not _is_datagram(operation):
        return prepare_receive(operation, library)  # Windows has control data for datagrams only
    check_bound(operation.handle)
    native = Native(_make_receive_message(operation, library), finish_receive_message)
    take_buffers(native, operation, writable=True)
    area = native.area = Beside(bytes(NAME_ROOM), bytes(operation._ancillary))
    area.message.lpBuffers = native.wsabufs
    return native


def _make_receive_message(operation: Operation, library: Library) -> Begin:
    receive = library.messages(operation.handle).WSARecvMsg
    last_error = library.kernel32.GetLastError

    def begin_receive_message(operation: Operation, number: int) -> int:
        native: Native = operation._native
        area: Beside = native.area
        if operation._size != native.armed:
            native.arm(operation._view, operation._size)
        message = area.message
        area.sockaddr.sa_family = 0
        message.namelen = NAME_ROOM
        message.dwBufferCount = native.buffer_count
        message.Control.len = operation._ancillary
        message.dwFlags = operation.flags
        failed = receive(number, message, native.transferred, native.overlapped, native.routine)
        return last_error() if failed else 0

    return begin_receive_message


def finish_receive_message(operation: Operation, status: int) -> int:
    if status < FAILURES:
        area: Beside = operation._native.area
        message = area.message
        control = bytes(ffi.buffer(area.control, message.Control.len)) if area.control else b""
        truncated = MSG_TRUNC if status == nt.STATUS_BUFFER_OVERFLOW else 0  # Wine forgets it
        operation._value = messages.Received(
            messages.unpack(control), message.dwFlags | truncated, _name_of(area, message.namelen)
        )
    return finish_datagram(operation, status)


# -- send ------------------------------------------------------------------------------------------


def prepare_send_to(operation: Operation, library: Library) -> Native:
    native = Native(_make_send_to(library))
    take_buffers(native, operation, writable=False)
    native.area = Beside(_packed(operation), b"")
    return native


def _make_send_to(library: Library) -> Begin:
    send, last_error = library.ws2_32.WSASendTo, library.kernel32.GetLastError

    def begin_send_to(operation: Operation, number: int) -> int:
        native: Native = operation._native
        area: Beside = native.area
        if operation._size != native.armed:
            native.arm(operation._view, operation._size)
        failed = send(
            number,
            native.wsabufs,
            native.buffer_count,
            native.transferred,
            operation.flags,
            area.sockaddr,
            area.message.namelen,
            native.overlapped,
            native.routine,
        )
        return last_error() if failed else 0

    return begin_send_to


def prepare_send_message(operation: Operation, library: Library) -> Native:
    """
    :raises OSError: control data on a stream
    """
    if not _is_datagram(operation):
        if operation._ancillary:
            raise nt.make_exception(
                nt.STATUS_NOT_SUPPORTED,
                inline=True,
                message="Windows sends control data with datagrams only",
            )
        return prepare_send(operation, library)
    native = Native(_make_send_message(operation, library))
    take_buffers(native, operation, writable=False)
    area = native.area = Beside(_packed(operation), messages.pack(operation._ancillary))
    area.message.lpBuffers = native.wsabufs
    return native


def _make_send_message(operation: Operation, library: Library) -> Begin:
    send = library.messages(operation.handle).WSASendMsg
    last_error = library.kernel32.GetLastError

    def begin_send_message(operation: Operation, number: int) -> int:
        native: Native = operation._native
        area: Beside = native.area
        if operation._size != native.armed:
            native.arm(operation._view, operation._size)
        area.message.dwBufferCount = native.buffer_count
        failed = send(
            number,
            area.message,
            operation.flags,
            native.transferred,
            native.overlapped,
            native.routine,
        )
        return last_error() if failed else 0

    return begin_send_message
