"""The calls of Winsock that block: accept, connect, recv, send and their like, and ioctlsocket."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING, Any, Final

from netpoll import status as nt
from netpoll.winapi import constants as c
from netpoll.winapi.blocking import (
    WSAEWOULDBLOCK,
    block,
    number_in,
    send_a_part,
    sends_a_part,
    set_nonblocking,
)
from netpoll.winapi.errors import WSASetLastError, winsock_code
from netpoll.winapi.files import WSAEOPNOTSUPP
from netpoll.winapi.handles import INVALID_SOCKET, WSAENOTSOCK, is_socket, known
from netpoll.winapi.overlapped import WSABUF, views_of
from netpoll.winapi.sockets import WSAEFAULT, is_connected

if TYPE_CHECKING:
    import socket

    from typing_extensions import Buffer

    from netpoll import CompletionPort
    from netpoll.winapi.overlapped import Operation

WSAEISCONN: Final = nt.winsock_error(nt.STATUS_CONNECTION_ACTIVE)
WSAEALREADY: Final = 10037
UNDER_WAY: Final = {errno.EINPROGRESS, errno.EWOULDBLOCK, WSAEWOULDBLOCK}


def _fail(code: int) -> int:
    WSASetLastError(code)
    return c.SOCKET_ERROR


# -- connections -----------------------------------------------------------------------------------


def accept(s: socket.socket) -> tuple[socket.socket, Any]:
    """Accept a connection, behind the AcceptEx that wait (ACC-13).

    :return: (the new socket, which is as `s` in being overlapped and non-blocking, and its peer's
        address), or (INVALID_SOCKET, NULL)
    """
    code = 0 if is_socket(s) else WSAENOTSOCK
    if code or s.type != c.SOCK_STREAM:
        WSASetLastError(code or WSAEOPNOTSUPP)
        return INVALID_SOCKET, c.NULL
    accepted: list[Any] = []

    def begin(port: CompletionPort, operation: Operation) -> object:
        return port.accept(s, overlapped=operation)

    def conclude(operation: Operation) -> None:
        assert operation.outcome is not None
        if not operation.outcome[0]:
            accepted.extend(operation._value)

    code, _ = block(s, begin, conclude)
    if code:
        WSASetLastError(code)
        return INVALID_SOCKET, c.NULL
    sock, address = accepted
    record, listening = known(sock), known(s)
    record.overlapped, record.nonblocking = listening.overlapped, listening.nonblocking
    record.connected_at = time.monotonic()
    return sock, address


def WSAAccept(
    s: socket.socket, lpfnCondition: Any = c.NULL, dwCallbackData: int = 0
) -> tuple[socket.socket, Any]:
    """As `accept`. There are no condition functions here: pass NULL."""
    if lpfnCondition is not None:
        raise ValueError("there are no condition functions here; pass NULL")
    return accept(s)


def connect(s: socket.socket, name: Any, namelen: int = 0) -> int:
    """Connect a socket, which is bound if it is not; or give one of datagrams its peer.

    :param name: a numeric address as Python has them, which knows its own length
    :return: 0, or SOCKET_ERROR: 10061 where nobody listens, 10056 for one that is connected, 10035
        for a non-blocking one that is about to be
    """
    if not is_socket(s):
        return _fail(WSAENOTSOCK)
    if s.type != c.SOCK_STREAM:
        try:
            s.connect(name)
        except OSError as error:
            return _fail(winsock_code(error))
        return 0
    if known(s).nonblocking:
        code = _connect_later(s, name)
    else:
        code, _ = block(s, lambda port, operation: port.connect(s, name, overlapped=operation))
    if code:
        return _fail(code)
    known(s).connected_at = time.monotonic()
    return 0


def _connect_later(sock: socket.socket, name: Any) -> int:
    """The code of a connect that does not wait: the system's own, since an operation would have to
    be waited for."""
    if is_connected(sock):
        return WSAEISCONN
    sock.setblocking(False)
    code = sock.connect_ex(name)
    if code in UNDER_WAY:
        return WSAEWOULDBLOCK
    if code == errno.EALREADY:
        return WSAEALREADY
    return winsock_code(OSError(code, "")) if code else 0


def WSAConnect(
    s: socket.socket,
    name: Any,
    namelen: int = 0,
    lpCallerData: Any = c.NULL,
    lpCalleeData: Any = c.NULL,
    lpSQOS: Any = c.NULL,
    lpGQOS: Any = c.NULL,
) -> int:
    """As `connect`. TCP and UDP have no use for the rest: pass NULL."""
    if any(each is not None for each in (lpCallerData, lpCalleeData, lpSQOS, lpGQOS)):
        raise ValueError("there are no user data and no flow specifications here; pass NULL")
    return connect(s, name, namelen)


# -- data ------------------------------------------------------------------------------------------


def recv(s: socket.socket, buf: Buffer | None, len: int, flags: int = 0) -> int:
    """Receive into the first `len` bytes of a buffer, behind the receives that are pending.

    :return: the bytes received, 0 at the end of the stream, or SOCKET_ERROR: 10035 for a
        non-blocking socket with nothing to receive, 10040 for a datagram that did not fit, 10060
        after SO_RCVTIMEO
    """
    if code := _wrong_receive(s, flags):
        return _fail(code)

    def begin(port: CompletionPort, operation: Operation) -> object:
        views = views_of(WSABUF(len, buf), 1, writable=True)
        return port.recv_into(s, views, flags=flags, overlapped=operation)

    code, moved = block(s, begin)
    return _fail(code) if code else moved


def recvfrom(s: socket.socket, buf: Buffer | None, len: int, flags: int = 0) -> tuple[int, Any]:
    """Receive a datagram, and who sent it; NULL on a stream (RECV-20).

    :return: (as `recv`, the address)
    """
    if code := _wrong_receive(s, flags):
        return _fail(code), c.NULL
    senders: list[Any] = []

    def begin(port: CompletionPort, operation: Operation) -> object:
        views = views_of(WSABUF(len, buf), 1, writable=True)
        return port.recvfrom_into(s, views, flags=flags, overlapped=operation)

    def conclude(operation: Operation) -> None:
        assert operation.outcome is not None
        if not nt.is_error(operation.outcome[0]):  # one that was cut off has a sender, too
            senders.append(operation._value)

    code, moved = block(s, begin, conclude)
    return _fail(code) if code else moved, senders[0] if senders else c.NULL


def _wrong_receive(sock: Any, flags: int) -> int:
    """Why the call fails at once: a code, or 0."""
    if not is_socket(sock):
        return WSAENOTSOCK
    # RECV-14
    return WSAEOPNOTSUPP if flags & c.MSG_WAITALL and known(sock).nonblocking else 0


def send(s: socket.socket, buf: Buffer | None, len: int, flags: int = 0) -> int:
    """Send the first `len` bytes of a buffer, behind the sends that are pending: all of them; what
    there is room for in non-blocking mode.

    :return: the bytes sent, or SOCKET_ERROR: 10035 for a non-blocking socket without room, 10060
        after SO_SNDTIMEO
    """
    return sendto(s, buf, len, flags, c.NULL)


def sendto(
    s: socket.socket, buf: Buffer | None, len: int, flags: int, to: Any, tolen: int = 0
) -> int:
    """Send a datagram to a numeric address, as Python has them, or with NULL to the peer of a
    connected socket.

    :return: as `send`
    """
    if not is_socket(s):
        return _fail(WSAENOTSOCK)
    data = WSABUF(len, buf)

    def begin(port: CompletionPort, operation: Operation) -> object:
        views = views_of(data, 1, writable=False)
        if to is None:
            return port.send(s, views, flags=flags, overlapped=operation)
        return port.sendto(s, views, to, flags=flags, overlapped=operation)

    code, moved = send_a_part(s, data, 1, flags) if sends_a_part(s) else block(s, begin)
    return _fail(code) if code else moved


def ioctlsocket(s: socket.socket, cmd: int, argp: Any) -> tuple[int, Any]:
    """FIONBIO: whether the calls here fail with 10035 where they would have to wait. Overlapped
    operations do not care (XFER-05).

    :return: (0, `argp`), or (SOCKET_ERROR, `argp`): 10045 for any other command
    """
    if not is_socket(s):
        return _fail(WSAENOTSOCK), argp
    if cmd != c.FIONBIO:
        return _fail(WSAEOPNOTSUPP), argp
    if argp is None:
        return _fail(WSAEFAULT), argp
    set_nonblocking(s, bool(number_in(argp)))
    return 0, argp
