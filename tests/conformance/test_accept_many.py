"""Accepting by the batch: whoever is there, each exactly once, and none lost."""

from __future__ import annotations

import functools
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from netpoll.testing.accepted import CLOSED_HERE
from netpoll.testing.attempts import INVALID, attempt
from netpoll.testing.drain import collect, nothing_more, take
from netpoll.testing.pairs import receive_exactly, reset, wait_readable
from netpoll.testing.waiting import wait_until

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from netpoll import Completion, CompletionPort
    from netpoll.testing.pairs import Loopback


def clients(net: Loopback, listener: socket.socket, count: int) -> list[socket.socket]:
    """Clients whose connections are there, in this order."""
    made: list[socket.socket] = []
    for _ in range(count):
        client = net.new_socket(listener.family)
        client.connect(listener.getsockname())
        made.append(client)
    return made


def names(net: Loopback, completion: Completion) -> list[Any]:
    """Who was accepted; the sockets are closed with the others."""
    accepted = completion.result()
    for sock, _ in accepted:
        net.track(sock).settimeout(30)
    return [address for _, address in accepted]


@pytest.mark.statement("ACC-07", "ACC-13")
def test_all_that_wait_are_accepted_in_order(port: CompletionPort, net: Loopback) -> None:
    listener = net.listener()
    port.associate(listener, "listener")
    there = clients(net, listener, 10)
    wait_readable(listener)
    operation = port.accept_many(listener)
    completion = take(port)
    assert completion.overlapped is operation
    assert (completion.key, completion.error, completion.transferred) == ("listener", 0, 0)
    assert names(net, completion) == [each.getsockname() for each in there]
    for client, (sock, _) in zip(there, completion.result(), strict=True):
        assert (sock.getsockname(), sock.getpeername()) == (
            client.getpeername(),
            client.getsockname(),
        )
        assert not sock.get_inheritable()
        client.sendall(b"ping")
        assert receive_exactly(sock, 4) == b"ping"


@pytest.mark.statement("ACC-07")
def test_it_waits_for_the_first(port: CompletionPort, net: Loopback) -> None:
    listener = net.listener()
    port.associate(listener)
    port.accept_many(listener)
    nothing_more(port)
    (client,) = clients(net, listener, 1)
    completion = take(port)
    assert names(net, completion) == [client.getsockname()]
    port.associate(completion.result()[0][0], "connection")
    port.recv(completion.result()[0][0], 10)
    client.sendall(b"ping")
    completion = take(port)
    assert (completion.key, completion.result()) == ("connection", b"ping")


def test_the_accepted_sockets_block_like_any_other(port: CompletionPort, net: Loopback) -> None:
    listener = net.listener()
    port.associate(listener)
    there = clients(net, listener, 2)
    wait_readable(listener)
    port.accept_many(listener)
    accepted = take(port).result()
    for client, (sock, _) in zip(there, accepted, strict=True):
        net.track(sock)
        assert sock.gettimeout() is None
        client.close()
        assert sock.recv(1) == b""


def test_there_is_a_limit_and_the_rest_comes_next(port: CompletionPort, net: Loopback) -> None:
    listener = net.listener()
    port.associate(listener)
    expected = [each.getsockname() for each in clients(net, listener, 7)]
    wait_readable(listener)
    operation = port.accept_many(listener, limit=3)
    batches = [names(net, take(port))]
    for _ in range(2):
        port.resubmit(operation)
        batches.append(names(net, take(port)))
    assert batches == [expected[:3], expected[3:6], expected[6:]]
    port.resubmit(operation)
    nothing_more(port)
    assert port.cancel(operation)
    assert take(port).error == 995


@pytest.mark.statement("ACC-13")
def test_it_stands_in_the_line_of_the_accepts(port: CompletionPort, net: Loopback) -> None:
    listener = net.listener()
    port.associate(listener)
    first, second, third = port.accept(listener), port.accept_many(listener), port.accept(listener)
    (one,) = clients(net, listener, 1)
    completion = take(port)
    assert completion.overlapped is first
    net.track(completion.result()[0])
    assert completion.result()[1] == one.getsockname()
    (two,) = clients(net, listener, 1)
    completion = take(port)
    assert completion.overlapped is second
    assert names(net, completion) == [two.getsockname()]
    (three,) = clients(net, listener, 1)
    completion = take(port)
    assert completion.overlapped is third
    net.track(completion.result()[0])
    assert completion.result()[1] == three.getsockname()


@pytest.mark.statement("ACC-12")
@pytest.mark.parametrize("pending", [True, False], ids=["pending", "later"])
def test_clients_that_are_gone_are_no_error(
    port: CompletionPort, net: Loopback, pending: bool
) -> None:
    listener = net.listener()
    port.associate(listener)
    good: set[Any] = set()

    def come() -> None:
        for number in range(6):
            (client,) = clients(net, listener, 1)
            if number % 2:
                good.add(client.getsockname())
            else:
                reset(client)

    operation = port.accept_many(listener)
    if pending:
        nothing_more(port)
    come()
    seen: set[Any] = set()
    while not good <= seen:
        completion = port.get(timeout=30)
        assert completion is not None
        assert completion.error == 0
        seen.update(names(net, completion))
        port.resubmit(operation)
    port.cancel(operation)
    completion = take(port)
    if not completion.error:
        names(net, completion)


@pytest.mark.statement("CAN-05", "CAN-10")
def test_a_cancel_loses_no_connection(port: CompletionPort, net: Loopback) -> None:
    listener = net.listener()
    port.associate(listener)
    operation = port.accept_many(listener)
    expected: set[Any] = set()
    seen: list[Any] = []
    for _ in range(20):
        expected.update(each.getsockname() for each in clients(net, listener, 2))
        port.cancel(operation)
        completion = port.get(timeout=30)
        assert completion is not None
        if not completion.error:
            seen += names(net, completion)
        port.resubmit(operation)
    while len(seen) < len(expected):
        completion = port.get(timeout=30)
        assert completion is not None
        seen += names(net, completion)
        port.resubmit(operation)
    assert sorted(seen) == sorted(expected)
    assert port.cancel(operation)
    assert take(port).error == 995


@pytest.mark.statement("CLOSE-01")
def test_closing_the_listener_ends_it(port: CompletionPort, net: Loopback) -> None:
    listener = net.listener()
    port.associate(listener)
    operation = port.accept_many(listener)
    nothing_more(port)
    port.close_handle(listener)
    completion = take(port)
    assert completion.overlapped is operation
    assert completion.error in CLOSED_HERE


@pytest.mark.statement("ACC-02")
def test_many_accepts_on_what_does_not_listen_are_refused(
    port: CompletionPort, net: Loopback
) -> None:
    for sock in (net.new_socket(), net.bound(), net.tcp_pair()[0]):
        port.associate(sock)
        ended = attempt(port, functools.partial(port.accept_many, sock))
        assert ended.number in INVALID
        assert ended.inline  # as an accept is


@pytest.mark.parametrize("limit", [0, -1, 1.5, None])
def test_a_limit_is_a_number(port: CompletionPort, net: Loopback, limit: Any) -> None:
    listener = net.listener()
    with pytest.raises(ValueError, match="limit"):
        port.accept_many(listener, limit=limit)
    nothing_more(port)


@pytest.fixture
def room_for() -> Iterator[Callable[[int], None]]:
    """Leaves the process that many descriptors."""
    if sys.platform == "win32":
        pytest.skip("Windows has no limit to lower")
    import resource

    kind, set_limit = resource.RLIMIT_NOFILE, resource.setrlimit
    before = resource.getrlimit(kind)

    def leave(count: int) -> None:
        free = [os.dup(0) for _ in range(count + 1)]  # numbers in use may stand between them
        for each in free:
            os.close(each)
        set_limit(kind, (free[count], before[1]))

    yield leave
    set_limit(kind, before)


def test_what_was_accepted_before_the_descriptors_ran_out_is_given(
    port: CompletionPort, net: Loopback, room_for: Callable[[int], None]
) -> None:
    listener = net.listener()
    port.associate(listener)
    expected = [each.getsockname() for each in clients(net, listener, 5)]
    wait_readable(listener)
    room_for(3)
    operation = port.accept_many(listener)
    completion = take(port)
    first = names(net, completion)
    assert first == expected[:3]
    accepted = completion.result()
    port.resubmit(operation)
    assert port.get(timeout=0.05) is None
    for sock, _ in accepted:
        sock.close()
    completion = take(port)
    assert first + names(net, completion) == expected


@pytest.mark.statement("CLOSE-01")
@pytest.mark.parametrize("how", ["accept", "accept_many"])
def test_an_accept_that_waits_for_a_descriptor_ends_with_its_listener(
    port: CompletionPort, net: Loopback, room_for: Callable[[int], None], how: str
) -> None:
    listener = net.listener()
    port.associate(listener)
    clients(net, listener, 1)
    wait_readable(listener)
    room_for(0)
    first, second = getattr(port, how)(listener), getattr(port, how)(listener)
    assert port.get(timeout=0.05) is None
    port.close_handle(listener)
    ended = collect(port, 2)
    assert {each.overlapped for each in ended} == {first, second}
    assert all(each.error in CLOSED_HERE for each in ended)


def test_a_crowd_is_accepted_whole(port: CompletionPort, net: Loopback) -> None:
    listener = net.listener()
    port.associate(listener)
    operations = [port.accept_many(listener, limit=7) for _ in range(4)]
    expected: set[Any] = set()
    seen: list[Any] = []
    for _ in range(10):
        expected.update(each.getsockname() for each in clients(net, listener, 15))
        while completion := port.get(timeout=0):
            batch = names(net, completion)
            assert 1 <= len(batch) <= 7
            seen += batch
            port.resubmit(completion.overlapped)

    def all_seen() -> bool:
        for completion in port.get_many(timeout=0):
            seen.extend(names(net, completion))
            port.resubmit(completion.overlapped)
        return len(seen) >= len(expected)

    wait_until(all_seen, "every client accepted")
    assert sorted(seen) == sorted(expected)
    for operation in operations:
        assert port.cancel(operation)
    assert {each.error for each in collect(port, 4)} == {995}
