"""The numbers of the C headers.

Errors and statuses are those of `netpoll.status`, which knows them all: `number("WSAEINVAL")` looks
one up by its name, and so does `netpoll.winapi.WSAEINVAL`. What the `socket` module has keeps its
value there, because Python's sockets are what it is given to: SOL_SOCKET is 1 on Linux and 0xFFFF
on Windows. What only Windows has keeps Windows' number.
"""

from __future__ import annotations

import socket
from typing import Final

from netpoll import status as nt
from netpoll.backends.iocp.constants import (
    FILE_SKIP_COMPLETION_PORT_ON_SUCCESS,
    FILE_SKIP_SET_EVENT_ON_HANDLE,
    INFINITE,
    SIO_GET_EXTENSION_FUNCTION_POINTER,
    SIO_UDP_CONNRESET,
    SO_UPDATE_ACCEPT_CONTEXT,
    SO_UPDATE_CONNECT_CONTEXT,
    SOCKET_ERROR,
    WAIT_FAILED,
    WAIT_IO_COMPLETION,
    WAIT_OBJECT_0,
    WAIT_TIMEOUT,
    WSAID_ACCEPTEX,
    WSAID_CONNECTEX,
    WSAID_DISCONNECTEX,
    WSAID_GETACCEPTEXSOCKADDRS,
    WSAID_TRANSMITFILE,
    WSAID_WSARECVMSG,
    WSAID_WSASENDMSG,
)
from netpoll.operations.flags import MSG_PARTIAL

TRUE: Final = 1
FALSE: Final = 0
NULL: Final = None
NO_ERROR: Final = 0

INVALID_HANDLE_VALUE: Final = -1
MAXIMUM_WAIT_OBJECTS: Final = 64
WAIT_ABANDONED: Final = 0x80
WAIT_ABANDONED_0: Final = WAIT_ABANDONED

WSA_FLAG_OVERLAPPED: Final = 1
WSA_FLAG_NO_HANDLE_INHERIT: Final = 0x80
"""As all sockets of Python's are, with it or without."""
SO_CONNECT_TIME: Final = 0x700C
TF_DISCONNECT: Final = 1
TF_REUSE_SOCKET: Final = 2
TF_WRITE_BEHIND: Final = 4
TF_USE_DEFAULT_WORKER: Final = 0
TF_USE_SYSTEM_THREAD: Final = 16
TF_USE_KERNEL_APC: Final = 32
WSA_MAXIMUM_WAIT_EVENTS: Final = 64
WSA_INFINITE: Final = INFINITE
WSA_WAIT_EVENT_0: Final = WAIT_OBJECT_0
WSA_WAIT_FAILED: Final = WAIT_FAILED
WSA_WAIT_IO_COMPLETION: Final = WAIT_IO_COMPLETION
WSA_WAIT_TIMEOUT: Final = WAIT_TIMEOUT
WSA_INVALID_HANDLE: Final = 6
WSA_INVALID_PARAMETER: Final = 87
WSA_NOT_ENOUGH_MEMORY: Final = 8
WSA_INVALID_EVENT: Final = NULL
WSASYSNOTREADY: Final = 10091
WSAVERNOTSUPPORTED: Final = 10092

AF_UNSPEC: Final = socket.AF_UNSPEC
AF_INET: Final = socket.AF_INET
AF_INET6: Final = socket.AF_INET6
SOCK_STREAM: Final = socket.SOCK_STREAM
SOCK_DGRAM: Final = socket.SOCK_DGRAM
IPPROTO_IP: Final = socket.IPPROTO_IP
IPPROTO_IPV6: Final = socket.IPPROTO_IPV6
IPPROTO_TCP: Final = socket.IPPROTO_TCP
IPPROTO_UDP: Final = socket.IPPROTO_UDP
IPV6_V6ONLY: Final = socket.IPV6_V6ONLY
SOL_SOCKET: Final = socket.SOL_SOCKET
SO_ACCEPTCONN: Final = socket.SO_ACCEPTCONN
SO_BROADCAST: Final = socket.SO_BROADCAST
SO_DONTROUTE: Final = socket.SO_DONTROUTE
SO_ERROR: Final = socket.SO_ERROR
SO_EXCLUSIVEADDRUSE: Final = ~4
"""Elsewhere than on Windows every bind is like that (EMU-25)."""
SO_KEEPALIVE: Final = socket.SO_KEEPALIVE
SO_LINGER: Final = socket.SO_LINGER
SO_OOBINLINE: Final = socket.SO_OOBINLINE
SO_RCVBUF: Final = socket.SO_RCVBUF
SO_RCVTIMEO: Final = 0x1006
"""Milliseconds, on every system; and so is SO_SNDTIMEO. `blocking` is what keeps them."""
SO_REUSEADDR: Final = socket.SO_REUSEADDR
SO_SNDBUF: Final = socket.SO_SNDBUF
SO_SNDTIMEO: Final = 0x1005
SO_TYPE: Final = socket.SO_TYPE
TCP_NODELAY: Final = socket.TCP_NODELAY
SOMAXCONN: Final = socket.SOMAXCONN
MSG_CTRUNC: Final = socket.MSG_CTRUNC
MSG_OOB: Final = socket.MSG_OOB
MSG_PEEK: Final = socket.MSG_PEEK
MSG_TRUNC: Final = socket.MSG_TRUNC
MSG_WAITALL: Final = socket.MSG_WAITALL
SD_RECEIVE: Final = socket.SHUT_RD
SD_SEND: Final = socket.SHUT_WR
SD_BOTH: Final = socket.SHUT_RDWR
INADDR_ANY: Final = "0.0.0.0"
INADDR_LOOPBACK: Final = "127.0.0.1"
INADDR_BROADCAST: Final = "255.255.255.255"

FIONBIO: Final = 0x8004667E
SIO_KEEPALIVE_VALS: Final = 0x98000004


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


def add_numbered(names: list[str]) -> None:
    """Add the names of the errors and statuses that have no line of their own here."""
    statuses = {name for name in dir(nt) if name.startswith("STATUS_")}
    names += sorted((statuses | set(_numbers())) - set(names))


_by_name: dict[str, int] = {}

__all__ = [
    "AF_INET",
    "AF_INET6",
    "AF_UNSPEC",
    "FALSE",
    "FILE_SKIP_COMPLETION_PORT_ON_SUCCESS",
    "FILE_SKIP_SET_EVENT_ON_HANDLE",
    "FIONBIO",
    "INADDR_ANY",
    "INADDR_BROADCAST",
    "INADDR_LOOPBACK",
    "INFINITE",
    "INVALID_HANDLE_VALUE",
    "IPPROTO_IP",
    "IPPROTO_IPV6",
    "IPPROTO_TCP",
    "IPPROTO_UDP",
    "IPV6_V6ONLY",
    "MAXIMUM_WAIT_OBJECTS",
    "MSG_CTRUNC",
    "MSG_OOB",
    "MSG_PARTIAL",
    "MSG_PEEK",
    "MSG_TRUNC",
    "MSG_WAITALL",
    "NO_ERROR",
    "NULL",
    "SD_BOTH",
    "SD_RECEIVE",
    "SD_SEND",
    "SIO_GET_EXTENSION_FUNCTION_POINTER",
    "SIO_KEEPALIVE_VALS",
    "SIO_UDP_CONNRESET",
    "SOCKET_ERROR",
    "SOCK_DGRAM",
    "SOCK_STREAM",
    "SOL_SOCKET",
    "SOMAXCONN",
    "SO_ACCEPTCONN",
    "SO_BROADCAST",
    "SO_CONNECT_TIME",
    "SO_DONTROUTE",
    "SO_ERROR",
    "SO_EXCLUSIVEADDRUSE",
    "SO_KEEPALIVE",
    "SO_LINGER",
    "SO_OOBINLINE",
    "SO_RCVBUF",
    "SO_RCVTIMEO",
    "SO_REUSEADDR",
    "SO_SNDBUF",
    "SO_SNDTIMEO",
    "SO_TYPE",
    "SO_UPDATE_ACCEPT_CONTEXT",
    "SO_UPDATE_CONNECT_CONTEXT",
    "TCP_NODELAY",
    "TF_DISCONNECT",
    "TF_REUSE_SOCKET",
    "TF_USE_DEFAULT_WORKER",
    "TF_USE_KERNEL_APC",
    "TF_USE_SYSTEM_THREAD",
    "TF_WRITE_BEHIND",
    "TRUE",
    "WAIT_ABANDONED",
    "WAIT_ABANDONED_0",
    "WAIT_FAILED",
    "WAIT_IO_COMPLETION",
    "WAIT_OBJECT_0",
    "WAIT_TIMEOUT",
    "WSAID_ACCEPTEX",
    "WSAID_CONNECTEX",
    "WSAID_DISCONNECTEX",
    "WSAID_GETACCEPTEXSOCKADDRS",
    "WSAID_TRANSMITFILE",
    "WSAID_WSARECVMSG",
    "WSAID_WSASENDMSG",
    "WSASYSNOTREADY",
    "WSAVERNOTSUPPORTED",
    "WSA_FLAG_NO_HANDLE_INHERIT",
    "WSA_FLAG_OVERLAPPED",
    "WSA_INFINITE",
    "WSA_INVALID_EVENT",
    "WSA_INVALID_HANDLE",
    "WSA_INVALID_PARAMETER",
    "WSA_MAXIMUM_WAIT_EVENTS",
    "WSA_NOT_ENOUGH_MEMORY",
    "WSA_WAIT_EVENT_0",
    "WSA_WAIT_FAILED",
    "WSA_WAIT_IO_COMPLETION",
    "WSA_WAIT_TIMEOUT",
]
