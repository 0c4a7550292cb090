"""Readiness of a socket by the AFD driver, on which select() itself stands (LIB-03, LIB-04).

One request of a socket at a time: of two, Windows mixes the answers up. So the polls of a socket
share one, which is asked anew when it does not cover them all. It is not documented by Microsoft;
wepoll, libuv, mio and trio rely on it.
"""

from __future__ import annotations

import selectors
import struct
from typing import TYPE_CHECKING, Any, Final, cast

from netpoll import status as nt
from netpoll.backends.iocp import constants as win
from netpoll.backends.iocp.alone import finish_own
from netpoll.backends.iocp.library import INVALID_HANDLE_VALUE, NULL, ffi, wide
from netpoll.backends.iocp.native import Native

if TYPE_CHECKING:
    from netpoll.backends.iocp.functions import LPDWORD, LPOVERLAPPED, Handle, Memory
    from netpoll.backends.iocp.handles import Socket
    from netpoll.backends.iocp.library import Library
    from netpoll.backends.iocp.packets import PacketQueue
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]

DEVICE: Final = r"\\.\GLOBALROOT\Device\Afd\netpoll"
IOCTL_AFD_POLL: Final = 0x12024
INFO: Final = struct.Struct("qIIPIi0q")
"""AFD_POLL_INFO for one socket: time limit, how many, exclusive; the socket, events, status."""
FOR_EVER: Final = 2**63 - 1
MOST_REQUESTS: Final = 500
"""Of one device handle: the time that a cancel takes grows with them (trio's measurement)."""

RECEIVE, SEND, DISCONNECT, ABORT, LOCAL_CLOSE, ACCEPT, CONNECT_FAIL = 1, 4, 8, 16, 32, 128, 256
READABLE: Final = RECEIVE | DISCONNECT | ABORT | ACCEPT | CONNECT_FAIL
WRITABLE: Final = SEND | ABORT | CONNECT_FAIL


class Request:
    """What AFD is asked about one socket, for all of its polls."""

    __slots__ = ("address", "device", "info", "mask", "overlapped", "polled", "returned")

    def __init__(self, polled: Polled, device: Device, mask: int, number: int) -> None:
        self.polled: Polled = polled
        self.device: Device = device
        self.mask: int = mask
        self.overlapped: LPOVERLAPPED = ffi.new("OVERLAPPED *")
        self.address: int = int(ffi.cast("ULONG_PTR", self.overlapped))
        self.returned: LPDWORD = ffi.new("DWORD *")
        self.info: Memory = ffi.new("char[]", INFO.size)
        INFO.pack_into(ffi.buffer(self.info), 0, FOR_EVER, 1, 0, number, mask, 0)

    def events(self) -> int:
        """What AFD has answered."""
        _, sockets, _, _, events, _ = INFO.unpack_from(ffi.buffer(self.info))
        return int(events) if sockets else 0


class Polled:
    """The polls of one socket."""

    __slots__ = ("base", "request", "waiting")

    def __init__(self, base: int) -> None:
        self.base: int = base
        self.request: Request | None = None
        self.waiting: list[Operation] = []


class Device:
    """A handle of the AFD driver, and how many requests it works on."""

    __slots__ = ("handle", "requests")

    def __init__(self, handle: Handle) -> None:
        self.handle: Handle = handle
        self.requests: int = 0


class Polls:
    """The requests of one port. Every method is called with the port's lock held."""

    def __init__(self, port: PacketQueue, library: Library) -> None:
        self._port = port
        self._library = library
        self._devices: list[Device] = []
        self._requests: dict[int, Request] = {}
        """What AFD works on, by the address of its OVERLAPPED."""

    @property
    def busy(self) -> bool:
        """Whether AFD has anything of ours."""
        return bool(self._requests)

    def add(self, operation: Operation, sock: Socket, number: int) -> int:
        """Wait for the readiness of a socket; 997, or the number of what went wrong."""
        polled = sock.polled
        if polled is None or not polled.waiting:
            polled = sock.polled = polled or Polled(0)
            polled.base = self._library.base_handle(number)
        polled.waiting.append(operation)
        code = self._ask(polled)
        if code != win.ERROR_IO_PENDING:
            self.forget(operation)
        return code

    def forget(self, operation: Operation) -> None:
        """It has ended, or is to."""
        polled = cast("Socket", operation._association).polled
        if polled is None:
            return
        polled.waiting[:] = [each for each in polled.waiting if each is not operation]
        if not polled.waiting:
            self._stop(polled)

    def on_packet(self, address: int, status: int) -> None:
        """AFD has answered."""
        request = self._requests.pop(address, None)
        if request is None:
            return
        request.device.requests -= 1
        polled = request.polled
        polled.request = None
        if status not in (nt.STATUS_SUCCESS, nt.STATUS_CANCELLED):
            self._end_all(polled, status)
            return
        events = request.events() if status == nt.STATUS_SUCCESS else 0
        if events & LOCAL_CLOSE:
            self._end_all(polled, nt.STATUS_CANCELLED)
        for operation in list(polled.waiting):
            found = _ready(events) & operation.flags
            if found:
                operation._value = found
                polled.waiting.remove(operation)
                self._port.end(operation, nt.STATUS_SUCCESS)
        if not polled.waiting:
            return
        open_still = polled.waiting[0]._association.alive()
        if not open_still or self._ask(polled) != win.ERROR_IO_PENDING:
            self._end_all(polled, nt.STATUS_CANCELLED)

    def close(self) -> None:
        """Nothing is pending any more."""
        for device in self._devices:
            self._library.kernel32.CloseHandle(device.handle)
        self._devices.clear()

    def _end_all(self, polled: Polled, status: int) -> None:
        ended, polled.waiting = polled.waiting, []
        for operation in ended:
            self._port.end(operation, status)

    def _ask(self, polled: Polled) -> int:
        """Have AFD work on what all polls of the socket wait for."""
        mask = 0
        for operation in polled.waiting:
            mask |= READABLE if operation.flags & selectors.EVENT_READ else 0
            mask |= WRITABLE if operation.flags & selectors.EVENT_WRITE else 0
        if polled.request is not None:
            if polled.request.mask | mask != polled.request.mask:
                self._stop(polled)  # its packet lets us ask again
            return win.ERROR_IO_PENDING
        kernel32 = self._library.kernel32
        device = self._device()
        if device is None:
            return kernel32.GetLastError()
        # known before the call: whatever is raised after that, AFD writes to its memory
        request = Request(polled, device, mask, polled.base)
        polled.request = self._requests[request.address] = request
        device.requests += 1
        done = kernel32.DeviceIoControl(
            device.handle,
            IOCTL_AFD_POLL,
            *(request.info, INFO.size),
            *(request.info, INFO.size),
            request.returned,
            request.overlapped,
        )
        code = 0 if done else kernel32.GetLastError()
        if code not in (0, win.ERROR_IO_PENDING):
            del self._requests[request.address]
            polled.request = None
            device.requests -= 1
            return code
        return win.ERROR_IO_PENDING  # a packet comes in either case

    def _stop(self, polled: Polled) -> None:
        request = polled.request
        if request is not None:
            self._library.kernel32.CancelIoEx(request.device.handle, request.overlapped)

    def _device(self) -> Device | None:
        """One that is not crowded; `None` if there is none, GetLastError() says why."""
        for device in self._devices:
            if device.requests < MOST_REQUESTS:
                return device
        kernel32 = self._library.kernel32
        handle = kernel32.CreateFileW(
            wide(DEVICE),
            win.SYNCHRONIZE,
            win.FILE_SHARE_READ | win.FILE_SHARE_WRITE,
            NULL,
            win.OPEN_EXISTING,
            win.FILE_FLAG_OVERLAPPED,
            NULL,
        )
        if handle == INVALID_HANDLE_VALUE or not self._port.watch_device(handle):
            return None
        self._devices.append(Device(handle))
        return self._devices[-1]


def _ready(events: int) -> int:
    found = selectors.EVENT_READ if events & READABLE else 0
    return found | (selectors.EVENT_WRITE if events & WRITABLE else 0)


def prepare_poll(operation: Operation, library: Library) -> Native:
    native = Native(begin_poll, finish_own)
    native.known = False
    return native


def begin_poll(operation: Operation, number: int) -> int:
    port: Any = operation._owner
    number = operation.handle.fileno()
    if number < 0:
        return win.WSAENOTSOCK
    operation._native.overlapped.Internal = nt.STATUS_PENDING
    with port._lock:
        code: int = port.polls.add(operation, operation._association, number)
        return code
