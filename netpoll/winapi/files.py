"""TransmitFile and DisconnectEx."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from netpoll import status as nt
from netpoll.buffers import pin
from netpoll.winapi.constants import (
    FALSE,
    SD_SEND,
    TF_DISCONNECT,
    TF_REUSE_SOCKET,
    TF_WRITE_BEHIND,
    TRUE,
)
from netpoll.winapi.errors import WSASetLastError
from netpoll.winapi.handles import WSAENOTSOCK, is_socket
from netpoll.winapi.sockets import WSAEINVAL, shutdown
from netpoll.winapi.starts import block, start

if TYPE_CHECKING:
    import socket

    from typing_extensions import Buffer

    from netpoll import CompletionPort
    from netpoll.winapi.overlapped import OVERLAPPED, Conclude, Operation
    from netpoll.winapi.starts import Start

WSAEOPNOTSUPP: Final = nt.winsock_error(nt.STATUS_NOT_SUPPORTED)


@dataclass
class TRANSMIT_FILE_BUFFERS:
    """What TransmitFile sends before and behind the file: the first bytes of two buffers."""

    Head: Buffer | None = None
    HeadLength: int = 0
    Tail: Buffer | None = None
    TailLength: int = 0


def TransmitFile(
    hSocket: socket.socket,
    hFile: Any,
    nNumberOfBytesToWrite: int,
    nNumberOfBytesPerSend: int,
    lpOverlapped: OVERLAPPED | None,
    lpTransmitBuffers: TRANSMIT_FILE_BUFFERS | None,
    dwFlags: int,
) -> int:
    """Send a file, or its first bytes from `Offset` of the OVERLAPPED on (TXF-02). Without an
    OVERLAPPED it waits, and begins where the file's own position is.

    :param hFile: a file of Python's, open for reading; NULL for the buffers alone (TXF-01)
    :param nNumberOfBytesToWrite: 0 is all of it
    :param nNumberOfBytesPerSend: not looked at
    :param dwFlags: TF_DISCONNECT ends the stream behind it; TF_WRITE_BEHIND changes nothing
    :return: TRUE; or FALSE, with WSA_IO_PENDING when the end is to come
    """
    code = 0 if is_socket(hSocket) else WSAENOTSOCK
    if dwFlags & ~(TF_DISCONNECT | TF_REUSE_SOCKET | TF_WRITE_BEHIND):
        code = code or WSAEINVAL
    if dwFlags & TF_REUSE_SOCKET:  # TXF-04
        code = code or (WSAEOPNOTSUPP if dwFlags & TF_DISCONNECT else WSAEINVAL)
    if code:
        WSASetLastError(code)
        return FALSE
    buffers = lpTransmitBuffers or TRANSMIT_FILE_BUFFERS()
    head = _first(buffers.Head, buffers.HeadLength)
    tail = _first(buffers.Tail, buffers.TailLength)
    if lpOverlapped is not None:
        offset = lpOverlapped.Offset | lpOverlapped.OffsetHigh << 32
    else:
        offset = 0 if hFile is None else hFile.tell()
    count = None if hFile is None else nNumberOfBytesToWrite or None

    def begin(port: CompletionPort, operation: Operation) -> object:
        return port.sendfile(
            hSocket,
            hFile,
            offset=0 if hFile is None else offset,
            count=count,
            head=head,
            tail=tail,
            overlapped=operation,
        )

    def disconnect(operation: Operation) -> None:
        if operation.outcome is not None and not operation.outcome[0]:
            shutdown(hSocket, SD_SEND)

    return _run(hSocket, lpOverlapped, begin, disconnect if dwFlags & TF_DISCONNECT else None)


def _first(buffer: Buffer | None, length: int) -> Buffer:
    if buffer is None:
        return b""
    view = pin(buffer, writable=False)
    assert isinstance(view, memoryview)
    if len(view) < length:
        raise ValueError(f"a buffer of {len(view)} bytes is shorter than {length}")
    return view[:length]


def DisconnectEx(
    hSocket: socket.socket, lpOverlapped: OVERLAPPED | None, dwFlags: int, dwReserved: int
) -> int:
    """End this side of a connection behind the sends that are pending (DIS-03). Without an
    OVERLAPPED it waits, and can be repeated (DIS-02).

    :param dwFlags: 0; TF_REUSE_SOCKET on Windows only, elsewhere it is 10045 (DIS-04)
    :return: TRUE; or FALSE, with WSA_IO_PENDING when the end is to come; 10057 for a socket that is
        not connected, 10022 for another flag (DIS-01)
    """
    code = 0 if is_socket(hSocket) else WSAENOTSOCK
    if dwReserved or dwFlags & ~TF_REUSE_SOCKET:
        code = code or WSAEINVAL
    if code:
        WSASetLastError(code)
        return FALSE

    def begin(port: CompletionPort, operation: Operation) -> object:
        return port.disconnect(hSocket, reuse=bool(dwFlags), overlapped=operation)

    return _run(hSocket, lpOverlapped, begin, None)


def _run(
    sock: socket.socket, overlapped: OVERLAPPED | None, begin: Start, conclude: Conclude | None
) -> int:
    """A call that answers with a BOOL and nothing else."""
    if overlapped is None:
        code, _ = block(sock, begin, conclude)
    else:
        code, _ = start(sock, overlapped, begin, conclude=conclude)
    if code:
        WSASetLastError(code)
    return FALSE if code else TRUE
