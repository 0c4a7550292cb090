"""What a thread of the relay still does with a connection that another one has just ended.

A thread takes a completion from the port, and goes on with the connection a moment later. Here the
test is all the threads: it holds a completion back, as a thread that was not scheduled does, ends
the connection meanwhile, and lets the held one go on.
"""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING

import pytest

from netpoll import Opcode
from netpoll.cli.servers.connection import DROPPED, RESET
from netpoll.cli.servers.forward import Forward
from netpoll.cli.servers.server import Server
from netpoll.testing.waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Generator

    from netpoll import Completion, CompletionPort
    from netpoll.cli.options import Address
    from netpoll.cli.servers.connection import Connection
    from netpoll.testing.pairs import Loopback


class Bench:
    """A relay without threads, its clients, and a listener for its other side."""

    def __init__(self, port: CompletionPort, net: Loopback, log: pytest.LogCaptureFixture) -> None:
        self.port = port
        self.net = net
        self._log = log
        self.upstream = net.listener()
        self.upstream.settimeout(DEADLINE)
        self.serve(Forward([address_of(self.upstream)], 4096, DEADLINE))

    def serve(self, service: Forward) -> None:
        """What the relay does with its clients."""
        self._service = service
        self.server = Server(self.port, self.net.listener(), service)

    def open(self) -> Connection:
        """The connection of one more client; its connect has been started."""
        near, self.client = self.net.tcp_pair()
        prepared = self.net.track(self._service.prepare())
        connection = self._service.connection(self.server, near, prepared)
        self.server.began(connection)
        connection.open()
        return connection

    def connected(self) -> Connection:
        """A connection with both receives in flight."""
        connection = self.open()
        self.take(Opcode.CONNECT, into=connection)
        self.far = self.net.track(self.upstream.accept()[0])
        return connection

    def take(self, opcode: Opcode, into: Connection | None = None) -> Completion:
        """The next completion, which is of that kind; `into` goes on from there."""
        completion = self.port.get(DEADLINE)
        assert completion is not None
        assert completion.overlapped.opcode is opcode
        if into is not None:
            into.completed(completion)
        return completion

    def finish(self, connection: Connection) -> dict[str, int]:
        """Let it go on until it has ended, with nothing said of it; how that is counted."""
        while self.server.figures().connections:
            completion = self.port.get(DEADLINE)
            assert completion is not None
            connection.completed(completion)
        assert all(sock.fileno() < 0 for sock in connection.sockets)
        assert self.port.inflight() == []
        assert self._log.messages == []
        return self.server.figures().outcomes


def address_of(sock: socket.socket) -> Address:
    return socket.AF_INET, sock.getsockname()


@pytest.fixture
def bench(
    port: CompletionPort, net: Loopback, caplog: pytest.LogCaptureFixture
) -> Generator[Bench]:
    with caplog.at_level(logging.WARNING, logger="netpoll"):
        yield Bench(port, net, caplog)


def test_a_send_has_ended_and_its_connection_is_reset_before_the_next_receive(
    bench: Bench,
) -> None:
    connection = bench.connected()
    bench.client.sendall(b"half of")
    bench.take(Opcode.RECV_INTO, into=connection)
    held = bench.take(Opcode.SEND)
    connection.fail(ConnectionResetError())  # of the other side
    connection.completed(held)
    assert bench.finish(connection) == {RESET: 1}


def test_data_has_come_and_the_connection_is_dropped_before_it_is_passed_on(bench: Bench) -> None:
    connection = bench.connected()
    bench.client.sendall(b"never arrives")
    held = bench.take(Opcode.RECV_INTO)
    connection.drop()
    connection.completed(held)
    assert bench.finish(connection) == {DROPPED: 1}


def test_it_is_connected_and_dropped_before_the_pumps_start(bench: Bench) -> None:
    connection = bench.open()
    held = bench.take(Opcode.CONNECT)
    connection.drop()
    connection.completed(held)
    assert bench.finish(connection) == {DROPPED: 1}


def test_its_receives_have_ended_for_good_and_it_is_dropped_before_the_streams_are(
    bench: Bench,
) -> None:
    connection = bench.connected()
    connection.finish()
    held = [bench.take(Opcode.RECV_INTO) for _ in range(2)]
    connection.drop()
    for completion in held:
        connection.completed(completion)
    assert bench.finish(connection) == {DROPPED: 1}


def test_it_is_dropped_between_two_addresses(bench: Bench) -> None:
    class Late(Forward):
        """Ends the connection at the last moment: when the socket for the next address is made."""

        made: socket.socket | None = None

        def make_socket(self, family: int) -> socket.socket:
            sock = super().make_socket(family)
            if connections:
                connections.pop().drop()
                self.made = sock
            return sock

    connections: list[Connection] = []
    refusing = address_of(bench.net.bound())
    service = Late([refusing, address_of(bench.upstream)], 4096, DEADLINE)
    bench.serve(service)
    connection = bench.open()
    connections.append(connection)
    bench.take(Opcode.CONNECT, into=connection)
    assert bench.finish(connection) == {DROPPED: 1}
    assert service.made is not None
    assert service.made.fileno() < 0
    bench.upstream.settimeout(0)
    with pytest.raises(BlockingIOError):
        bench.upstream.accept()


def test_its_accept_has_ended_and_the_patience_with_connections_is_over(bench: Bench) -> None:
    bench.server.drain(0.0)
    connection = bench.open()
    assert bench.finish(connection) == {DROPPED: 1}
