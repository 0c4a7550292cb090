"""GetOverlappedResult and WSAGetOverlappedResult."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from netpoll import status as nt
from netpoll.winapi.constants import FALSE, TRUE, WSA_INVALID_HANDLE
from netpoll.winapi.errors import SetLastError, WSASetLastError
from netpoll.winapi.handles import WSAENOTSOCK, is_socket
from netpoll.winapi.overlapped import OVERLAPPED, refresh, see_end
from netpoll.winapi.waits import wait_for

if TYPE_CHECKING:
    import socket

ERROR_IO_INCOMPLETE: Final = nt.winsock_error(nt.STATUS_PENDING)
WSAEFAULT: Final = nt.winsock_error(nt.STATUS_ACCESS_VIOLATION)


def GetOverlappedResult(hFile: Any, lpOverlapped: OVERLAPPED, bWait: int) -> tuple[int, int]:
    """How an operation has ended, in Win32's numbers. With `bWait` it waits for that (OVL-10).

    :param hFile: not looked at (OVL-09)
    :return: (TRUE, bytes transferred); or FALSE: 996 while it is pending (OVL-08), else what it
        failed with
    """
    operation = refresh(lpOverlapped)
    if operation is not None and bWait:
        wait_for(operation)
        see_end(operation)
    status = lpOverlapped.Internal
    if status == nt.STATUS_PENDING:
        SetLastError(ERROR_IO_INCOMPLETE)
        return FALSE, 0
    if nt.is_success(status):
        return TRUE, lpOverlapped.InternalHigh
    SetLastError(nt.win32_error(status))
    return FALSE, lpOverlapped.InternalHigh


def WSAGetOverlappedResult(
    s: socket.socket, lpOverlapped: OVERLAPPED | None, fWait: int
) -> tuple[int, int, int]:
    """How an operation has ended, in Winsock's numbers.

    :param fWait: wait for that; only with an event in the OVERLAPPED, else it is WSA_INVALID_HANDLE
        (OVL-14)
    :return: (TRUE, bytes transferred, flags); or FALSE: WSA_IO_INCOMPLETE while it is pending,
        10038 for what is no socket (OVL-11), 10014 for NULL, else what it failed with (OVL-12)
    """
    if not is_socket(s):
        WSASetLastError(WSAENOTSOCK)
        return FALSE, 0, 0
    if lpOverlapped is None:
        WSASetLastError(WSAEFAULT)
        return FALSE, 0, 0
    operation = refresh(lpOverlapped)
    if operation is not None and fWait:
        if operation.event is None:
            WSASetLastError(WSA_INVALID_HANDLE)
            return FALSE, 0, 0
        wait_for(operation)
        see_end(operation)
    status = lpOverlapped.Internal
    if status == nt.STATUS_PENDING:
        WSASetLastError(ERROR_IO_INCOMPLETE)
        return FALSE, 0, 0
    WSASetLastError(nt.winsock_error(status))
    return int(nt.is_success(status)), lpOverlapped.InternalHigh, 0
