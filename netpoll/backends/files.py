"""What a `sendfile` sends, and how far it is; the way to send it that engines share.

The operation works on a file of its own: the same file opened or duplicated at its start. So it
does not matter when the program closes its file, or whose the number is by then, and the program's
position is left alone.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from typing import TYPE_CHECKING, Any, Final

from netpoll import status as nt
from netpoll.backends import sockets
from netpoll.backends.queues import BLOCKED, DONE
from netpoll.backends.sockets import DONTWAIT, NOSIGNAL
from netpoll.files import File
from netpoll.finalizers import finalizer

if TYPE_CHECKING:
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]

MOST: Final = 2**31 - 2
"""Bytes that one TransmitFile sends, head and tail included (TXF-04)."""
TURN: Final = 4 << 20
"""Bytes that one transfer moves in one turn; then the others have theirs."""
COPIED: Final = 256 << 10
"""Bytes read at a time where the system does not send from a file by itself."""
_os: Any = os
"""For names that are declared on some systems only."""
_NOT_BY_THE_SYSTEM: Final = frozenset(
    getattr(errno, name) for name in ("EINVAL", "ENOSYS", "ENOTSUP", "EOPNOTSUPP", "ENOTSOCK")
)
"""What `os.sendfile` says of a file system, or a kind of socket, that it does not work on."""
_MORE: Final[int] = getattr(socket, "MSG_MORE", 0)


class FileTransfer:
    """The arguments of a `sendfile`, and while it is under way, what is left of it."""

    __slots__ = (
        "_by_system",
        "_head",
        "_tail",
        "count",
        "fd",
        "file",
        "head",
        "left",
        "moved",
        "offset",
        "tail",
    )

    def __init__(
        self, file: Any, offset: int, count: int | None, head: memoryview, tail: memoryview
    ) -> None:
        self.file: Any = file
        self.offset: int = offset
        self.count: int | None = count
        self.head: memoryview = head
        self.tail: memoryview = tail
        self.fd: int = -1
        """The operation's own, while it is under way."""
        self.left: int = 0
        """Bytes of the file that are still to be sent."""
        self.moved: int = 0
        """Bytes that are out, those of the head among them."""

    def open(self) -> None:
        """Take the file as it is now, for one start.

        :raises OSError: it is no regular file, not open for reading, or the transfer lies outside
            of it or is too large (TXF-04)
        :raises ValueError: it is closed
        """
        self.close()
        file = self.file
        self.left = 0 if file is None else self._available()
        if len(self.head) + self.left + len(self.tail) > MOST:
            raise _invalid(
                f"one sendfile sends {MOST} bytes at most (TXF-04); "
                f"send this file in parts, with offset= and count="
            )
        if file is not None and self.left:
            self.fd = open_again(file)
        self.moved = 0
        self._head, self._tail = self.head, self.tail
        self._by_system = hasattr(os, "sendfile")

    def _available(self) -> int:
        if self.file.fileno() < 0:
            raise ValueError("the file is closed")
        try:
            known = stat_of(self.file)
        except OSError as error:
            raise nt.make_exception(nt.from_errno(error.errno or 0)) from error
        if not stat.S_ISREG(known.st_mode):
            raise nt.make_exception(
                nt.STATUS_NOT_SUPPORTED,
                inline=True,
                message="sendfile sends regular files; read anything else, and send() it",
            )
        if not _is_readable(self.file):
            raise nt.make_exception(
                nt.STATUS_ACCESS_DENIED, inline=True, message="the file is not open for reading"
            )
        available = known.st_size - self.offset
        if available < 0:
            raise _invalid(f"offset {self.offset} is outside the file of {known.st_size} bytes")
        return available if self.count is None else min(self.count, available)

    def close(self) -> None:
        """Let go of the file."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    @finalizer
    def __del__(self) -> None:
        self.close()

    def send_on(self, sock: socket.socket) -> bool:
        """Send more, as long as nothing blocks and it is fair; whether that was all.

        :raises OSError: of the socket or of the file
        """
        if sock.gettimeout() != 0.0:
            sock.setblocking(False)  # somebody changed it (XFER-05)
        flags = DONTWAIT | NOSIGNAL
        while self._head:
            more = _MORE if self.left or self._tail else 0
            moved = sock.send(self._head, flags | more)
            self._head = self._head[moved:]
            self.moved += moved
        allowed = TURN
        while self.left:
            if allowed <= 0:
                return False
            moved = self._send_file(sock, min(self.left, allowed))
            if not moved:
                return True  # it has become shorter: the transfer ends with it, and tells so
            self.left -= moved
            self.moved += moved
            allowed -= moved
        while self._tail:
            moved = sock.send(self._tail, flags)
            self._tail = self._tail[moved:]
            self.moved += moved
        return True

    def _send_file(self, sock: socket.socket, size: int) -> int:
        position = self.offset + self.moved - len(self.head)
        if self._by_system:
            try:
                return int(_os.sendfile(sock.fileno(), self.fd, position, size))
            except OSError as error:
                if error.errno not in _NOT_BY_THE_SYSTEM:
                    raise
                self._by_system = False
        return sock.send(read_at(self.fd, min(size, COPIED), position), DONTWAIT | NOSIGNAL)


def send_on(operation: Operation) -> int:
    """One try of a `sendfile`, an outcome of `queues`; the socket may be writable."""
    transfer: FileTransfer = operation._address
    try:
        all_of_it = transfer.send_on(operation.handle)
    except BlockingIOError:
        return BLOCKED
    except OSError as error:
        transfer.close()
        sockets.fail(operation, error.errno or errno.EIO)
        return DONE
    if not all_of_it:
        return BLOCKED
    transfer.close()
    operation.transferred = transfer.moved
    operation._final = 0
    return DONE


def _invalid(message: str) -> OSError:
    return nt.make_exception(nt.STATUS_INVALID_PARAMETER, inline=True, message=message)


if sys.platform == "win32":
    import ctypes
    import msvcrt

    _kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    _kernel32.ReOpenFile.restype = ctypes.c_void_p
    _kernel32.ReOpenFile.argtypes = (
        *(ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_uint32),
    )
    _GENERIC_READ: Final = 0x80000000
    _FILE_SHARE_ALL: Final = 7
    _FILE_FLAG_SEQUENTIAL_SCAN: Final = 0x08000000
    _INVALID_HANDLE: Final = ctypes.c_void_p(-1).value

    def open_again(file: Any) -> int:
        """Another descriptor of the same file, with a position of its own (ReOpenFile): on
        Windows every read moves the position that duplicates share, wherever it reads.

        :raises OSError: the file is gone, or shared with nobody
        """
        number = file.fileno()
        handle = _kernel32.ReOpenFile(
            number if isinstance(file, File) else msvcrt.get_osfhandle(number),
            *(_GENERIC_READ, _FILE_SHARE_ALL, _FILE_FLAG_SEQUENTIAL_SCAN),
        )
        if handle == _INVALID_HANDLE:
            raise nt.make_exception(nt.from_win32(ctypes.get_last_error()), inline=True)
        return msvcrt.open_osfhandle(handle, os.O_RDONLY | os.O_BINARY)

    def stat_of(file: Any) -> os.stat_result:
        if not isinstance(file, File):
            return os.fstat(file.fileno())
        fd = open_again(file)
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def read_at(fd: int, size: int, position: int) -> bytes:
        """Read at a position of the operation's own file."""
        os.lseek(fd, position, os.SEEK_SET)
        return os.read(fd, size)

    def _is_readable(file: Any) -> bool:
        return not hasattr(file, "readable") or bool(file.readable())

else:
    import fcntl

    def open_again(file: Any) -> int:
        """Another descriptor of the same file. What sends from it names the place, so the position
        that duplicates share stays as it is."""
        return os.dup(file.fileno())

    def stat_of(file: Any) -> os.stat_result:
        return os.fstat(file.fileno())

    def read_at(number: int, size: int, offset: int, /) -> bytes:
        return os.pread(number, size, offset)

    def _is_readable(file: Any) -> bool:
        mode = fcntl.fcntl(file.fileno(), fcntl.F_GETFL) & os.O_ACCMODE
        return mode != os.O_WRONLY
