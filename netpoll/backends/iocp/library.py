"""The DLLs of Windows as the backend calls them.

Importing this module opens nothing. `GetLastError()` is that of the thread's last call through
cffi, whatever Python itself has called since: cffi keeps the number after each call, for each
thread, and puts it back before the next. It is the Winsock error too, so nothing here needs
WSAGetLastError.
"""

from __future__ import annotations

import functools
import struct
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

from netpoll import status as nt
from netpoll.backends.iocp import constants as win
from netpoll.backends.iocp._ffi import ffi as _ffi

if TYPE_CHECKING:
    import socket

    from netpoll.backends.iocp.functions import (
        FFI,
        WSAPROTOCOL_INFOW,
        Handle,
        Kernel32,
        MessageFunctions,
        Mswsock,
        Winsock,
    )

T = TypeVar("T")

ffi: Final = cast("FFI", _ffi)
NULL: Final[Any] = ffi.NULL
INVALID_HANDLE_VALUE: Final = ffi.cast("HANDLE", -1)

ENTRY: Final = struct.Struct("PPPI0P")
"""An OVERLAPPED_ENTRY, to decode a whole array at once with `iter_unpack`: key, address of the
OVERLAPPED, status, bytes."""

EXTENSIONS: Final = {
    "AcceptEx": ("LPFN_ACCEPTEX", win.WSAID_ACCEPTEX),
    "GetAcceptExSockaddrs": ("LPFN_GETACCEPTEXSOCKADDRS", win.WSAID_GETACCEPTEXSOCKADDRS),
    "ConnectEx": ("LPFN_CONNECTEX", win.WSAID_CONNECTEX),
    "DisconnectEx": ("LPFN_DISCONNECTEX", win.WSAID_DISCONNECTEX),
    "TransmitFile": ("LPFN_TRANSMITFILE", win.WSAID_TRANSMITFILE),
}
"""What a provider is asked for: the type of the pointer, and the name Winsock knows it by."""
MESSAGES: Final = {
    "WSARecvMsg": ("LPFN_WSARECVMSG", win.WSAID_WSARECVMSG),
    "WSASendMsg": ("LPFN_WSASENDMSG", win.WSAID_WSASENDMSG),
}
"""The same, of a provider of datagrams."""
MOST_LAYERS: Final = 16
"""Providers on top of each other, before one that answers in circles is believed no more."""


class Wrap(Protocol):
    """What a test may put around each DLL's functions, to count calls for instance."""

    def __call__(self, functions: T, /) -> T: ...


def _as_they_are(functions: T, /) -> T:
    return functions


class _Extensions:
    """What `Mswsock` is at run time: one attribute a function."""

    __slots__ = tuple(EXTENSIONS)


class _Messages:
    """What `MessageFunctions` is at run time."""

    __slots__ = tuple(MESSAGES)


class Library:
    """The functions of Windows, one attribute a DLL: `library.kernel32.CloseHandle(handle)`.

    Extension functions belong to a provider, Winsock's word for the implementation of a protocol,
    and are looked up through one of its sockets. Safe to use from any thread.
    """

    __slots__ = ("_ifs", "_messages", "_mswsock", "_wrap", "kernel32", "ws2_32")

    def __init__(self, wrap: Wrap = _as_they_are) -> None:
        """Open the DLLs.

        :param wrap: takes the functions of one DLL and returns what is to be called instead
        :raises OSError: there are none, this is not Windows
        """
        self.kernel32: Kernel32 = wrap(ffi.dlopen("kernel32.dll"))
        self.ws2_32: Winsock = wrap(ffi.dlopen("ws2_32.dll"))
        self._wrap = wrap
        # by family, type and protocol, which is what Winsock chooses a provider by
        self._mswsock: dict[tuple[int, int, int], Mswsock] = {}
        self._messages: dict[tuple[int, int, int], MessageFunctions] = {}
        self._ifs: dict[tuple[int, int, int], bool] = {}

    def mswsock(self, sock: socket.socket) -> Mswsock:
        """The extension functions of the provider of `sock`.

        :raises OSError: the provider lacks one
        """
        provider = sock.family, sock.type, sock.proto
        functions = self._mswsock.get(provider)
        if functions is None:
            found = self._look_up(sock, _Extensions(), EXTENSIONS)
            functions = self._mswsock[provider] = self._wrap(cast("Mswsock", found))
        return functions

    def messages(self, sock: socket.socket) -> MessageFunctions:
        """The same, of those for messages.

        :raises OSError: the provider lacks one
        """
        provider = sock.family, sock.type, sock.proto
        functions = self._messages.get(provider)
        if functions is None:
            found = self._look_up(sock, _Messages(), MESSAGES)
            functions = self._messages[provider] = self._wrap(cast("MessageFunctions", found))
        return functions

    def _look_up(
        self, sock: socket.socket, found: object, wanted: dict[str, tuple[str, win.Guid]]
    ) -> object:
        for name, (kind, guid) in wanted.items():
            setattr(found, name, self._extension(sock.fileno(), name, kind, guid))
        return found

    def has_ifs_handles(self, sock: socket.socket) -> bool:
        """Whether notification modes work on `sock` (MODE-08)."""
        provider = sock.family, sock.type, sock.proto
        ifs = self._ifs.get(provider)
        if ifs is None:
            size = ffi.sizeof("WSAPROTOCOL_INFOW")
            data = sock.getsockopt(win.SOL_SOCKET, win.SO_PROTOCOL_INFOW, size)
            info: WSAPROTOCOL_INFOW = ffi.from_buffer("WSAPROTOCOL_INFOW *", data)
            ifs = self._ifs[provider] = bool(info.dwServiceFlags1 & win.XP1_IFS_HANDLES)
        return ifs

    def base_handle(self, number: int) -> int:
        """The socket of the system that a layered provider's socket is made of (LIB-04).

        Some providers refuse to tell, against Microsoft's rules; the one below may not (trio#1659).
        """
        for _ in range(MOST_LAYERS):
            base = self._socket_below(number, win.SIO_BASE_HANDLE)
            if base is not None:
                return base
            below = self._socket_below(number, win.SIO_BSP_HANDLE_POLL)
            if below is None or below == number:
                break
            number = below
        return number  # no provider lies between, or none says so

    def _socket_below(self, number: int, code: int) -> int | None:
        below, returned = ffi.new("ULONG_PTR *"), ffi.new("DWORD *")
        size = ffi.sizeof("ULONG_PTR")
        if self.ws2_32.WSAIoctl(number, code, NULL, 0, below, size, returned, NULL, NULL):
            return None
        return int(below[0])

    def _extension(self, number: int, name: str, kind: str, guid: win.Guid) -> Any:
        wanted, pointer, returned = (
            ffi.new("GUID *", guid),
            ffi.new(f"{kind} *"),
            ffi.new("DWORD *"),
        )
        failed = self.ws2_32.WSAIoctl(
            number,
            win.SIO_GET_EXTENSION_FUNCTION_POINTER,
            *(wanted, ffi.sizeof("GUID")),
            *(pointer, ffi.sizeof(kind)),
            returned,
            NULL,
            NULL,
        )
        if failed:
            status = nt.from_winsock(self.kernel32.GetLastError())
            raise nt.make_exception(status, inline=True, message=f"no {name} for this socket")
        return pointer[0]


def handle(number: int) -> Handle:
    """A socket's `fileno()`, or a handle as an integer, as HANDLE."""
    return ffi.cast("HANDLE", number)


def wide(text: str) -> Any:
    """A string as LPCWSTR."""
    encoded = (text + "\0").encode("utf-16-le")
    return ffi.new("WCHAR[]", struct.unpack(f"<{len(encoded) // 2}H", encoded))


@functools.cache
def load() -> Library:
    """The library, opened at the first call.

    :raises OSError: this is not Windows
    """
    return Library()
