"""DisconnectEx and TransmitFile."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from netpoll.backends.iocp import constants as win
from netpoll.backends.iocp.library import NULL, ffi, handle
from netpoll.backends.iocp.native import Native, address_of

if sys.platform == "win32":
    from msvcrt import get_osfhandle
else:  # the module can be read everywhere, not used

    def get_osfhandle(fd: int, /) -> int:
        raise NotImplementedError


if TYPE_CHECKING:
    from netpoll.backends.files import FileTransfer
    from netpoll.backends.iocp.functions import Handle
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


def prepare_sendfile(operation: Operation, library: Library) -> Native:
    native = Native(begin_sendfile, finish_sendfile)
    native.mswsock = library.mswsock(operation.handle), library.kernel32.GetLastError
    transfer: FileTransfer = operation._address
    native.area = NULL
    if transfer.head or transfer.tail:
        buffers = native.area = ffi.new("TRANSMIT_FILE_BUFFERS *")
        buffers.HeadLength, buffers.TailLength = len(transfer.head), len(transfer.tail)
        if transfer.head:
            buffers.Head = address_of(transfer.head, False)
        if transfer.tail:
            buffers.Tail = address_of(transfer.tail, False)
    return native


def begin_sendfile(operation: Operation, number: int) -> int:
    native: Native = operation._native
    transfer: FileTransfer = operation._address
    transfer.open()
    native.overlapped.OffsetHigh, native.overlapped.Offset = divmod(transfer.offset, 1 << 32)
    # no bytes mean the whole file there, so nothing of a file is no file
    file: Handle = handle(get_osfhandle(transfer.fd)) if transfer.left else NULL
    mswsock, last_error = native.mswsock
    sent = mswsock.TransmitFile(number, file, transfer.left, 0, native.overlapped, native.area, 0)
    code: int = 0 if sent else last_error()
    if code not in (0, win.ERROR_IO_PENDING):
        transfer.close()
    return code


def finish_sendfile(operation: Operation, status: int) -> int:
    operation._address.close()
    return status
