"""The numbers of the C headers.

Errors and statuses are those of `netpoll.status`, which knows them all: `number("WSAEINVAL")` looks
one up by its name, and so does `netpoll.winapi.WSAEINVAL`. What the `socket` module has keeps its
value there, because Python's sockets are what it is given to: SOL_SOCKET is 1 on Linux and 0xFFFF
on Windows.
"""

from __future__ import annotations

import socket
from typing import Final

from netpoll import status as nt
from netpoll.backends.iocp.constants import (
    FILE_SKIP_COMPLETION_PORT_ON_SUCCESS,
    FILE_SKIP_SET_EVENT_ON_HANDLE,
    INFINITE,
    SIO_UDP_CONNRESET,
    SO_UPDATE_ACCEPT_CONTEXT,
    SO_UPDATE_CONNECT_CONTEXT,
    SOCKET_ERROR,
    WAIT_FAILED,
    WAIT_IO_COMPLETION,
    WAIT_OBJECT_0,
    WAIT_TIMEOUT,
)

TRUE: Final = 1
FALSE: Final = 0
NULL: Final = None
NO_ERROR: Final = 0

INVALID_HANDLE_VALUE: Final = -1

WSA_FLAG_OVERLAPPED: Final = 1
SO_CONNECT_TIME: Final = 0x700C
TF_DISCONNECT: Final = 1
TF_REUSE_SOCKET: Final = 2
TF_WRITE_BEHIND: Final = 4
WSA_MAXIMUM_WAIT_EVENTS: Final = 64
WSA_INFINITE: Final = INFINITE
WSA_WAIT_EVENT_0: Final = WAIT_OBJECT_0
WSA_WAIT_FAILED: Final = WAIT_FAILED
WSA_WAIT_IO_COMPLETION: Final = WAIT_IO_COMPLETION
WSA_WAIT_TIMEOUT: Final = WAIT_TIMEOUT
WSA_INVALID_HANDLE: Final = 6
WSA_INVALID_PARAMETER: Final = 87

AF_INET: Final = socket.AF_INET
AF_INET6: Final = socket.AF_INET6
SOCK_STREAM: Final = socket.SOCK_STREAM
SOCK_DGRAM: Final = socket.SOCK_DGRAM
IPPROTO_TCP: Final = socket.IPPROTO_TCP
IPPROTO_UDP: Final = socket.IPPROTO_UDP
SOL_SOCKET: Final = socket.SOL_SOCKET
SO_KEEPALIVE: Final = socket.SO_KEEPALIVE
SO_LINGER: Final = socket.SO_LINGER
SO_RCVBUF: Final = socket.SO_RCVBUF
SO_REUSEADDR: Final = socket.SO_REUSEADDR
SO_SNDBUF: Final = socket.SO_SNDBUF
TCP_NODELAY: Final = socket.TCP_NODELAY
SOMAXCONN: Final = socket.SOMAXCONN
MSG_OOB: Final = socket.MSG_OOB
MSG_PEEK: Final = socket.MSG_PEEK
SD_RECEIVE: Final = socket.SHUT_RD
SD_SEND: Final = socket.SHUT_WR
SD_BOTH: Final = socket.SHUT_RDWR
INADDR_ANY: Final = "0.0.0.0"
INADDR_LOOPBACK: Final = "127.0.0.1"


def number(name: str) -> int | None:
    """The number of an error or a status by its name in the headers, if there is such a one."""
    if name.startswith("STATUS_"):
        value = getattr(nt, name, None)
        return value if isinstance(value, int) else None
    return _numbers().get(name)


def _numbers() -> dict[str, int]:
    """ERROR_*, WSA* and WAIT_*, by name."""
    if not _by_name:
        _by_name.update((name, code) for code, name in nt.NUMBER_NAMES)
    return _by_name


_by_name: dict[str, int] = {}

__all__ = [
    "AF_INET",
    "AF_INET6",
    "FALSE",
    "FILE_SKIP_COMPLETION_PORT_ON_SUCCESS",
    "FILE_SKIP_SET_EVENT_ON_HANDLE",
    "INADDR_ANY",
    "INADDR_LOOPBACK",
    "INFINITE",
    "INVALID_HANDLE_VALUE",
    "IPPROTO_TCP",
    "IPPROTO_UDP",
    "MSG_OOB",
    "MSG_PEEK",
    "NO_ERROR",
    "NULL",
    "SD_BOTH",
    "SD_RECEIVE",
    "SD_SEND",
    "SIO_UDP_CONNRESET",
    "SOCKET_ERROR",
    "SOCK_DGRAM",
    "SOCK_STREAM",
    "SOL_SOCKET",
    "SOMAXCONN",
    "SO_CONNECT_TIME",
    "SO_KEEPALIVE",
    "SO_LINGER",
    "SO_RCVBUF",
    "SO_REUSEADDR",
    "SO_SNDBUF",
    "SO_UPDATE_ACCEPT_CONTEXT",
    "SO_UPDATE_CONNECT_CONTEXT",
    "TCP_NODELAY",
    "TF_DISCONNECT",
    "TF_REUSE_SOCKET",
    "TF_WRITE_BEHIND",
    "TRUE",
    "WAIT_FAILED",
    "WAIT_IO_COMPLETION",
    "WAIT_OBJECT_0",
    "WAIT_TIMEOUT",
    "WSA_FLAG_OVERLAPPED",
    "WSA_INFINITE",
    "WSA_INVALID_HANDLE",
    "WSA_INVALID_PARAMETER",
    "WSA_MAXIMUM_WAIT_EVENTS",
    "WSA_WAIT_EVENT_0",
    "WSA_WAIT_FAILED",
    "WSA_WAIT_IO_COMPLETION",
    "WSA_WAIT_TIMEOUT",
]
