"""Operations that work on no handle of the port's: timers, and waits for processes and events. The
watcher's thread waits for them, and posts their packets.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from netpoll import status as nt
from netpoll.backends.iocp import constants as win
from netpoll.backends.iocp.library import ffi
from netpoll.backends.iocp.library import handle as as_handle
from netpoll.backends.iocp.native import Native
from netpoll.backends.waitables import result_of

if TYPE_CHECKING:
    from netpoll.backends.iocp.functions import Handle
    from netpoll.backends.iocp.library import Library
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]


def prepare_timer(operation: Operation, library: Library) -> Native:
    native = Native(begin_timer, finish_own)
    native.known = False
    return native


def begin_timer(operation: Operation, number: int) -> int:
    """The port sets the watcher's clock, as for every operation with a time limit."""
    operation._native.overlapped.Internal = nt.STATUS_PENDING
    return win.ERROR_IO_PENDING


def finish_own(operation: Operation, status: int) -> int:
    """A posted packet has no status: it is where the port has left it."""
    native: Native = operation._native
    return native.overlapped.Internal


def prepare_wait(operation: Operation, library: Library) -> Native:
    native = Native(begin_wait, finish_wait)
    native.known = False
    return native


def begin_wait(operation: Operation, number: int) -> int:
    """Watch a duplicate of the handle: the program may close its own at any time."""
    port: Any = operation._owner
    native: Native = operation._native
    kernel32 = port._kernel32
    waited: Any = operation.handle
    name = "handle" if hasattr(waited, "handle") else "_handle"  # that of a Popen
    this, copy = kernel32.GetCurrentProcess(), ffi.new("HANDLE[]", 1)
    same = win.DUPLICATE_SAME_ACCESS
    if not kernel32.DuplicateHandle(
        this, as_handle(int(getattr(waited, name))), this, copy, 0, 0, same
    ):
        return int(kernel32.GetLastError())
    own = native.area = ffi.gc(copy[0], kernel32.CloseHandle)
    native.overlapped.Internal = nt.STATUS_PENDING
    port._watcher.when_set(native.address, own, functools.partial(_on_set, port, operation, own))
    return win.ERROR_IO_PENDING


def _on_set(port: Any, operation: Operation, own: Handle) -> None:
    """In the watcher's thread."""
    with port._lock:
        native: Native | None = operation._native
        if native is not None and native.area is own:  # and not what a later start waits for
            port.end(operation, nt.STATUS_SUCCESS)


def finish_wait(operation: Operation, status: int) -> int:
    native: Native = operation._native
    native.area = None
    if not native.overlapped.Internal:
        operation._value = result_of(operation.handle)
    return native.overlapped.Internal
