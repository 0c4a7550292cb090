"""Pain C: one peer that is not there, and the endpoint is deaf to all others."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest

from netpoll.testing.pairs import has_ipv6
from netpoll.testing.wine import wine_version

if TYPE_CHECKING:
    from loops import Loops

    from netpoll.testing.pairs import Loopback

DATAGRAM = socket.SOCK_DGRAM
IPV6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
FAMILIES = [socket.AF_INET, pytest.param(socket.AF_INET6, marks=IPV6)]


class Endpoint(asyncio.DatagramProtocol):
    """Puts what it hears into queues."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue()
        self.errors: asyncio.Queue[Exception] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.heard.put_nowait((data, addr))

    def error_received(self, exc: Exception) -> None:
        self.errors.put_nowait(exc)


def nobodys(net: Loopback, family: socket.AddressFamily = socket.AF_INET) -> Any:
    """An address that nothing is bound to."""
    sock = net.bound(family, DATAGRAM)
    address = sock.getsockname()
    sock.close()
    return address


def test_cpython_91227_an_unreachable_peer_leaves_an_endpoint(loops: Loops, net: Loopback) -> None:
    """Also cpython#156784, libuv#5242, anyio#1239."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, endpoint = await loop.create_datagram_endpoint(
            Endpoint, local_addr=("127.0.0.1", 0)
        )
        peer = net.bound(kind=DATAGRAM)
        for number in range(10):
            transport.sendto(b"anybody?", nobodys(net))
            peer.sendto(b"%d" % number, transport.get_extra_info("sockname"))
            assert await endpoint.heard.get() == (b"%d" % number, peer.getsockname())
        transport.sendto(b"you", peer.getsockname())
        assert peer.recv(10) == b"you"
        assert not transport.is_closing()
        transport.close()

    loops.run(main())


def test_cpython_127057_a_connected_endpoint_survives_and_tells(
    loops: Loops, net: Loopback
) -> None:
    """A "fix" swallowed the error; here it is told, once, and the endpoint goes on."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        peer = net.bound(kind=DATAGRAM)
        address = peer.getsockname()
        transport, endpoint = await loop.create_datagram_endpoint(Endpoint, remote_addr=address)
        peer.close()
        transport.sendto(b"anybody?")
        if wine_version() is None:  # Wine swallows the report, or is late with it
            assert isinstance(await endpoint.errors.get(), ConnectionError)
        back = net.new_socket(kind=DATAGRAM)
        back.bind(address)
        transport.sendto(b"you")
        assert back.recv(10) == b"you"
        back.sendto(b"and you", transport.get_extra_info("sockname"))
        assert await endpoint.heard.get() == (b"and you", address)
        assert endpoint.errors.empty() or wine_version() is not None
        transport.close()

    loops.run(main())


def test_uvloop_561_the_sock_methods_survive_an_unreachable_peer(
    loops: Loops, net: Loopback
) -> None:
    """And there are `sock_recvfrom` and `sock_sendto`."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        sock, peer = net.bound(kind=DATAGRAM), net.bound(kind=DATAGRAM)
        sock.setblocking(False)
        buffer = bytearray(10)
        waiting = asyncio.create_task(loop.sock_recvfrom(sock, 10))
        await asyncio.sleep(0)
        await loop.sock_sendto(sock, b"anybody?", nobodys(net))
        peer.sendto(b"one", sock.getsockname())
        assert await waiting == (b"one", peer.getsockname())
        await loop.sock_sendto(sock, b"anybody?", nobodys(net))
        peer.sendto(b"two", sock.getsockname())
        assert await loop.sock_recvfrom_into(sock, buffer) == (3, peer.getsockname())
        assert buffer[:3] == b"two"

    loops.run(main())


def test_cpython_119711_a_receive_on_an_unbound_socket_waits(loops: Loops, net: Loopback) -> None:
    """It was WinError 10022."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        sock, peer = net.new_socket(kind=DATAGRAM), net.bound(kind=DATAGRAM)
        sock.setblocking(False)
        waiting = asyncio.create_task(loop.sock_recvfrom(sock, 10))
        await asyncio.sleep(0)
        await loop.sock_sendto(sock, b"hello", peer.getsockname())
        data, address = peer.recvfrom(10)
        assert data == b"hello"
        peer.sendto(b"welcome", address)
        assert await waiting == (b"welcome", peer.getsockname())

    loops.run(main())


def test_cpython_119711_an_unbound_endpoint_waits(loops: Loops, net: Loopback) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        peer = net.bound(kind=DATAGRAM)
        transport, endpoint = await loop.create_datagram_endpoint(Endpoint, family=socket.AF_INET)
        transport.sendto(b"hello", peer.getsockname())
        _data, address = peer.recvfrom(10)
        peer.sendto(b"welcome", address)
        assert await endpoint.heard.get() == (b"welcome", peer.getsockname())
        assert endpoint.errors.empty()
        transport.close()

    loops.run(main())


@pytest.mark.parametrize("family", FAMILIES)
def test_cpython_83329_the_addresses_of_datagrams(
    loops: Loops, net: Loopback, family: socket.AddressFamily
) -> None:
    """Also cpython#84221: IPv6 addresses were read wrongly."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        one, two = net.bound(family, DATAGRAM), net.bound(family, DATAGRAM)
        one.setblocking(False)
        await loop.sock_sendto(one, b"a", two.getsockname())
        data, address = two.recvfrom(10)
        assert (data, address) == (b"a", one.getsockname())
        two.sendto(b"b", address)
        assert await loop.sock_recvfrom(one, 10) == (b"b", two.getsockname())
        transport, endpoint = await loop.create_datagram_endpoint(
            Endpoint, local_addr=(*one.getsockname()[:1], 0)
        )
        two.sendto(b"c", transport.get_extra_info("sockname"))
        assert await endpoint.heard.get() == (b"c", two.getsockname())
        transport.close()

    loops.run(main())


@pytest.mark.parametrize("family", FAMILIES)
def test_cpython_84221_the_addresses_of_connections(
    loops: Loops, net: Loopback, family: socket.AddressFamily
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        listener, client = net.listener(family), net.new_socket(family)
        listener.setblocking(False)
        client.setblocking(False)
        accept = asyncio.create_task(loop.sock_accept(listener))
        await loop.sock_connect(client, listener.getsockname())
        connection, address = await accept
        with connection:
            assert address == client.getsockname() == connection.getpeername()
            assert connection.getsockname() == client.getpeername() == listener.getsockname()

    loops.run(main())
