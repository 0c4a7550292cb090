"""Connecting (CON). The portable connect binds for its caller and leaves a socket ready to use."""

from __future__ import annotations

import errno
import socket
import sys
from typing import TYPE_CHECKING, Any

import pytest

from netpoll import status as nt
from netpoll.testing.accepted import CLOSED_HERE, REFUSED
from netpoll.testing.attempts import (
    INVALID,
    NO_SOCKET,
    NOT_CONNECTED,
    TIMED_OUT,
    attempt,
    pattern,
    read_to_end,
    silent_address,
    winerror,
)
from netpoll.testing.drain import collect, nothing_more, take
from netpoll.testing.outcome import unsupported
from netpoll.testing.pairs import has_ipv6, receive_exactly
from netpoll.testing.waiting import run, wait_for_waiters

if TYPE_CHECKING:
    from pathlib import Path

    from netpoll import CompletionPort
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
ALREADY_CONNECTED = frozenset({1230, 10056})
UNSUPPORTED = frozenset({50, 10045, 87, 10022})


def accepted(net: Loopback, listener: socket.socket) -> socket.socket:
    sock = net.track(listener.accept()[0])
    sock.settimeout(30)
    return sock


def free_address(net: Loopback) -> Any:
    """An address at which nobody listens."""
    sock = net.bound()
    address = sock.getsockname()
    sock.close()
    return address


@pytest.mark.statement("CON-02", "CON-11")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_connect_ends_with_one_packet_and_a_usable_socket(
    port: CompletionPort, net: Loopback, family: Any
) -> None:
    listener = net.listener(family)
    sock = net.new_socket(family)
    port.associate(sock, "client")
    operation = port.connect(sock, listener.getsockname())
    completion = take(port)
    assert completion.overlapped is operation
    assert (completion.key, completion.error, completion.transferred) == ("client", 0, 0)
    assert completion.result() is None
    peer = accepted(net, listener)
    assert sock.getpeername()[:2] == listener.getsockname()[:2]
    assert sock.getsockname() == peer.getpeername()
    port.send(sock, b"ping")
    assert take(port).result() == 4
    assert receive_exactly(peer, 4) == b"ping"


@pytest.mark.statement("CON-02")
def test_data_given_to_a_connect_goes_out_with_it(port: CompletionPort, net: Loopback) -> None:
    listener = net.listener()
    sock = net.new_socket()
    port.associate(sock)
    port.connect(sock, listener.getsockname(), data=b"first words")
    completion = take(port)
    assert (completion.error, completion.transferred) == (0, 11)
    assert completion.result() is None
    assert receive_exactly(accepted(net, listener), 11) == b"first words"


@pytest.mark.statement("CON-02")
def test_all_of_the_data_given_to_a_connect_goes_out(port: CompletionPort, net: Loopback) -> None:
    listener = net.listener()
    sock = net.new_socket()
    port.associate(sock)
    data = pattern(8 << 20)
    port.connect(sock, listener.getsockname(), data=data)
    reading = run(lambda: receive_exactly(accepted(net, listener), len(data)))
    completion = take(port)
    assert (completion.error, completion.transferred) == (0, len(data))
    assert reading.result() == data


@pytest.mark.statement("CON-03", "EMU-24")
def test_data_given_to_a_connect_is_taken_at_the_call(port: CompletionPort, net: Loopback) -> None:
    listener = net.listener()
    sock = net.new_socket()
    port.associate(sock)
    data = bytearray(b"before")
    port.connect(sock, listener.getsockname(), data=data)
    data[:] = b"after!"
    assert take(port).transferred == 6
    assert receive_exactly(accepted(net, listener), 6) == b"before"


@pytest.mark.statement("CON-01")
def test_a_connect_of_no_socket_is_refused(port: CompletionPort, net: Loopback) -> None:
    closed = net.new_socket()
    closed.close()
    ended = attempt(port, lambda: port.connect(closed, ("127.0.0.1", 9)))
    assert ended.number in NO_SOCKET
    assert ended.inline


@pytest.mark.statement("CON-01")
def test_a_connect_of_a_listener_is_refused(port: CompletionPort, net: Loopback) -> None:
    listener = net.listener()
    other = net.listener()
    port.associate(listener)
    ended = attempt(port, lambda: port.connect(listener, other.getsockname()))
    assert ended.number in INVALID
    assert ended.inline


@pytest.mark.statement("CON-01", "CON-08")
@pytest.mark.parametrize("through_port", [True, False], ids=["by-the-port", "elsewhere"])
def test_a_connect_of_a_connected_socket_is_refused(
    port: CompletionPort, net: Loopback, through_port: bool
) -> None:
    listener = net.listener()
    sock = net.new_socket()
    port.associate(sock)
    if through_port:
        port.connect(sock, listener.getsockname())
        assert take(port).error == 0
    else:
        sock.settimeout(30)
        sock.connect(listener.getsockname())
    ended = attempt(port, lambda: port.connect(sock, listener.getsockname()))
    assert ended.number in ALREADY_CONNECTED
    assert ended.inline
    # the connection is none the worse for it
    port.send(sock, b"fine")
    assert take(port).result() == 4
    assert receive_exactly(accepted(net, listener), 4) == b"fine"


@pytest.mark.statement("CON-01")
def test_a_second_connect_while_one_is_pending_is_refused(
    port: CompletionPort, net: Loopback
) -> None:
    listener = net.listener()
    sock = net.new_socket()
    port.associate(sock)
    operation = port.connect(sock, listener.getsockname())
    with pytest.raises(OSError, match="connect") as caught:
        port.connect(sock, listener.getsockname())
    assert winerror(caught.value) in {10022, 10037, 10056}
    completion = take(port)
    assert (completion.overlapped, completion.error) == (operation, 0)


@pytest.mark.statement("CON-04")
def test_a_refused_connect_says_so_in_its_packet(port: CompletionPort, net: Loopback) -> None:
    sock = net.new_socket()
    port.associate(sock, "client")
    operation = port.connect(sock, free_address(net))  # never raises: the verdict is asynchronous
    completion = take(port)
    assert (completion.overlapped, completion.key) == (operation, "client")
    assert completion.error in REFUSED
    assert (completion.transferred, completion.status) == (0, nt.STATUS_CONNECTION_REFUSED)
    error = completion.exception()
    assert isinstance(error, ConnectionRefusedError)
    assert error.errno == errno.ECONNREFUSED
    assert (winerror(error), vars(error)["wsaerror"]) == (1225, 10061)


@pytest.mark.statement("CON-04")
def test_many_refused_connects_each_have_one_packet(port: CompletionPort, net: Loopback) -> None:
    address = free_address(net)
    socks = [net.new_socket() for _ in range(20)]
    for index, sock in enumerate(socks):
        port.associate(sock, index)
        port.connect(sock, address, data=b"never sent")
    ended = collect(port, 20)
    assert sorted(completion.key for completion in ended) == list(range(20))
    assert {completion.error for completion in ended} <= REFUSED
    assert {completion.transferred for completion in ended} == {0}


@pytest.mark.statement("CON-06")
def test_a_connect_that_nobody_answers_times_out(port: CompletionPort, net: Loopback) -> None:
    sock = net.new_socket()
    port.associate(sock)
    port.connect(sock, silent_address(net), timeout=0.05)
    completion = take(port)
    assert completion.error in TIMED_OUT
    assert completion.status == nt.STATUS_IO_TIMEOUT
    assert isinstance(completion.exception(), TimeoutError)


@pytest.mark.statement("CON-06")
def test_a_connect_that_the_system_gives_up_times_out(port: CompletionPort, net: Loopback) -> None:
    sock = net.new_socket()
    if sys.platform == "win32":
        option, value = 5, 1  # TCP_MAXRT, in seconds
    elif hasattr(socket, "TCP_USER_TIMEOUT"):
        option, value = socket.TCP_USER_TIMEOUT, 1  # looked at when the first SYN is repeated
    else:
        option, value = getattr(socket, "TCP_CONNECTIONTIMEOUT", 0x20), 1  # macOS, in seconds
    try:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
    except OSError:
        pytest.skip("this system tries for minutes, and cannot be told to give up")
    port.associate(sock)
    port.connect(sock, silent_address(net))
    completion = take(port)
    assert (completion.error, completion.status) == (121, nt.STATUS_IO_TIMEOUT)
    error = completion.exception()
    assert isinstance(error, TimeoutError)
    assert vars(error)["wsaerror"] == 10060


@pytest.mark.statement("CON-06")
def test_a_connect_to_where_no_way_leads_is_unreachable(
    port: CompletionPort, net: Loopback, target: Target
) -> None:
    sock = net.new_socket()
    port.associate(sock)
    # a broadcast is nobody's address, and this one does not leave the machine
    ended = attempt(port, lambda: port.connect(sock, ("127.255.255.255", 9)))
    if target.emulated:
        assert not ended.inline
    assert ended.number in ({10051, 10065} if ended.inline else {1231, 1232})


@pytest.mark.statement("CON-07")
def test_after_a_refusal_the_socket_can_connect_again(port: CompletionPort, net: Loopback) -> None:
    listener = net.listener()
    sock = net.new_socket()
    port.associate(sock)
    port.connect(sock, free_address(net))
    assert take(port).error in REFUSED
    port.connect(sock, listener.getsockname(), data=b"hello")
    completion = take(port)
    assert (completion.error, completion.transferred) == (0, 5)
    assert receive_exactly(accepted(net, listener), 5) == b"hello"


@pytest.mark.statement("CON-08")
def test_the_connected_socket_has_its_context(port: CompletionPort, net: Loopback) -> None:
    """What SO_UPDATE_CONNECT_CONTEXT is for: getpeername() and shutdown() work."""
    listener = net.listener()
    sock = net.new_socket()
    port.associate(sock)
    port.connect(sock, listener.getsockname())
    assert take(port).error == 0
    peer = accepted(net, listener)
    assert sock.getpeername() == listener.getsockname()
    sock.shutdown(socket.SHUT_WR)
    assert read_to_end(peer) == b""


@pytest.mark.statement("CON-09")
def test_a_connecting_socket_is_not_connected_yet(port: CompletionPort, net: Loopback) -> None:
    sock = net.new_socket()
    port.associate(sock)
    address = silent_address(net)
    operation = port.connect(sock, address)
    nothing_more(port)
    with pytest.raises(OSError) as caught:  # noqa: PT011  (the words are the system's)
        sock.getpeername()
    assert caught.value.errno == errno.ENOTCONN
    assert sock.getsockname()[1] != 0
    for start in (lambda: port.send(sock, b"x"), lambda: port.recv(sock, 10)):
        assert attempt(port, start).number in NOT_CONNECTED
    assert operation.cancel()
    completion = take(port)
    assert (completion.overlapped, completion.error) == (operation, 995)


@pytest.mark.statement("CON-10")
def test_datagram_sockets_are_not_connected_by_an_operation(
    port: CompletionPort, net: Loopback
) -> None:
    sock = net.new_socket(kind=socket.SOCK_DGRAM)
    port.associate(sock)
    ended = attempt(port, lambda: port.connect(sock, ("127.0.0.1", 9)))
    assert ended.number in UNSUPPORTED
    assert ended.inline


@pytest.mark.statement("CON-11")
def test_a_socket_that_is_bound_already_keeps_its_address(
    port: CompletionPort, net: Loopback
) -> None:
    listener = net.listener()
    sock = net.bound()
    address = sock.getsockname()
    port.associate(sock)
    port.connect(sock, listener.getsockname())
    assert take(port).error == 0
    assert sock.getsockname() == accepted(net, listener).getpeername() == address


@pytest.mark.statement("CON-11")
def test_an_address_that_is_taken_may_show_at_the_connect(
    port: CompletionPort, net: Loopback, target: Target
) -> None:
    """Two sockets may be bound alike, but not have the same peer too."""
    listener = net.listener()
    socks = [net.new_socket() for _ in range(2)]
    for sock in socks:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0) if sock is socks[0] else socks[0].getsockname())
        port.associate(sock)
    assert not attempt(port, lambda: port.connect(socks[0], listener.getsockname())).number
    ended = attempt(port, lambda: port.connect(socks[1], listener.getsockname()))
    assert ended.error is not None
    if target.emulated and ended.number in {1214, 10049}:
        unsupported("the system says that there is no such address (10049)", "CON-11")
    assert ended.number in {52, 10048}


@pytest.mark.statement("CON-11")
@pytest.mark.parametrize("family", FAMILIES)
def test_an_unbound_socket_gets_an_address_of_its_own(
    port: CompletionPort, net: Loopback, family: Any
) -> None:
    listener = net.listener(family)
    socks = [net.new_socket(family) for _ in range(3)]
    for sock in socks:
        port.associate(sock)
        port.connect(sock, listener.getsockname())
    assert {completion.error for completion in collect(port, 3)} == {0}
    assert len({sock.getsockname()[1] for sock in socks} - {0}) == 3


def test_closing_while_connecting_ends_the_connect_once(
    port: CompletionPort, net: Loopback
) -> None:
    sock = net.new_socket()
    port.associate(sock, "client")
    port.connect(sock, silent_address(net))
    nothing_more(port)
    port.close_handle(sock)
    completion = take(port)
    assert completion.key == "client"
    assert completion.error in CLOSED_HERE


@pytest.mark.statement("CON-04")
def test_a_connect_whose_end_is_known_at_once_still_has_its_packet(
    port: CompletionPort, net: Loopback, tmp_path: Path
) -> None:
    """As that of a Unix socket is; here another thread waits, and the port has other changes."""
    if sys.platform == "win32":
        pytest.skip("Python has no Unix sockets here")
    listener = net.track(socket.socket(socket.AF_UNIX))
    listener.bind(str(tmp_path / "listener"))
    listener.listen()
    other, _ = net.tcp_pair()
    sock = net.track(socket.socket(socket.AF_UNIX))
    port.associate(other)
    port.associate(sock, "client")
    waiting = run(port.get, 30.0)
    wait_for_waiters(port, 1)
    port.close_handle(other)
    operation = port.connect(sock, str(tmp_path / "listener"))
    completion = waiting.result()
    assert completion is not None
    assert (completion.overlapped, completion.key, completion.error) == (operation, "client", 0)
    accepted(net, listener)


@pytest.mark.statement("CON-04", "EMU-21")
def test_a_refusal_that_is_known_at_once_still_has_its_packet(
    port: CompletionPort, net: Loopback, tmp_path: Path
) -> None:
    if sys.platform == "win32":
        pytest.skip("Python has no Unix sockets here")
    listener = net.track(socket.socket(socket.AF_UNIX))
    listener.bind(str(tmp_path / "listener"))
    listener.close()
    sock = net.track(socket.socket(socket.AF_UNIX))
    port.associate(sock)
    operation = port.connect(sock, str(tmp_path / "listener"))
    completion = take(port)
    assert completion.overlapped is operation
    assert completion.error in REFUSED


@pytest.mark.parametrize("data", [None, b"with it"], ids=repr)
@pytest.mark.statement("CON-04")
def test_a_connect_to_a_unix_listener_without_room_waits(
    port: CompletionPort, net: Loopback, tmp_path: Path, data: bytes | None
) -> None:
    if sys.platform != "linux":
        pytest.skip("elsewhere such a connect is refused, or there are no Unix sockets")
    listener = net.track(socket.socket(socket.AF_UNIX))
    listener.bind(str(tmp_path / "listener"))
    listener.listen(0)
    net.track(socket.socket(socket.AF_UNIX)).connect(str(tmp_path / "listener"))
    socks = [net.track(socket.socket(socket.AF_UNIX)) for _ in range(3)]
    for sock in socks:
        port.associate(sock)
    operations = [port.connect(sock, str(tmp_path / "listener"), data=data) for sock in socks]
    assert attempt(port, lambda: port.send(socks[0], b"x")).number in NOT_CONNECTED
    before = port.stats().get("polls", 0)
    assert port.get(timeout=0.1) is None
    assert port.stats().get("polls", 0) - before < 100, "a wait for room would spin"
    assert port.cancel(operations[1])
    completion = take(port)
    assert (completion.overlapped, completion.error) == (operations[1], 995)
    accepted(net, listener)
    for _ in range(2):
        completion = take(port)
        assert completion.error == 0
        assert completion.transferred == len(data or b"")
        peer = accepted(net, listener)
        if data is not None:
            assert receive_exactly(peer, len(data)) == data
    nothing_more(port)


@pytest.mark.parametrize(
    "address", [None, "127.0.0.1:80", ("127.0.0.1",), ("127.0.0.1", "http"), 80], ids=repr
)
def test_an_address_of_the_wrong_shape_is_refused_and_loses_nothing(
    port: CompletionPort, net: Loopback, address: Any
) -> None:
    listener = net.listener()
    sock = net.new_socket()
    port.associate(sock)
    with pytest.raises((TypeError, ValueError, OSError)):
        port.connect(sock, address)
    nothing_more(port)
    port.connect(sock, listener.getsockname())
    assert take(port).error == 0
