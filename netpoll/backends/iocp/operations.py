"""One operation in Windows' hands: its OVERLAPPED with all that belongs to it, how each opcode is
started, and what is left to do when its packet has come.

A `begin_...` function makes one call and answers 0 (it finished at once), 997 (a packet will come)
or the Winsock number of a failure. Nothing in here allocates memory of cffi's on a resubmission,
but for an accept, which needs a new socket anyway.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Any, Final, cast

from netpoll import buffers
from netpoll import status as nt
from netpoll.backends import addresses
from netpoll.backends.iocp import constants as win
from netpoll.backends.iocp.library import NULL, ffi
from netpoll.overlapped import Opcode, Overlapped

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll.backends.iocp.functions import LPDWORD, LPOVERLAPPED, Handle, Memory
    from netpoll.backends.iocp.library import Library

    Operation = Overlapped[Any]
    Begin = Callable[[Operation, int], int]
    """Start on the socket of that number."""
    Finish = Callable[[Operation, int], int]
    """Called with the status of the packet; answers the status that the program sees."""

MAX_BUFFER: Final = 0xFFFFFFFF
"""Bytes in one buffer: a WSABUF counts them with a ULONG."""
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


class Native:
    """The memory of one operation that Windows writes to.

    It stays where it is, and is kept, until the operation's packet has been taken: by the port's
    table while it is pending, and by the `Overlapped` in between, for the next start.
    """

    __slots__ = (
        "accepting",
        "address",
        "area",
        "armed",
        "begin",
        "buffer_count",
        "cause",
        "event",
        "finish",
        "flags",
        "mswsock",
        "overlapped",
        "routine",
        "starts",
        "transferred",
        "wsabufs",
    )

    def __init__(self, begin: Begin, finish: Finish | None = None) -> None:
        self.overlapped: LPOVERLAPPED = ffi.new("OVERLAPPED *")
        self.address: int = int(ffi.cast("ULONG_PTR", self.overlapped))
        self.begin: Begin = begin
        self.finish: Finish | None = finish
        self.transferred: LPDWORD = ffi.new("DWORD *")
        """Bytes moved, of a start that finished at once."""
        self.flags: LPDWORD = ffi.new("DWORD *")
        self.wsabufs: Any = NULL
        self.buffer_count: int = 0
        self.armed: int = -1
        """The number of bytes that `wsabufs` offers now."""
        self.cause: int = 0
        """The status that a cancel on behalf of somebody is to end with: 0 while nobody asked."""
        self.starts: list[None] = []
        """One for each thread that is about to give the socket's number to Windows, or does."""
        self.event: Handle | None = None
        """hEvent, of an operation whose end is to be seen without its packet."""
        self.routine: Any = NULL
        self.accepting: socket.socket | None = None
        self.area: Any = None
        """The data and the two addresses of an accept, or the address of a connect."""
        self.mswsock: Any = None

    def arm(self, views: buffers.Pinned, size: int) -> None:
        """Offer `size` bytes, the first of the views."""
        if not isinstance(views, list):
            self.wsabufs[0].len = size
        else:
            self.buffer_count = len(views)
            for index, view in enumerate(views):
                self.wsabufs[index].len = len(view)
        self.armed = size


def prepare(operation: Operation, library: Library) -> Native:
    """What every start of `operation` will use.

    :raises ValueError: a buffer is too large
    :raises OSError: the socket's provider lacks a function
    """
    opcode = operation.opcode
    if opcode in (Opcode.ACCEPT, Opcode.CONNECT) and operation.handle.type != socket.SOCK_STREAM:
        # Wine would take a datagram socket (CON-10)
        raise nt.make_exception(nt.STATUS_NOT_SUPPORTED, inline=True)
    if opcode is Opcode.ACCEPT:
        native = Native(begin_accept, finish_accept)
        native.mswsock = library.mswsock(operation.handle), library.kernel32.GetLastError
    elif opcode is Opcode.CONNECT:
        native = Native(begin_connect, finish_connect)
        native.mswsock = library.mswsock(operation.handle), library.kernel32.GetLastError
        _take_buffers(native, operation, writable=False)
    elif opcode is Opcode.SEND:
        native = Native(_make_send(library))
        _take_buffers(native, operation, writable=False)
    else:
        native = Native(_make_receive(library))
        _take_buffers(native, operation, writable=True)
    return native


def _take_buffers(native: Native, operation: Operation, *, writable: bool) -> None:
    """Point WSABUFs at the pinned views. They die with the operation's memory, not before
    (OVL-07)."""
    pinned = operation._pinned
    if pinned is None:
        return
    views = pinned if isinstance(pinned, list) else [pinned]
    for view in views:
        if len(view) > MAX_BUFFER:
            raise ValueError(
                f"a buffer of {len(view)} bytes is more than Windows moves at once "
                f"({MAX_BUFFER}); send or receive it in parts"
            )
    native.wsabufs = ffi.new("WSABUF[]", len(views))
    for index, view in enumerate(views):
        native.wsabufs[index].buf = _address_of(view, writable)
    native.buffer_count = len(views)


def _address_of(view: memoryview, writable: bool) -> Memory:
    """Where the bytes of a pinned view are. It is the view, kept in `_pinned`, that keeps them
    there.

    Not the object that `from_buffer` makes: once that and its memoryview are garbage in the same
    cycle, as after a failed start whose exception is kept, the collector clears the memoryview
    first and crashes (seen with CPython 3.11 and cffi 2.1, on Linux and under Wine).
    """
    memory = ffi.from_buffer("char[]", view, writable)
    address: Memory = ffi.cast("PVOID", int(ffi.cast("ULONG_PTR", memory)))
    ffi.release(memory)
    return address


# -- receive and send ------------------------------------------------------------------------------


def _make_receive(library: Library) -> Begin:
    receive, last_error = library.ws2_32.WSARecv, library.kernel32.GetLastError

    def begin_receive(operation: Operation, number: int) -> int:
        native: Native = operation._native
        if operation._size != native.armed:
            native.arm(operation._view, operation._size)
        native.flags[0] = operation.flags  # the last receive has overwritten them
        failed = receive(
            number,
            native.wsabufs,
            native.buffer_count,
            native.transferred,
            native.flags,
            native.overlapped,
            native.routine,
        )
        return last_error() if failed else 0

    return begin_receive


def _make_send(library: Library) -> Begin:
    send, last_error = library.ws2_32.WSASend, library.kernel32.GetLastError

    def begin_send(operation: Operation, number: int) -> int:
        native: Native = operation._native
        if operation._size != native.armed:
            native.arm(operation._view, operation._size)
        failed = send(
            number,
            native.wsabufs,
            native.buffer_count,
            native.transferred,
            operation.flags,
            native.overlapped,
            native.routine,
        )
        return last_error() if failed else 0

    return begin_send


# -- accept ----------------------------------------------------------------------------------------


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
