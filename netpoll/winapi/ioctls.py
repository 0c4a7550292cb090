"""WSAIoctl."""

from __future__ import annotations

import math
import socket
import struct
import sys
from typing import TYPE_CHECKING, Any, Final, cast

from netpoll.winapi import constants as c
from netpoll.winapi.accepting import AcceptEx, GetAcceptExSockaddrs
from netpoll.winapi.blocking import number_in, set_nonblocking
from netpoll.winapi.connecting import ConnectEx
from netpoll.winapi.errors import WSASetLastError, winsock_code
from netpoll.winapi.files import WSAEOPNOTSUPP, DisconnectEx, TransmitFile
from netpoll.winapi.handles import WSAENOTSOCK, association_of, is_socket, known, port_of, portless
from netpoll.winapi.messages import WSARecvMsg, WSASendMsg
from netpoll.winapi.sockets import WSAEFAULT, WSAEINVAL
from netpoll.winapi.starts import in_c, start

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll import CompletionPort
    from netpoll.winapi.overlapped import OVERLAPPED, Operation
    from netpoll.winapi.starts import CompletionRoutine

EXTENSIONS: Final[dict[Any, Callable[..., Any]]] = {
    c.WSAID_ACCEPTEX: AcceptEx,
    c.WSAID_CONNECTEX: ConnectEx,
    c.WSAID_DISCONNECTEX: DisconnectEx,
    c.WSAID_GETACCEPTEXSOCKADDRS: GetAcceptExSockaddrs,
    c.WSAID_TRANSMITFILE: TransmitFile,
    c.WSAID_WSARECVMSG: WSARecvMsg,
    c.WSAID_WSASENDMSG: WSASendMsg,
}
POINTER: Final = struct.calcsize("P")
THREE: Final = struct.Struct("=3I")
LONGEST_KEEPALIVE: Final = 32767
"""Seconds; Linux takes no longer time."""
_options: Any = socket


def WSAIoctl(
    s: socket.socket,
    dwIoControlCode: int,
    lpvInBuffer: Any = c.NULL,
    cbInBuffer: int = 0,
    cbOutBuffer: int = 0,
    lpOverlapped: OVERLAPPED | None = c.NULL,
    lpCompletionRoutine: CompletionRoutine | None = c.NULL,
) -> tuple[int, Any, int]:
    """Ask something of a socket. It ends at once; an OVERLAPPED is told all the same.

    * SIO_GET_EXTENSION_FUNCTION_POINTER with WSAID_ACCEPTEX and the like: the function
    * SIO_UDP_CONNRESET with TRUE or FALSE: whether datagrams that found no port fail a receive
      (UDP-06)
    * SIO_KEEPALIVE_VALS with (onoff, keepalivetime, keepaliveinterval), in milliseconds, or those
      three in 12 bytes; outside Windows they are rounded up to whole seconds
    * FIONBIO, as with `ioctlsocket`

    :param lpvInBuffer: the value; its length, and that of what comes out, are not looked at
    :return: (0, what comes out or NULL, its bytes in C); or (SOCKET_ERROR, NULL, 0): 10045 for any
        other code, or where the system cannot, 10014 without a value, 10022 for a wrong one
    """
    if not is_socket(s):
        return _failed(WSAENOTSOCK)
    out: Any = c.NULL
    size = 0
    asked_for = dwIoControlCode == c.SIO_GET_EXTENSION_FUNCTION_POINTER
    if not asked_for and dwIoControlCode not in _ACTIONS:
        return _failed(WSAEOPNOTSUPP)
    if lpvInBuffer is None:
        return _failed(WSAEFAULT)
    if asked_for:
        out, size = EXTENSIONS.get(lpvInBuffer), POINTER
        code = 0 if out is not None else WSAEINVAL
    else:
        try:
            code = _ACTIONS[dwIoControlCode](s, lpvInBuffer)
        except OSError as error:
            code = winsock_code(error)
    if code:
        return _failed(code)
    if lpOverlapped is not None:
        _tell(s, lpOverlapped, lpCompletionRoutine, size)
    return 0, out, size


def _failed(code: int) -> tuple[int, None, int]:
    WSASetLastError(code)
    return c.SOCKET_ERROR, c.NULL, 0


def _tell(
    sock: socket.socket, overlapped: OVERLAPPED, routine: CompletionRoutine | None, size: int
) -> None:
    """An operation that ended within its start: by routine, by event, by packet."""
    found, associated = association_of(sock)
    modes = known(sock).modes
    run = in_c(routine)

    def queues_packet(operation: Operation) -> bool:
        return operation.packet and not modes & c.FILE_SKIP_COMPLETION_PORT_ON_SUCCESS

    def end(port: CompletionPort, operation: Operation) -> None:
        def run_later(*_: Any) -> None:
            assert run is not None
            run(0, size, operation, 0)

        operation.transferred = size
        operation.done = True
        if operation.event is not None:
            operation.event.set()
        if run is not None:
            portless().timer(0, routine=run_later)
        elif associated is not None and found is not None and queues_packet(operation):
            found.post(size, associated.key, overlapped)

    start(sock, overlapped, end, routine=routine)


# -- what each code does: a Winsock code, or 0 -----------------------------------------------------


def _report_unreachable(sock: socket.socket, value: Any) -> int:
    port_of(sock).report_unreachable(sock, bool(number_in(value)))
    return 0


def _nonblocking(sock: socket.socket, value: Any) -> int:
    set_nonblocking(sock, bool(number_in(value)))
    return 0


def _keep_alive(sock: socket.socket, value: Any) -> int:
    """The time until the first probe, and between two of them."""
    if sock.type != c.SOCK_STREAM:
        return WSAEOPNOTSUPP
    if not isinstance(value, tuple) and len(value) < THREE.size:
        return WSAEFAULT
    on, idle, interval = _three(value)
    if sys.platform == "win32":
        sock.ioctl(socket.SIO_KEEPALIVE_VALS, (on, idle, interval))
        return 0
    first = getattr(_options, "TCP_KEEPIDLE", None) or getattr(_options, "TCP_KEEPALIVE", None)
    if first is None or not hasattr(_options, "TCP_KEEPINTVL"):
        return WSAEOPNOTSUPP
    if on:
        sock.setsockopt(socket.IPPROTO_TCP, first, _seconds(idle))
        sock.setsockopt(socket.IPPROTO_TCP, _options.TCP_KEEPINTVL, _seconds(interval))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(bool(on)))
    return 0


def _three(value: Any) -> Any:
    if isinstance(value, tuple):
        return cast("Any", value)
    return THREE.unpack_from(value)


def _seconds(milliseconds: int) -> int:
    return min(max(1, math.ceil(milliseconds / 1000)), LONGEST_KEEPALIVE)


_ACTIONS: Final[dict[int, Callable[[socket.socket, Any], int]]] = {
    c.SIO_UDP_CONNRESET: _report_unreachable,
    c.SIO_KEEPALIVE_VALS: _keep_alive,
    c.FIONBIO: _nonblocking,
}
