"""ReadFile and WriteFile: files and pipes of netpoll's, and sockets."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

from netpoll import File
from netpoll import status as nt
from netpoll.winapi.blocking import block
from netpoll.winapi.constants import FALSE, TRUE
from netpoll.winapi.errors import SetLastError, win32_code
from netpoll.winapi.handles import ERROR_INVALID_HANDLE, is_handle, known
from netpoll.winapi.overlapped import OVERLAPPED, first_bytes
from netpoll.winapi.starts import WSA_IO_PENDING, start

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from netpoll import CompletionPort
    from netpoll.winapi.overlapped import Operation
    from netpoll.winapi.starts import Start

ERROR_INVALID_PARAMETER: Final = nt.win32_error(nt.STATUS_INVALID_PARAMETER)
LARGEST_OFFSET: Final = 2**63 - 1


def ReadFile(
    hFile: File | socket.socket,
    lpBuffer: Buffer | None,
    nNumberOfBytesToRead: int,
    lpOverlapped: OVERLAPPED | None,
) -> tuple[int, int]:
    """Read a file from `Offset` of the OVERLAPPED on (FILE-01), a pipe, or a socket.

    :param hFile: what `netpoll.open_file` and `netpoll.pipe` give, or a socket
    :return: (TRUE, bytes read); or (FALSE, 0): 997 when the end is to come, 38 at the end of the
        file, 109 where nobody writes to the pipe any more, 87 without an OVERLAPPED, which all of
        these need but a socket that was made without WSA_FLAG_OVERLAPPED
    """

    def begin(port: CompletionPort, operation: Operation) -> object:
        view = first_bytes(lpBuffer, nNumberOfBytesToRead, writable=True)
        if isinstance(hFile, socket.socket):
            return port.recv_into(hFile, view, overlapped=operation)
        return port.read_into(
            hFile, view, offset=_offset(hFile, lpOverlapped), overlapped=operation
        )

    return _run(hFile, lpOverlapped, begin)


def WriteFile(
    hFile: File | socket.socket,
    lpBuffer: Buffer | None,
    nNumberOfBytesToWrite: int,
    lpOverlapped: OVERLAPPED | None,
) -> tuple[int, int]:
    """Write to a file from `Offset` of the OVERLAPPED on, to a pipe, or to a socket: all of it, or
    it fails. A file that was opened to append does that.

    :return: as `ReadFile`; 232 where nobody reads from the pipe any more
    """

    def begin(port: CompletionPort, operation: Operation) -> object:
        view = first_bytes(lpBuffer, nNumberOfBytesToWrite, writable=False)
        if isinstance(hFile, socket.socket):
            return port.send(hFile, view, overlapped=operation)
        return port.write(hFile, view, offset=_offset(hFile, lpOverlapped), overlapped=operation)

    return _run(hFile, lpOverlapped, begin)


def _offset(file: File, overlapped: OVERLAPPED | None) -> int | None:
    """Where in the file; a pipe has no places.

    :raises OSError: 87, there is no such place
    """
    if overlapped is None or not file.has_offsets:
        return None
    offset = overlapped.Offset & 0xFFFFFFFF | (overlapped.OffsetHigh & 0xFFFFFFFF) << 32
    if offset > LARGEST_OFFSET:
        raise nt.make_exception(nt.STATUS_INVALID_PARAMETER)
    return offset


def _run(handle: Any, overlapped: OVERLAPPED | None, begin: Start) -> tuple[int, int]:
    """Start it, or on a socket that is not overlapped wait for it; the numbers are Win32's."""
    if not is_handle(handle):
        SetLastError(ERROR_INVALID_HANDLE)
        return FALSE, 0
    if overlapped is None and known(handle).overlapped:
        SetLastError(ERROR_INVALID_PARAMETER)
        return FALSE, 0
    statuses: list[int] = []
    refused: list[int] = []

    def begin_or_tell(port: CompletionPort, operation: Operation) -> object:
        try:
            return begin(port, operation)
        except OSError as error:
            refused.append(win32_code(error))
            raise

    def conclude(operation: Operation) -> None:
        assert operation.outcome is not None
        statuses.append(operation.outcome[0])

    if overlapped is None:
        code, moved = block(handle, begin_or_tell, conclude)
    else:
        code, moved = start(handle, overlapped, begin_or_tell, conclude=conclude)
    if not code:
        return TRUE, moved
    if code != WSA_IO_PENDING:
        code = refused[0] if refused else nt.win32_error(statuses[0]) if statuses else code
    SetLastError(code)
    return FALSE, 0
