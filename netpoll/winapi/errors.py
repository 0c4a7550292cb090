"""The last error of each thread, and what an exception of netpoll's is in C."""

from __future__ import annotations

import threading

from netpoll import status as nt


class _LastError(threading.local):
    code = 0


_last = _LastError()


def GetLastError() -> int:
    """The code that the calling thread's last failed call has left."""
    return _last.code


def SetLastError(dwErrCode: int) -> None:
    """Set what `GetLastError` answers to this thread."""
    _last.code = dwErrCode & 0xFFFFFFFF


# Winsock keeps its error in the same place
WSAGetLastError = GetLastError
WSASetLastError = SetLastError


def winsock_code(error: OSError) -> int:
    """The Winsock number of what was raised, by netpoll or by the `socket` module."""
    known: int | None = vars(error).get("wsaerror")
    return nt.winsock_error(status_of(error), inline=True) if known is None else known


def win32_code(error: OSError) -> int:
    """The Win32 number of what netpoll raised: of the status, as a call that is not Winsock's
    gives it, whatever number the exception shows."""
    return nt.win32_error(status_of(error))


def status_of(error: OSError) -> int:
    """The NTSTATUS of what was raised; never that of a success."""
    status: int | None = vars(error).get("status")
    if status is None:
        status = nt.from_errno(error.errno or 0)
    return status or nt.STATUS_UNSUCCESSFUL


def fault() -> OSError:
    """What begins with a pointer that leads nowhere: 10014."""
    return nt.make_exception(nt.STATUS_ACCESS_VIOLATION, inline=True)
