"""What backends share of files and pipes: the position of a file, and what POSIX failures mean."""

from __future__ import annotations

import errno
import os
import socket
import threading
from typing import TYPE_CHECKING, Any, Final

from netpoll import status as nt
from netpoll.files import File, is_seekable
from netpoll.handles import number_of
from netpoll.overlapped import FILES, Opcode, Overlapped

if TYPE_CHECKING:
    Operation = Overlapped[Any]

_os: Any = os
"""For names that Windows does not have."""
LARGEST_OFFSET: Final = 2**63 - 1
MOST_BYTES: Final = 0x7FFFF000
"""What one system call of Linux moves at most, however much there is."""


class FileState:
    """What has to be remembered of a handle that is no socket."""

    __slots__ = ("_lock", "_position", "has_offsets")

    def __init__(self, has_offsets: bool) -> None:
        self.has_offsets: bool = has_offsets
        """Whether it is a file, and not a pipe."""
        self._lock = threading.Lock()
        self._position = 0

    def place(self, operation: Operation) -> int:
        """Where a start is to work: where it was told to, or behind the last that was not told
        (EMU-35). That counts as done at once, so that several may be under way.

        :raises OSError: 87, it would go beyond the largest offset that there is
        """
        offset: int | None = operation._address
        if offset is not None and offset + operation._size > LARGEST_OFFSET:
            # here, because not every system says so at the call
            operation._final = nt.STATUS_INVALID_PARAMETER
            raise nt.make_exception(
                nt.STATUS_INVALID_PARAMETER,
                message=f"{operation._size} bytes from {offset} on end beyond any file",
            )
        if offset is None and self.has_offsets:
            with self._lock:
                offset = self._position
                self._position += operation._size
        operation._value = offset or 0
        return offset or 0

    def settle(self, operation: Operation) -> None:
        """It has ended: what it did not move of what it counted is to be moved yet, if nobody has
        gone on from there."""
        missing = operation._size - operation.transferred
        if not missing or operation._address is not None or not self.has_offsets:
            return
        with self._lock:
            if self._position == operation._value + operation._size:
                self._position -= missing


def state_of(handle: Any) -> FileState | None:
    """`None` of a socket."""
    if isinstance(handle, socket.socket):
        return None
    if isinstance(handle, File):
        return FileState(handle.has_offsets)
    if os.name == "nt":
        return FileState(False)  # what a wait of ours is told by
    number = number_of(handle)
    return FileState(number >= 0 and is_seekable(number))


def check(operation: Operation, state: FileState | None) -> None:
    """
    :raises OSError: an offset in a pipe (87)
    """
    if operation._address is not None and not (state is not None and state.has_offsets):
        raise nt.make_exception(
            nt.STATUS_INVALID_PARAMETER,
            message="a pipe has no offsets: leave offset out",
        )


def fail(operation: Operation, number: int) -> None:
    """End `operation` with what the system said, an errno."""
    operation.transferred = 0
    if number == errno.EPIPE:
        operation._final = nt.STATUS_PIPE_CLOSING
    elif number == errno.EBADF:  # open, but not for this
        closed = number_of(operation.handle) < 0
        operation._final = status_of_close(operation) if closed else nt.STATUS_ACCESS_DENIED
    else:
        operation._final = nt.from_errno(number)


def finish_read(operation: Operation, moved: int) -> None:
    """End a read that got so much: nothing is the end of the file (EMU-28) or of the pipe."""
    operation.transferred = moved
    operation._final = nt.STATUS_SUCCESS
    if not moved and operation._size:
        at_end = is_positioned(operation)
        operation._final = nt.STATUS_END_OF_FILE if at_end else nt.STATUS_PIPE_BROKEN


def status_of_close(operation: Operation) -> int:
    """How a transfer ends when its handle is closed under it: on a pipe as if the other end were
    (PIPE-03)."""
    file = operation._association.file
    pipe = file is not None and not file.has_offsets and operation.opcode in FILES
    return nt.STATUS_PIPE_BROKEN if pipe else nt.STATUS_CANCELLED


def unblock(number: int) -> None:
    """Have no system call on a pipe wait, also where somebody has changed that since (XFER-05)."""
    if _os.get_blocking(number):
        _os.set_blocking(number, False)


def is_positioned(operation: Operation) -> bool:
    """Whether it works at an offset, and needs no turn."""
    file = operation._association.file
    return file is not None and file.has_offsets and operation.opcode in FILES


def is_reading(operation: Operation) -> bool:
    return operation.opcode is Opcode.READ_INTO
