"""Pain G: an end that hangs, or is noisy."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from typing import TYPE_CHECKING, Any

import pytest
from cli.running import Running

import netpoll.asyncio
from netpoll.testing.pairs import reset

if TYPE_CHECKING:
    from loops import Loops

    from netpoll.testing.backends import Target
    from netpoll.testing.pairs import Loopback


def test_cpython_111604_a_loop_closes_with_operations_pending(loops: Loops, net: Loopback) -> None:
    """ "Running after closing for 81 seconds"."""
    loop = loops.new()
    near, far = net.tcp_pair()
    plain, _ = net.tcp_pair()
    watched, _ = net.tcp_pair()
    datagrams = net.bound(kind=socket.SOCK_DGRAM)
    listener = net.listener()
    for sock in (plain, watched, datagrams, listener):
        sock.setblocking(False)

    async def start() -> list[asyncio.Task[Any]]:
        loop.port.associate(near)
        netpoll.asyncio.wrap(loop.port.recv(near, 10))
        loop.add_reader(watched, lambda: None)
        waiting = [
            loop.sock_recv(plain, 10),
            loop.sock_recvfrom(datagrams, 10),
            loop.sock_accept(listener),
        ]
        tasks = [asyncio.ensure_future(each) for each in waiting]
        await asyncio.sleep(0)
        return tasks

    tasks = loop.run_until_complete(start())
    loop.close()
    assert loop.is_closed()
    for task in tasks:
        assert not task.done()
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    # the operations are over: nobody takes the data any more
    far.sendall(b"data")
    assert near.recv(10) == b"data"


NOISY = """
import asyncio, sys
import netpoll.asyncio

class Kept(asyncio.Protocol):
    def connection_made(self, transport):
        kept.append(transport)

kept = []

async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Kept, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    kept.append(await asyncio.open_connection(*address))
    kept.append(await loop.create_connection(Kept, *address))
    kept.append(await loop.create_datagram_endpoint(Kept, local_addr=("127.0.0.1", 0)))
    kept.append(await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=-1))
    kept.append(server)
    kept.append(asyncio.create_task(asyncio.Event().wait()))
    reader, writer = await asyncio.open_connection(*address)
    del reader, writer

netpoll.asyncio.run(main(), backend=sys.argv[1])
"""


def test_httpx_914_nothing_is_said_at_exit(target: Target) -> None:
    """ "Event loop is closed", from finalizers. Also aiohttp#4324, python-sdk#575."""
    arguments = ["-W", "ignore::ResourceWarning", "-c", NOISY, target.backend]
    with Running(*arguments) as program:
        result = program.ended()
    assert (result.code, result.err) == (0, "")


class Recorder(asyncio.Protocol):
    """Tells its end."""

    def __init__(self) -> None:
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


@pytest.mark.parametrize("end", ["write_eof", "close", "abort"])
def test_asyncpg_1190_the_peer_is_gone_when_a_connection_ends(
    loops: Loops, net: Loopback, end: str
) -> None:
    """`shutdown()` raised ENOTCONN, 10054 or 10038. Also ComfyUI#15583, asyncio#319,
    stable-diffusion-webui#7524."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, far = net.tcp_pair()
        transport, protocol = await loop.create_connection(Recorder, sock=near)
        reset(far)
        getattr(transport, end)()
        await protocol.lost
        assert transport.is_closing()

    loops.run(main())


def test_cpython_83413_a_transport_after_its_loop(loops: Loops, net: Loopback) -> None:
    """Its methods, and its finalizer, do no more than warn."""

    async def main() -> Any:
        near, _ = net.tcp_pair()
        transport, _ = await asyncio.get_running_loop().create_connection(Recorder, sock=near)
        return transport

    loop = loops.new()
    transport = loop.run_until_complete(main())
    loop.close()
    assert "closed" not in repr(transport)
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        transport.__del__()
    transport._sock = None


def certificates() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of a server and of its client."""
    trustme = pytest.importorskip("trustme", exc_type=ImportError)
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    return server, client


def test_asyncio_319_a_tls_peer_that_is_gone(loops: Loops) -> None:
    """The same under TLS, where a shutdown wants to be said."""
    server_side, client_side = certificates()

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readexactly(5))
            await writer.drain()
            writer.transport.abort()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_side)
        async with server:
            reader, writer = await asyncio.open_connection(
                *server.sockets[0].getsockname(), ssl=client_side, server_hostname="localhost"
            )
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            try:
                assert await reader.read() == b""
                writer.write(b"nobody hears")
                writer.close()
                await writer.wait_closed()
            except (ConnectionError, ssl.SSLError):
                pass

    loops.run(main())


@pytest.mark.skipif(sys.platform == "win32", reason="asyncio has no Unix sockets on Windows")
def test_cpython_77589_unix_sockets(loops: Loops, tmp_path: Any) -> None:
    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.read())
            writer.close()

        server = await asyncio.start_unix_server(serve, tmp_path / "socket")
        async with server:
            reader, writer = await asyncio.open_unix_connection(tmp_path / "socket")
            writer.write(b"hello")
            writer.write_eof()
            assert await reader.read() == b"hello"
            writer.close()
            await writer.wait_closed()

    loops.run(main())
