"""TransmitFile and DisconnectEx."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from netpoll import status as nt
from netpoll.handles import number_of
from netpoll.winapi.blocking import block
from netpoll.winapi.constants import (
    FALSE,
    SD_SEND,
    TF_DISCONNECT,
    TF_REUSE_SOCKET,
    TF_USE_KERNEL_APC,
    TF_USE_SYSTEM_THREAD,
    TF_WRITE_BEHIND,
    TRUE,
)
from netpoll.winapi.errors import WSASetLastError
from netpoll.winapi.handles import WSAENOTSOCK, is_socket
from netpoll.winapi.overlapped import first_bytes
from netpoll.winapi.sockets import WSAEINVAL
from netpoll.winapi.starts import start

if TYPE_CHECKING:
    import socket

    from typing_extensions import Buffer

    from netpoll import CompletionPort
    from netpoll.winapi.overlapped import OVERLAPPED, Operation
    from netpoll.winapi.starts import Start

IGNORED: Final = TF_WRITE_BEHIND | TF_USE_SYSTEM_THREAD | TF_USE_KERNEL_APC
"""Flags that make no difference here."""
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
    :param dwFlags: TF_DISCONNECT has the end of the stream go out behind it; TF_WRITE_BEHIND and
        the flags that name a thread (16, 32) change nothing
    :return: TRUE; or FALSE, with WSA_IO_PENDING when the end is to come; 10038 for a closed file
    """
    code = 0 if is_socket(hSocket) else WSAENOTSOCK
    if dwFlags & ~(TF_DISCONNECT | TF_REUSE_SOCKET | IGNORED):
        code = code or WSAEINVAL
    if dwFlags & TF_REUSE_SOCKET:  # TXF-04
        code = code or (WSAEOPNOTSUPP if dwFlags & TF_DISCONNECT else WSAEINVAL)
    if hFile is not None and not (hasattr(hFile, "fileno") and number_of(hFile) >= 0):
        code = code or WSAENOTSOCK
    if code:
        WSASetLastError(code)
        return FALSE
    buffers = lpTransmitBuffers or TRANSMIT_FILE_BUFFERS()

    def begin(port: CompletionPort, operation: Operation) -> None:
        if hFile is None:
            offset = 0
        elif lpOverlapped is None:
            offset = hFile.tell()
        else:
            low, high = lpOverlapped.Offset, lpOverlapped.OffsetHigh
            offset = low & 0xFFFFFFFF | (high & 0xFFFFFFFF) << 32
        port.sendfile(
            hSocket,
            hFile,
            offset=offset,
            count=None if hFile is None else nNumberOfBytesToWrite & 0xFFFFFFFF or None,
            head=first_bytes(buffers.Head, buffers.HeadLength, writable=False),
            tail=first_bytes(buffers.Tail, buffers.TailLength, writable=False),
            overlapped=operation,
        )
        if dwFlags & TF_DISCONNECT:
            # what is started has its own end: the connection may be gone, or closed, already
            with contextlib.suppress(OSError):
                port.shutdown(hSocket, SD_SEND)

    return _run(hSocket, lpOverlapped, begin)


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

    return _run(hSocket, lpOverlapped, begin)


def _run(sock: socket.socket, overlapped: OVERLAPPED | None, begin: Start) -> int:
    """A call that answers with a BOOL and nothing else."""
    code, _ = block(sock, begin) if overlapped is None else start(sock, overlapped, begin)
    if code:
        WSASetLastError(code)
    return FALSE if code else TRUE
