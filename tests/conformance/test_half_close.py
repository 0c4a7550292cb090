"""Half-closed connections: each direction ends on its own."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from netpoll import status as nt
from netpoll.testing.attempts import (
    NO_SOCKET,
    SHUT_DOWN,
    attempt,
    clog,
    pattern,
    read_to_end,
    winerror,
)
from netpoll.testing.drain import collect, nothing_more, take
from netpoll.testing.pairs import receive_exactly
from netpoll.testing.waiting import run

if TYPE_CHECKING:
    from netpoll import CompletionPort
    from netpoll.testing.pairs import Loopback


@pytest.mark.statement("RECV-04", "SEND-04")
def test_the_peer_s_end_comes_while_a_send_is_pending(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair(buffer=16384)
    port.associate(near)
    data = pattern(2 << 20)
    sending = port.send(near, data)
    receiving = port.recv(near, 10)
    far.sendall(b"bye")
    far.shutdown(socket.SHUT_WR)
    completion = take(port)
    assert (completion.overlapped, completion.result()) == (receiving, b"bye")
    port.recv(near, 10)
    assert take(port).result() == b""
    assert [record.overlapped for record in port.inflight()] == [sending]
    reading = run(receive_exactly, far, len(data))
    completion = take(port)
    assert (completion.overlapped, completion.result()) == (sending, len(data))
    assert reading.result() == data


@pytest.mark.statement("RECV-04")
def test_after_the_peer_s_end_sending_goes_on(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    far.shutdown(socket.SHUT_WR)
    port.recv(near, 10)
    assert take(port).result() == b""
    for number in range(5):
        port.send(near, b"%d" % number)
        assert take(port).result() == 1
    assert receive_exactly(far, 5) == b"01234"


@pytest.mark.statement("SEND-06")
def test_after_our_end_receiving_goes_on(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    pending = port.recv(near, 4)
    nothing_more(port)
    port.shutdown(near, socket.SHUT_WR)
    assert read_to_end(far) == b""
    far.sendall(b"datamore")
    completion = take(port)
    assert (completion.overlapped, completion.result()) == (pending, b"data")
    port.recv(near, 10)
    assert take(port).result() == b"more"
    assert attempt(port, lambda: port.send(near, b"x")).number in SHUT_DOWN


@pytest.mark.statement("SEND-06")
def test_the_program_s_own_shutdown_of_sending_counts_as_well(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    port.send(near, b"x")
    assert take(port).result() == 1
    near.shutdown(socket.SHUT_WR)
    assert read_to_end(far) == b"x"
    assert attempt(port, lambda: port.send(near, b"y")).number in SHUT_DOWN
    far.sendall(b"back")
    port.recv(near, 10)
    assert take(port).result() == b"back"


@pytest.mark.statement("SEND-07")
def test_ends_in_both_directions_with_everything_delivered(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair(buffer=16384)
    port.associate(near)
    data = pattern(1 << 20)
    sending = port.send(near, data)
    port.shutdown(near, socket.SHUT_WR)
    far.sendall(b"answer")
    far.shutdown(socket.SHUT_WR)
    reading = run(read_to_end, far)
    received = b""
    port.recv(near, 4)
    sent = False
    while True:
        completion = port.get(30.0)
        assert completion is not None
        assert completion.error == 0
        if completion.overlapped is sending:
            sent = True
            continue
        part = completion.result()
        if not part:
            break
        received += part
        port.recv(near, 4)
    if not sent:
        assert take(port).overlapped is sending
    assert received == b"answer"
    assert reading.result() == data
    port.close_handle(near)
    nothing_more(port)


@pytest.mark.statement("RECV-09", "SEND-06")
def test_shutting_both_directions_down(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    port.shutdown(near, socket.SHUT_RDWR)
    assert read_to_end(far) == b""
    assert attempt(port, lambda: port.recv(near, 10)).number in SHUT_DOWN
    assert attempt(port, lambda: port.send(near, b"x")).number in SHUT_DOWN


@pytest.mark.statement("SEND-07")
def test_a_cancelled_send_does_not_hold_back_the_end(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    filled = clog(near)
    operation = port.send(near, b"never")
    port.shutdown(near, socket.SHUT_WR)
    assert operation.cancel()
    reading = run(read_to_end, far)
    assert take(port).error == 995
    assert port.get(timeout=0) is None
    assert len(reading.result()) == filled


def test_shutting_down_an_unconnected_socket_is_refused(
    port: CompletionPort, net: Loopback
) -> None:
    sock = net.new_socket()
    port.associate(sock)
    for how in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
        with pytest.raises(OSError, match="not connected"):
            port.shutdown(sock, how)


def test_several_ends_of_one_connection_are_one(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    receives = [port.recv(near, 10) for _ in range(4)]
    port.shutdown(near, socket.SHUT_WR)
    port.shutdown(near, socket.SHUT_WR)
    assert read_to_end(far) == b""
    far.close()
    ended = collect(port, 4)
    assert {completion.overlapped for completion in ended} == set(receives)
    assert [completion.result() for completion in ended] == [b""] * 4


def test_shutting_down_again_after_both_ends_is_harmless(
    port: CompletionPort, net: Loopback
) -> None:
    """POSIX says that the socket has no peer any more (found by the differential test)."""
    near, far = net.tcp_pair()
    port.associate(near)
    port.shutdown(near, socket.SHUT_WR)
    far.shutdown(socket.SHUT_WR)
    port.recv(near, 10)
    assert take(port).result() == b""
    for how in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
        port.shutdown(near, how)


@pytest.mark.statement("XFER-08")
def test_a_closed_socket_cannot_be_shut_down(port: CompletionPort, net: Loopback) -> None:
    """On iocp the number was another one (found by the differential test)."""
    near, _ = net.tcp_pair()
    port.associate(near)
    port.close_handle(near)
    for how in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
        with pytest.raises(OSError, match="closed") as caught:
            port.shutdown(near, how)
        assert winerror(caught.value) in NO_SOCKET
        assert vars(caught.value)["status"] == nt.STATUS_INVALID_HANDLE
