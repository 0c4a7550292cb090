"""Completion ports, their packets, and cancellation."""

from __future__ import annotations

import math
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from netpoll import CompletionPort as Port
from netpoll import File, Overlapped
from netpoll import status as nt
from netpoll.winapi import constants as c
from netpoll.winapi.errors import SetLastError, win32_code
from netpoll.winapi.handles import ERROR_INVALID_HANDLE, association_of, is_handle, known, port_of
from netpoll.winapi.overlapped import OVERLAPPED, OVERLAPPED_ENTRY, Operation, see_end
from netpoll.winapi.starts import routines_ran
from netpoll.winapi.waits import SLICE, progress_routines, seconds

if TYPE_CHECKING:
    from netpoll import Completion

ERROR_INVALID_PARAMETER: Final = nt.win32_error(nt.STATUS_INVALID_PARAMETER)
ERROR_NOT_FOUND: Final = nt.win32_error(nt.STATUS_NOT_FOUND)

Packet = tuple[int, int, Any, Any]


def CreateIoCompletionPort(
    FileHandle: socket.socket | File | int,
    ExistingCompletionPort: Port | None,
    CompletionKey: Any,
    NumberOfConcurrentThreads: int,
) -> Port | None:
    """Make a port (INVALID_HANDLE_VALUE, NULL), or bind a handle to one, or both (PORT-03).

    :param FileHandle: a socket, or a file or a pipe of `netpoll.open_file` and `netpoll.pipe`
    :return: the port, a `netpoll.CompletionPort` on the configured backend; or NULL: 87 for a
        socket that has a port already (ASSOC-01) or cannot have one (ASSOC-02), 6 for a closed one
        (ASSOC-03)
    """
    existing: Any = ExistingCompletionPort or c.NULL  # 0 is NULL in C
    if FileHandle == c.INVALID_HANDLE_VALUE and existing is not None:  # PORT-02
        SetLastError(ERROR_INVALID_PARAMETER)
        return c.NULL
    if existing is not None and not (isinstance(existing, Port) and existing._is_open):
        SetLastError(ERROR_INVALID_HANDLE)
        return c.NULL
    try:
        port = existing or Port(concurrency=NumberOfConcurrentThreads & 0xFFFFFFFF)
    except OSError as error:
        SetLastError(win32_code(error))
        return c.NULL
    if FileHandle == c.INVALID_HANDLE_VALUE:
        return port
    code = _associate(FileHandle, port, CompletionKey)
    if code:
        SetLastError(code)
        if port is not existing:
            port.close()
        return c.NULL
    return port


def _is_overlapped(handle: object) -> bool:
    """Whether overlapped operations work on what it is, open or not."""
    return isinstance(handle, (socket.socket, File))


def _associate(handle: Any, port: Port, key: Any) -> int:
    """The Win32 code; 0 is success."""
    if not _is_overlapped(handle):
        return ERROR_INVALID_PARAMETER if hasattr(handle, "fileno") else ERROR_INVALID_HANDLE
    if not is_handle(handle):
        return ERROR_INVALID_HANDLE
    record = known(handle)
    if not record.overlapped:
        return ERROR_INVALID_PARAMETER
    try:
        skip = bool(record.modes & c.FILE_SKIP_COMPLETION_PORT_ON_SUCCESS)
        port.associate(handle, key, skip_on_success=skip)
    except OSError as error:
        return win32_code(error)
    record.port = port
    return 0


def SetFileCompletionNotificationModes(FileHandle: Any, Flags: int) -> int:
    """Add modes to a socket: FILE_SKIP_COMPLETION_PORT_ON_SUCCESS (MODE-03) and
    FILE_SKIP_SET_EVENT_ON_HANDLE (MODE-07). None can be taken away again (MODE-01).

    :return: TRUE; or FALSE, 87 for what is not overlapped (MODE-02), 6 for a closed handle
    """
    if not is_handle(FileHandle):
        is_file = hasattr(FileHandle, "fileno") and not _is_overlapped(FileHandle)
        SetLastError(ERROR_INVALID_PARAMETER if is_file else ERROR_INVALID_HANDLE)
        return c.FALSE
    record = known(FileHandle)
    if not record.overlapped:
        SetLastError(ERROR_INVALID_PARAMETER)
        return c.FALSE
    added = Flags & ~record.modes
    record.modes |= Flags
    port, association = association_of(FileHandle)
    if added & c.FILE_SKIP_COMPLETION_PORT_ON_SUCCESS and port is not None and association:
        try:
            port._backend.associate(FileHandle, association.key, True)
        except OSError as error:
            SetLastError(win32_code(error))
            return c.FALSE
    return c.TRUE


# -- packets ---------------------------------------------------------------------------------------


def GetQueuedCompletionStatus(CompletionPort: Port, dwMilliseconds: int) -> Packet:
    """Take one packet.

    :return: (ok, bytes transferred, key, OVERLAPPED). TRUE: an operation that succeeded, or a
        posted packet. FALSE with an OVERLAPPED: an operation that failed, the last error says how.
        FALSE with NULL: 258 on timeout, 735 when the port was closed, 6 when it is no port
        (PORT-15)
    """
    taken, code = _dequeue(CompletionPort, 1, dwMilliseconds, alertable=False)
    if not taken:
        SetLastError(code)
        return c.FALSE, 0, 0, c.NULL
    entry = taken[0]
    if not nt.is_success(entry.Internal):
        SetLastError(nt.win32_error(entry.Internal))
        ok = c.FALSE
    else:
        ok = c.TRUE  # and the last error stays as it was (PORT-12)
    return ok, entry.dwNumberOfBytesTransferred, entry.lpCompletionKey, entry.lpOverlapped


def GetQueuedCompletionStatusEx(
    CompletionPort: Port, ulCount: int, dwMilliseconds: int, fAlertable: int
) -> tuple[int, list[OVERLAPPED_ENTRY]]:
    """Take up to `ulCount` packets, and never wait for more than the first (PORT-21).

    :return: (TRUE, the packets), also when all of the operations have failed (PORT-23); or FALSE,
        with 258 on timeout, 192 when completion routines ran instead (PORT-24), 735 or 6
    """
    ulCount &= 0xFFFFFFFF
    if not ulCount:
        SetLastError(ERROR_INVALID_PARAMETER)
        return c.FALSE, []
    taken, code = _dequeue(CompletionPort, ulCount, dwMilliseconds, alertable=bool(fAlertable))
    if not taken:
        SetLastError(code)
        return c.FALSE, []
    return c.TRUE, taken


def _dequeue(
    port: Any, limit: int, milliseconds: int, *, alertable: bool
) -> tuple[list[OVERLAPPED_ENTRY], int]:
    """The packets; or none, and the Win32 code."""
    if not isinstance(port, Port):
        return [], ERROR_INVALID_HANDLE
    before = routines_ran()
    try:
        if alertable:
            taken = _dequeue_alertably(port, limit, seconds(milliseconds))
        else:
            taken = port.get_many(limit, seconds(milliseconds))
    except OSError as error:
        return [], win32_code(error)
    if not taken:
        ran = routines_ran() != before
        return [], c.WAIT_IO_COMPLETION if ran else c.WAIT_TIMEOUT
    return [_entry(completion) for completion in taken], 0


def _dequeue_alertably(port: Port, limit: int, timeout: float | None) -> list[Completion]:
    """Operations with routines go through a port of their own: let that one progress as well
    (EMU-11)."""
    before = routines_ran()
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    while True:
        left = deadline - time.monotonic()
        expecting = progress_routines()
        turn = None if left == math.inf else max(0.0, left)
        if expecting:
            turn = max(0.0, min(left, SLICE))
        taken = port.get_many(limit, turn, alertable=True)
        if taken or routines_ran() != before or left <= 0:
            return taken


def _entry(completion: Completion) -> OVERLAPPED_ENTRY:
    operation = completion.overlapped
    if not isinstance(operation, Operation):  # posted, or started in another way
        status, moved = completion.status, completion.transferred
        return OVERLAPPED_ENTRY(completion.key, operation, status, moved)
    status, moved = see_end(operation)
    return OVERLAPPED_ENTRY(completion.key, operation.owner, status, moved)


def PostQueuedCompletionStatus(
    CompletionPort: Port,
    dwNumberOfBytesTransferred: int,
    dwCompletionKey: Any,
    lpOverlapped: Any,
) -> int:
    """Queue a packet. Key and OVERLAPPED may be anything, which nobody looks at (PORT-26); the
    bytes are a DWORD (PORT-27).

    :return: TRUE; or FALSE, 6: the port is closed
    """
    port: Any = CompletionPort
    if not isinstance(port, Port):
        SetLastError(ERROR_INVALID_HANDLE)
        return c.FALSE
    try:
        port.post(dwNumberOfBytesTransferred & 0xFFFFFFFF, dwCompletionKey, lpOverlapped)
    except OSError as error:
        SetLastError(win32_code(error))
        return c.FALSE
    return c.TRUE


# -- cancellation ----------------------------------------------------------------------------------


def CancelIoEx(hFile: socket.socket | File, lpOverlapped: OVERLAPPED | None) -> int:
    """Ask one operation on a handle to stop, or all of them with NULL, whatever thread started them
    (CAN-01). How each ends is in its completion.

    :return: TRUE; or FALSE: 1168 for nothing to cancel (CAN-02), 6 for a closed handle
    """
    if not is_handle(hFile):
        SetLastError(ERROR_INVALID_HANDLE)
        return c.FALSE
    if not _cancel(hFile, lpOverlapped):
        SetLastError(ERROR_NOT_FOUND)
        return c.FALSE
    return c.TRUE


def _cancel(sock: Any, overlapped: Any) -> bool:
    try:
        if overlapped is None:
            return port_of(sock).cancel(sock)
    except OSError:
        return False  # the port is closed, and everything on it has ended
    if not isinstance(overlapped, OVERLAPPED):
        return False
    operation = overlapped._operation
    return operation is not None and operation.handle is sock and operation.cancel()


def CancelIo(hFile: socket.socket | File) -> int:
    """Ask the operations on a handle to stop that the calling thread started (CAN-01).

    :return: TRUE, also if there was nothing (CAN-04); or FALSE, 6
    """
    if not is_handle(hFile):
        SetLastError(ERROR_INVALID_HANDLE)
        return c.FALSE
    handle: Any = hFile
    me = threading.get_ident()
    for each in port_of(handle).inflight():
        operation: Overlapped[Any] = each.overlapped
        if each.handle is hFile and isinstance(operation, Operation) and operation.thread == me:
            operation.cancel()
    return c.TRUE
