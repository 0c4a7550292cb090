"""`netpoll.winapi`: what the end of an accept or a connect does, once, and the end of a stream."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

import netpoll.winapi as w
from netpoll.testing.attempts import silent_address
from netpoll.testing.pairs import fill, receive_exactly, wait_readable
from netpoll.testing.waiting import DEADLINE, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from netpoll import CompletionPort
    from netpoll.testing.fixtures import MakePort
    from netpoll.testing.pairs import Loopback

pytestmark = pytest.mark.usefixtures("winapi")

SENTINEL = 0x1092
MILLISECONDS = int(1000 * DEADLINE)
UDP = socket.AF_INET, socket.SOCK_DGRAM
CONNECT_CONTEXT = w.SOL_SOCKET, w.SO_UPDATE_CONNECT_CONTEXT, w.NULL


def with_event() -> w.OVERLAPPED:
    record = w.OVERLAPPED()
    record.hEvent = w.WSACreateEvent()
    return record


def take(port: CompletionPort) -> tuple[int, int, Any, Any]:
    return w.GetQueuedCompletionStatus(port, MILLISECONDS)


def ended(record: w.OVERLAPPED) -> bool:
    return w.WaitForSingleObject(record.hEvent, MILLISECONDS) == w.WAIT_OBJECT_0


def pends(result: Any) -> bool:
    """A start that will tell by a packet or an event; or has ended, and tells all the same."""
    return result in (w.FALSE, (w.FALSE, 0), (-1, 0)) and w.WSAGetLastError() == w.WSA_IO_PENDING


def code_of(result: int) -> int:
    """0, or the last error of a Winsock call that failed."""
    return w.WSAGetLastError() if result else 0


def connect(sock: socket.socket, name: Any, record: w.OVERLAPPED) -> None:
    assert pends(w.ConnectEx(sock, name, 16, w.NULL, 0, record))


def accept(
    net: Loopback, listener: socket.socket, record: w.OVERLAPPED, size: int = 0
) -> tuple[socket.socket, bytearray]:
    """Start an AcceptEx; the accept socket and the buffer."""
    sock = net.track(w.socket(w.AF_INET, w.SOCK_STREAM, w.IPPROTO_TCP))
    buffer = bytearray(size + 64)
    assert pends(w.AcceptEx(listener, sock, buffer, size, 32, 32, record))
    return sock, buffer


def client_of(net: Loopback, listener: socket.socket) -> socket.socket:
    client = net.new_socket()
    client.connect(listener.getsockname())
    return client


# -- the context of a connect ----------------------------------------------------------------------


@pytest.mark.statement("CON-08", "OVL-05", "ASSOC-16")
@pytest.mark.parametrize("event", [True, False], ids=["event", "packet"])
def test_a_context_once_set_stays(port: CompletionPort, net: Loopback, event: bool) -> None:
    listener, sock = net.listener(), net.bound()
    w.CreateIoCompletionPort(sock, port, "key", 0)
    record = with_event() if event else w.OVERLAPPED()
    connect(sock, listener.getsockname(), record)
    peer = net.track(listener.accept()[0])
    if event:
        assert ended(record)
        assert w.WSAGetOverlappedResult(sock, record, w.FALSE) == (w.TRUE, 0, 0)
    else:
        # the connection stands, although nobody has taken the packet
        assert not w.HasOverlappedIoCompleted(record)
    assert code_of(w.setsockopt(sock, *CONNECT_CONTEXT)) == 0
    assert w.getpeername(sock) == (0, listener.getsockname())
    assert take(port) == (w.TRUE, 0, "key", record)
    assert w.WSAGetOverlappedResult(sock, record, w.FALSE) == (w.TRUE, 0, 0)
    assert w.getpeername(sock) == (0, listener.getsockname())
    assert code_of(w.shutdown(sock, w.SD_SEND)) == 0
    assert peer.recv(1) == b""


@pytest.mark.statement("CON-08", "CON-09")
def test_a_connecting_socket_has_no_names_from_its_start_on(
    port: CompletionPort, net: Loopback
) -> None:
    listener, sock = net.listener(), net.bound()
    w.CreateIoCompletionPort(sock, port, "key", 0)
    record = w.OVERLAPPED()
    connect(sock, listener.getsockname(), record)
    peer = net.track(listener.accept()[0])
    for _ in range(2):  # before its packet is taken, and after that
        assert code_of(w.getpeername(sock)[0]) == w.WSAENOTCONN
        assert code_of(w.shutdown(sock, w.SD_SEND)) == w.WSAENOTCONN
        assert w.getsockname(sock)[0] == 0
        if not w.HasOverlappedIoCompleted(record):
            assert take(port)[0]
    assert code_of(w.setsockopt(sock, *CONNECT_CONTEXT)) == 0
    assert w.getpeername(sock) == (0, listener.getsockname())
    assert code_of(w.shutdown(sock, w.SD_SEND)) == 0
    assert peer.recv(1) == b""


@pytest.mark.statement("CON-09")
def test_a_connect_under_way_has_no_context_to_update(port: CompletionPort, net: Loopback) -> None:
    sock = net.bound()
    w.CreateIoCompletionPort(sock, port, "key", 0)
    record = w.OVERLAPPED()
    connect(sock, silent_address(net), record)
    assert code_of(w.setsockopt(sock, *CONNECT_CONTEXT)) == w.WSAENOTCONN
    assert code_of(w.getpeername(sock)[0]) == w.WSAENOTCONN
    assert w.CancelIoEx(sock, record)
    assert take(port)[3] is record


# -- the end of an accept --------------------------------------------------------------------------


@pytest.mark.statement("OVL-05", "ASSOC-16", "ACC-08")
@pytest.mark.parametrize("size", [0, 8], ids=["connection", "data"])
def test_an_accept_is_complete_when_its_event_is_set(
    port: CompletionPort, net: Loopback, size: int
) -> None:
    listener = net.listener()
    w.CreateIoCompletionPort(listener, port, "listener", 0)
    record = with_event()
    sock, buffer = accept(net, listener, record, size)
    client = client_of(net, listener)
    if size:
        client.sendall(b"data")
    assert ended(record)
    moved = 4 if size else 0
    assert w.GetOverlappedResult(listener, record, w.FALSE) == (w.TRUE, moved)
    assert bytes(buffer[:moved]) == b"data"[:moved]
    local, _, remote, _ = w.GetAcceptExSockaddrs(buffer, size, 32, 32)
    assert (local, remote) == (listener.getsockname(), client.getsockname())
    context = w.SOL_SOCKET, w.SO_UPDATE_ACCEPT_CONTEXT, listener
    assert code_of(w.setsockopt(sock, *context)) == 0
    assert w.getpeername(sock) == (0, client.getsockname())
    assert take(port) == (w.TRUE, moved, "listener", record)
    assert w.getpeername(sock) == (0, client.getsockname())


@pytest.mark.statement("ASSOC-04", "ASSOC-11", "PORT-20")
def test_an_accept_socket_whose_port_is_closed_is_accepted_all_the_same(
    port: CompletionPort, make_port: MakePort, net: Loopback
) -> None:
    listener, other = net.listener(), make_port()
    w.CreateIoCompletionPort(listener, port, "listener", 0)
    record = w.OVERLAPPED()
    sock, _ = accept(net, listener, record)
    w.CreateIoCompletionPort(sock, other, "gone", 0)
    assert w.CloseHandle(other)
    client_of(net, listener)
    assert take(port) == (w.TRUE, 0, "listener", record)
    assert w.CreateIoCompletionPort(sock, port, "again", 0) is w.NULL
    assert w.GetLastError() == w.ERROR_INVALID_PARAMETER  # an association outlives its port
    assert w.closesocket(sock) == 0


@pytest.mark.statement("ASSOC-11", "EMU-22", "MODE-01")
def test_an_accept_socket_keeps_the_association_that_the_port_made(
    port: CompletionPort, net: Loopback
) -> None:
    listener = net.listener()
    w.CreateIoCompletionPort(listener, port, "listener", 0)
    record = w.OVERLAPPED()
    sock, _ = accept(net, listener, record)
    port.associate(sock, "by the port itself")
    client = client_of(net, listener)
    assert take(port)[3] is record
    client.sendall(b"x")
    wait_readable(sock)
    w.WSARecv(sock, w.WSABUF(4, bytearray(4)), 1, 0, record)
    assert take(port) == (w.TRUE, 1, "by the port itself", record)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["data", "local", "remote"])
def test_a_negative_length_fails_at_once(port: CompletionPort, net: Loopback, which: int) -> None:
    listener = net.listener()
    w.CreateIoCompletionPort(listener, port, "listener", 0)
    lengths = [0, 32, 32]
    lengths[which] = -1
    sock, record = net.track(w.socket(w.AF_INET, w.SOCK_STREAM, 0)), w.OVERLAPPED()
    size, local, remote = lengths
    assert w.AcceptEx(listener, sock, bytearray(64), size, local, remote, record) == (w.FALSE, 0)
    assert w.WSAGetLastError() == w.WSAEFAULT
    client_of(net, listener)
    sock, _ = accept(net, listener, record)  # the refusal harmed nothing
    assert take(port) == (w.TRUE, 0, "listener", record)


@pytest.mark.parametrize("error", [OSError(9, "closed"), ZeroDivisionError("a mistake of ours")])
def test_what_fails_in_the_end_of_one_operation_costs_no_other_packet(
    port: CompletionPort,
    net: Loopback,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    from netpoll.winapi import accepting

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(accepting._Acceptance, "_adopt", fail)
    listener = net.listener()
    w.CreateIoCompletionPort(listener, port, "listener", 0)
    record = w.OVERLAPPED()
    accept(net, listener, record)
    client = client_of(net, listener)
    w.PostQueuedCompletionStatus(port, 7, "posted", w.NULL)
    entries: list[w.OVERLAPPED_ENTRY] = []
    while len(entries) < 2:
        ok, some = w.GetQueuedCompletionStatusEx(port, 10, MILLISECONDS, w.FALSE)
        assert ok
        entries += some
    by_key = {each.lpCompletionKey: each for each in entries}
    assert by_key["posted"].dwNumberOfBytesTransferred == 7
    assert by_key["listener"].lpOverlapped is record
    assert by_key["listener"].Internal >= 0xC0000000
    assert w.GetOverlappedResult(listener, record, w.FALSE) == (w.FALSE, 0)
    assert client.recv(1) == b"", "its connection is closed"
    assert bool(caplog.records) == (not isinstance(error, OSError))


# -- shutdown --------------------------------------------------------------------------------------


@pytest.mark.statement("RECV-09", "RECV-10")
def test_shutting_down_receiving_leaves_pending_receives_alone_without_a_port(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    record, buffer = with_event(), bytearray(10)
    assert w.WSARecv(near, w.WSABUF(10, buffer), 1, 0, record)[0] == w.SOCKET_ERROR
    assert code_of(w.shutdown(near, w.SD_RECEIVE)) == 0
    assert w.WaitForSingleObject(record.hEvent, 20) == w.WAIT_TIMEOUT
    far.sendall(b"hello")
    assert ended(record)
    assert w.GetOverlappedResult(near, record, w.FALSE) == (w.TRUE, 5)
    assert buffer[:5] == b"hello"
    far.sendall(b"later")
    wait_readable(near)
    assert w.WSARecv(near, w.WSABUF(10, buffer), 1, 0, record)[0] == w.SOCKET_ERROR
    assert w.WSAGetLastError() == w.WSAESHUTDOWN


@pytest.mark.statement("RECV-09")
def test_shutting_down_receiving_before_the_first_receive(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    far.sendall(b"data")
    wait_readable(near)
    assert code_of(w.shutdown(near, w.SD_RECEIVE)) == 0
    assert w.WSARecv(near, w.WSABUF(4, bytearray(4)), 1, 0, with_event())[0] == w.SOCKET_ERROR
    assert w.WSAGetLastError() == w.WSAESHUTDOWN


def test_a_shutdown_leaves_the_socket_as_python_has_it(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    patience = near.gettimeout()
    assert code_of(w.shutdown(near, w.SD_SEND)) == 0
    assert near.gettimeout() == patience
    assert far.recv(1) == b""
    reader = run(near.recv, 10)
    far.sendall(b"data")
    assert reader.result() == b"data"


@pytest.mark.statement("PORT-20")
def test_a_socket_is_shut_down_although_its_port_is_closed(
    make_port: MakePort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port = make_port()
    w.CreateIoCompletionPort(near, port, "key", 0)
    assert w.CloseHandle(port)
    assert code_of(w.shutdown(near, w.SD_SEND)) == 0
    assert far.recv(1) == b""


@pytest.mark.statement("SEND-07")
def test_the_end_of_stream_goes_out_behind_a_send_without_a_port(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair(buffer=8192)
    size = 4 << 20
    record = with_event()
    assert pends(w.WSASend(near, w.WSABUF(size, bytes(size)), 1, 0, record))
    assert code_of(w.shutdown(near, w.SD_SEND)) == 0
    reader = run(lambda: sum(iter(lambda: len(far.recv(1 << 16)), 0)))
    assert ended(record)
    assert w.GetOverlappedResult(near, record, w.FALSE) == (w.TRUE, size)
    assert reader.result() == size


@pytest.mark.statement("UDP-09")
def test_a_datagram_socket_without_a_port_is_shut_down(port: CompletionPort, net: Loopback) -> None:
    sock = net.bound(*UDP)
    assert code_of(w.shutdown(sock, w.SD_RECEIVE)) == 0
    buffer = w.WSABUF(4, bytearray(4))
    assert w.WSARecv(sock, buffer, 1, 0, with_event())[0] == w.SOCKET_ERROR
    assert w.WSAGetLastError() == w.WSAESHUTDOWN


# -- TransmitFile that disconnects -----------------------------------------------------------------


@pytest.fixture
def ten_bytes(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    return path


@pytest.mark.statement("TXF-02", "PORT-12")
def test_a_transmission_ends_the_stream_of_a_socket_without_context(
    port: CompletionPort, net: Loopback, ten_bytes: Path
) -> None:
    listener = net.listener()
    w.CreateIoCompletionPort(listener, port, "listener", 0)
    accepting, sending = w.OVERLAPPED(), w.OVERLAPPED()
    sock, _ = accept(net, listener, accepting)
    w.CreateIoCompletionPort(sock, port, "connection", 0)
    client = client_of(net, listener)
    assert take(port)[3] is accepting
    with ten_bytes.open("rb") as file:
        w.TransmitFile(sock, file, 0, 0, sending, w.NULL, w.TF_DISCONNECT)
    w.SetLastError(SENTINEL)
    assert take(port) == (w.TRUE, 10, "connection", sending)
    assert w.GetLastError() == SENTINEL
    assert receive_exactly(client, 10) == b"0123456789"
    assert client.recv(1) == b""


@pytest.mark.statement("TXF-02", "SEND-07")
@pytest.mark.parametrize("with_port", [True, False], ids=["port", "alone"])
def test_the_end_of_stream_follows_a_transmission_although_nobody_looks_at_its_end(
    port: CompletionPort, net: Loopback, tmp_path: Path, with_port: bool
) -> None:
    near, far = net.tcp_pair(buffer=8192)
    size = 1 << 20
    path = tmp_path / "file"
    path.write_bytes(bytes(size))
    if with_port:
        w.CreateIoCompletionPort(near, port, "key", 0)
    before = fill(near)
    record = with_event()
    with path.open("rb") as file:
        assert pends(w.TransmitFile(near, file, 0, 0, record, w.NULL, w.TF_DISCONNECT))
    reader = run(lambda: sum(iter(lambda: len(far.recv(1 << 16)), 0)))
    assert ended(record)
    assert reader.result() == before + size, "the end of stream has come"
    assert w.GetOverlappedResult(near, record, w.FALSE) == (w.TRUE, size)
    if with_port:
        assert take(port) == (w.TRUE, size, "key", record)


def test_a_transmission_of_a_closed_file_fails(
    port: CompletionPort, net: Loopback, ten_bytes: Path
) -> None:
    near, _ = net.tcp_pair()
    with ten_bytes.open("rb") as file:
        pass
    garbage: Any = 77
    files: list[Any] = [file, garbage]
    for each in files:
        for record in (w.OVERLAPPED(), w.NULL):
            assert not w.TransmitFile(near, each, 0, 0, record, w.NULL, 0)
            assert w.WSAGetLastError() == w.WSAENOTSOCK


def test_the_flags_that_name_a_thread_change_nothing(
    port: CompletionPort, net: Loopback, ten_bytes: Path
) -> None:
    near, far = net.tcp_pair()
    with ten_bytes.open("rb") as file:
        for flag in (16, 32):  # TF_USE_SYSTEM_THREAD, TF_USE_KERNEL_APC
            file.seek(0)
            assert w.TransmitFile(near, file, 0, 0, w.NULL, w.NULL, flag)
            assert receive_exactly(far, 10) == b"0123456789"


def test_negative_lengths_are_no_slices(port: CompletionPort, net: Loopback) -> None:
    near, _ = net.tcp_pair()
    sock = net.bound()
    name = net.listener().getsockname()
    calls: list[Callable[[], Any]] = [
        lambda: w.ConnectEx(sock, name, 16, b"abc", -1, w.OVERLAPPED())[0],
        lambda: w.TransmitFile(
            near, w.NULL, 0, 0, w.OVERLAPPED(), w.TRANSMIT_FILE_BUFFERS(b"abc", -1), 0
        ),
        lambda: w.TransmitFile(
            near, w.NULL, 0, 0, w.NULL, w.TRANSMIT_FILE_BUFFERS(b"", 0, b"abc", -1), 0
        ),
        lambda: w.WSASend(near, w.WSABUF(-1, b"abc"), 1)[0] + 1,
    ]
    for call in calls:
        w.WSASetLastError(SENTINEL)
        assert (call(), w.WSAGetLastError()) == (0, w.WSAEFAULT)
    record = w.OVERLAPPED()
    connect(sock, name, record)
    assert w.GetOverlappedResult(sock, record, w.TRUE) == (w.TRUE, 0)
