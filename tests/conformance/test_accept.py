"""Accepting (ACC): when an accept ends, with what, and that no client harms the listener."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from netpoll import Overlapped
from netpoll.testing.accepted import CLOSED_HERE, RESET
from netpoll.testing.attempts import INVALID, NO_SOCKET, attempt, winerror
from netpoll.testing.drain import collect, nothing_more, take
from netpoll.testing.outcome import unsupported
from netpoll.testing.pairs import has_ipv6, receive_exactly, reset, wait_readable
from netpoll.testing.waiting import DEADLINE

if TYPE_CHECKING:
    from netpoll import Completion, CompletionPort
    from netpoll.testing.backends import Target
    from netpoll.testing.pairs import Loopback

FAMILIES = [
    pytest.param(socket.AF_INET, id="ipv4"),
    pytest.param(
        socket.AF_INET6,
        id="ipv6",
        marks=pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback"),
    ),
]


class Equal(Overlapped[Any]):
    """Equal to every other of its kind."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Equal)

    def __hash__(self) -> int:
        return 0


def client_of(net: Loopback, listener: socket.socket) -> socket.socket:
    client = net.new_socket(listener.family)
    client.connect(listener.getsockname())
    return client


def connection(net: Loopback, completion: Completion) -> socket.socket:
    """The accepted socket, to be closed with the others."""
    sock, _ = completion.result()
    net.track(sock).settimeout(30)
    return sock  # type: ignore[no-any-return]


@pytest.mark.statement("ACC-07")
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("early", [True, False], ids=["client-waits", "client-comes-later"])
def test_an_accept_ends_with_the_connection(
    port: CompletionPort, net: Loopback, early: bool, family: Any
) -> None:
    listener = net.listener(family)
    port.associate(listener, "listener")
    if early:
        client = client_of(net, listener)
        wait_readable(listener)
        operation = port.accept(listener)
    else:
        operation = port.accept(listener)
        nothing_more(port)
        client = client_of(net, listener)
    completion = take(port)
    assert completion.overlapped is operation
    assert (completion.key, completion.error, completion.transferred) == ("listener", 0, 0)
    sock, address = completion.result()
    net.track(sock).settimeout(30)
    assert address == sock.getpeername() == client.getsockname()
    assert sock.getsockname() == client.getpeername()
    assert (sock.family, sock.type) == (family, socket.SOCK_STREAM)
    client.sendall(b"ping")
    assert receive_exactly(sock, 4) == b"ping"
    sock.sendall(b"pong")
    sock.shutdown(socket.SHUT_WR)
    assert receive_exactly(client, 4) == b"pong"


@pytest.mark.statement("ACC-07")
def test_the_accepted_socket_works_on_the_port(port: CompletionPort, net: Loopback) -> None:
    listener = net.listener()
    port.associate(listener, "listener")
    port.accept(listener)
    client = client_of(net, listener)
    sock = connection(net, take(port))
    port.associate(sock, "connection")
    port.recv(sock, 10)
    client.sendall(b"ping")
    completion = take(port)
    assert (completion.key, completion.result()) == ("connection", b"ping")


@pytest.mark.statement("ACC-08")
def test_an_accept_with_a_buffer_waits_for_the_first_data(
    port: CompletionPort, net: Loopback
) -> None:
    listener = net.listener()
    port.associate(listener, "listener")
    buffer = bytearray(b"--")
    operation = port.accept(listener, receive=buffer)
    client = client_of(net, listener)
    assert port.get(timeout=0.05) is None
    client.sendall(b"1")
    completion = take(port)
    assert completion.overlapped is operation
    assert (completion.key, completion.error, completion.transferred) == ("listener", 0, 1)
    assert buffer == b"1-"
    sock = connection(net, completion)
    assert sock.getpeername() == client.getsockname()
    client.sendall(b"rest")
    assert receive_exactly(sock, 4) == b"rest"


@pytest.mark.statement("ACC-08")
def test_data_beyond_the_buffer_of_an_accept_stays_in_the_connection(
    port: CompletionPort, net: Loopback
) -> None:
    listener = net.listener()
    port.associate(listener)
    client = client_of(net, listener)
    client.sendall(b"abcdef")
    buffer = bytearray(4)
    port.accept(listener, receive=buffer)
    completion = take(port)
    assert (completion.transferred, buffer) == (4, b"abcd")
    assert receive_exactly(connection(net, completion), 2) == b"ef"


@pytest.mark.statement("ACC-08")
def test_a_silent_client_does_not_hold_up_the_next_one(port: CompletionPort, net: Loopback) -> None:
    listener = net.listener()
    port.associate(listener)
    started = [port.accept(listener, receive=bytearray(4)) for _ in range(2)]
    silent = client_of(net, listener)
    nothing_more(port)
    talking = client_of(net, listener)
    talking.sendall(b"talk")
    completion = take(port)
    assert completion.overlapped in started
    assert connection(net, completion).getpeername() == talking.getsockname()
    silent.sendall(b"late")
    completion = take(port)
    assert connection(net, completion).getpeername() == silent.getsockname()


@pytest.mark.statement("ACC-09")
def test_a_client_that_closes_without_data_is_a_success_of_no_bytes(
    port: CompletionPort, net: Loopback
) -> None:
    listener = net.listener()
    port.associate(listener)
    port.accept(listener, receive=bytearray(10))
    client = client_of(net, listener)
    nothing_more(port)
    client.close()
    completion = take(port)
    assert (completion.error, completion.transferred) == (0, 0)
    assert connection(net, completion).recv(1) == b""


@pytest.mark.statement("ACC-11")
def test_cancelling_on_the_connection_leaves_the_accepts_alone(
    port: CompletionPort, net: Loopback
) -> None:
    listener = net.listener()
    port.associate(listener)
    started = [port.accept(listener) for _ in range(2)]
    client_of(net, listener)
    completion = take(port)
    sock = connection(net, completion)
    assert completion.overlapped is started[0]
    assert not port.cancel(sock)
    nothing_more(port)
    client_of(net, listener)
    completion = take(port)
    assert completion.overlapped is started[1]
    connection(net, completion)


@pytest.mark.statement("ACC-12")
@pytest.mark.parametrize("pending", [True, False], ids=["accept-pending", "accept-later"])
@pytest.mark.parametrize("receive", [True, False], ids=["with-data", "plain"])
def test_a_client_that_resets_does_not_harm_the_listener(
    port: CompletionPort, net: Loopback, pending: bool, receive: bool
) -> None:
    listener = net.listener()
    port.associate(listener)

    def start() -> Overlapped[Any]:
        return port.accept(listener, receive=bytearray(10) if receive else None)

    good: list[socket.socket] = []

    def clients() -> None:
        reset(client_of(net, listener))
        good.append(client_of(net, listener))
        good[0].sendall(b"hello")

    def start_and_let_clients_come() -> Overlapped[Any]:
        operation = start()
        nothing_more(port)
        clients()
        return operation

    if not pending:
        clients()
    ended = attempt(port, start_and_let_clients_come if pending else start)
    for _ in range(3):
        if not ended.number:
            sock, address = ended.value
            net.track(sock)
            if address == good[0].getsockname():
                return
        assert ended.number in RESET | CLOSED_HERE | {0}
        ended = attempt(port, start)
    pytest.fail("the client that did nothing wrong was never accepted")


@pytest.mark.statement("ACC-13")
def test_accepts_are_satisfied_in_the_order_of_their_start(
    port: CompletionPort, net: Loopback
) -> None:
    listener = net.listener()
    port.associate(listener)
    started = [port.accept(listener) for _ in range(5)]
    nothing_more(port)
    clients = [client_of(net, listener) for _ in range(5)]
    ended = collect(port, 5)
    assert [completion.overlapped for completion in ended] == started
    peers = [connection(net, completion).getpeername() for completion in ended]
    assert peers == [client.getsockname() for client in clients]


@pytest.mark.statement("ACC-13")
def test_a_pending_accept_goes_before_an_ordinary_one(
    port: CompletionPort, net: Loopback, target: Target
) -> None:
    listener = net.listener()
    port.associate(listener)
    operation = port.accept(listener)
    nothing_more(port)
    client = client_of(net, listener)
    if target.readiness:
        net.track(listener.accept()[0])
        assert operation.cancel()
        assert take(port).error == 995
        unsupported("an accept of the program's own takes what the port has not come to take")
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()
    assert connection(net, take(port)).getpeername() == client.getsockname()


@pytest.mark.statement("ACC-13")
def test_an_accept_started_later_does_not_overtake(port: CompletionPort, net: Loopback) -> None:
    listener = net.listener()
    port.associate(listener)
    started = [port.accept(listener)]
    nothing_more(port)
    clients = [client_of(net, listener), client_of(net, listener)]
    wait_readable(listener)
    started.append(port.accept(listener))
    collect(port, 2)
    peers = [operation.result()[0] for operation in started]
    for sock in peers:
        net.track(sock)
    assert [sock.getpeername() for sock in peers] == [each.getsockname() for each in clients]


@pytest.mark.statement("ACC-01")
def test_an_accept_on_no_socket_is_refused(port: CompletionPort, net: Loopback) -> None:
    closed = net.listener()
    closed.close()
    assert attempt(port, lambda: port.accept(closed)).number in NO_SOCKET


@pytest.mark.statement("ACC-02")
@pytest.mark.parametrize("kind", ["unbound", "bound", "connected"])
def test_an_accept_on_what_does_not_listen_is_refused(
    port: CompletionPort, net: Loopback, kind: str
) -> None:
    sock = {"unbound": net.new_socket, "bound": net.bound, "connected": lambda: net.tcp_pair()[0]}[
        kind
    ]()
    port.associate(sock)
    ended = attempt(port, lambda: port.accept(sock))
    assert ended.number in INVALID
    assert ended.inline
    assert isinstance(ended.error, OSError)


def test_accepts_that_are_equal_are_not_the_same(port: CompletionPort, net: Loopback) -> None:
    listener = net.listener()
    port.associate(listener)
    operations = [port.accept(listener, receive=bytearray(4), overlapped=Equal()) for _ in range(3)]
    first = client_of(net, listener)
    nothing_more(port)
    assert port.cancel(operations[1])
    assert take(port).overlapped is operations[1]
    second = client_of(net, listener)
    second.sendall(b"2nd")
    completion = take(port)
    assert completion.overlapped is operations[2]
    connection(net, completion)
    first.sendall(b"1st")
    completion = take(port)
    assert completion.overlapped is operations[0]
    connection(net, completion)
    nothing_more(port)


@pytest.mark.statement("ACC-02")
@pytest.mark.parametrize("how", ["accept", "accept_many"])
@pytest.mark.parametrize("pending", [False, True], ids=["cancelled", "pending"])
def test_an_accept_beside_a_receive_is_refused_at_once(
    port: CompletionPort, net: Loopback, how: str, pending: bool
) -> None:
    near, _ = net.tcp_pair()
    port.associate(near)
    receive = port.recv(near, 10)
    nothing_more(port)
    if not pending:
        port.cancel(receive)
        take(port)
    with pytest.raises(OSError, match=r"invalid|listen") as refused:
        getattr(port, how)(near)
    assert winerror(refused.value) in INVALID
    if pending:
        port.cancel(receive)
        assert take(port).overlapped is receive
    nothing_more(port)


@pytest.mark.parametrize("receive", [False, True], ids=["plain", "with-data"])
def test_cancelling_an_accept_leaves_what_it_accepted_before_alone(
    port: CompletionPort, net: Loopback, receive: bool
) -> None:
    listener = net.listener()
    port.associate(listener)
    operation = port.accept(listener, receive=bytearray(10) if receive else None)
    client = client_of(net, listener)
    client.sendall(b"first")
    sock = connection(net, take(port))
    port.resubmit(operation)
    nothing_more(port)
    assert port.cancel(operation)
    assert take(port).error == 995
    sock.sendall(b"alive")
    assert receive_exactly(client, 5) == b"alive"


@pytest.mark.statement("CAN-06")
def test_an_accept_that_is_cancelled_while_its_client_is_silent_ends_once(
    port: CompletionPort, net: Loopback
) -> None:
    """A silent client is got rid of by cancelling its accept: no accept socket can be closed."""
    listener = net.listener()
    port.associate(listener)
    operation = port.accept(listener, receive=bytearray(10))
    client = client_of(net, listener)
    nothing_more(port)
    assert operation.cancel()
    completion = take(port)
    assert (completion.overlapped, completion.error) == (operation, 995)
    # the next client is served
    with suppress(OSError):
        client.close()
    port.accept(listener)
    other = client_of(net, listener)
    completion = take(port)
    sock = connection(net, completion)
    if sock.getpeername() != other.getsockname():  # the silent one went back to the backlog
        port.accept(listener)
        sock = connection(net, take(port))
    assert sock.getpeername() == other.getsockname()


def test_listener_and_connection_have_their_own_lives(port: CompletionPort, net: Loopback) -> None:
    listener = net.listener()
    port.associate(listener, "listener")
    port.accept(listener)
    client = client_of(net, listener)
    sock = connection(net, take(port))
    port.associate(sock, "connection")
    port.accept(listener)
    port.recv(sock, 10)
    nothing_more(port)
    port.close_handle(listener)
    completion = take(port)
    assert (completion.key, completion.error) == ("listener", 995)
    client.sendall(b"still here")
    completion = take(port)
    assert (completion.key, completion.result()) == ("connection", b"still here")


@pytest.mark.statement("OVL-05", "ASSOC-16", "ACC-08")
@pytest.mark.parametrize("size", [0, 8], ids=["connection", "data"])
def test_an_accept_has_its_result_when_its_event_is_set(
    port: CompletionPort, net: Loopback, size: int
) -> None:
    listener = net.listener()
    port.associate(listener, "listener")
    event, buffer = threading.Event(), bytearray(size)
    operation = port.accept(
        listener, receive=buffer if size else None, overlapped=Overlapped(event=event)
    )
    client = client_of(net, listener)
    if size:
        client.sendall(b"data")
    assert operation.wait(DEADLINE)
    assert event.is_set()
    sock, address = operation.result()
    assert address == client.getsockname()
    assert buffer[:4] == (b"data" if size else b"")
    completion = take(port)
    assert completion.overlapped is operation
    assert completion.result() == (sock, address)
    assert connection(net, completion) is sock
