"""Pains I and J: a handle and its one port; and handles that are not sockets."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

import pytest

import netpoll
import netpoll.asyncio

if TYPE_CHECKING:
    from pathlib import Path

    from loops import Loops

    from netpoll.testing.backends import Target
    from netpoll.testing.pairs import Loopback


def test_cpython_122240_a_socket_goes_on_in_a_second_loop(loops: Loops, net: Loopback) -> None:
    """ "The parameter is incorrect". Also mongo-python-driver#1748, cpython#94337: on Windows a
    socket belongs to one port for ever."""
    near, far = net.tcp_pair()
    near.setblocking(False)

    async def exchange(question: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(near, question)
        assert far.recv(100) == question
        waiting = asyncio.create_task(loop.sock_recv(near, 100))
        await asyncio.sleep(0)
        far.sendall(question.upper())
        return await waiting

    first = loops.new()
    assert first.run_until_complete(exchange(b"one")) == b"ONE"
    # while the first lives, and when it does not
    assert loops.run(exchange(b"two")) == b"TWO"
    first.close()
    assert loops.run(exchange(b"three")) == b"THREE"


def test_cpython_122240_a_listener_goes_on_in_a_second_loop(loops: Loops, net: Loopback) -> None:
    """uvicorn's reload: what was "WinError 87"."""
    listener = net.listener()
    listener.setblocking(False)

    async def accept() -> None:
        loop = asyncio.get_running_loop()
        client = net.new_socket()
        client.connect(listener.getsockname())
        connection, address = await loop.sock_accept(listener)
        connection.close()
        assert address == client.getsockname()

    for _ in range(2):
        loops.run(accept())


def test_cpython_122240_where_it_cannot_go_on_the_error_names_the_cure(
    loops: Loops, net: Loopback
) -> None:
    near, _ = net.tcp_pair()
    first, second = loops.new(), loops.new()
    first.port.associate(near)
    with pytest.raises(netpoll.AlreadyAssociated, match="another port"):
        second.port.associate(near)


class Lines(asyncio.Protocol):
    """What a pipe brings, until its end."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(exc)


def test_cpython_87694_anonymous_pipes(loops: Loops) -> None:
    """ "The handle is invalid": those of `os.pipe()` know no overlapped operations on Windows. Also
    cpython#81998, asyncio#337, anyio#326, Winloop#22."""
    loops.require("read_into", "write")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        source, sink = (
            os.fdopen(n, mode, 0) for n, mode in zip(os.pipe(), ("rb", "wb"), strict=True)
        )
        reading, lines = await loop.connect_read_pipe(Lines, source)
        writing, _ = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sink)
        data = b"a line\n" * 40_000  # more than a pipe holds
        writing.write(data)
        writing.close()
        assert await lines.ended is None
        assert lines.data == data
        assert reading.is_closing()

    loops.run(main())


STDIN = """
import asyncio, sys
import netpoll.asyncio

async def main():
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, sys.stdout
    )
    async for line in reader:
        transport.write(line.upper())
    transport.close()

netpoll.asyncio.run(main(), backend=sys.argv[1])
"""


def test_aioconsole_4_standard_input_and_output(loops: Loops, target: Target) -> None:
    """Also pynvim#306, pexpect#548, agent-os#1575."""
    loops.require("read_into", "write", "wait")

    async def main() -> None:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", STDIN, target.backend, stdin=-1, stdout=-1, stderr=-1
        )
        assert child.stdin is not None
        assert child.stdout is not None
        for word in (b"one", b"two"):
            child.stdin.write(word + b"\n")
            assert (await child.stdout.readline()).strip() == word.upper()
        out, err = await child.communicate(b"")
        assert (child.returncode, out, err) == (0, b"", b"")

    loops.run(main())


def test_asyncio_279_files_are_read_and_written_by_operations(loops: Loops, tmp_path: Path) -> None:
    """Not by threads of the program's, where the system can do better. Also aiofiles#47,
    aiofile#10; cpython#74724: what has a handle needs no transport of asyncio's."""
    loops.require("read_into", "write")
    path = tmp_path / "file"

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, netpoll.asyncio.EventLoop)
        with netpoll.open_file(path, "w+b") as file:
            loop.port.associate(file)
            assert await netpoll.asyncio.wrap(loop.port.write(file, b"0123456789")) == 10
            buffer = bytearray(4)
            reading = loop.port.read_into(file, buffer, offset=3)
            assert await netpoll.asyncio.wrap(reading) == 4
            assert buffer == b"3456"

    loops.run(main())
