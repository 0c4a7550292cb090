"""The port of Windows, and the handles that are associated with it.

What is kept of a handle is what a kernel cannot keep: the Python object behind the key of its
packets.
"""

from __future__ import annotations

import threading
import weakref
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from netpoll import status as nt
from netpoll.backends import descriptors
from netpoll.backends.base import Association, Backend
from netpoll.backends.datagrams import check_udp
from netpoll.backends.iocp import constants as win
from netpoll.backends.iocp.library import INVALID_HANDLE_VALUE, NULL, ffi
from netpoll.backends.iocp.library import handle as as_handle
from netpoll.errors import PortClosed
from netpoll.handles import OnlyPolled, number_of

if TYPE_CHECKING:
    from netpoll.backends.base import Observer
    from netpoll.backends.iocp.functions import Handle
    from netpoll.backends.iocp.library import Library
    from netpoll.backends.iocp.polls import Polled
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]

FIRST_KEY: Final = 16
"""From here on, a key is the number of an association; for those below, see `packets.py`."""


class Socket(Association):
    """A socket that a port knows, with its number as the kernel returns it."""

    __slots__ = ("number", "polled", "pooled")

    def __init__(self, sock: Any, fd: int, number: int) -> None:
        super().__init__(sock, fd)
        self.number: int = number
        self.polled: Polled | None = None
        """Who waits for its readiness."""
        self.pooled: list[Operation] | None = None
        """Its receives from a pool; Windows works on the first."""


class Handles(Backend):
    """The kernel's port, and what it and netpoll know of handles.

    The layers above it are packets (`packets.py`), waits (`waiting.py`), ends without a packet
    (`ends.py`), starts (`starts.py`) and the port (`port.py`). They are one object, because each
    call and each look-up between two would be paid for every message.
    """

    __slots__ = (
        "__weakref__",
        "_closed",
        "_kernel32",
        "_keys",
        "_library",
        "_lock",
        "_nowhere",
        "_numbers",
        "_observer",
        "_port",
        "_sockets",
        "_sweep_at",
    )

    def __init__(self, library: Library, concurrency: int) -> None:
        """
        :raises OSError: Windows has no port for us
        """
        self._library = library
        self._kernel32 = library.kernel32
        self._lock = threading.RLock()
        self._numbers = count(FIRST_KEY)
        self._sockets: dict[int, Socket] = {}
        """By descriptor; closed ones are swept out now and then."""
        self._sweep_at = 64
        self._keys: weakref.WeakValueDictionary[int, Socket] = weakref.WeakValueDictionary()
        self._nowhere = Socket(self, -1, next(self._numbers))
        """What operations that work on no handle belong to: their packets carry no key."""
        self._nowhere.associated = True
        self._closed = False
        self._observer: Observer | None = None
        """Asked by what is not plain only: the others end in packets, which tell by themselves."""
        self._port: Handle = self._kernel32.CreateIoCompletionPort(
            INVALID_HANDLE_VALUE, NULL, 0, concurrency
        )
        if self._port == NULL:
            raise nt.make_exception(nt.from_win32(self._kernel32.GetLastError()))

    def observe(self, observer: Observer) -> None:
        self._observer = observer

    def associate(self, handle: Any, key: Any, skip_on_success: bool) -> None:
        with self._lock:
            self._check_open()
            sock = self._look_up(handle)
            win_handle = as_handle(handle.fileno())
            if not sock.associated and not isinstance(handle, OnlyPolled):
                self._bind(win_handle, sock.number)
            sock.key = key
            sock.associated = True
            # elsewhere success is reported by a packet although an inline one was asked for; a
            # program that looks at `done` sees no difference
            if skip_on_success and (sock.file or self._library.has_ifs_handles(handle)):
                modes = win.FILE_SKIP_COMPLETION_PORT_ON_SUCCESS | win.FILE_SKIP_SET_EVENT_ON_HANDLE
                sock.skip_on_success = bool(
                    self._kernel32.SetFileCompletionNotificationModes(win_handle, modes)
                )

    def association(self, handle: Any) -> Association | None:
        with self._lock:
            sock = self._sockets.get(number_of(handle))
        return sock if sock is not None and sock.handle() is handle else None

    def _bind(self, win_handle: Handle, number: int) -> None:
        if self._kernel32.CreateIoCompletionPort(win_handle, self._port, number, 0) == NULL:
            raise nt.make_exception(
                nt.from_win32(self._kernel32.GetLastError()),
                message="this handle cannot be associated with a completion port",
            )

    def _look_up(self, handle: Any) -> Socket:
        """The record of `handle`, made on first sight."""
        fd = handle.fileno()
        if fd < 0:
            raise nt.make_exception(nt.STATUS_INVALID_HANDLE, inline=True)
        sock = self._sockets.get(fd)
        if sock is None or sock.handle() is not handle:
            sock = Socket(handle, fd, next(self._numbers))
            sock.file = descriptors.state_of(handle)
            self._sockets[fd] = self._keys[sock.number] = sock
            if len(self._sockets) > self._sweep_at:
                self._sockets = {fd: each for fd, each in self._sockets.items() if each.alive()}
                self._sweep_at = 64 + 2 * len(self._sockets)
        return sock

    def shutdown(self, handle: Any, how: int) -> None:
        self._check_open()
        if handle.fileno() < 0:
            raise nt.make_exception(nt.STATUS_INVALID_HANDLE, inline=True)
        try:
            handle.shutdown(how)
        except OSError as error:
            raise nt.make_exception(nt.from_winsock(error.errno or 0), inline=True) from None

    def report_unreachable(self, handle: Any, on: bool) -> None:
        check_udp(handle)
        with self._lock:
            self._check_open()
            failed = self._library.ws2_32.WSAIoctl(
                handle.fileno(),
                win.SIO_UDP_CONNRESET,
                *(ffi.new("BOOL *", int(on)), ffi.sizeof("BOOL")),
                *(NULL, 0),
                ffi.new("DWORD *"),
                NULL,
                NULL,
            )
            if failed:
                status = nt.from_winsock(self._kernel32.GetLastError())
                raise nt.make_exception(status, inline=True)

    def _check_open(self) -> None:
        if self._closed:
            raise nt.make_exception(
                nt.STATUS_INVALID_HANDLE, kind=PortClosed, message="the port is closed"
            )
