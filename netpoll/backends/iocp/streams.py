"""WSARecv and WSASend."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from netpoll import status as nt
from netpoll.backends.datagrams import check_bound
from netpoll.backends.iocp.native import Native, take_buffers

if TYPE_CHECKING:
    from netpoll.backends.iocp.library import Library
    from netpoll.backends.iocp.native import Begin
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]


def prepare_receive(operation: Operation, library: Library) -> Native:
    datagram = operation.handle.type != socket.SOCK_STREAM
    if datagram:
        check_bound(operation.handle)
    native = Native(_make_receive(library), finish_datagram if datagram else None)
    take_buffers(native, operation, writable=True)
    return native


def prepare_send(operation: Operation, library: Library) -> Native:
    native = Native(_make_send(library))
    take_buffers(native, operation, writable=False)
    return native


def finish_datagram(operation: Operation, status: int) -> int:
    """What Wine calls a refused connection is what an earlier datagram has met (UDP-05)."""
    return nt.STATUS_PORT_UNREACHABLE if status == nt.STATUS_CONNECTION_REFUSED else status


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
