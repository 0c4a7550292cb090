"""`netpoll.winapi`: wrong arguments, which C answers with a code, and odd ones, which it takes."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

import netpoll.winapi as w
from netpoll.testing.pairs import wait_readable
from netpoll.testing.waiting import DEADLINE, run

if TYPE_CHECKING:
    from netpoll import CompletionPort
    from netpoll.testing.pairs import Loopback

pytestmark = pytest.mark.usefixtures("winapi")

MILLISECONDS = int(1000 * DEADLINE)
GARBAGE: list[Any] = ["x", 7, object()]


def take(port: CompletionPort) -> tuple[int, int, Any, Any]:
    return w.GetQueuedCompletionStatus(port, MILLISECONDS)


# -- hEvent ----------------------------------------------------------------------------------------


@pytest.mark.statement("XFER-03", "OVL-16")
def test_a_wrong_event_fails_the_start_and_harms_nothing(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    w.CreateIoCompletionPort(near, port, "key", 0)
    closed = w.WSACreateEvent()
    w.WSACloseEvent(closed)
    wrong: list[Any] = [threading.Event(), closed, closed | 1, *GARBAGE]
    record, buffer = w.OVERLAPPED(), bytearray(4)
    for event in wrong:
        record.hEvent = event
        assert w.WSARecv(near, w.WSABUF(4, buffer), 1, 0, record) == (w.SOCKET_ERROR, 0, 0)
        assert w.WSAGetLastError() == w.WSA_INVALID_HANDLE == 6
        assert w.HasOverlappedIoCompleted(record)
    nothing: list[Any] = [w.NULL, 0]
    for event in nothing:
        record.hEvent = event
        w.WSARecv(near, w.WSABUF(4, buffer), 1, 0, record)
        far.sendall(b"x")
        assert take(port) == (w.TRUE, 1, "key", record)


@pytest.mark.statement("OVL-17")
def test_with_a_routine_the_event_is_not_looked_at(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    record, ran = w.OVERLAPPED(), list[int]()
    wrong: Any = threading.Event()
    record.hEvent = wrong

    def routine(error: int, moved: int, overlapped: Any, flags: int) -> None:
        ran.append(moved)

    w.WSARecv(near, w.WSABUF(4, bytearray(4)), 1, 0, record, routine)
    far.sendall(b"x")
    assert w.SleepEx(w.INFINITE, w.TRUE) == w.WAIT_IO_COMPLETION
    assert ran == [1]


# -- buffers ---------------------------------------------------------------------------------------


@pytest.mark.statement("RECV-01")
def test_a_receive_of_nothing_into_nowhere_waits_for_data(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    w.CreateIoCompletionPort(near, port, "key", 0)
    record = w.OVERLAPPED()
    for nowhere in (w.WSABUF(0, w.NULL), w.WSABUF(0, b"")):
        assert w.WSARecv(near, nowhere, 1, 0, record) == (w.SOCKET_ERROR, 0, 0)
        assert w.WSAGetLastError() == w.WSA_IO_PENDING
        far.sendall(b"data")
        assert take(port) == (w.TRUE, 0, "key", record)
        buffer = bytearray(10)
        several = [w.WSABUF(0, w.NULL), w.WSABUF(10, buffer), w.WSABUF(0, w.NULL)]
        w.WSARecv(near, several, 3, 0, record)
        assert take(port) == (w.TRUE, 4, "key", record)
        assert buffer[:4] == b"data"


@pytest.mark.statement("SEND-09")
def test_a_send_of_nothing_from_nowhere(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    assert w.WSASend(near, w.WSABUF(0, w.NULL), 1) == (0, 0)
    assert w.WSASend(near, [w.WSABUF(0, w.NULL), w.WSABUF(4, b"data")], 2) == (0, 4)
    assert far.recv(10) == b"data"


@pytest.mark.statement("UDP-04")
def test_a_datagram_of_nothing_from_nowhere(port: CompletionPort, net: Loopback) -> None:
    near, far = net.bound(kind=socket.SOCK_DGRAM), net.bound(kind=socket.SOCK_DGRAM)
    nowhere = w.WSABUF(0, w.NULL)
    assert w.WSASendTo(near, nowhere, 1, 0, far.getsockname(), 16) == (0, 0)
    wait_readable(far)
    assert far.recvfrom(10) == (b"", near.getsockname())


def test_a_buffer_that_is_not_there_is_10014(port: CompletionPort, net: Loopback) -> None:
    near, _ = net.tcp_pair()
    w.CreateIoCompletionPort(near, port, "key", 0)
    record = w.OVERLAPPED()
    message = w.WSAMSG(w.WSABUF(4, w.NULL))
    datagrams = net.bound(kind=socket.SOCK_DGRAM)
    for buffer in (w.WSABUF(4, w.NULL), w.WSABUF(-1, bytearray(4))):
        for result in (
            w.WSARecv(near, buffer, 1, 0, record)[0],
            w.WSASend(near, buffer, 1, 0, record)[0],
            w.WSASend(near, [w.WSABUF(1, b"x"), buffer], 2, 0, record)[0],
            w.WSARecvFrom(datagrams, buffer, 1, 0, w.SOCKADDR(), record)[0],
            w.WSASendTo(datagrams, buffer, 1, 0, datagrams.getsockname(), 16, record)[0],
            w.WSARecvMsg(datagrams, message, record)[0],
        ):
            assert (result, w.WSAGetLastError()) == (w.SOCKET_ERROR, w.WSAEFAULT)
    assert w.WSASend(near, w.NULL, 1, 0, record)[0] == w.SOCKET_ERROR
    assert w.WSAGetLastError() == w.WSAEINVAL
    assert w.GetQueuedCompletionStatus(port, 0)[3] is w.NULL


# -- ports and modes -------------------------------------------------------------------------------


@pytest.mark.statement("MODE-01", "MODE-03")
def test_modes_are_for_sockets_of_whatever_association(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "by the port itself")
    assert w.SetFileCompletionNotificationModes(near, w.FILE_SKIP_COMPLETION_PORT_ON_SUCCESS)
    record = w.OVERLAPPED()
    assert w.WSASend(near, w.WSABUF(4, b"data"), 1, 0, record) == (0, 4)
    assert w.GetQueuedCompletionStatus(port, 0)[3] is w.NULL
    assert far.recv(10) == b"data"
    w.WSARecv(near, w.WSABUF(4, bytearray(4)), 1, 0, record)
    far.sendall(b"x")
    assert take(port) == (w.TRUE, 1, "by the port itself", record)


@pytest.mark.statement("PORT-01", "PORT-02", "ASSOC-03")
def test_what_is_no_port_is_an_invalid_handle(port: CompletionPort, net: Loopback) -> None:
    near, _ = net.tcp_pair()
    wrongs: list[Any] = [*GARBAGE, near, w.WSACreateEvent()]
    for wrong in wrongs:
        assert w.CreateIoCompletionPort(near, wrong, "key", 0) is w.NULL
        assert w.GetLastError() == w.ERROR_INVALID_HANDLE
        assert w.CreateIoCompletionPort(w.INVALID_HANDLE_VALUE, wrong, 0, 0) is w.NULL
        assert w.GetLastError() == w.ERROR_INVALID_PARAMETER
    assert w.CreateIoCompletionPort(near, port, "key", 0) is port


@pytest.mark.statement("PORT-01")
@pytest.mark.parametrize("threads", [0, -1, 0xFFFFFFFF])
def test_numbers_of_c_make_a_port(threads: int, port: CompletionPort) -> None:
    null: Any = 0
    made = w.CreateIoCompletionPort(w.INVALID_HANDLE_VALUE, null, 0, threads)
    assert made
    assert w.PostQueuedCompletionStatus(made, 1, "key", w.NULL)
    assert take(made) == (w.TRUE, 1, "key", w.NULL)
    assert w.CloseHandle(made)


@pytest.mark.statement("PORT-21")
@pytest.mark.parametrize("count", [1 << 31, -1])
def test_room_for_many_packets_costs_nothing(port: CompletionPort, count: int) -> None:
    ok, entries = w.GetQueuedCompletionStatusEx(port, count, 0, w.FALSE)
    assert (ok, entries, w.GetLastError()) == (w.FALSE, [], w.WAIT_TIMEOUT)
    w.PostQueuedCompletionStatus(port, 1, "key", w.NULL)
    ok, entries = w.GetQueuedCompletionStatusEx(port, count, MILLISECONDS, w.FALSE)
    assert (ok, [each.lpCompletionKey for each in entries]) == (w.TRUE, ["key"])
    assert w.GetQueuedCompletionStatusEx(port, 0, 0, w.FALSE) == (w.FALSE, [])
    assert w.GetLastError() == w.ERROR_INVALID_PARAMETER


@pytest.mark.statement("CAN-02")
def test_what_is_no_record_has_nothing_to_cancel(port: CompletionPort, net: Loopback) -> None:
    near, _ = net.tcp_pair()
    w.CreateIoCompletionPort(near, port, "key", 0)
    record = w.OVERLAPPED()
    w.WSARecv(near, w.WSABUF(4, bytearray(4)), 1, 0, record)
    for wrong in GARBAGE:
        assert not w.CancelIoEx(near, wrong)
        assert w.GetLastError() == w.ERROR_NOT_FOUND
    assert w.CancelIoEx(near, record)
    assert take(port)[3] is record


def test_the_result_of_no_record_is_10014(port: CompletionPort, net: Loopback) -> None:
    near, _ = net.tcp_pair()
    for wait in (w.FALSE, w.TRUE):
        assert w.WSAGetOverlappedResult(near, w.NULL, wait) == (w.FALSE, 0, 0)
        assert w.WSAGetLastError() == w.WSAEFAULT


# -- sockets ---------------------------------------------------------------------------------------


def test_a_socket_without_a_name_does_not_listen(port: CompletionPort, net: Loopback) -> None:
    sock = net.new_socket()
    assert (w.listen(sock, 5), w.WSAGetLastError()) == (w.SOCKET_ERROR, w.WSAEINVAL)
    assert w.bind(sock, (w.INADDR_LOOPBACK, 0)) == 0
    assert w.listen(sock, 5) == 0
    client = run(net.new_socket().connect, sock.getsockname())
    net.track(sock.accept()[0])
    client.result()


def test_what_no_socket_can_be_made_of() -> None:
    for family, kind, protocol, code in (
        (w.AF_INET, 99, 0, 10044),  # WSAESOCKTNOSUPPORT
        (w.AF_INET, w.SOCK_STREAM, w.IPPROTO_UDP, 10043),  # WSAEPROTONOSUPPORT
        (12345, w.SOCK_STREAM, 0, 10047),  # WSAEAFNOSUPPORT
    ):
        assert w.socket(family, kind, protocol) is w.INVALID_SOCKET
        assert w.WSAGetLastError() == code
