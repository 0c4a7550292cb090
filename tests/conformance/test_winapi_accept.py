"""`netpoll.winapi`: AcceptEx and ConnectEx, with the caller's sockets and addresses."""

from __future__ import annotations

import socket
import weakref
from typing import TYPE_CHECKING, Any

import pytest

import netpoll.winapi as w
from netpoll.testing.accepted import CLOSED_HERE, REFUSED
from netpoll.testing.attempts import silent_address
from netpoll.testing.outcome import unsupported
from netpoll.testing.pairs import LOOPBACK, has_ipv6, receive_exactly
from netpoll.testing.waiting import DEADLINE

if TYPE_CHECKING:
    from netpoll import CompletionPort
    from netpoll.testing.backends import Target
    from netpoll.testing.pairs import Loopback

pytestmark = pytest.mark.usefixtures("winapi")

SENTINEL = 0xDEADBEEF
MILLISECONDS = int(1000 * DEADLINE)
ADDRESS = {socket.AF_INET: 32, socket.AF_INET6: 44}
EMPTY = (w.FALSE, 0, 0, w.NULL)
FAMILIES = [
    pytest.param(socket.AF_INET, id="ipv4"),
    pytest.param(
        socket.AF_INET6,
        id="ipv6",
        marks=pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback"),
    ),
]


class Accept(w.OVERLAPPED):
    """One AcceptEx with its socket and its buffer."""

    def __init__(
        self,
        net: Loopback,
        listener: socket.socket,
        size: int = 0,
        *,
        family: Any = socket.AF_INET,
        kind: Any = socket.SOCK_STREAM,
    ) -> None:
        self.listener = listener
        self.sock = net.track(w.socket(family, kind, 0))
        self.size = size
        self.local = self.remote = ADDRESS[family]
        self.buffer: Any = bytearray(size + 2 * self.local)

    def start(self) -> tuple[int, int]:
        """What it returns when it did not pend, and the code; (0, 997) is what pends."""
        w.WSASetLastError(SENTINEL)
        ok, _ = w.AcceptEx(
            self.listener, self.sock, self.buffer, self.size, self.local, self.remote, self
        )
        return ok, w.WSAGetLastError()

    def addresses(self) -> tuple[Any, Any]:
        local, _, remote, _ = w.GetAcceptExSockaddrs(
            self.buffer, self.size, self.local, self.remote
        )
        return local, remote

    def update_context(self) -> int:
        return w.setsockopt(self.sock, w.SOL_SOCKET, w.SO_UPDATE_ACCEPT_CONTEXT, self.listener)


PENDS = (w.FALSE, w.WSA_IO_PENDING)


@pytest.fixture
def listener(port: CompletionPort, net: Loopback) -> socket.socket:
    """A listener that belongs to the port."""
    sock = net.listener()
    assert w.CreateIoCompletionPort(sock, port, "listener", 0)
    return sock


def client_of(net: Loopback, listener: socket.socket) -> socket.socket:
    client = net.new_socket(listener.family)
    client.connect(listener.getsockname())
    return client


def take(port: CompletionPort) -> tuple[int, int, Any, Any]:
    return w.GetQueuedCompletionStatus(port, MILLISECONDS)


# -- AcceptEx --------------------------------------------------------------------------------------


@pytest.mark.statement("ACC-05", "ACC-07", "ACC-17", "EMU-22", "ASSOC-11")
@pytest.mark.parametrize("family", FAMILIES)
def test_the_accept_socket_becomes_the_connection(
    port: CompletionPort, net: Loopback, family: Any
) -> None:
    listener = net.listener(family)
    w.CreateIoCompletionPort(listener, port, "listener", 0)
    accept = Accept(net, listener, family=family)
    same = accept.sock
    w.CreateIoCompletionPort(accept.sock, port, "connection", 0)  # before the accept is legal
    assert accept.start() == PENDS
    assert accept.Internal == w.STATUS_PENDING
    client = client_of(net, listener)
    assert take(port) == (w.TRUE, 0, "listener", accept)
    assert accept.addresses() == (listener.getsockname(), client.getsockname())
    assert accept.update_context() == 0
    assert accept.sock is same
    assert w.getpeername(accept.sock) == (0, client.getsockname())
    record = w.OVERLAPPED()
    buffer = bytearray(10)
    w.WSARecv(accept.sock, w.WSABUF(10, buffer), 1, 0, record, w.NULL)
    client.sendall(b"ping")
    assert take(port) == (w.TRUE, 4, "connection", record)
    assert buffer[:4] == b"ping"
    w.WSASend(accept.sock, w.WSABUF(4, b"pong"), 1, 0, record, w.NULL)
    assert take(port) == (w.TRUE, 4, "connection", record)
    assert receive_exactly(client, 4) == b"pong"
    w.closesocket(accept.sock)


@pytest.mark.statement("ACC-05")
def test_without_room_for_the_local_address_there_is_none(
    port: CompletionPort, net: Loopback, listener: socket.socket
) -> None:
    accept = Accept(net, listener)
    accept.local = 0
    assert accept.start() == PENDS
    client = client_of(net, listener)
    assert take(port)[0]
    assert w.GetAcceptExSockaddrs(accept.buffer, 0, 0, 32) == (w.NULL, 0, client.getsockname(), 16)


@pytest.mark.statement("ACC-01")
def test_what_acceptex_refuses_at_once(
    port: CompletionPort, net: Loopback, listener: socket.socket
) -> None:
    accept = Accept(net, listener)
    arguments = (listener, accept.sock, accept.buffer, 0, 32, 32)
    assert w.AcceptEx(*arguments, w.NULL) == (w.FALSE, 0)
    assert w.WSAGetLastError() == w.ERROR_INVALID_PARAMETER
    no_listener = Accept(net, w.INVALID_SOCKET)
    assert no_listener.start() == (w.FALSE, w.WSAENOTSOCK)
    no_socket = Accept(net, listener)
    w.closesocket(no_socket.sock)
    assert no_socket.start() == (w.FALSE, w.WSAENOTSOCK)
    accept.remote = 0
    assert accept.start() == (w.FALSE, w.WSAEFAULT)
    assert w.GetQueuedCompletionStatus(port, 0) == EMPTY


@pytest.mark.statement("ACC-02", "OVL-02")
def test_an_accept_on_what_does_not_listen_is_refused(port: CompletionPort, net: Loopback) -> None:
    bound = net.bound()
    w.CreateIoCompletionPort(bound, port, "bound", 0)
    accept = Accept(net, bound)
    assert accept.start() == (w.FALSE, w.WSAEINVAL)
    assert accept.Internal == w.STATUS_PENDING
    accept = Accept(net, net.listener())
    accept.listener = net.listener()
    assert accept.start() == PENDS  # the refusal harmed nothing
    assert w.CancelIoEx(accept.listener, accept)


@pytest.mark.statement("ACC-02")
def test_an_accept_without_a_buffer_is_refused(net: Loopback, listener: socket.socket) -> None:
    accept = Accept(net, listener)
    accept.buffer = w.NULL
    assert accept.start() == (w.FALSE, w.WSAEFAULT)
    accept.buffer = bytearray(63)
    with pytest.raises(ValueError, match="63 bytes"):
        accept.start()


@pytest.mark.statement("ACC-03")
@pytest.mark.parametrize("kind", ["udp", "bound", "connected"])
def test_an_accept_socket_that_is_in_use_is_refused(
    port: CompletionPort, net: Loopback, listener: socket.socket, kind: str
) -> None:
    accept = Accept(net, listener)
    if kind == "udp":
        accept = Accept(net, listener, kind=socket.SOCK_DGRAM)
    elif kind == "bound":
        w.bind(accept.sock, (LOOPBACK[socket.AF_INET], 0))
    else:
        accept.sock = net.tcp_pair()[0]
    assert accept.start() == (w.FALSE, w.WSAEINVAL)
    client_of(net, listener)
    assert w.GetQueuedCompletionStatus(port, 0) == EMPTY


@pytest.mark.statement("ACC-04")
def test_an_accept_socket_is_in_one_accept_at_a_time(
    port: CompletionPort, net: Loopback, listener: socket.socket
) -> None:
    first, second, connect = Accept(net, listener), Accept(net, listener), w.OVERLAPPED()
    second.sock = first.sock
    assert first.start() == PENDS
    assert second.start() == (w.FALSE, w.WSAEINVAL)
    name = listener.getsockname()
    assert w.bind(first.sock, (LOOPBACK[socket.AF_INET], 0)) == 0
    assert w.ConnectEx(first.sock, name, 16, w.NULL, 0, connect) == (w.FALSE, 0)
    assert w.WSAGetLastError() == w.WSAEINVAL
    assert w.CancelIoEx(listener, first)
    assert take(port)[3] is first
    first.sock = second.sock = net.track(w.socket(w.AF_INET, w.SOCK_STREAM, 0))
    assert first.start() == PENDS
    assert w.CancelIoEx(listener, first)
    assert take(port)[3] is first
    assert second.start() == PENDS, "the accept that has ended has let go of it"
    client_of(net, listener)
    assert take(port) == (w.TRUE, 0, "listener", second)


@pytest.mark.statement("ACC-06")
def test_an_address_without_room_fails_when_the_connection_comes(
    port: CompletionPort, net: Loopback, listener: socket.socket
) -> None:
    accept = Accept(net, listener)
    accept.local = 3
    assert accept.start() == PENDS
    assert w.GetQueuedCompletionStatus(port, 0) == EMPTY
    lost = client_of(net, listener)
    assert take(port) == (w.FALSE, 0, "listener", accept)
    assert w.GetLastError() == w.ERROR_INSUFFICIENT_BUFFER == 122
    assert accept.Internal == w.STATUS_BUFFER_TOO_SMALL == 0xC0000023
    assert w.GetOverlappedResult(listener, accept, w.FALSE) == (w.FALSE, 0)
    assert w.GetLastError() == 122
    accept.local = 32
    assert accept.start() == PENDS  # neither the listener nor the accept socket has suffered
    assert w.GetQueuedCompletionStatus(port, 0) == EMPTY
    client_of(net, listener)
    assert take(port) == (w.TRUE, 0, "listener", accept)
    assert lost.recv(1) == b""
    unsupported("the connection is closed: it had been accepted before its address had no room")


@pytest.mark.statement("ACC-08")
def test_the_data_comes_before_the_addresses(
    port: CompletionPort, net: Loopback, listener: socket.socket
) -> None:
    accept = Accept(net, listener, size=8)
    assert accept.start() == PENDS
    client = client_of(net, listener)
    assert w.GetQueuedCompletionStatus(port, 20) == EMPTY
    client.sendall(b"data")
    assert take(port) == (w.TRUE, 4, "listener", accept)
    assert accept.buffer[:8] == b"data\0\0\0\0"
    assert accept.addresses() == (listener.getsockname(), client.getsockname())


@pytest.mark.statement("ACC-10")
def test_closing_the_accept_socket_before_a_connection_ends_the_accept(
    port: CompletionPort, net: Loopback, listener: socket.socket
) -> None:
    accept, other = Accept(net, listener), Accept(net, listener)
    assert accept.start() == PENDS
    assert other.start() == PENDS
    assert w.closesocket(accept.sock) == 0
    assert take(port) == (w.FALSE, 0, "listener", accept)
    assert w.GetLastError() == 995
    client_of(net, listener)
    assert take(port) == (w.TRUE, 0, "listener", other)


@pytest.mark.statement("ACC-10")
def test_closing_the_accept_socket_gets_rid_of_a_silent_client(
    port: CompletionPort, net: Loopback, listener: socket.socket
) -> None:
    accept = Accept(net, listener, size=8)
    assert accept.start() == PENDS
    client_of(net, listener)
    assert w.GetQueuedCompletionStatus(port, 20) == EMPTY
    assert w.closesocket(accept.sock) == 0
    assert take(port) == (w.FALSE, 0, "listener", accept)
    assert w.GetLastError() in CLOSED_HERE


@pytest.mark.statement("ACC-10")
def test_closing_the_accept_socket_after_the_data_changes_nothing(
    port: CompletionPort, net: Loopback, listener: socket.socket
) -> None:
    accept = Accept(net, listener, size=8)
    accept.hEvent = w.WSACreateEvent()
    assert accept.start() == PENDS
    client = client_of(net, listener)
    client.sendall(b"data")
    assert w.WaitForSingleObject(accept.hEvent, MILLISECONDS) == w.WAIT_OBJECT_0
    assert w.closesocket(accept.sock) == 0
    assert take(port) == (w.TRUE, 4, "listener", accept)
    assert accept.sock.fileno() < 0
    assert client.recv(1) == b""


@pytest.mark.statement("ACC-11")
def test_cancelling_on_the_accept_socket_does_nothing(
    port: CompletionPort, net: Loopback, listener: socket.socket
) -> None:
    accept = Accept(net, listener)
    assert accept.start() == PENDS
    assert w.CancelIo(accept.sock)
    assert not w.CancelIoEx(accept.sock, w.NULL)
    assert not w.CancelIoEx(accept.sock, accept)
    client_of(net, listener)
    assert take(port) == (w.TRUE, 0, "listener", accept)


@pytest.mark.statement("ACC-14", "EMU-23")
def test_without_its_context_an_accepted_socket_has_no_names(
    port: CompletionPort, net: Loopback, listener: socket.socket
) -> None:
    accept = Accept(net, listener)
    assert accept.start() == PENDS
    client = client_of(net, listener)
    assert take(port)[0]

    def calls() -> list[int]:
        return [
            w.getsockname(accept.sock)[0],
            w.getpeername(accept.sock)[0],
            w.shutdown(accept.sock, w.SD_SEND),
        ]

    w.WSASetLastError(SENTINEL)
    assert calls() == [w.SOCKET_ERROR] * 3
    assert w.WSAGetLastError() == w.WSAENOTCONN
    for wrong, code in ((net.listener(), w.WSAEINVAL), (w.NULL, w.WSAEFAULT)):
        option = w.SOL_SOCKET, w.SO_UPDATE_ACCEPT_CONTEXT
        assert w.setsockopt(accept.sock, *option, wrong) == w.SOCKET_ERROR
        assert w.WSAGetLastError() == code
    assert accept.update_context() == 0
    assert calls() == [0] * 3
    assert client.recv(1) == b""


@pytest.mark.statement("ACC-14", "ACC-15")
def test_with_its_context_an_accepted_socket_has_the_listeners_options(
    port: CompletionPort, net: Loopback, target: Target
) -> None:
    listener = net.listener()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    w.CreateIoCompletionPort(listener, port, "listener", 0)
    accept = Accept(net, listener)
    assert w.getsockopt(accept.sock, w.SOL_SOCKET, w.SO_KEEPALIVE) == (0, 0)
    assert accept.start() == PENDS
    client_of(net, listener)
    assert take(port)[0]
    inherited = w.getsockopt(accept.sock, w.SOL_SOCKET, w.SO_KEEPALIVE)[1]
    assert accept.update_context() == 0
    code, value = w.getsockopt(accept.sock, w.SOL_SOCKET, w.SO_KEEPALIVE)
    assert code == 0
    assert value
    client_of(net, listener)
    ordinary = net.track(listener.accept()[0])
    assert ordinary.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    if target.emulated:
        unsupported("the options are the listener's at once, and can be asked for")
    assert not inherited


@pytest.mark.statement("ACC-16")
def test_the_connect_time_tells_who_has_been_silent_for_long(
    port: CompletionPort, net: Loopback, listener: socket.socket
) -> None:
    def connect_time(sock: socket.socket) -> int:
        code, value = w.getsockopt(sock, w.SOL_SOCKET, w.SO_CONNECT_TIME)
        assert code == 0
        return value

    never = 0xFFFFFFFF
    accept = Accept(net, listener, size=8)
    assert connect_time(accept.sock) == connect_time(listener) == never
    assert connect_time(net.udp_pair()[0]) == never
    assert accept.start() == PENDS
    assert connect_time(accept.sock) == never
    client = client_of(net, listener)
    assert w.GetQueuedCompletionStatus(port, 20) == EMPTY
    assert 0 <= connect_time(accept.sock) <= DEADLINE
    client.sendall(b"data")
    assert take(port)[0]
    assert 0 <= connect_time(accept.sock) <= DEADLINE


def test_an_accept_without_a_port_is_told_by_its_event(net: Loopback, target: Any) -> None:
    accept = Accept(net, net.listener())
    accept.hEvent = w.WSACreateEvent()
    assert accept.start() == PENDS
    client = client_of(net, accept.listener)
    assert w.WaitForSingleObject(accept.hEvent, MILLISECONDS) == w.WAIT_OBJECT_0
    assert w.GetOverlappedResult(accept.listener, accept, w.FALSE) == (w.TRUE, 0)
    assert accept.update_context() == 0
    assert w.getpeername(accept.sock) == (0, client.getsockname())


def test_closing_the_listener_ends_its_accepts(
    port: CompletionPort, net: Loopback, listener: socket.socket
) -> None:
    accepts = [Accept(net, listener) for _ in range(3)]
    for accept in accepts:
        assert accept.start() == PENDS
    assert w.closesocket(listener) == 0
    ended = [take(port) for _ in accepts]
    assert {end[3] for end in ended} == set(accepts)
    assert {end[:3] for end in ended} == {(w.FALSE, 0, "listener")}


# -- ConnectEx -------------------------------------------------------------------------------------


def connect(sock: socket.socket, name: Any, record: Any, data: bytes | None = None) -> int:
    """ConnectEx; its code."""
    w.WSASetLastError(SENTINEL)
    size = 0 if data is None else len(data)
    assert w.ConnectEx(sock, name, 16, data, size, record) == (w.FALSE, 0)
    return w.WSAGetLastError()


@pytest.mark.statement("CON-01", "EMU-24", "OVL-02")
def test_what_connectex_refuses_at_once(port: CompletionPort, net: Loopback) -> None:
    listener = net.listener()
    name = listener.getsockname()
    near, far = net.tcp_pair()
    sockets = [net.new_socket(), net.listener(), near]
    for sock in sockets:
        w.CreateIoCompletionPort(sock, port, "key", 0)
    unbound, listening, connected = sockets
    assert connect(unbound, name, w.NULL) == w.ERROR_INVALID_PARAMETER
    closed = net.new_socket()
    closed.close()
    for sock, where, code in (
        (closed, name, w.WSAENOTSOCK),
        (unbound, name, w.WSAEINVAL),
        (listening, name, w.WSAEINVAL),
        (connected, far.getsockname(), w.WSAEISCONN),
    ):
        record = w.OVERLAPPED()
        record.hEvent = event = w.WSACreateEvent()
        assert connect(sock, where, record) == code
        assert record.Internal == w.STATUS_PENDING
        assert event.pending() == [], "a wait for the event would spin"
    assert w.GetQueuedCompletionStatus(port, 0) == EMPTY


@pytest.mark.statement("CON-01")
def test_a_connect_that_is_under_way_is_the_only_one(port: CompletionPort, net: Loopback) -> None:
    where = silent_address(net)
    sock = net.bound()
    w.CreateIoCompletionPort(sock, port, "key", 0)
    record = w.OVERLAPPED()
    assert connect(sock, where, record) == w.WSA_IO_PENDING
    assert connect(sock, where, w.OVERLAPPED()) == w.WSAEINVAL
    assert w.CancelIoEx(sock, record)
    assert take(port)[3] is record


@pytest.mark.statement("CON-02", "CON-08", "EMU-23", "EMU-24")
def test_a_connected_socket_needs_its_context(port: CompletionPort, net: Loopback) -> None:
    listener = net.listener()
    sock = net.track(w.socket(w.AF_INET, w.SOCK_STREAM, w.IPPROTO_TCP))
    assert w.getsockname(sock)[0] == w.SOCKET_ERROR
    assert w.WSAGetLastError() == w.WSAEINVAL
    assert w.bind(sock, (w.INADDR_ANY, 0)) == 0  # what EMU-24 is about: it is bound, to no address
    w.CreateIoCompletionPort(sock, port, "key", 0)
    record = w.OVERLAPPED()
    assert connect(sock, listener.getsockname(), record, b"hello") == w.WSA_IO_PENDING
    peer = net.track(listener.accept()[0])
    assert take(port) == (w.TRUE, 5, "key", record)
    assert receive_exactly(peer, 5) == b"hello"
    assert w.getpeername(sock) == (w.SOCKET_ERROR, w.NULL)
    assert w.WSAGetLastError() == w.WSAENOTCONN
    w.WSASetLastError(SENTINEL)
    assert w.shutdown(sock, w.SD_SEND) == w.SOCKET_ERROR
    assert w.WSAGetLastError() == w.WSAENOTCONN
    assert w.getsockname(sock)[0] == 0
    assert connect(sock, listener.getsockname(), w.OVERLAPPED()) == w.WSAEINVAL
    assert w.setsockopt(sock, w.SOL_SOCKET, w.SO_UPDATE_CONNECT_CONTEXT, w.NULL) == 0
    assert w.getpeername(sock) == (0, listener.getsockname())
    assert w.shutdown(sock, w.SD_SEND) == 0
    peer.settimeout(DEADLINE)
    assert peer.recv(1) == b""


@pytest.mark.statement("CON-04")
def test_a_refusal_has_two_numbers(port: CompletionPort, net: Loopback) -> None:
    nobody = net.bound().getsockname()
    sock = net.bound()
    w.CreateIoCompletionPort(sock, port, "key", 0)
    record = w.OVERLAPPED()
    assert connect(sock, nobody, record) == w.WSA_IO_PENDING
    assert take(port) == (w.FALSE, 0, "key", record)
    assert w.GetLastError() == w.ERROR_CONNECTION_REFUSED == 1225
    assert w.WSAGetOverlappedResult(sock, record, w.FALSE) == (w.FALSE, 0, 0)
    assert w.WSAGetLastError() == w.WSAECONNREFUSED == 10061
    assert w.WSAGetLastError() in REFUSED
    assert w.setsockopt(sock, w.SOL_SOCKET, w.SO_UPDATE_CONNECT_CONTEXT, w.NULL) == w.SOCKET_ERROR
    assert w.WSAGetLastError() == w.WSAENOTCONN


def test_a_socket_that_nobody_holds_is_gone(port: CompletionPort, net: Loopback) -> None:
    listener = net.listener()
    name = listener.getsockname()

    def connect_and_forget() -> weakref.ref[socket.socket]:
        sock = w.socket(w.AF_INET, w.SOCK_STREAM, w.IPPROTO_TCP)
        w.bind(sock, (w.INADDR_ANY, 0))
        w.CreateIoCompletionPort(sock, port, "key", 0)
        record = w.OVERLAPPED()
        assert connect(sock, name, record) == w.WSA_IO_PENDING
        assert take(port)[3] is record
        return weakref.ref(sock)

    with pytest.warns(ResourceWarning, match="unclosed"):
        gone = connect_and_forget()
    assert gone() is None
