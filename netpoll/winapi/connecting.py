"""ConnectEx."""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING, Any, Final

from netpoll import status as nt
from netpoll.buffers import pin
from netpoll.winapi.constants import FALSE, TRUE
from netpoll.winapi.errors import WSASetLastError
from netpoll.winapi.handles import is_socket, known
from netpoll.winapi.overlapped import OVERLAPPED
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
    data = None
    if lpSendBuffer is not None:
        view = pin(lpSendBuffer, writable=False)
        assert isinstance(view, memoryview)
        if len(view) < dwSendDataLength:
            raise ValueError(f"lpSendBuffer has {len(view)} bytes, not {dwSendDataLength}")
        data = view[:dwSendDataLength] if dwSendDataLength else None

    def begin(port: CompletionPort, operation: Operation) -> object:
        return port.connect(s, name, data=data, overlapped=operation)

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
    accepting = known(checked).accepting_now() is not None  # ACC-04
    return WSAEINVAL if accepting or not is_bound(checked) else 0


def _conclude(operation: Operation) -> None:
    assert operation.outcome is not None
    if operation.outcome[0] == nt.STATUS_SUCCESS:
        record = known(operation.handle)
        record.needs_context = record.needs_context or weakref.ref(operation.handle)
        record.connected_at = record.connected_at or time.monotonic()
