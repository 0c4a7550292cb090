"""The exceptions that are netpoll's own.

Every other failure is the standard `OSError` subclass that its errno selects. All of them, own or
standard, carry four numbers on every OS: `errno` (portable), `winerror` (what Windows reports
there: the Win32 number of a failed completion, the Winsock number of a call that failed at once),
`wsaerror` (the Winsock number) and `status` (the NTSTATUS). `netpoll.status.make_exception` fills
them in.
"""

import io
import reprlib
from typing import Final


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


_SHORT: Final = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 100


def shown(value: object) -> str:
    """A wrong argument, for a message: its `repr()`, which may be of any length, cut short."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # a number with more digits than Python writes
        return f"that {type(value).__name__}"
