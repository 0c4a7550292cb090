"""Several operations started again by one call."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

import pytest

from netpoll import Overlapped, PortClosed
from netpoll.testing.attempts import NO_SOCKET, SHUT_DOWN, winerror
from netpoll.testing.drain import collect, nothing_more, take
from netpoll.testing.waiting import DEADLINE, run, wait_for_waiters

if TYPE_CHECKING:
    from netpoll import CompletionPort
    from netpoll.testing.pairs import Loopback


UDP: Final = socket.SOCK_DGRAM


def received(port: CompletionPort, net: Loopback, count: int) -> tuple[list[Any], list[Any]]:
    """Receives that have ended, each on a socket of its own, and the peers."""
    operations: list[Any] = []
    peers: list[Any] = []
    for _ in range(count):
        near, far = net.tcp_pair()
        port.associate(near)
        far.sendall(b"x")
        operations.append(port.recv_into(near, bytearray(10)))
        peers.append(far)
    collect(port, count)
    return operations, peers


def test_all_are_started_again(port: CompletionPort, net: Loopback) -> None:
    operations, peers = received(port, net, 3)
    assert port.resubmit_many(each for each in operations) == []
    assert [each.done for each in operations] == [False] * 3
    for number, peer in enumerate(peers):
        peer.sendall(b"%d" % number)
    assert {id(each.overlapped) for each in collect(port, 3)} == {id(each) for each in operations}
    assert [bytes(each.buffers[:1]) for each in operations] == [b"0", b"1", b"2"]
    nothing_more(port)


def test_none_is_nothing(port: CompletionPort) -> None:
    assert port.resubmit_many([]) == []
    assert port.inflight() == []


def test_those_of_one_socket_keep_their_order(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    sends = [port.send(near, b"%d" % number) for number in range(5)]
    collect(port, 5)
    assert far.recv(5) == b"01234"
    port.resubmit_many(reversed(sends))
    assert [each.overlapped for each in collect(port, 5)] == sends[::-1]
    assert far.recv(5) == b"43210"


@pytest.mark.statement("XFER-03")
def test_one_that_fails_at_once_harms_no_other(port: CompletionPort, net: Loopback) -> None:
    operations, peers = received(port, net, 4)
    port.close_handle(operations[0].handle)
    port.shutdown(operations[2].handle, socket.SHUT_RD)
    failed = port.resubmit_many(operations)
    assert [each for each, _ in failed] == [operations[0], operations[2]]
    for (operation, error), numbers in zip(failed, (NO_SOCKET, SHUT_DOWN), strict=True):
        assert winerror(error) in numbers
        assert operation.done
    for peer in (peers[1], peers[3]):
        peer.sendall(b"y")
    ended = {id(each.overlapped) for each in collect(port, 2)}
    assert ended == {id(operations[1]), id(operations[3])}
    nothing_more(port)


def test_what_goes_along_after_one_with_something_in_its_way(
    port: CompletionPort, net: Loopback
) -> None:
    """A timeout, say, which takes the longer way."""
    operations, peers = received(port, net, 3)
    near, far = net.tcp_pair()
    port.associate(near)
    far.sendall(b"x")
    operations.insert(1, port.recv_into(near, bytearray(10), timeout=DEADLINE))
    take(port)
    assert port.resubmit_many(operations) == []
    for peer in (far, *peers):
        peer.sendall(b"z")
    assert {id(each.overlapped) for each in collect(port, 4)} == {id(each) for each in operations}
    nothing_more(port)


def test_a_closed_port_says_so(port: CompletionPort, net: Loopback) -> None:
    operations, _ = received(port, net, 2)
    port.close()
    with pytest.raises(PortClosed):
        port.resubmit_many(operations)


@pytest.mark.parametrize("first", [0, 1])
def test_several_are_started_while_another_thread_waits(
    port: CompletionPort, net: Loopback, first: int
) -> None:
    operations, peers = received(port, net, 4)
    waiter = run(lambda: collect(port, 4 - first))
    wait_for_waiters(port, 1)
    assert port.resubmit_many(operations[first:]) == []
    for peer in peers[first:]:
        peer.sendall(b"x")
    ended = {id(each.overlapped) for each in waiter.result(DEADLINE)}
    assert ended == {id(each) for each in operations[first:]}


@pytest.mark.statement("OVL-06")
def test_the_first_that_is_refused_ends_it(port: CompletionPort, net: Loopback) -> None:
    operations, peers = received(port, net, 3)
    port.resubmit(operations[1])
    with pytest.raises(RuntimeError, match="in use"):
        port.resubmit_many(operations)
    assert [each.done for each in operations] == [False, False, True]
    with pytest.raises(ValueError, match="not prepared on this port"):
        port.resubmit_many([operations[2], Overlapped[int](), operations[0]])
    for peer in peers:
        peer.sendall(b"y")
    assert {each.transferred for each in collect(port, 3)} == {1}
    nothing_more(port)


def test_datagrams_among_others(port: CompletionPort, net: Loopback) -> None:
    (stream,), (far,) = received(port, net, 1)
    near, peer = net.bound(kind=UDP), net.bound(kind=UDP)
    port.associate(near)
    receives = [port.recvfrom_into(near, bytearray(10)) for _ in range(3)]
    for again in (True, False):
        for number in range(3):
            peer.sendto(b"%d" % number, near.getsockname())
        assert [each.overlapped for each in collect(port, 3)] == receives
        assert [bytes(each.buffers[:1]) for each in receives] == [b"0", b"1", b"2"]
        if again:
            port.resubmit_many([receives[0], stream, *receives[1:]])
            far.sendall(b"x")
            assert take(port).overlapped is stream
