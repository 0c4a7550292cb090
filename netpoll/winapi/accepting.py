"""AcceptEx.

The core makes the socket of a connection itself. Here it takes the place of the accept socket in
the caller's own object, which keeps its identity, its key and its modes (EMU-22); `fileno()`
changes.
"""

from __future__ import annotations

import socket
import time
import weakref
from typing import TYPE_CHECKING, Any, Final

from netpoll import PortClosed
from netpoll import status as nt
from netpoll.backends import addresses
from netpoll.buffers import pin_one
from netpoll.handles import claim
from netpoll.winapi.constants import (
    FALSE,
    NULL,
    TRUE,
)
from netpoll.winapi.errors import WSASetLastError
from netpoll.winapi.handles import association_of, closesocket, is_socket, known
from netpoll.winapi.overlapped import LONGEST, OVERLAPPED, first_bytes
from netpoll.winapi.sockets import WSAEFAULT, WSAEINVAL, is_bound
from netpoll.winapi.starts import WSAENOTSOCK, start

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from netpoll import CompletionPort
    from netpoll.winapi.overlapped import Operation

ADDRESS_MARGIN: Final = 16
"""Bytes that an address is to have room for beyond its size (ACC-05)."""
ERROR_INVALID_PARAMETER: Final = nt.win32_error(nt.STATUS_INVALID_PARAMETER)


def AcceptEx(
    sListenSocket: socket.socket,
    sAcceptSocket: socket.socket,
    lpOutputBuffer: Buffer | None,
    dwReceiveDataLength: int,
    dwLocalAddressLength: int,
    dwRemoteAddressLength: int,
    lpOverlapped: OVERLAPPED | None,
) -> tuple[int, int]:
    """Accept a connection into a socket that is there already, with its first data if there is room
    for any (ACC-07, ACC-08).

    :param lpOutputBuffer: room for the data, and behind it for two addresses, for
        GetAcceptExSockaddrs
    :return: (FALSE, 0) with WSA_IO_PENDING, as nearly always (ACC-17); (TRUE, bytes received) if it
        ended at once; (FALSE, 0) with another code if it failed (ACC-01 to ACC-04)
    :raises ValueError: the buffer is too short for what was said of it
    """
    lengths = (
        dwReceiveDataLength & 0xFFFFFFFF,
        dwLocalAddressLength & 0xFFFFFFFF,
        dwRemoteAddressLength & 0xFFFFFFFF,
    )
    code = _refusal(sListenSocket, sAcceptSocket, lpOutputBuffer, lengths, lpOverlapped)
    if code:
        WSASetLastError(code)
        return FALSE, 0
    assert lpOverlapped is not None
    assert lpOutputBuffer is not None
    area = first_bytes(lpOutputBuffer, sum(lengths), writable=True)
    acceptance = _Acceptance(sListenSocket, sAcceptSocket, area, lengths)
    code, moved = start(sListenSocket, lpOverlapped, acceptance.begin, conclude=acceptance.conclude)
    if code:
        WSASetLastError(code)
        return FALSE, 0
    return TRUE, moved


def _refusal(
    listener: object,
    acceptor: object,
    buffer: object,
    lengths: tuple[int, int, int],
    overlapped: object,
) -> int:
    """Why the call fails at once: a code, or 0."""
    if not isinstance(overlapped, OVERLAPPED):
        return ERROR_INVALID_PARAMETER
    overlapped.Internal = nt.STATUS_PENDING  # before anything else is looked at (OVL-02)
    if not is_socket(listener) or not is_socket(acceptor):
        return WSAENOTSOCK
    assert isinstance(acceptor, socket.socket)
    if buffer is None or not lengths[2] or sum(lengths) > LONGEST:
        return WSAEFAULT
    used = is_bound(acceptor) or known(acceptor).accepting_now() is not None
    return WSAEINVAL if used or acceptor.type != socket.SOCK_STREAM else 0


class _Acceptance:
    """What one AcceptEx has to remember until its end is seen."""

    def __init__(
        self,
        listener: socket.socket,
        acceptor: socket.socket,
        area: memoryview,
        lengths: tuple[int, int, int],
    ) -> None:
        self._listener = listener
        self._acceptor = acceptor
        self._area = area
        self._size, self._local, self._remote = lengths

    def begin(self, port: CompletionPort, operation: Operation) -> None:
        known(self._acceptor).accepting = weakref.ref(operation)
        receive = self._area[: self._size] if self._size else None
        port.accept(self._listener, receive=receive, overlapped=operation)

    def conclude(self, operation: Operation) -> None:
        """The end has been seen: the accept socket becomes the connection."""
        accepted: tuple[socket.socket, Any] | None = operation._value
        operation._value = None
        known(self._acceptor).accepting = None
        if accepted is None:
            return  # it has failed
        try:
            if not self._write_addresses(accepted[0], accepted[1]):
                operation.outcome = nt.STATUS_BUFFER_TOO_SMALL, 0  # ACC-06
            elif self._acceptor.fileno() >= 0:  # else the program did not wait for it (ACC-10)
                self._adopt(accepted[0])
        finally:
            accepted[0].close()

    def _write_addresses(self, sock: socket.socket, peer: Any) -> bool:
        """Whether there is room for them."""
        start = self._size
        for address, length in ((sock.getsockname(), self._local), (peer, self._remote)):
            packed = addresses.pack(sock.family, address)
            if length:
                if length < len(packed) + ADDRESS_MARGIN:
                    return False
                self._area[start : start + len(packed)] = packed
            start += length
        return True

    def _adopt(self, sock: socket.socket) -> None:
        acceptor = self._acceptor
        record = known(acceptor)
        family, kind, protocol = sock.family, sock.type, sock.proto
        port, association = association_of(acceptor)
        closesocket(acceptor)
        # the same object once more, with the connection in it
        socket.socket.__init__(acceptor, family, kind, protocol, fileno=sock.detach())
        record.needs_context = weakref.ref(self._listener)
        record.connected_at = time.monotonic()
        if association is not None:
            assert port is not None
            try:
                key, skip = association.key, association.skip_on_success
                port.associate(acceptor, key, skip_on_success=skip)
            except PortClosed:
                association = None
        if port is not None and association is None:
            with claim(acceptor, port):
                pass  # an association outlives its port (ASSOC-04)


def GetAcceptExSockaddrs(
    lpOutputBuffer: Buffer,
    dwReceiveDataLength: int,
    dwLocalAddressLength: int,
    dwRemoteAddressLength: int,
) -> tuple[Any, int, Any, int]:
    """The addresses that AcceptEx has left behind the data.

    :return: (local address, its size, remote address, its size); NULL and 0 for one without room
    """
    area = pin_one(lpOutputBuffer, "lpOutputBuffer", writable=False)
    start = dwReceiveDataLength
    found: list[Any] = []
    for length in (dwLocalAddressLength, dwRemoteAddressLength):
        data = bytes(area[start : start + length])
        start += length
        address = addresses.unpack(data) if length else NULL
        size = 0 if address is None else len(addresses.pack(data[0] + 256 * data[1], address))
        found += [address, size]
    return found[0], found[1], found[2], found[3]
