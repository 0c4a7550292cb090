"""Pain A: what happens to one client, and the whole server is dead."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import TYPE_CHECKING, Any

import pytest

from netpoll.asyncio import EventLoop
from netpoll.testing.pairs import reset

if TYPE_CHECKING:
    from loops import Loops

    from netpoll.testing.pairs import Loopback


class Echo(asyncio.Protocol):
    """Sends back what comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def ask(address: Any) -> bytes:
    """What the echo server says to a new client."""
    reader, writer = await asyncio.open_connection(*address[:2])
    writer.write(b"still there?")
    writer.write_eof()
    try:
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


async def echo_server(host: str = "127.0.0.1") -> tuple[asyncio.Server, Any]:
    server = await asyncio.get_running_loop().create_server(Echo, host, 0)
    return server, server.sockets[0].getsockname()


def rude_clients(net: Loopback, address: Any, count: int) -> None:
    """Clients that are gone, by a reset, before the loop can have looked at them."""
    for _ in range(count):
        client = net.new_socket()
        client.connect(address)
        reset(client)


def test_cpython_93821_a_failed_accept_leaves_the_server(loops: Loops, net: Loopback) -> None:
    """Also ComfyUI#11576, mtprotoproxy#57, tribler#7926."""

    async def main() -> None:
        server, address = await echo_server()
        async with server:
            for count in (1, 20, 1):
                rude_clients(net, address, count)
                assert await ask(address) == b"still there?"

    loops.run(main())


def test_cpython_93821_sock_accept_goes_on_after_a_reset(loops: Loops, net: Loopback) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        listener = net.listener()
        listener.setblocking(False)
        accept = asyncio.create_task(loop.sock_accept(listener))
        await asyncio.sleep(0)
        rude_clients(net, listener.getsockname(), 3)
        good = net.new_socket()
        good.connect(listener.getsockname())
        while True:
            try:
                connection, address = await accept
            except ConnectionError:
                pass
            else:
                connection.close()
                if address == good.getsockname():
                    break
            accept = asyncio.create_task(loop.sock_accept(listener))

    loops.run(main())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of open files")
def test_cpython_93821_a_server_without_descriptors_goes_on_when_it_has_some(
    loops: Loops, net: Loopback
) -> None:
    """What the system lacks for a moment is not the listener's end."""
    import resource

    async def main() -> None:
        server, address = await echo_server()
        async with server:
            client = net.new_socket()
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, hard))
            try:
                client.connect(address)
                for _ in range(10):
                    await asyncio.sleep(0)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            client.sendall(b"and I?")
            assert await ask(address) == b"still there?"
            assert client.recv(10) == b"and I?"
            client.close()

    loops.run(main())


def test_cpython_134259_a_server_takes_connections_as_soon_as_it_is_made(loops: Loops) -> None:
    """Its first accept came one turn of the loop later, and a client could be refused."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server, address = await echo_server()
        assert isinstance(loop, EventLoop)
        assert "accept_many" in [each.opcode for each in loop.port.inflight()]
        # blocking, in the loop's own thread: no turn of the loop can help
        with socket.create_connection(address):
            assert await ask(address) == b"still there?"
        server.close()
        await server.wait_closed()

    loops.run(main())


def test_twisted_7839_an_accepted_connection_knows_its_names(loops: Loops) -> None:
    """Also twisted#7818."""

    async def main() -> None:
        names = loop.create_future()

        class Names(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                info = transport.get_extra_info
                names.set_result((info("sockname"), info("peername")))
                assert info("socket").getpeername() == info("peername")
                transport.close()

        server = await loop.create_server(Names, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            assert await names == (client.getpeername(), client.getsockname())
        server.close()
        await server.wait_closed()

    loop = loops.new()
    loop.run_until_complete(main())
