"""DisconnectEx."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from netpoll.backends.iocp.native import Native

if TYPE_CHECKING:
    from netpoll.backends.iocp.library import Library
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]


def prepare_disconnect(operation: Operation, library: Library) -> Native:
    native = Native(begin_disconnect)
    native.mswsock = library.mswsock(operation.handle), library.kernel32.GetLastError
    return native


def begin_disconnect(operation: Operation, number: int) -> int:
    native: Native = operation._native
    mswsock, last_error = native.mswsock
    ended = mswsock.DisconnectEx(number, native.overlapped, operation.flags, 0)
    return 0 if ended else last_error()
