"""The declared functions are there and do what their declarations say, on Windows itself."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pytest

from netpoll.backends.iocp import constants as win
from netpoll.backends.iocp import library as library_module
from netpoll.backends.iocp.functions import Kernel32, MessageFunctions, Mswsock, Winsock
from netpoll.backends.iocp.library import (
    ENTRY,
    INVALID_HANDLE_VALUE,
    NULL,
    Library,
    ffi,
    handle,
    load,
)
from netpoll.testing.pairs import receive_exactly

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netpoll.backends.iocp.functions import LPOVERLAPPED, Handle
    from netpoll.testing.pairs import Loopback

T = TypeVar("T")

pytestmark = pytest.mark.skipif(
    sys.platform != "win32", reason="needs Windows, or Wine (tox -e wine)"
)

ERROR_FILE_NOT_FOUND = 2
ERROR_NOT_FOUND = 1168
ERROR_INVALID_HANDLE = 6
ERROR_INVALID_PARAMETER = 87
WSAEINVAL = 10022
WSAENOTSOCK = 10038
NO_HANDLE = 0xBAD00


def functions_of(protocol: type) -> list[str]:
    return [name for name in vars(protocol) if not name.startswith("_")]


@pytest.fixture
def library() -> Library:
    return load()


@pytest.fixture
def port(library: Library) -> Iterator[Handle]:
    created = library.kernel32.CreateIoCompletionPort(INVALID_HANDLE_VALUE, NULL, 0, 0)
    assert created != NULL
    yield created
    assert library.kernel32.CloseHandle(created)


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
def sock(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    with socket.socket(request.param, socket.SOCK_STREAM) as made:
        yield made


@pytest.mark.parametrize("name", functions_of(Kernel32))
def test_kernel32_has_it(library: Library, name: str) -> None:
    assert callable(getattr(library.kernel32, name))


@pytest.mark.parametrize("name", functions_of(Winsock))
def test_ws2_32_has_it(library: Library, name: str) -> None:
    assert callable(getattr(library.ws2_32, name))


@pytest.mark.parametrize("name", functions_of(Mswsock))
def test_the_provider_has_it(library: Library, sock: socket.socket, name: str) -> None:
    assert getattr(library.mswsock(sock), name) != NULL


@pytest.mark.parametrize("name", functions_of(MessageFunctions))
def test_the_provider_of_datagrams_has_it(library: Library, name: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert getattr(library.messages(sock), name) != NULL
        assert library.messages(sock) is library.messages(sock)


def test_the_last_error_is_that_of_the_last_call(library: Library) -> None:
    kernel32 = library.kernel32
    assert not kernel32.CloseHandle(handle(NO_HANDLE))
    with pytest.raises(FileNotFoundError):
        os.stat("no such file")  # sets the system's own last error to 2
    assert kernel32.GetLastError() == ERROR_INVALID_HANDLE
    assert kernel32.GetLastError() == ERROR_INVALID_HANDLE


def test_the_last_error_is_the_winsock_error_too(library: Library) -> None:
    buffers, flags = ffi.new("WSABUF[]", 1), ffi.new("DWORD *")
    arguments = (NO_HANDLE, buffers, 1, NULL, flags, ffi.new("OVERLAPPED *"), NULL)
    assert library.ws2_32.WSARecv(*arguments) == win.SOCKET_ERROR
    assert library.kernel32.GetLastError() == WSAENOTSOCK


def test_each_thread_has_its_own_last_error(library: Library) -> None:
    kernel32 = library.kernel32

    def fail_otherwise(seen: list[int]) -> None:
        kernel32.CreateIoCompletionPort(INVALID_HANDLE_VALUE, handle(NO_HANDLE), 0, 0)
        seen.append(kernel32.GetLastError())

    seen: list[int] = []
    thread = threading.Thread(target=fail_otherwise, args=(seen,))
    assert not kernel32.CloseHandle(handle(NO_HANDLE))
    thread.start()
    thread.join()
    assert seen == [ERROR_INVALID_PARAMETER]
    assert kernel32.GetLastError() == ERROR_INVALID_HANDLE


def test_packets_come_through_the_structures(library: Library, port: Handle) -> None:
    kernel32 = library.kernel32
    overlapped = ffi.new("OVERLAPPED *")
    key = 2 ** (8 * ffi.sizeof("ULONG_PTR")) - 2
    assert kernel32.PostQueuedCompletionStatus(port, 0xFFFFFFFE, key, overlapped)
    assert kernel32.PostQueuedCompletionStatus(port, 0, 0, NULL)
    entries, count = ffi.new("OVERLAPPED_ENTRY[]", 4), ffi.new("ULONG *")
    assert kernel32.GetQueuedCompletionStatusEx(port, entries, 4, count, win.INFINITE, 0)
    assert count[0] == 2
    assert entries[0].lpCompletionKey == key
    assert entries[0].lpOverlapped == overlapped
    assert entries[0].dwNumberOfBytesTransferred == 0xFFFFFFFE
    address = int(ffi.cast("ULONG_PTR", overlapped))
    assert list(ENTRY.iter_unpack(ffi.buffer(entries, 2 * ENTRY.size))) == [
        (key, address, entries[0].Internal, 0xFFFFFFFE),
        (0, 0, entries[1].Internal, 0),
    ]


def test_an_empty_port_times_out(library: Library, port: Handle) -> None:
    entries, count = ffi.new("OVERLAPPED_ENTRY[]", 1), ffi.new("ULONG *")
    assert not library.kernel32.GetQueuedCompletionStatusEx(port, entries, 1, count, 0, 0)
    assert library.kernel32.GetLastError() == win.WAIT_TIMEOUT


def test_an_event_is_set_and_reset(library: Library) -> None:
    kernel32 = library.kernel32
    event = kernel32.CreateEventW(NULL, 1, 0, NULL)
    assert event != NULL
    assert kernel32.WaitForSingleObject(event, 0) == win.WAIT_TIMEOUT
    assert kernel32.SetEvent(event)
    assert kernel32.WaitForSingleObject(event, win.INFINITE) == win.WAIT_OBJECT_0
    assert kernel32.CloseHandle(event)
    assert kernel32.WaitForSingleObject(event, 0) == win.WAIT_FAILED
    assert kernel32.GetLastError() == ERROR_INVALID_HANDLE


def test_a_receive_ends_in_its_routine(library: Library, net: Loopback) -> None:
    calls: list[tuple[int, int, bool, int]] = []

    def routine(error: int, transferred: int, ended: LPOVERLAPPED, flags: int) -> None:
        calls.append((error, transferred, ended == overlapped, flags))

    callback = ffi.callback("LPWSAOVERLAPPED_COMPLETION_ROUTINE", routine)
    overlapped = ffi.new("OVERLAPPED *")
    data = bytearray(8)
    buffers, flags = ffi.new("WSABUF[]", 1), ffi.new("DWORD *")
    buffers[0].len, buffers[0].buf = 8, ffi.from_buffer("char[]", data)
    ours, theirs = net.tcp_pair()
    arguments = (ours.fileno(), buffers, 1, NULL, flags, overlapped, callback)
    assert library.ws2_32.WSARecv(*arguments) == win.SOCKET_ERROR
    assert library.kernel32.GetLastError() == win.ERROR_IO_PENDING
    theirs.sendall(b"routine")
    assert library.kernel32.SleepEx(win.INFINITE, 1) == win.WAIT_IO_COMPLETION
    moved = ffi.new("DWORD *")
    assert library.ws2_32.WSAGetOverlappedResult(ours.fileno(), overlapped, moved, 0, flags)
    assert calls == [(0, 7, True, 0)]
    assert moved[0] == overlapped.InternalHigh == 7
    assert data == b"routine\0"


def test_a_gather_send_takes_the_whole_list(library: Library, net: Loopback) -> None:
    parts = (b"one ", b"and ", b"two")
    buffers = ffi.new("WSABUF[]", len(parts))
    for index, part in enumerate(parts):
        buffers[index].len, buffers[index].buf = len(part), ffi.from_buffer(part)
    sent = ffi.new("DWORD *")
    ours, theirs = net.tcp_pair()
    assert library.ws2_32.WSASend(ours.fileno(), buffers, len(parts), sent, 0, NULL, NULL) == 0
    assert sent[0] == 11
    assert receive_exactly(theirs, 11) == b"one and two"


def test_cancelling_nothing_finds_nothing(library: Library) -> None:
    with socket.socket() as idle:
        overlapped = ffi.new("OVERLAPPED *")
        assert not library.kernel32.CancelIoEx(handle(idle.fileno()), overlapped)
        assert library.kernel32.GetLastError() == ERROR_NOT_FOUND


def test_a_socket_takes_a_port_and_a_mode(
    library: Library, port: Handle, sock: socket.socket
) -> None:
    kernel32, number = library.kernel32, handle(sock.fileno())
    assert library.has_ifs_handles(sock)
    assert kernel32.CreateIoCompletionPort(number, port, 1, 0) == port
    modes = win.FILE_SKIP_COMPLETION_PORT_ON_SUCCESS | win.FILE_SKIP_SET_EVENT_ON_HANDLE
    assert kernel32.SetFileCompletionNotificationModes(number, modes)


def test_extensions_are_called_with_their_own_convention(
    library: Library, sock: socket.socket
) -> None:
    number, mswsock = sock.fileno(), library.mswsock(sock)
    returned = ffi.new("DWORD *")
    area = ffi.new("char[]", 128)
    assert not mswsock.AcceptEx(number, number, area, 0, 44, 44, returned, NULL)
    assert library.kernel32.GetLastError() == ERROR_INVALID_PARAMETER
    name = cast("Any", ffi.new("struct sockaddr_in6 *"))
    name.sin6_family = sock.family
    target = ffi.cast("struct sockaddr *", name)
    overlapped = ffi.new("OVERLAPPED *")
    assert not mswsock.ConnectEx(number, target, 28, NULL, 0, NULL, overlapped)
    assert library.kernel32.GetLastError() == WSAEINVAL  # CON-01: it is not bound


def test_a_provider_is_asked_once() -> None:
    calls: Counter[str] = Counter()

    class Counting:
        def __init__(self, functions: object) -> None:
            self._functions = functions

        def __getattr__(self, name: str) -> object:
            function = getattr(self._functions, name)

            def counted(*arguments: object) -> object:
                calls[name] += 1
                return function(*arguments)

            return counted

    def wrap(functions: T, /) -> T:
        return cast("T", Counting(functions))

    library = Library(wrap)
    with socket.socket() as one, socket.socket() as two:
        assert library.mswsock(one) is library.mswsock(two)
        assert library.has_ifs_handles(one) == library.has_ifs_handles(two)
        assert calls == {"WSAIoctl": len(functions_of(Mswsock))}
        library.mswsock(one).ConnectEx(one.fileno(), NULL, 0, NULL, 0, NULL, NULL)
    assert calls["ConnectEx"] == 1


def test_a_function_that_the_provider_lacks_is_named(
    monkeypatch: pytest.MonkeyPatch, sock: socket.socket
) -> None:
    nobodys: win.Guid = (0, 0, 0, (0,) * 8)
    monkeypatch.setitem(library_module.EXTENSIONS, "ConnectEx", ("LPFN_CONNECTEX", nobodys))
    with pytest.raises(OSError, match="no ConnectEx for this socket") as caught:
        Library().mswsock(sock)
    assert vars(caught.value)["wsaerror"] == WSAEINVAL
