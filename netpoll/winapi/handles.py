"""What a handle is here, what has to be remembered of a socket, and which port starts its
operations.

A port is a `netpoll.CompletionPort`, a socket is one of Python's, an event is one of
`netpoll.winapi.events`. A socket that belongs to no port has its operations started through a port
of this module's own, which nobody takes packets from: they end by event, by routine, or by asking.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

from netpoll import CompletionPort, File, handles
from netpoll import status as nt
from netpoll.backends.sockets import INTERNET, SocketAssociation
from netpoll.finalizers import closes_at_exit
from netpoll.winapi.constants import FALSE, SOCKET_ERROR, TRUE
from netpoll.winapi.errors import SetLastError, WSASetLastError, winsock_code
from netpoll.winapi.events import Event, Tagged, event_of

if TYPE_CHECKING:
    from netpoll.backends.base import Association, Backend
    from netpoll.winapi.overlapped import Operation

HANDLE = CompletionPort
"""The handle of a port is the port."""
INVALID_SOCKET: Final = socket.socket()
"""A socket like any other, but closed."""
INVALID_SOCKET.close()

WSAENOTSOCK: Final = nt.winsock_error(nt.STATUS_OBJECT_TYPE_MISMATCH)
ERROR_INVALID_HANDLE: Final = nt.win32_error(nt.STATUS_INVALID_HANDLE)


class Known:
    """What has to be remembered of a socket."""

    __slots__ = (
        "accepting",
        "connected_at",
        "last",
        "modes",
        "needs_context",
        "nonblocking",
        "options",
        "overlapped",
        "port",
        "told_by",
    )

    def __init__(self) -> None:
        self.port: CompletionPort | None = None
        """The one it was associated with by CreateIoCompletionPort, which lives as long as this
        (PORT-20)."""
        self.modes: int = 0
        """SetFileCompletionNotificationModes."""
        self.overlapped: bool = True
        """Whether it was made with WSA_FLAG_OVERLAPPED."""
        self.nonblocking: bool = False
        """FIONBIO."""
        self.options: dict[int, int] = {}
        """Those that `blocking` keeps."""
        # weak, all three: a record that holds its own socket would live for ever
        self.accepting: weakref.ref[Operation] | None = None
        """The AcceptEx that it waits in as the accept socket."""
        self.needs_context: weakref.ref[socket.socket] | None = None
        """The listener that SO_UPDATE_ACCEPT_CONTEXT has to name before the socket knows its names
        (ACC-14), or the socket itself for SO_UPDATE_CONNECT_CONTEXT (CON-08)."""
        self.last: weakref.ref[Operation] | None = None
        """What was started on it last: the handle is signalled when that has ended (OVL-18)."""
        self.connected_at: float | None = None
        self.told_by: weakref.ref[CompletionPort] | None = None
        """The port that started its last operation: there it is told of unreachable ports, or
        not, as on Windows."""

    def accepting_now(self) -> Operation | None:
        """The AcceptEx that it waits in, whose end has not been seen."""
        return None if self.accepting is None else self.accepting()


_known: weakref.WeakKeyDictionary[socket.socket | File, Known] = weakref.WeakKeyDictionary()
_lock = threading.Lock()
_portless: CompletionPort | None = None


def known(sock: socket.socket | File) -> Known:
    """The record of a socket, or of a file, made on first sight."""
    with _lock:
        record = _known.get(sock)
        if record is None:
            record = _known[sock] = Known()
        return record


def is_socket(candidate: object) -> bool:
    """Whether it is a socket, and open (XFER-08)."""
    return isinstance(candidate, socket.socket) and candidate.fileno() >= 0


def is_handle(candidate: object) -> bool:
    """Whether it is a socket, a file or a pipe, and open."""
    return is_socket(candidate) or (isinstance(candidate, File) and not candidate.closed)


def port_of(sock: socket.socket) -> CompletionPort:
    """The port that starts its operations."""
    return handles.port_of(sock) or portless()


def association_of(sock: socket.socket) -> tuple[CompletionPort | None, Association | None]:
    """The port of a socket, by whatever name it was associated with that, and what that has noted
    of it, while it is open."""
    port = handles.port_of(sock)
    association = None if port is None else port._backend.association(sock)
    return port, association if association is not None and association.associated else None


def portless() -> CompletionPort:
    """The port for what has none."""
    global _portless
    with _lock:
        if _portless is None:
            _portless = CompletionPort()
        return _portless


def starting_port(sock: socket.socket) -> CompletionPort:
    """`port_of`, for a start.

    On Windows every UDP socket is told of unreachable ports until somebody says otherwise (UDP-05,
    UDP-06); other systems tell connected ones, and have to be asked for the rest.
    """
    port = port_of(sock)
    record = known(sock)
    if record.told_by is not None and record.told_by() is port:
        return port
    record.told_by = weakref.ref(port)
    handle: Any = sock  # or a file
    is_a_socket = isinstance(handle, socket.socket)
    if (
        sys.platform != "win32"
        and is_a_socket
        and sock.type == socket.SOCK_DGRAM
        and sock.family in INTERNET
    ):
        ports = (port, _portless)
        told = [each._backend.association(sock) for each in ports if each is not None]
        asked = [each.reports for each in told if isinstance(each, SocketAssociation)]
        wanted = next((each for each in asked if each is not None), True)
        with contextlib.suppress(OSError):  # this system tells connected ones only
            port.report_unreachable(sock, wanted)
    return port


def unattended() -> list[Backend]:
    """Where operations without a port are pending, which nobody takes packets from."""
    with _lock:
        port = _portless
    return [port._backend] if port is not None and port.inflight() else []


@closes_at_exit
def forget_portless() -> None:
    """Close the port for what has none; what is pending on it is cancelled."""
    global _portless
    with _lock:
        port, _portless = _portless, None
    if port is not None:
        port.close()


def closesocket(s: socket.socket) -> int:
    """Close a socket, which ends what is pending on it (CLOSE-01, CLOSE-02).

    :return: 0, or SOCKET_ERROR
    """
    if not is_socket(s):
        WSASetLastError(WSAENOTSOCK)
        return SOCKET_ERROR
    accepting = known(s).accepting_now()
    if accepting is not None:
        accepting.cancel()  # ACC-10
    port = handles.port_of(s) or _portless
    try:
        s.close() if port is None else port.close_handle(s)
    except OSError as error:
        WSASetLastError(winsock_code(error))
        return SOCKET_ERROR
    return 0


def CloseHandle(hObject: Any) -> int:
    """Close a port, whose waiters get 735 (PORT-18), an event, a socket, a file or a pipe.

    :return: TRUE; or FALSE, 6: it is closed, or no handle
    """
    if isinstance(hObject, socket.socket):
        was_open = closesocket(hObject) == 0
    elif isinstance(hObject, File):
        was_open = not hObject.closed
        port = handles.port_of(hObject) or _portless
        hObject.close() if port is None else port.close_handle(hObject)
    elif isinstance(hObject, CompletionPort):
        was_open = hObject._is_open
        hObject.close()
    elif isinstance(hObject, (Event, Tagged)):
        event = event_of(hObject)
        was_open = event is not None
        if event is not None:
            event.closed = True
    else:
        was_open = False
    if not was_open:
        SetLastError(ERROR_INVALID_HANDLE)
    return TRUE if was_open else FALSE
