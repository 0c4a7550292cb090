"""ReadFile and WriteFile. They take one buffer: of several, the data is copied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from netpoll import buffers
from netpoll.backends import descriptors
from netpoll.backends.iocp import constants as win
from netpoll.backends.iocp.library import NULL, ffi
from netpoll.backends.iocp.library import handle as as_handle
from netpoll.backends.iocp.native import MAX_BUFFER, Native, address_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll.backends.iocp.library import Library
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]


def prepare_read(operation: Operation, library: Library) -> Native:
    return _prepare(operation, library, library.kernel32.ReadFile)


def prepare_write(operation: Operation, library: Library) -> Native:
    return _prepare(operation, library, library.kernel32.WriteFile)


def _prepare(operation: Operation, library: Library, call: Callable[..., int]) -> Native:
    state = operation._association.file
    assert state is not None
    descriptors.check(operation, state)
    pinned: Any = operation._pinned
    size = buffers.total(pinned)
    if size > MAX_BUFFER:
        raise ValueError(
            f"{size} bytes are more than Windows reads or writes at once ({MAX_BUFFER}); "
            f"do it in parts"
        )
    reading = descriptors.is_reading(operation)
    native = Native(_make_begin(call, library.kernel32.GetLastError, state), finish)
    if isinstance(pinned, list):
        native.area = ffi.new("char[]", size)
        native.wsabufs = native.area
    else:
        native.wsabufs = address_of(pinned, reading) if size else NULL
    return native


def _make_begin(
    call: Callable[..., int], last_error: Callable[[], int], state: descriptors.FileState
) -> Callable[[Operation, int], int]:
    def begin(operation: Operation, number: int) -> int:
        native: Native = operation._native
        offset = state.place(operation)
        native.overlapped.Offset = offset & 0xFFFFFFFF
        native.overlapped.OffsetHigh = offset >> 32
        if native.area is not None and not descriptors.is_reading(operation):
            ffi.memmove(native.area, b"".join(_views(operation)), operation._size)
        done = call(
            as_handle(number),
            native.wsabufs,
            operation._size,
            native.transferred,
            native.overlapped,
        )
        code = 0 if done else last_error()
        if code not in (0, win.ERROR_IO_PENDING):
            operation.transferred = 0
            state.settle(operation)
        return code

    return begin


def finish(operation: Operation, status: int) -> int:
    """Hand out what was read into our own memory, and find the position."""
    native: Native = operation._native
    if status:
        operation.transferred = 0
    if native.area is not None and descriptors.is_reading(operation) and operation.transferred:
        data = memoryview(ffi.buffer(native.area, operation.transferred))
        buffers.scatter(data, _views(operation))
    if operation._association.file is not None:
        operation._association.file.settle(operation)
    return status


def _views(operation: Operation) -> list[memoryview]:
    view: buffers.Pinned = operation._view
    return view if isinstance(view, list) else [view]
