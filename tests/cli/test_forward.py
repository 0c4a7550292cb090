"""The relay's connection upstream, in this process."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import pytest
from cli.peers import connect, listener

import netpoll
from netpoll.cli.servers.forward import Forward
from netpoll.cli.servers.server import Server
from netpoll.testing.attempts import silent_address
from netpoll.testing.waiting import DEADLINE, wait_until

if TYPE_CHECKING:
    from collections.abc import Generator

    from netpoll.cli.options import Address
    from netpoll.testing.pairs import Loopback

UNREACHED = {"not connected upstream": 1}


@contextlib.contextmanager
def forward(
    *addresses: Address, timeout: float = DEADLINE
) -> Generator[tuple[Server, tuple[str, int]]]:
    """A relay to the first of these addresses that can be reached, and where it listens."""
    sock = socket.create_server(("127.0.0.1", 0))
    with sock, netpoll.CompletionPort() as port:
        server = Server(port, sock, Forward(list(addresses), 4096, timeout), threads=2)
        server.start()
        yield server, sock.getsockname()
        server.stop_accepting()
        server.drain(DEADLINE)
        server.close()
        wait_until(lambda: not port.inflight(), "the end of every operation")


def refusing(net: Loopback) -> Address:
    """An address where nobody listens, and nobody else will."""
    return socket.AF_INET, net.bound().getsockname()


def test_addresses_are_tried_in_turn(net: Loopback) -> None:
    with listener() as upstream:
        good = socket.AF_INET, upstream.getsockname()
        with forward(refusing(net), refusing(net), good) as (server, address):
            with connect(address) as client:
                far = net.track(upstream.accept()[0])
                client.sendall(b"hello")
                far.settimeout(DEADLINE)
                assert far.recv(5) == b"hello"
                far.sendall(b"there")
                assert client.recv(5) == b"there"
                far.close()
            wait_until(lambda: server.figures().outcomes == {"ended": 1}, "the end")


def test_no_address_is_left(net: Loopback) -> None:
    with forward(refusing(net), refusing(net)) as (server, address):
        with contextlib.suppress(ConnectionError), connect(address) as client:
            assert client.recv(1) == b""
        wait_until(lambda: server.figures().outcomes == UNREACHED, "the refusal")


def test_a_server_that_does_not_answer(net: Loopback) -> None:
    silent = socket.AF_INET, silent_address(net)
    with forward(silent, timeout=0.2) as (server, address):
        with contextlib.suppress(ConnectionError), connect(address) as client:
            assert client.recv(1) == b""
        wait_until(lambda: server.figures().outcomes == UNREACHED, "the end of the patience")


@pytest.mark.parametrize("seconds", [0.0, DEADLINE], ids=["dropped", "finished"])
def test_the_end_while_connecting(net: Loopback, seconds: float) -> None:
    silent = socket.AF_INET, silent_address(net)
    with forward(silent) as (server, address), connect(address) as client:
        wait_until(lambda: server.figures().connections == 1, "the client")
        server.stop_accepting()
        server.drain(seconds)
        with contextlib.suppress(ConnectionError):
            assert client.recv(1) == b""
        wait_until(lambda: server.figures().connections == 0, "the end of the connection")
