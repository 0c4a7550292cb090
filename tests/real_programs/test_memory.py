"""How much the servers hold: with readers that stop reading, and with thousands of connections."""

from __future__ import annotations

import contextlib
import select
import socket
import sys
from typing import TYPE_CHECKING

import psutil
import pytest
from cli.peers import connect, listener
from cli.running import Running, serve

from netpoll.cli import limits
from netpoll.testing.waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Generator

MIB = 1 << 20
OFFERED = 64 * MIB
"""What each writer would like to send."""
IN_THE_SYSTEM = 24 * MIB
"""What the socket buffers of one relayed connection may take: two sockets that send and two that
receive, which Linux lets grow to 4 and 6 MiB each (tcp_wmem, tcp_rmem), macOS to less."""
STALLED = 1.0
"""Seconds without a byte after which a writer counts as stopped."""


def push(writers: list[socket.socket], seconds: float) -> dict[socket.socket, int]:
    """Send as much as goes in; ends when no writer gets anything in for so long, or all of them
    got in what they offered."""
    piece = bytes(MIB)
    accepted = dict.fromkeys(writers, 0)
    for writer in writers:
        writer.setblocking(False)
    while True:
        hungry = [writer for writer in writers if accepted[writer] < OFFERED]
        _, ready, _ = select.select([], hungry, [], seconds)
        if not ready:
            return accepted
        for writer in ready:
            with contextlib.suppress(BlockingIOError):
                accepted[writer] += writer.send(piece)


def memory(server: Running) -> int:
    """Bytes of memory that the server's process has in use."""
    return int(psutil.Process(server.process.pid).memory_info().rss)


@contextlib.contextmanager
def relays(
    server: Running, upstream: socket.socket, count: int
) -> Generator[tuple[list[socket.socket], list[socket.socket]]]:
    """`count` relayed connections: the clients, and their other ends."""
    with contextlib.ExitStack() as stack:
        clients: list[socket.socket] = []
        ends: list[socket.socket] = []
        for _ in range(count):
            clients.append(stack.enter_context(connect(server.address)))
            ends.append(stack.enter_context(upstream.accept()[0]))
            ends[-1].settimeout(DEADLINE)
            # once through, so that both pumps are there before anybody measures
            clients[-1].sendall(b"x")
            assert ends[-1].recv(1) == b"x"
        yield clients, ends


@pytest.mark.parametrize("towards", ["upstream", "client"])
def test_a_slow_reader_slows_its_writer(towards: str) -> None:
    with listener() as upstream:
        to = f"127.0.0.1:{upstream.getsockname()[1]}"
        with serve("forward", "--to", to) as server:
            with relays(server, upstream, 1) as (clients, ends):
                writer = (clients if towards == "upstream" else ends)[0]
                reader = (ends if towards == "upstream" else clients)[0]
                accepted = push([writer], STALLED)[writer]
                assert accepted <= IN_THE_SYSTEM
                # it stands still because nobody reads, and goes on when somebody does
                reader.settimeout(DEADLINE)
                received = 0
                while received < accepted:
                    received += len(reader.recv(MIB))
                assert push([writer], STALLED)[writer] > 0
            assert server.stop().code == 0


def test_memory_is_two_buffers_for_each_connection() -> None:
    count, size = 40, 256 * 1024
    with listener() as upstream:
        to = f"127.0.0.1:{upstream.getsockname()[1]}"
        with serve("forward", "--to", to, "--buffer", "256K") as server:
            with relays(server, upstream, 1):
                before = memory(server)
                with relays(server, upstream, count) as (clients, ends):
                    for writers in (clients, ends):
                        accepted = push(writers, STALLED)
                        assert max(accepted.values()) <= IN_THE_SYSTEM
                    grown = memory(server) - before
            assert server.stop().code == 0
    # the bound that --help states, and what objects and the allocator add to it
    assert grown <= count * (2 * size + 16 * 1024) + 8 * MIB


@pytest.mark.skipif(
    sys.platform == "darwin",
    reason="the range of ports that macOS gives out is too small beside other tests",
)
@pytest.mark.parametrize(
    ("arguments", "files"), [(["echo"], 1), (["echo", "--threads", "2"], 1), (["forward"], 2)]
)
def test_5000_connections(arguments: list[str], files: int) -> None:
    count = 5000
    limits.raise_open_files()
    _, hard = limits.open_files()
    if hard is not None and hard < files * count + 200:
        pytest.skip(f"the limit of open files is {hard} here, and cannot be raised")
    with contextlib.ExitStack() as stack:
        if arguments == ["forward"]:
            behind = stack.enter_context(serve("echo"))
            arguments = ["forward", "--buffer", "4K", "--to", f"127.0.0.1:{behind.address[1]}"]
        server = stack.enter_context(serve(*arguments))
        address = server.address
        clients = [stack.enter_context(connect(address)) for _ in range(count)]
        for turn in range(2):
            # all of them are there at the same time, and all are served, first to last and back
            clients.reverse()
            for client in clients:
                client.sendall(b"hello %d" % turn)
            for client in clients:
                assert client.recv(100) == b"hello %d" % turn
        for client in clients:
            client.shutdown(socket.SHUT_WR)
        for client in clients:
            assert client.recv(1) == b""
        result = server.stop()
    assert result.code == 0
    assert "Traceback" not in result.err
    assert f"at once      {count:,}" in result.out
