"""The names of the C documentation, over the same core and on every backend: `docs/winapi.md`.

    import netpoll.winapi as w

    port = w.CreateIoCompletionPort(w.INVALID_HANDLE_VALUE, w.NULL, 0, 0)
    ok, moved, key, overlapped = w.GetQueuedCompletionStatus(port, w.INFINITE)

C's parameters in C's order; what C returns, and behind it, in a tuple, what C stores through
pointers. What fails returns what it returns in C, and the code is in `GetLastError()`.
"""

from netpoll.winapi import constants as _constants
from netpoll.winapi.accepting import AcceptEx, GetAcceptExSockaddrs
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
from netpoll.winapi.messages import (
    SOCKADDR,
    WSAMSG,
    WSAIoctl,
    WSARecvFrom,
    WSARecvMsg,
    WSASendMsg,
    WSASendTo,
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
from netpoll.winapi.waits import SleepEx, WaitForSingleObject, WSAWaitForMultipleEvents

__all__ = [
    "HANDLE",
    "INVALID_SOCKET",
    "OVERLAPPED",
    "OVERLAPPED_ENTRY",
    "SOCKADDR",
    "SOCKET",
    "TRANSMIT_FILE_BUFFERS",
    "WSABUF",
    "WSAMSG",
    "AcceptEx",
    "CancelIo",
    "CancelIoEx",
    "CloseHandle",
    "ConnectEx",
    "CreateEvent",
    "CreateIoCompletionPort",
    "DisconnectEx",
    "Event",
    "GetAcceptExSockaddrs",
    "GetLastError",
    "GetOverlappedResult",
    "GetQueuedCompletionStatus",
    "GetQueuedCompletionStatusEx",
    "HasOverlappedIoCompleted",
    "PostQueuedCompletionStatus",
    "ResetEvent",
    "SetEvent",
    "SetFileCompletionNotificationModes",
    "SetLastError",
    "SleepEx",
    "TransmitFile",
    "WSACleanup",
    "WSACloseEvent",
    "WSACreateEvent",
    "WSAGetLastError",
    "WSAGetOverlappedResult",
    "WSAIoctl",
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
    "WSAStartup",
    "WSAWaitForMultipleEvents",
    "WaitForSingleObject",
    "bind",
    "closesocket",
    "getpeername",
    "getsockname",
    "getsockopt",
    "listen",
    "setsockopt",
    "shutdown",
    "socket",
]


def __getattr__(name: str) -> int:
    """ERROR_..., WSAE... and STATUS_..., which `netpoll.status` knows."""
    found = _constants.number(name)
    if found is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return found
