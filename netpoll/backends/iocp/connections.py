"""AcceptEx and ConnectEx, and what they leave to be done when their packet has come.

An accept allocates on every start: it needs a new socket anyway.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Any, Final, cast

from netpoll import status as nt
from netpoll.backends import addresses, sockets
from netpoll.backends.iocp import constants as win
from netpoll.backends.iocp.library import NULL, ffi
from netpoll.backends.iocp.native import Native, take_buffers

if TYPE_CHECKING:
    from netpoll.backends.iocp.functions import Memory
    from netpoll.backends.iocp.library import Library
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]

ADDRESS_MARGIN: Final = 16
"""Bytes that AcceptEx wants for each address beyond its size (ACC-05)."""

CLIENT_GONE: Final = frozenset(
    (
        nt.STATUS_CONNECTION_RESET,
        nt.STATUS_CONNECTION_ABORTED,
        nt.STATUS_CONNECTION_DISCONNECTED,
        nt.STATUS_REMOTE_DISCONNECT,
        nt.STATUS_LOCAL_DISCONNECT,
        nt.STATUS_INVALID_CONNECTION,  # Wine
    )
)
"""A client that went away before it was accepted. The listener is fine (ACC-12)."""


def require_stream(sock: socket.socket) -> None:
    """
    :raises OSError: it is none; Wine would take a datagram socket (CON-10)
    """
    if sock.type != socket.SOCK_STREAM:
        raise nt.make_exception(nt.STATUS_NOT_SUPPORTED, inline=True)


# -- accept ----------------------------------------------------------------------------------------


def prepare_accept(operation: Operation, library: Library) -> Native:
    require_stream(operation.handle)
    native = Native(begin_accept, finish_accept)
    native.mswsock = library.mswsock(operation.handle), library.kernel32.GetLastError
    return native


def begin_accept(operation: Operation, number: int) -> int:
    native: Native = operation._native
    listener: socket.socket = operation.handle
    size = operation._size if operation._view is not None else 0
    room = addresses.SIZES[listener.family] + ADDRESS_MARGIN
    mswsock, last_error = native.mswsock
    needed = size + 2 * room
    if native.area is None or len(native.area) != needed:
        native.area = ffi.new("char[]", needed)
    while True:
        try:
            sock = socket.socket(listener.family, listener.type, listener.proto)
        except OSError as error:  # out of sockets: this accept's failure, told like any other
            return error.errno or win.WSAENOBUFS
        # in its place before the call: another thread may take the packet before this one returns
        # (PORT-29)
        native.accepting = sock
        accepted = mswsock.AcceptEx(
            number,
            sock.fileno(),
            native.area,
            *(size, room, room),
            native.transferred,
            native.overlapped,
        )
        code: int = 0 if accepted else last_error()
        if code in (0, win.ERROR_IO_PENDING):
            return code
        native.accepting = None
        sock.close()
        if nt.from_winsock(code) not in CLIENT_GONE:
            return code


def finish_accept(operation: Operation, status: int) -> int:
    """Make a socket like any other of what AcceptEx has left (ACC-14), and find the addresses."""
    native: Native = operation._native
    sock, native.accepting = native.accepting, None
    assert sock is not None
    if status:
        sock.close()
        # Wine's word for it (ACC-12)
        return nt.STATUS_CONNECTION_RESET if status == nt.STATUS_INVALID_CONNECTION else status
    listener: socket.socket = operation.handle
    try:
        if listener.fileno() >= 0:
            sock.setsockopt(
                win.SOL_SOCKET, win.SO_UPDATE_ACCEPT_CONTEXT, struct.pack("P", listener.fileno())
            )
        size = operation._size if operation._view is not None else 0
        operation._value = sock, _peer_of(native, size, sock)
    except OSError:  # the client is gone already
        sock.close()
        return nt.STATUS_CONNECTION_RESET
    if operation.transferred:
        moved, view = operation.transferred, cast("memoryview", operation._view)
        view[:moved] = ffi.buffer(native.area, moved)
    return 0


def prepare_accept_many(operation: Operation, library: Library) -> Native:
    native = prepare_accept(operation, library)
    native.finish = finish_accept_many
    return native


def finish_accept_many(operation: Operation, status: int) -> int:
    """One connection, and the others that are there."""
    status = finish_accept(operation, status)
    if not status:
        accepted = operation._value = [operation._value]
        if operation.handle.fileno() >= 0:
            sockets.accept_there(operation.handle, accepted, operation._address)
    return status


def _peer_of(native: Native, size: int, sock: socket.socket) -> addresses.Address:
    """
    :raises OSError: it has no peer any more
    """
    local, remote = ffi.new("struct sockaddr **"), ffi.new("struct sockaddr **")
    local_size, remote_size = ffi.new("INT *"), ffi.new("INT *")
    room = addresses.SIZES[sock.family] + ADDRESS_MARGIN
    native.mswsock[0].GetAcceptExSockaddrs(
        native.area, size, room, room, local, local_size, remote, remote_size
    )
    if remote[0].sa_family != sock.family:
        # Wine has written none where the client closed without data (ACC-09)
        peer: addresses.Address = sock.getpeername()
        return peer
    known: addresses.Address = addresses.unpack(bytes(ffi.buffer(remote[0], remote_size[0])))
    return known


# -- connect ---------------------------------------------------------------------------------------


def prepare_connect(operation: Operation, library: Library) -> Native:
    require_stream(operation.handle)
    native = Native(begin_connect, finish_connect)
    native.mswsock = library.mswsock(operation.handle), library.kernel32.GetLastError
    take_buffers(native, operation, writable=False)
    return native


def begin_connect(operation: Operation, number: int) -> int:
    native: Native = operation._native
    sock: socket.socket = operation.handle
    _bind(sock)
    native.area = ffi.new("char[]", addresses.pack(sock.family, operation._address))
    data: Memory = native.wsabufs[0].buf if native.buffer_count else NULL
    mswsock, last_error = native.mswsock
    connected = mswsock.ConnectEx(
        number,
        ffi.cast("struct sockaddr *", native.area),
        addresses.SIZES[sock.family],
        data,
        operation._size,
        native.transferred,
        native.overlapped,
    )
    return 0 if connected else last_error()


def _bind(sock: socket.socket) -> None:
    """ConnectEx takes bound sockets only (CON-01, CON-11)."""
    try:
        sock.getsockname()
    except OSError:  # 10022: not bound
        with contextlib.suppress(OSError):  # ConnectEx says what is wrong with the socket
            sock.bind(addresses.wildcard(sock.family))


def finish_connect(operation: Operation, status: int) -> int:
    """Make the socket one that getpeername() and shutdown() know (CON-08)."""
    if status:
        return status
    sock: socket.socket = operation.handle
    if sock.fileno() >= 0:
        try:
            sock.setsockopt(win.SOL_SOCKET, win.SO_UPDATE_CONNECT_CONTEXT, None, 0)
        except OSError as error:
            return nt.from_winsock(error.errno or 0)
    return 0
