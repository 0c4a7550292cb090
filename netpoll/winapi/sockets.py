"""What Winsock has for sockets besides transfers: made, bound, named, their options, shut down."""

from __future__ import annotations

import contextlib
import errno
import socket as _socket
import sys
import time
from typing import Any, Final

from netpoll import PortClosed
from netpoll import status as nt
from netpoll.backends import addresses
from netpoll.winapi import constants as c
from netpoll.winapi.blocking import keeps, set_kept
from netpoll.winapi.errors import WSASetLastError, winsock_code
from netpoll.winapi.handles import (
    INVALID_SOCKET,
    WSAENOTSOCK,
    forget_portless,
    is_socket,
    known,
    port_of,
)

SOCKET = _socket.socket
"""A socket is one of Python's."""

WSAEFAULT: Final = nt.winsock_error(nt.STATUS_ACCESS_VIOLATION)
WSAEINVAL: Final = nt.winsock_error(nt.STATUS_INVALID_PARAMETER)
WSAENOTCONN: Final = nt.winsock_error(nt.STATUS_INVALID_CONNECTION)
WSANOTINITIALISED: Final = 10093
NEVER: Final = 0xFFFFFFFF
"""SO_CONNECT_TIME of a socket that is not connected."""

_NO_SUCH_SOCKET: Final = {
    getattr(errno, name): code
    for name, code in (
        ("EINVAL", 10044),  # a type that does not exist
        ("ESOCKTNOSUPPORT", 10044),
        ("EPROTONOSUPPORT", 10043),
        ("EAFNOSUPPORT", 10047),
    )
    if hasattr(errno, name)
}
"""What POSIX says of a socket that cannot be made, in Winsock's words."""

_started = 0


def WSAStartup(wVersionRequired: int) -> tuple[int, int]:
    """Does what a program begins with; Python has started Winsock already.

    :return: (0, the version)
    """
    global _started
    _started += 1
    return 0, wVersionRequired


def WSACleanup() -> int:
    """The last one ends the operations that are pending on sockets without a port.

    :return: 0; or SOCKET_ERROR, WSANOTINITIALISED
    """
    global _started
    if not _started:
        return _fail(WSANOTINITIALISED)
    _started -= 1
    if not _started:
        forget_portless()
    return 0


def _fail(code: int) -> int:
    WSASetLastError(code)
    return c.SOCKET_ERROR


# -- made and bound --------------------------------------------------------------------------------


def socket(af: int, type: int, protocol: int) -> SOCKET:
    """Make a socket, for overlapped operations too; or INVALID_SOCKET."""
    return WSASocket(af, type, protocol, c.NULL, 0, c.WSA_FLAG_OVERLAPPED)


def WSASocket(
    af: int, type: int, protocol: int, lpProtocolInfo: Any, g: int, dwFlags: int
) -> SOCKET:
    """Make a socket. Without WSA_FLAG_OVERLAPPED it belongs to no port (ASSOC-02), and its
    operations block (XFER-06).

    :return: the socket, or INVALID_SOCKET
    """
    if lpProtocolInfo is not None or g:
        raise ValueError("there are no protocol infos and no groups here; pass NULL and 0")
    try:
        sock = _socket.socket(af, type, protocol)
    except OSError as error:
        WSASetLastError(_NO_SUCH_SOCKET.get(error.errno or 0) or winsock_code(error))
        return INVALID_SOCKET
    known(sock).overlapped = bool(dwFlags & c.WSA_FLAG_OVERLAPPED)
    return sock


def bind(s: SOCKET, name: Any, namelen: int = 0) -> int:
    """Bind a socket.

    :param name: an address as Python has them, ("127.0.0.1", 7000), which knows its own length
    :return: 0, or SOCKET_ERROR
    """
    return _do(s, lambda: s.bind(name))


def listen(s: SOCKET, backlog: int) -> int:
    """Listen for connections: 0, or SOCKET_ERROR, 10022 for a socket that is not bound."""
    if is_socket(s) and not is_bound(s):
        return _fail(WSAEINVAL)
    return _do(s, lambda: s.listen(backlog))


def _do(sock: SOCKET, call: Any) -> int:
    if not is_socket(sock):
        return _fail(WSAENOTSOCK)
    try:
        call()
    except OSError as error:
        return _fail(winsock_code(error))
    return 0


def is_bound(sock: SOCKET) -> bool:
    """Whether it has a name: on Windows only a bound socket has, elsewhere one that is not has an
    empty one (EMU-24)."""
    try:
        name: Any = sock.getsockname()
    except OSError:
        return False
    return bool(name[1] if sock.family in addresses.SIZES else name)


def is_connected(sock: SOCKET) -> bool:
    """Whether it has a peer."""
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


# -- names and options -----------------------------------------------------------------------------


def getsockname(s: SOCKET) -> tuple[int, Any]:
    """(0, its own address), or (SOCKET_ERROR, NULL): 10022 for one that is not bound, 10057 for an
    accepted one before SO_UPDATE_ACCEPT_CONTEXT (ACC-14)."""
    if not is_socket(s):
        return _fail(WSAENOTSOCK), c.NULL
    context = known(s).needs_context
    if context is not None and context() is not s:
        return _fail(WSAENOTCONN), c.NULL
    if not is_bound(s):
        return _fail(WSAEINVAL), c.NULL
    return 0, s.getsockname()


def getpeername(s: SOCKET) -> tuple[int, Any]:
    """(0, its peer's address), or (SOCKET_ERROR, NULL): 10057 for one that is not connected, or not
    told so yet (ACC-14, CON-08)."""
    if not is_socket(s):
        return _fail(WSAENOTSOCK), c.NULL
    if known(s).needs_context is not None or not is_connected(s):
        return _fail(WSAENOTCONN), c.NULL
    return 0, s.getpeername()


def setsockopt(s: SOCKET, level: int, optname: int, optval: Any, optlen: int = 0) -> int:
    """Set an option: a number, bytes, or what follows.

    SO_UPDATE_ACCEPT_CONTEXT with the listener makes a socket of AcceptEx one that has names and can
    be shut down (ACC-14), SO_UPDATE_CONNECT_CONTEXT with NULL one of ConnectEx (CON-08).

    :return: 0, or SOCKET_ERROR: 10022 for another listener, 10057 for a socket without a connection
    """
    if not is_socket(s):
        return _fail(WSAENOTSOCK)
    if level == c.SOL_SOCKET and optname == c.SO_UPDATE_ACCEPT_CONTEXT:
        return _update_context(s, optval)
    if level == c.SOL_SOCKET and optname == c.SO_UPDATE_CONNECT_CONTEXT:
        return _update_context(s, s)
    if keeps(level, optname):
        set_kept(s, optname, optval)
        return 0
    return _do(s, lambda: s.setsockopt(level, optname, optval))


def _update_context(sock: SOCKET, wanted: Any) -> int:
    record = known(sock)
    if record.needs_context is not None:
        if not isinstance(wanted, SOCKET):
            return _fail(WSAEFAULT)
        if wanted is not record.needs_context():
            return _fail(WSAEINVAL)
        if wanted is not sock:
            record.needs_context = None
            return 0
        if sys.platform == "win32":
            # the core does so when the packet is taken, which may be later
            with contextlib.suppress(OSError):  # is_connected() tells
                sock.setsockopt(c.SOL_SOCKET, c.SO_UPDATE_CONNECT_CONTEXT, None, 0)
    if not is_connected(sock):  # not yet, while its ConnectEx is pending (CON-09)
        return _fail(WSAENOTCONN)
    record.needs_context = None
    return 0


def getsockopt(s: SOCKET, level: int, optname: int) -> tuple[int, int]:
    """(0, the value of an option, a number), or (SOCKET_ERROR, 0). SO_CONNECT_TIME are the seconds
    since the connection was made, 0xFFFFFFFF without one (ACC-16)."""
    if not is_socket(s):
        return _fail(WSAENOTSOCK), 0
    if level == c.SOL_SOCKET and optname == c.SO_CONNECT_TIME:
        return 0, connect_time(s)
    if keeps(level, optname):
        return 0, known(s).options.get(optname, 0)
    try:
        return 0, s.getsockopt(level, optname)
    except OSError as error:
        return _fail(winsock_code(error)), 0


def connect_time(sock: SOCKET) -> int:
    """SO_CONNECT_TIME. Only Windows keeps it; elsewhere the time counts from when netpoll knew of
    the connection, which of an accept that waits for data is the first time that it is asked."""
    record = known(sock)
    accepting = record.accepting_now()
    if accepting is not None:
        native: Any = accepting._native
        accepted = accepting._value[0] if accepting._value else getattr(native, "accepting", None)
        sock = accepted or sock
    if sock.type != c.SOCK_STREAM:
        return NEVER
    if sys.platform == "win32":
        return sock.getsockopt(c.SOL_SOCKET, c.SO_CONNECT_TIME) & NEVER
    if not is_connected(sock):
        return NEVER
    record.connected_at = record.connected_at or time.monotonic()
    return int(time.monotonic() - record.connected_at)


# -- the end ---------------------------------------------------------------------------------------


def shutdown(s: SOCKET, how: int) -> int:
    """Shut down with SD_RECEIVE, SD_SEND or SD_BOTH: pending receives go on (RECV-09), the end of
    stream goes out behind the sends (SEND-07).

    :return: 0, or SOCKET_ERROR: 10057 for a socket that is not connected, or not told so yet
        (ACC-14, CON-08)
    """
    if not is_socket(s):
        return _fail(WSAENOTSOCK)
    if known(s).needs_context is not None:
        return _fail(WSAENOTCONN)
    if how not in (c.SD_RECEIVE, c.SD_SEND, c.SD_BOTH):
        return _fail(WSAEINVAL)
    return _do(s, lambda: _shut(s, how))


def _shut(sock: SOCKET, how: int) -> None:
    """Also without a port it is the core's business: it knows what is pending, and what is to be
    refused from now on. The system's own wakes receives, and overtakes sends."""
    patience = sock.gettimeout()
    try:
        port_of(sock).shutdown(sock, how)
    except PortClosed:  # where nothing is pending any more
        sock.shutdown(how)
    sock.settimeout(patience)  # which is what a program that uses Python's calls as well has set
