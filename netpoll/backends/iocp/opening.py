"""Files and pipes of Windows, opened for overlapped operations."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Final

from netpoll.backends.iocp import constants as win
from netpoll.backends.iocp.library import INVALID_HANDLE_VALUE, NULL, ffi, handle, load, wide

if TYPE_CHECKING:
    from netpoll.backends.iocp.functions import Handle

SHARED: Final = win.FILE_SHARE_READ | win.FILE_SHARE_WRITE | win.FILE_SHARE_DELETE
"""As on POSIX, where everybody may open, write and delete what is open here."""
PIPE_BUFFER: Final = 65536
"""Bytes, as a pipe of Linux has."""
DISPOSITIONS: Final = {
    "r": win.OPEN_EXISTING,
    "w": win.CREATE_ALWAYS,
    "x": win.CREATE_NEW,
    "a": win.OPEN_ALWAYS,
}
_numbers = itertools.count()


def open_file(path: str, mode: str) -> tuple[int, bool]:
    """The HANDLE, and whether it is a file's and not a pipe's or a terminal's.

    :raises OSError: it cannot be opened
    """
    writing = win.FILE_APPEND_DATA if mode[0] == "a" else win.GENERIC_WRITE
    access = win.GENERIC_READ if mode == "r" else writing
    if "+" in mode:
        access |= win.GENERIC_READ | writing
    disposition = DISPOSITIONS[mode[0]]
    if mode == "r+":
        disposition = win.OPEN_EXISTING
    opened = _create(path, access, SHARED, disposition)
    is_file = load().kernel32.GetFileType(opened) == win.FILE_TYPE_DISK
    return _number(opened), is_file


def open_pipe() -> tuple[int, int]:
    """The HANDLE to read from, and the one to write to. An anonymous pipe of Windows knows no
    overlapped operations, so it is a named one that nobody else can open.

    :raises OSError: there is none to be had
    """
    name = rf"\\.\pipe\netpoll-{os.getpid()}-{next(_numbers)}-{os.urandom(8).hex()}"
    near = load().kernel32.CreateNamedPipeW(
        wide(name),
        win.PIPE_ACCESS_INBOUND | win.FILE_FLAG_OVERLAPPED | win.FILE_FLAG_FIRST_PIPE_INSTANCE,
        win.PIPE_REJECT_REMOTE_CLIENTS,  # and of bytes, which is 0
        1,
        *(PIPE_BUFFER, PIPE_BUFFER),
        0,
        NULL,
    )
    _check(near)
    try:
        far = _create(name, win.GENERIC_WRITE, 0, win.OPEN_EXISTING)
    except BaseException:
        close(_number(near))
        raise
    return _number(near), _number(far)


def close(number: int) -> None:
    load().kernel32.CloseHandle(handle(number))


def _create(path: str, access: int, share: int, disposition: int) -> Handle:
    opened = load().kernel32.CreateFileW(
        wide(path), access, share, NULL, disposition, win.FILE_FLAG_OVERLAPPED, NULL
    )
    _check(opened, path)
    return opened


def _check(opened: Handle, path: str = "") -> None:
    if opened == INVALID_HANDLE_VALUE:
        # what open() raises, of the class that the number selects
        raise OSError(0, "it cannot be opened", path or None, load().kernel32.GetLastError())


def _number(opened: Handle) -> int:
    return int(ffi.cast("ULONG_PTR", opened))
