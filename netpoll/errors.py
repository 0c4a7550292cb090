"""The exceptions of netpoll, made from a status.

Every exception is an `OSError`: the standard subclass that its errno selects, or one of the four
below. On every OS it carries four numbers: `errno` (portable), `winerror` (what Windows reports
there: the Win32 number of a failed completion, the Winsock number of a call that failed at once),
`wsaerror` (the Winsock number) and `status` (the NTSTATUS). Copies and pickles keep them.
"""

import io
import sys
from typing import Final

from netpoll import status as _status


class _Numbers:
    """What every exception made here carries besides `errno` and `strerror`."""

    winerror: int
    wsaerror: int
    status: int


class OperationAborted(_Numbers, OSError):
    """The operation was cancelled before it moved anything (Win32 995, STATUS_CANCELLED)."""


class PortClosed(_Numbers, OSError):
    """The port was closed: under a waiting thread (735), or before the call was made (6)."""


class AlreadyAssociated(_Numbers, OSError):
    """The handle already belongs to a completion port (Win32 87; ASSOC-01)."""


class UnsupportedOperation(_Numbers, io.UnsupportedOperation):
    """This backend, or this kind of handle, cannot do the operation (Win32 50, Winsock 10045)."""


_KIND_OF: Final[dict[int, type[OSError]]] = {
    _status.STATUS_CANCELLED: OperationAborted,
    _status.STATUS_ABANDONED_WAIT_0: PortClosed,
    _status.STATUS_NOT_SUPPORTED: UnsupportedOperation,
    _status.STATUS_NOT_IMPLEMENTED: UnsupportedOperation,
}


def make_exception(
    status: int,
    *,
    inline: bool = False,
    message: str | None = None,
    kind: type[OSError] | None = None,
) -> OSError:
    """The exception for `status`, not raised.

    `inline`: the call failed at once, so `winerror` is the Winsock number (10054), as on Windows;
    otherwise it is the Win32 number that a completion reports (64). `message` replaces the words
    that say what happened; the numbers follow in either case. `kind` overrides the class, for an
    error whose status alone does not tell it. Raises `ValueError` for STATUS_SUCCESS.
    """
    status &= 0xFFFFFFFF
    if status == _status.STATUS_SUCCESS:
        raise ValueError("STATUS_SUCCESS is not an error")
    win32 = _status.win32_error(status)
    winsock = _status.winsock_error(status, inline=inline)
    text = f"{message or _status.describe(status)} ({_numbers(status, win32, winsock)})"
    # OSError itself picks the standard subclass that belongs to the errno.
    error = (kind or _KIND_OF.get(status, OSError))(_status.errno_of(status), text)
    winerror = winsock if inline and winsock else win32
    # OSError on Windows has a slot for winerror, which copies and pickles drop. Stored in the
    # instance dictionary as well, it travels with them and is put back into the slot.
    vars(error).update(winerror=winerror, wsaerror=winsock, status=status)
    if sys.platform == "win32":
        error.winerror = winerror
    return error


def _numbers(status: int, win32: int, winsock: int) -> str:
    text = f"{_status.name_of(status)}; {_status.win32_name(win32)}"
    return f"{text}, {_status.winsock_name(winsock)}" if winsock else text
