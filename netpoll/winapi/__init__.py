"""The names of the C documentation, over the same core and on every backend: `docs/winapi.md`.

    import netpoll.winapi as w

    port = w.CreateIoCompletionPort(w.INVALID_HANDLE_VALUE, w.NULL, 0, 0)
    ok, moved, key, overlapped = w.GetQueuedCompletionStatus(port, w.INFINITE)

C's parameters in C's order; what C returns, and behind it, in a tuple, what C stores through
pointers. What fails returns what it returns in C, and the code is in `GetLastError()`.
"""

from netpoll.winapi import constants as _constants
from netpoll.winapi.accepting import AcceptEx, GetAcceptExSockaddrs
from netpoll.winapi.calls import (
    WSAAccept,
    WSAConnect,
    accept,
    connect,
    ioctlsocket,
    recv,
    recvfrom,
    send,
    sendto,
)
from netpoll.winapi.connecting import ConnectEx
from netpoll.winapi.constants import *  # noqa: F403
from netpoll.winapi.errors import GetLastError, SetLastError, WSAGetLastError, WSASetLastError
from netpoll.winapi.events import (
    CreateEvent,
    Event,
    ResetEvent,
    SetEvent,
    WSACloseEvent,
    WSACreateEvent,
    WSAResetEvent,
    WSASetEvent,
)
from netpoll.winapi.files import TRANSMIT_FILE_BUFFERS, DisconnectEx, TransmitFile
from netpoll.winapi.handles import HANDLE, INVALID_SOCKET, CloseHandle, closesocket
from netpoll.winapi.ioctls import WSAIoctl
from netpoll.winapi.messages import (
    SOCKADDR,
    WSAMSG,
    WSARecvFrom,
    WSARecvMsg,
    WSASendMsg,
    WSASendTo,
)
from netpoll.winapi.objects import (
    GetOverlappedResultEx,
    Sleep,
    WaitForMultipleObjects,
    WaitForMultipleObjectsEx,
    WaitForSingleObject,
    WaitForSingleObjectEx,
)
from netpoll.winapi.overlapped import (
    OVERLAPPED,
    OVERLAPPED_ENTRY,
    WSABUF,
    HasOverlappedIoCompleted,
)
from netpoll.winapi.ports import (
    CancelIo,
    CancelIoEx,
    CreateIoCompletionPort,
    GetQueuedCompletionStatus,
    GetQueuedCompletionStatusEx,
    PostQueuedCompletionStatus,
    SetFileCompletionNotificationModes,
)
from netpoll.winapi.reading import ReadFile, WriteFile
from netpoll.winapi.results import GetOverlappedResult, WSAGetOverlappedResult
from netpoll.winapi.sockets import (
    SOCKET,
    WSACleanup,
    WSASocket,
    WSAStartup,
    bind,
    getpeername,
    getsockname,
    getsockopt,
    listen,
    setsockopt,
    shutdown,
    socket,
)
from netpoll.winapi.transfers import WSARecv, WSASend
from netpoll.winapi.waits import SleepEx, WSAWaitForMultipleEvents
from netpoll.winapi.words import HIBYTE, LOBYTE, MAKEWORD

# the headers have a name for each kind of string, and several for a record
CreateEventA = CreateEvent
CreateEventW = CreateEvent
WSASocketA = WSASocket
WSASocketW = WSASocket
WSAOVERLAPPED = OVERLAPPED

__all__: list[str] = [
    "AcceptEx",
    "CancelIo",
    "CancelIoEx",
    "CloseHandle",
    "ConnectEx",
    "CreateEvent",
    "CreateEventA",
    "CreateEventW",
    "CreateIoCompletionPort",
    "DisconnectEx",
    "Event",
    "GetAcceptExSockaddrs",
    "GetLastError",
    "GetOverlappedResult",
    "GetOverlappedResultEx",
    "GetQueuedCompletionStatus",
    "GetQueuedCompletionStatusEx",
    "HANDLE",
    "HIBYTE",
    "HasOverlappedIoCompleted",
    "INVALID_SOCKET",
    "LOBYTE",
    "MAKEWORD",
    "OVERLAPPED",
    "OVERLAPPED_ENTRY",
    "PostQueuedCompletionStatus",
    "ReadFile",
    "ResetEvent",
    "SOCKADDR",
    "SOCKET",
    "SetEvent",
    "SetFileCompletionNotificationModes",
    "SetLastError",
    "Sleep",
    "SleepEx",
    "TRANSMIT_FILE_BUFFERS",
    "TransmitFile",
    "WSAAccept",
    "WSABUF",
    "WSACleanup",
    "WSACloseEvent",
    "WSAConnect",
    "WSACreateEvent",
    "WSAGetLastError",
    "WSAGetOverlappedResult",
    "WSAIoctl",
    "WSAMSG",
    "WSAOVERLAPPED",
    "WSARecv",
    "WSARecvFrom",
    "WSARecvMsg",
    "WSAResetEvent",
    "WSASend",
    "WSASendMsg",
    "WSASendTo",
    "WSASetEvent",
    "WSASetLastError",
    "WSASocket",
    "WSASocketA",
    "WSASocketW",
    "WSAStartup",
    "WSAWaitForMultipleEvents",
    "WaitForMultipleObjects",
    "WaitForMultipleObjectsEx",
    "WaitForSingleObject",
    "WaitForSingleObjectEx",
    "accept",
    "WriteFile",
    "bind",
    "closesocket",
    "connect",
    "getpeername",
    "getsockname",
    "getsockopt",
    "ioctlsocket",
    "listen",
    "recv",
    "recvfrom",
    "send",
    "sendto",
    "setsockopt",
    "shutdown",
    "socket",
]

__all__ += _constants.__all__
_constants.add_numbered(__all__)


def __getattr__(name: str) -> int:
    """ERROR_..., WSAE... and STATUS_..., which `netpoll.status` knows."""
    found = _constants.number(name)
    if found is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return found
