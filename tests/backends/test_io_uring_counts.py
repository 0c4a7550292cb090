"""What an echo costs on the io_uring backend in system calls and in memory, and what a connection
costs that has nothing to say: counted, not timed."""

from __future__ import annotations

import gc
import platform
import socket
import sys
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from backends.uring import grown, needs_io_uring

import netpoll
from netpoll import CompletionPort, Overlapped
from netpoll.testing.pairs import receive_exactly
from netpoll.testing.waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netpoll.testing.pairs import Loopback

pytestmark = needs_io_uring

SIZE = 64
MESSAGE = b"m" * SIZE
ROUNDS = 20
MOST_CALLS = {1: 2.0, 10: 0.2, 100: 0.10, 500: 0.10}
"""System calls per message, at most, by the number of connections that talk at the same time. With
one, the wait behind the send ends at once, with the send; the one behind the receive follows."""
MOST_CALLS_PER_CONNECTION = 5.0
"""Of the ring, one after the other: the waits for the accept, the receive and the send, the next
receive, which its cancel hands over, and the look for the end of that."""
BLOCKS = 20
"""Blocks of memory that all the messages together may leave behind: a cache that grew."""
MOST_IDLE = 2048
"""Bytes of netpoll's for a connection that waits for data."""
IDLE = 10_000


class Echo:
    """A connection of the server: its two operations are prepared once, and resubmitted."""

    def __init__(self, port: CompletionPort, sock: socket.socket) -> None:
        self.send = Overlapped[int](self)
        buffer = bytearray(SIZE)
        self.receive = port.recv_into(sock, buffer, overlapped=Overlapped(self))


def serve(port: CompletionPort, messages: int) -> None:
    """Answer that many messages; returns when the last is out."""
    resubmit = port.resubmit
    while messages:
        batch = port.get_many(timeout=DEADLINE)
        assert batch, "no more completions"
        for completion in batch:
            operation = completion.overlapped
            echo: Echo = operation.context
            if operation is echo.send:
                messages -= 1
                resubmit(echo.receive)
            elif echo.send.opcode is None:
                port.send(operation.handle, operation.buffers, overlapped=echo.send)
            else:
                resubmit(echo.send)


@pytest.fixture
def port(net: Loopback) -> Iterator[CompletionPort]:
    with CompletionPort("io_uring") as port:
        yield port


class Clients:
    """Many connections to a server in the same thread, in lockstep with it."""

    def __init__(self, port: CompletionPort, net: Loopback, count: int) -> None:
        self.port = port
        self.peers: list[socket.socket] = []
        self.echoes: list[Echo] = []
        for _ in range(count):
            near, far = net.tcp_pair()
            port.associate(near)
            self.peers.append(far)
            self.echoes.append(Echo(port, near))
        self.exchange(2)  # what is done once for each connection is not of interest

    def exchange(self, rounds: int) -> None:
        for _ in range(rounds):
            for peer in self.peers:
                peer.sendall(MESSAGE)
            serve(self.port, len(self.peers))
            for peer in self.peers:
                assert receive_exactly(peer, SIZE) == MESSAGE


@pytest.mark.parametrize("connections", MOST_CALLS)
def test_a_message_is_a_small_share_of_a_system_call(
    port: CompletionPort, net: Loopback, connections: int
) -> None:
    clients = Clients(port, net, connections)
    before = port.stats()
    clients.exchange(ROUNDS)
    counted = grown(port, before)
    messages = connections * ROUNDS
    assert counted["taken"] == 2 * messages
    assert counted["wakes"] == 0  # a system call too, and nobody else is there to be woken
    calls = counted["enters"] / messages
    assert calls <= MOST_CALLS[connections], f"{counted['enters']} for {messages} messages"


def test_a_connection_with_one_message_is_a_few_system_calls_of_the_ring(
    port: CompletionPort, net: Loopback
) -> None:
    """Accepted, echoed to and closed: what is started for the first time is tried by a plain system
    call, and not handed over by one of its own each."""
    listener = net.listener()
    port.associate(listener)
    accept = port.accept(listener)
    peers: list[socket.socket] = []
    before = port.stats()
    for _ in range(ROUNDS):
        peer = net.track(socket.create_connection(listener.getsockname()))
        peers.append(peer)
        peer.sendall(MESSAGE)
        [accepted] = port.get_many(timeout=DEADLINE)
        connection, _ = accepted.result()
        port.resubmit(accept)
        port.associate(connection)
        Echo(port, connection)
        serve(port, 1)
        assert receive_exactly(peer, SIZE) == MESSAGE
        port.close_handle(connection)
        while port.get_many(timeout=0):  # of the receive that was pending
            continue
    calls = grown(port, before)["enters"] / ROUNDS
    assert calls <= MOST_CALLS_PER_CONNECTION, f"{calls} for each connection"
    port.cancel(accept)
    port.get(timeout=DEADLINE)


# -- memory ----------------------------------------------------------------------------------------

cpython = pytest.mark.skipif(
    platform.python_implementation() != "CPython", reason="only CPython counts its allocations"
)
OURS = tracemalloc.Filter(True, str(Path(netpoll.__file__).parent / "*"))


@cpython
def test_a_resubmitted_operation_allocates_nothing_that_stays(
    port: CompletionPort, net: Loopback
) -> None:
    clients = Clients(port, net, 10)
    clients.exchange(50)
    gc.collect()
    before = sys.getallocatedblocks()
    clients.exchange(500)
    gc.collect()
    grown = sys.getallocatedblocks() - before
    assert grown <= BLOCKS, f"{grown} blocks more after 10,000 operations"


@pytest.fixture
def idle_pairs(net: Loopback) -> Iterator[int]:
    """How many connected pairs this process may have; both ends of each are connections."""
    if sys.platform == "win32":
        pytest.skip("Windows has no limit to raise")
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = IDLE + 100 if hard == resource.RLIM_INFINITY else min(hard, IDLE + 100)
    if most < 4100:
        pytest.skip(f"no more than {hard} open files are allowed here, 4100 are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    yield (most - 100) // 2
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@cpython
def test_ten_thousand_idle_connections_cost_little_each(
    port: CompletionPort, net: Loopback, idle_pairs: int
) -> None:
    """Each has a receive of no bytes pending. The sockets, and the kernel, are not counted."""
    socks: list[socket.socket] = []
    for _ in range(idle_pairs):
        socks += [net.track(each) for each in socket.socketpair()]
    operations: list[Overlapped[bytes]] = []
    gc.collect()
    tracemalloc.start()
    try:
        for sock in socks:
            port.associate(sock)
            operations.append(port.recv(sock, 0))
        assert port.get(timeout=0) is None
        gc.collect()
        traces = tracemalloc.take_snapshot().filter_traces([OURS]).traces
        each = sum(trace.size for trace in traces) / len(socks)
    finally:
        tracemalloc.stop()
    assert len(port.inflight()) == len(socks)
    assert each <= MOST_IDLE, f"{each:.0f} bytes for each of {len(socks)}"
    port.close()


def test_looks_at_nothing_make_few_system_calls(port: CompletionPort) -> None:
    port.get_many(timeout=0)
    before = port.stats()
    for _ in range(64):
        assert port.get_many(timeout=0) == []
    assert 1 <= grown(port, before)["enters"] <= 64 / 16 + 1


def test_a_look_finds_what_has_come(port: CompletionPort, net: Loopback) -> None:
    """Whether the kernel has told of it in the ring, or has work to do for it first."""
    near, far = net.tcp_pair()
    port.associate(near)
    receive = port.recv_into(near, bytearray(SIZE))
    for _ in range(50):
        assert port.get_many(timeout=0) == []
        far.sendall(MESSAGE)
        deadline = time.monotonic() + DEADLINE
        while not (batch := port.get_many(timeout=0)):
            assert time.monotonic() < deadline
        assert [done.overlapped for done in batch] == [receive]
        port.resubmit(receive)
