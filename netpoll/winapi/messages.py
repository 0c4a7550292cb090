"""WSARecvFrom, WSASendTo, WSARecvMsg, WSASendMsg: transfers that know of addresses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from netpoll import status as nt
from netpoll.winapi.blocking import send_a_part, sends_a_part
from netpoll.winapi.constants import NULL
from netpoll.winapi.handles import WSAENOTSOCK, is_socket
from netpoll.winapi.overlapped import OVERLAPPED, WSABUF, views_of
from netpoll.winapi.starts import in_c
from netpoll.winapi.transfers import WSAEINVAL, answer, transfer

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from netpoll import CompletionPort
    from netpoll.winapi.overlapped import Operation
    from netpoll.winapi.starts import CompletionRoutine

WSAEOPNOTSUPP = nt.winsock_error(nt.STATUS_NOT_SUPPORTED)


class SOCKADDR:
    """Room for an address, which is there when the operation's end has been seen."""

    address: Any = NULL
    """As Python has them."""


@dataclass
class WSAMSG:
    """A message. What WSARecvMsg stores is there when the operation's end has been seen."""

    lpBuffers: WSABUF | Sequence[WSABUF] | None
    dwBufferCount: int = 1
    name: Any = NULL
    """An address as Python has them: where to, or where from."""
    Control: list[tuple[int, int, bytes]] = field(default_factory=list[tuple[int, int, bytes]])
    """Control messages: level, type and data."""
    ControlLength: int = 0
    """Room for control messages in WSARecvMsg, in bytes, as `socket.CMSG_SPACE` counts it."""
    dwFlags: int = 0


def WSARecvFrom(
    s: socket.socket,
    lpBuffers: WSABUF | Sequence[WSABUF] | None,
    dwBufferCount: int,
    lpFlags: int = 0,
    lpFrom: SOCKADDR | None = NULL,
    lpOverlapped: OVERLAPPED | None = NULL,
    lpCompletionRoutine: CompletionRoutine | None = NULL,
) -> tuple[int, int, int]:
    """Receive a datagram, and who sent it; on a stream `lpFrom` is left alone (RECV-20).

    :return: as WSARecv
    """
    if not is_socket(s):
        return *answer(WSAENOTSOCK, 0), lpFlags
    if lpBuffers is None or not dwBufferCount:
        return *answer(WSAEINVAL, 0), lpFlags
    routine = in_c(lpCompletionRoutine)

    def begin(port: CompletionPort, operation: Operation) -> object:
        views = views_of(lpBuffers, dwBufferCount, writable=True)
        return port.recvfrom_into(s, views, flags=lpFlags, overlapped=operation, routine=routine)

    def conclude(operation: Operation) -> None:
        if lpFrom is not None and _has_come(operation) and operation._value is not None:
            lpFrom.address = operation._value

    return *transfer(s, begin, lpOverlapped, lpCompletionRoutine, conclude), lpFlags


def WSASendTo(
    s: socket.socket,
    lpBuffers: WSABUF | Sequence[WSABUF] | None,
    dwBufferCount: int,
    dwFlags: int,
    lpTo: Any,
    iToLen: int,
    lpOverlapped: OVERLAPPED | None = NULL,
    lpCompletionRoutine: CompletionRoutine | None = NULL,
) -> tuple[int, int]:
    """Send a datagram to an address, as Python has them, which knows its own length; with NULL to
    the peer of a connected socket.

    :return: as WSASend
    """
    if not is_socket(s):
        return answer(WSAENOTSOCK, 0)
    if lpOverlapped is None and sends_a_part(s):
        return answer(*send_a_part(s, lpBuffers, dwBufferCount, dwFlags))
    routine = in_c(lpCompletionRoutine)

    def begin(port: CompletionPort, operation: Operation) -> object:
        views = views_of(lpBuffers, dwBufferCount, writable=False) if dwBufferCount else b""
        if lpTo is None:
            return port.send(s, views, flags=dwFlags, overlapped=operation, routine=routine)
        return port.sendto(s, views, lpTo, flags=dwFlags, overlapped=operation, routine=routine)

    return transfer(s, begin, lpOverlapped, lpCompletionRoutine)


def WSARecvMsg(
    s: socket.socket,
    lpMsg: WSAMSG,
    lpOverlapped: OVERLAPPED | None = NULL,
    lpCompletionRoutine: CompletionRoutine | None = NULL,
) -> tuple[int, int]:
    """Receive a message, with its sender, control messages and flags.

    :return: (0 or SOCKET_ERROR, bytes received)
    """
    if not is_socket(s):
        return answer(WSAENOTSOCK, 0)
    if lpMsg.lpBuffers is None or not lpMsg.dwBufferCount:
        return answer(WSAEINVAL, 0)
    count, buffers, room, flags = (
        *(lpMsg.dwBufferCount, lpMsg.lpBuffers),
        *(lpMsg.ControlLength, lpMsg.dwFlags),
    )
    routine = in_c(lpCompletionRoutine)

    def begin(port: CompletionPort, operation: Operation) -> object:
        views = views_of(buffers, count, writable=True)
        return port.recvmsg_into(s, views, room, flags=flags, overlapped=operation, routine=routine)

    def conclude(operation: Operation) -> None:
        if _has_come(operation) and operation._value is not None:
            received = operation._value.message(operation.transferred)
            lpMsg.name, lpMsg.Control, lpMsg.dwFlags = (
                received.address,
                received.ancillary,
                received.flags,
            )

    return transfer(s, begin, lpOverlapped, lpCompletionRoutine, conclude)


def WSASendMsg(
    s: socket.socket,
    lpMsg: WSAMSG,
    dwFlags: int = 0,
    lpOverlapped: OVERLAPPED | None = NULL,
    lpCompletionRoutine: CompletionRoutine | None = NULL,
) -> tuple[int, int]:
    """Send a message to its `name`, or the peer of a connected socket, with control messages.

    :return: (0 or SOCKET_ERROR, bytes sent)
    """
    if not is_socket(s):
        return answer(WSAENOTSOCK, 0)
    count, buffers = lpMsg.dwBufferCount, lpMsg.lpBuffers
    control, name = lpMsg.Control, lpMsg.name
    routine = in_c(lpCompletionRoutine)

    def begin(port: CompletionPort, operation: Operation) -> object:
        views = views_of(buffers, count, writable=False) if count and buffers is not None else b""
        return port.sendmsg(
            s, views, control, name, flags=dwFlags, overlapped=operation, routine=routine
        )

    return transfer(s, begin, lpOverlapped, lpCompletionRoutine)


def _has_come(operation: Operation) -> bool:
    """Whether there was a message, be it cut off (UDP-01)."""
    assert operation.outcome is not None
    return not nt.is_error(operation.outcome[0])
