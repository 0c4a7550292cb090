"""Many at once: threads on one port, connections, clients that reset around each accept."""

from __future__ import annotations

import random
import socket
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from stress.echo import EchoServer

from netpoll import Overlapped
from netpoll.testing.attempts import pattern
from netpoll.testing.pairs import receive_exactly, reset
from netpoll.testing.waiting import DEADLINE, run, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netpoll import CompletionPort
    from netpoll.testing.backends import Target
    from netpoll.testing.fixtures import MakePort
    from netpoll.testing.pairs import Loopback

STOP = object()
CONNECTIONS = 1000


# -- four threads, of which two run ---------------------------------------------------------------


class Ledger:
    """What came over one connection. One receive at a time: no two threads ever touch it."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.near = near
        self.far = far
        self.buffer = bytearray(50)
        self.received = bytearray()
        self.ended = False


def receive_and_resubmit(port: CompletionPort, posted: list[int]) -> None:
    """One of the threads."""
    while completion := port.get(DEADLINE):
        if completion.key is STOP:
            return
        if completion.overlapped is None:
            posted.append(completion.transferred)
            continue
        ledger, moved = completion.overlapped.context, completion.result()
        ledger.received += ledger.buffer[:moved]
        ledger.ended = not moved
        if moved:
            port.resubmit(completion.overlapped)


@pytest.mark.statement("PORT-29")
def test_four_threads_on_a_port_with_a_concurrency_of_two(
    make_port: MakePort, net: Loopback, seed: int, full: bool
) -> None:
    rng = random.Random(seed)
    port = make_port(concurrency=2)
    ledgers = [Ledger(*net.tcp_pair()) for _ in range(16)]
    posted: list[int] = []
    threads = [run(receive_and_resubmit, port, posted) for _ in range(4)]
    for ledger in ledgers:
        port.associate(ledger.near)
        port.recv_into(ledger.near, ledger.buffer, overlapped=Overlapped(ledger))
    stream = pattern(1 << 20)
    rounds = 20_000 if full else 2000
    sent = [0] * len(ledgers)
    for number in range(rounds):
        index = rng.randrange(len(ledgers))
        piece = stream[sent[index] : sent[index] + rng.randrange(1, 100)]
        ledgers[index].far.sendall(piece)
        sent[index] += len(piece)
        port.post(number)
    for ledger in ledgers:
        ledger.far.shutdown(socket.SHUT_WR)
    wait_until(lambda: all(ledger.ended for ledger in ledgers), "the ends of all streams")
    wait_until(lambda: len(posted) >= rounds, "every packet that was posted")
    for _ in threads:
        port.post(key=STOP)
    for thread in threads:
        thread.result()
    assert sorted(posted) == list(range(rounds))
    for count, ledger in zip(sent, ledgers, strict=True):
        assert bytes(ledger.received) == stream[:count]


# -- a thousand connections -----------------------------------------------------------------------


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Room for both ends of all connections."""
    if sys.platform == "win32":
        yield
        return
    import resource

    needed = 2 * CONNECTIONS + 200
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"this machine allows {hard} open files, and {needed} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
def test_a_thousand_connections(target: Target, port: CompletionPort, net: Loopback) -> None:
    if target.options.get("selector") == "select":
        pytest.skip("select() takes 512 sockets on Windows, and numbers below 1024 elsewhere")
    server = EchoServer(port, net.listener())
    with ExitStack() as clients:
        connected = [
            clients.enter_context(socket.create_connection(server.address, DEADLINE))
            for _ in range(CONNECTIONS)
        ]
        wait_until(lambda: len(server.connections) == CONNECTIONS, "every client being accepted")
        for number, client in enumerate(connected):
            client.sendall(number.to_bytes(4, "big"))
        for number, client in enumerate(connected):
            assert receive_exactly(client, 4) == number.to_bytes(4, "big")
        for client in connected[::2]:
            reset(client)
        for client in connected[1::2]:
            client.sendall(pattern(1000))
        for client in connected[1::2]:
            assert receive_exactly(client, 1000) == pattern(1000)
    wait_until(lambda: not server.connections, "every connection having been dropped")
    server.stop()


# -- clients that reset around an accept ----------------------------------------------------------


@pytest.mark.statement("ACC-12")
def test_a_listener_survives_resets_before_during_and_after_each_accept(
    port: CompletionPort, net: Loopback, seed: int, full: bool
) -> None:
    rng = random.Random(seed)
    listener = net.listener()
    address = listener.getsockname()
    port.associate(listener)
    rounds = 10_000 if full else 200
    taken = 0
    for _ in range(rounds):
        bad, when = socket.socket(), rng.choice(("before", "during", "after"))
        if when != "during":
            bad.connect(address)
        if when == "before":
            reset(bad)
        operation = port.accept(listener)
        if when == "during":
            bad.setblocking(False)
            bad.connect_ex(address)
        if when != "before":
            reset(bad)
        with socket.create_connection(address, DEADLINE) as good:
            while take_client(port, operation) != good.getsockname():
                operation = port.accept(listener)
                taken += 1
        taken += 1
    assert port.inflight() == []
    assert port.stats()["taken"] == taken
    assert taken > rounds, "no client was accepted before its reset was seen"


def take_client(port: CompletionPort, operation: Overlapped[Any]) -> object:
    """Take the completion of an accept and close what was accepted; the client's address."""
    completion = port.get(DEADLINE)
    assert completion is not None
    assert completion.overlapped is operation
    sock, address = completion.result()
    sock.close()
    return address
