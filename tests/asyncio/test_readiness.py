"""Pains B and D: completions or readiness, subprocesses or readers; and 512 sockets."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import TYPE_CHECKING, Any

import pytest

from netpoll.testing.attempts import clog
from netpoll.testing.pairs import receive_exactly
from netpoll.testing.wine import wine_version

if TYPE_CHECKING:
    from loops import Loops

    from netpoll.testing.backends import Target
    from netpoll.testing.pairs import Loopback


class Readers:
    """Queues what `add_reader` lets it read."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()

    def add(self, sock: socket.socket) -> None:
        self._loop.add_reader(sock, lambda: self.heard.put_nowait(sock.recv(100)))


def test_cpython_81554_readiness_beside_completions(loops: Loops, net: Loopback) -> None:
    """Also pyzmq#1423, tornado#2608, psycopg#76, anyio#820: it was one or the other."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        readers = Readers()
        watched, speaker = net.tcp_pair()
        plain, peer = net.tcp_pair()
        stream, far = net.tcp_pair()
        for sock in (watched, plain):
            sock.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=stream)
        readers.add(watched)
        waiting = asyncio.create_task(loop.sock_recv(plain, 100))
        for number in range(3):
            message = b"%d" % number
            speaker.sendall(message)
            assert await readers.heard.get() == message
            far.sendall(message)
            assert await reader.readexactly(1) == message
        peer.sendall(b"completed")
        assert await waiting == b"completed"
        writable = asyncio.Event()
        loop.add_writer(watched, writable.set)
        await writable.wait()
        assert loop.remove_writer(watched)
        assert loop.remove_reader(watched)
        assert not loop.remove_reader(watched)
        writer.close()
        await writer.wait_closed()

    loops.run(main())


def test_cpython_81554_both_on_one_socket(loops: Loops, net: Loopback) -> None:
    """Also ipykernel#669, bokeh#12018: another library watches a socket that the loop also uses."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        sock, far = net.tcp_pair()
        sock.setblocking(False)
        readers = Readers()
        far.sendall(b"first")
        assert await loop.sock_recv(sock, 100) == b"first"
        readers.add(sock)
        far.sendall(b"second")
        assert await readers.heard.get() == b"second"
        assert loop.remove_reader(sock)
        await loop.sock_sendall(sock, b"third")
        assert far.recv(100) == b"third"
        far.sendall(b"fourth")
        assert await loop.sock_recv(sock, 100) == b"fourth"

    loops.run(main())


def test_pyzmq_1521_what_was_ready_before_is_told(loops: Loops, net: Loopback) -> None:
    """The selector thread of others is told of changes only after its next wake."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        sock, far = net.tcp_pair()
        sock.setblocking(False)
        far.sendall(b"already there")
        readers = Readers()
        readers.add(sock)
        assert await readers.heard.get() == b"already there"
        far.close()
        assert await readers.heard.get() == b""
        loop.remove_reader(sock)

    loops.run(main())


def test_trio_1280_a_reader_that_waits_while_a_writer_comes_and_goes(
    loops: Loops, net: Loopback
) -> None:
    """AFD has one question at a time about a socket, which each writer changes: none may be lost
    over that, and nobody be told of the other's answer. Also trio#52, trio#1269."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, far = net.tcp_pair(buffer=16384)
        near.setblocking(False)
        readers = Readers()
        readers.add(near)
        writable = asyncio.Event()
        for number in range(100):
            writable.clear()
            loop.add_writer(near, writable.set)
            await writable.wait()
            assert loop.remove_writer(near)
            if number % 10 == 0:
                assert readers.heard.empty()
                far.sendall(b"%d" % number)
                assert await readers.heard.get() == b"%d" % number
        filled = clog(near)
        writable.clear()
        for number in range(20):  # while there is no room, the writers leave without an answer
            loop.add_writer(near, writable.set)
            await asyncio.sleep(0)
            far.sendall(b"%d" % number)
            assert await readers.heard.get() == b"%d" % number
            assert not writable.is_set()
            if number < 19:
                assert loop.remove_writer(near)
        receive_exactly(far, filled)
        await writable.wait()
        assert readers.heard.empty()
        assert loop.remove_writer(near)
        assert loop.remove_reader(near)

    loops.run(main())


def test_uvicorn_529_a_subprocess_beside_a_reader(loops: Loops, net: Loopback) -> None:
    """Also playwright-python#1099, nicegui#3874: the loop that has one lacks the other."""
    loops.require("wait")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        sock, far = net.tcp_pair()
        sock.setblocking(False)
        readers = Readers()
        readers.add(sock)
        code = "import sys; sys.stdout.write(sys.stdin.read().upper()); sys.exit(7)"
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            code,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        talk = asyncio.create_task(child.communicate(b"a child's words"))
        far.sendall(b"meanwhile")
        assert await readers.heard.get() == b"meanwhile"
        out, _ = await talk
        assert out == b"A CHILD'S WORDS"
        assert child.returncode == 7
        loop.remove_reader(sock)

    loops.run(main())


def test_uvicorn_786_more_than_512_sockets(loops: Loops, net: Loopback, target: Target) -> None:
    """Also tornado#2864, gevent#1151: `select()` on Windows takes no more."""
    if sys.platform == "win32" and target.options.get("selector") == "select":
        pytest.skip("select() takes 512 sockets on Windows")
    count = 400 if target.options.get("selector") == "select" else 600
    if wine_version() is None:
        allow(count + 200)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        socks = [net.bound(kind=socket.SOCK_DGRAM) for _ in range(count)]
        speaker = net.bound(kind=socket.SOCK_DGRAM)
        for sock in socks:
            sock.setblocking(False)
        tasks = [asyncio.create_task(loop.sock_recvfrom(sock, 10)) for sock in socks]
        await asyncio.sleep(0)
        for number, sock in enumerate(socks):
            speaker.sendto(b"%d" % number, sock.getsockname())
        results: list[tuple[bytes, Any]] = await asyncio.gather(*tasks)
        assert [data for data, _ in results] == [b"%d" % number for number in range(count)]

    loops.run(main())


def allow(descriptors: int) -> None:
    """Have the process allowed so many, or skip the test."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < descriptors:
        pytest.skip(f"this machine allows {hard} open files, and {descriptors} are needed")
    if soft != resource.RLIM_INFINITY and soft < descriptors:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, hard))
