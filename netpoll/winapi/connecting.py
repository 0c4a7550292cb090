"""ConnectEx."""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING, Any, Final

from netpoll import status as nt
from netpoll.winapi.constants import FALSE, TRUE
from netpoll.winapi.errors import WSASetLastError
from netpoll.winapi.handles import is_socket, known
from netpoll.winapi.overlapped import OVERLAPPED, first_bytes
from netpoll.winapi.sockets import WSAEINVAL, is_bound
from netpoll.winapi.starts import WSAENOTSOCK, start

if TYPE_CHECKING:
    import socket

    from typing_extensions import Buffer

    from netpoll import CompletionPort
    from netpoll.winapi.overlapped import Operation

ERROR_INVALID_PARAMETER: Final = nt.win32_error(nt.STATUS_INVALID_PARAMETER)


def ConnectEx(
    s: socket.socket,
    name: Any,
    namelen: int,
    lpSendBuffer: Buffer | None,
    dwSendDataLength: int,
    lpOverlapped: OVERLAPPED | None,
) -> tuple[int, int]:
    """Connect a socket that is bound (CON-01), and send the first bytes of a buffer with it.

    :param name: an address as Python has them, ("127.0.0.1", 7000), which knows its own length
    :return: (FALSE, 0) with WSA_IO_PENDING, and the verdict comes later (CON-04); (FALSE, 0) with
        another code if it failed at once
    :raises ValueError: the buffer is shorter than what is to be sent of it
    """
    code = _refusal(s, lpOverlapped)
    if code:
        WSASetLastError(code)
        return FALSE, 0
    assert lpOverlapped is not None
    record = known(s)

    def begin(port: CompletionPort, operation: Operation) -> object:
        data = None
        if lpSendBuffer is not None and dwSendDataLength:
            data = first_bytes(lpSendBuffer, dwSendDataLength, writable=False)
        before, record.needs_context = record.needs_context, weakref.ref(s)
        try:
            return port.connect(s, name, data=data, overlapped=operation)
        except BaseException:
            record.needs_context = before
            raise

    code, moved = start(s, lpOverlapped, begin, conclude=_conclude)
    if code:
        WSASetLastError(code)
        return FALSE, 0
    return TRUE, moved


def _refusal(sock: object, overlapped: object) -> int:
    """Why the call fails at once: a code, or 0."""
    if not isinstance(overlapped, OVERLAPPED):
        return ERROR_INVALID_PARAMETER
    overlapped.Internal = nt.STATUS_PENDING  # before anything else is looked at (OVL-02)
    if not is_socket(sock):
        return WSAENOTSOCK
    checked: Any = sock
    record = known(checked)
    # ACC-04; and what is connected is not known to be so without its context (CON-08)
    busy = record.accepting_now() is not None or record.needs_context is not None
    return WSAEINVAL if busy or not is_bound(checked) else 0


def _conclude(operation: Operation) -> None:
    """The mark is as old as the start, and taken away by SO_UPDATE_CONNECT_CONTEXT, which may have
    been before this; a socket that was not connected has none."""
    assert operation.outcome is not None
    record = known(operation.handle)
    if operation.outcome[0] == nt.STATUS_SUCCESS:
        record.connected_at = record.connected_at or time.monotonic()
    elif record.needs_context is not None and record.needs_context() is operation.handle:
        record.needs_context = None
