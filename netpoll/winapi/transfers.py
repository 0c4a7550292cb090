"""WSARecv and WSASend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netpoll import status as nt
from netpoll.winapi.blocking import block, send_a_part, sends_a_part
from netpoll.winapi.constants import NULL, SOCKET_ERROR
from netpoll.winapi.errors import WSASetLastError
from netpoll.winapi.handles import is_socket
from netpoll.winapi.overlapped import OVERLAPPED, WSABUF, views_of
from netpoll.winapi.starts import WSAENOTSOCK, in_c, start

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from netpoll import CompletionPort
    from netpoll.winapi.overlapped import Conclude, Operation
    from netpoll.winapi.starts import CompletionRoutine, Start

WSAEINVAL = nt.winsock_error(nt.STATUS_INVALID_PARAMETER)


def WSARecv(
    s: socket.socket,
    lpBuffers: WSABUF | Sequence[WSABUF] | None,
    dwBufferCount: int,
    lpFlags: int = 0,
    lpOverlapped: OVERLAPPED | None = NULL,
    lpCompletionRoutine: CompletionRoutine | None = NULL,
) -> tuple[int, int, int]:
    """Receive into buffers, filled in order (RECV-11). Without an OVERLAPPED it waits.

    :return: (0 or SOCKET_ERROR, bytes received, flags). With WSA_IO_PENDING the bytes are 0
        (XFER-02), and the flags those that were given: ask WSAGetOverlappedResult (OVL-15)
    """
    if not is_socket(s):
        return *answer(WSAENOTSOCK, 0), lpFlags
    if lpBuffers is None or not dwBufferCount:  # XFER-09
        return *answer(WSAEINVAL, 0), lpFlags
    routine = in_c(lpCompletionRoutine)

    def begin(port: CompletionPort, operation: Operation) -> object:
        views = views_of(lpBuffers, dwBufferCount, writable=True)
        return port.recv_into(s, views, flags=lpFlags, overlapped=operation, routine=routine)

    return *transfer(s, begin, lpOverlapped, lpCompletionRoutine), lpFlags


def WSASend(
    s: socket.socket,
    lpBuffers: WSABUF | Sequence[WSABUF] | None,
    dwBufferCount: int,
    dwFlags: int = 0,
    lpOverlapped: OVERLAPPED | None = NULL,
    lpCompletionRoutine: CompletionRoutine | None = NULL,
) -> tuple[int, int]:
    """Send buffers, in order: all of it, or it fails (SEND-04). Without an OVERLAPPED it waits.

    :return: (0 or SOCKET_ERROR, bytes sent)
    """
    if not is_socket(s):
        return answer(WSAENOTSOCK, 0)
    if lpOverlapped is None and sends_a_part(s):
        return answer(*send_a_part(s, lpBuffers, dwBufferCount, dwFlags))
    routine = in_c(lpCompletionRoutine)

    def begin(port: CompletionPort, operation: Operation) -> object:
        views = views_of(lpBuffers, dwBufferCount, writable=False) if dwBufferCount else b""
        return port.send(s, views, flags=dwFlags, overlapped=operation, routine=routine)

    return transfer(s, begin, lpOverlapped, lpCompletionRoutine)


def transfer(
    s: socket.socket,
    begin: Start,
    overlapped: OVERLAPPED | None,
    routine: CompletionRoutine | None,
    conclude: Conclude | None = None,
) -> tuple[int, int]:
    """Start it, or without an OVERLAPPED wait for it; what a Winsock function returns."""
    if overlapped is None:
        return answer(*block(s, begin, conclude))
    return answer(*start(s, overlapped, begin, routine=routine, conclude=conclude))


def answer(code: int, moved: int) -> tuple[int, int]:
    """What a Winsock function returns."""
    if not code:
        return 0, moved
    WSASetLastError(code)
    return SOCKET_ERROR, moved
