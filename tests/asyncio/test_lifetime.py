"""Pain F: buffers that are freed, overrun or kept."""

from __future__ import annotations

import array
import asyncio
import contextlib
import gc
import weakref
from typing import TYPE_CHECKING

import pytest

from netpoll.testing.pairs import wait_readable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loops import Loops

    from netpoll.testing.backends import Target
    from netpoll.testing.pairs import Loopback


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Only counted references keep anything, as long as the test lasts."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("size", [-1, 9, 1 << 40])
def test_cpython_148808_a_receive_is_no_longer_than_its_buffer(
    loops: Loops, net: Loopback, size: int
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, far = net.udp_pair()
        near.setblocking(False)
        memory = bytearray(16)
        with pytest.raises(ValueError, match="buffer"):
            await loop.sock_recvfrom_into(near, memoryview(memory)[4:12], size)
        far.sendall(b"x" * 5)
        into = memoryview(memory)[4:12]
        assert (await loop.sock_recvfrom_into(near, into, 5))[0] == 5
        assert memory == bytes(4) + b"x" * 5 + bytes(7)

    loops.run(main())


def test_cpython_148808_a_long_datagram_ends_at_the_size_that_was_asked_for(
    loops: Loops, net: Loopback
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, far = net.udp_pair()
        near.setblocking(False)
        memory = bytearray(8)
        far.sendall(b"x" * 8)
        assert (await loop.sock_recvfrom_into(near, memory, 3))[0] == 3
        assert memory == b"xxx" + bytes(5)

    loops.run(main())


def test_cpython_116773_nothing_is_written_after_a_cancel(
    loops: Loops, net: Loopback, target: Target
) -> None:
    """To a buffer that was free already."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, far = net.tcp_pair()
        near.setblocking(False)
        memory = bytearray(8)
        task = asyncio.create_task(loop.sock_recv_into(near, memory))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        # the cancel is acknowledged before the next receive starts
        waiting = asyncio.create_task(loop.sock_recv(near, 8))
        await asyncio.sleep(0)
        far.sendall(b"late")
        if target.readiness and not waiting.done():
            wait_readable(near)
        assert await waiting == b"late"
        assert memory == bytes(8)

    loops.run(main())


@pytest.mark.usefixtures("no_collector")
def test_cpython_76891_what_fails_at_once_keeps_nothing(loops: Loops, net: Loopback) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        sock = net.new_socket()
        sock.setblocking(False)
        buffer = array.array("b", bytes(100))
        with pytest.raises(OSError, match="connect"):
            await loop.sock_recv_into(sock, buffer)
        reference = weakref.ref(buffer)
        del buffer
        assert reference() is None

    loops.run(main())


@pytest.mark.usefixtures("no_collector")
def test_anyio_happy_eyeballs_a_failed_connect_makes_no_cycle(loops: Loops, net: Loopback) -> None:
    """anyio's `test_happy_eyeballs_refcycles`: a future and a traceback held each other."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        gone = net.listener()
        address = gone.getsockname()
        gone.close()
        sock = net.new_socket()
        sock.setblocking(False)
        with contextlib.suppress(ConnectionError):
            await loop.sock_connect(sock, address)
        assert [each for each in gc.get_objects() if isinstance(each, ConnectionError)] == []

    loops.run(main())


class Protocol(asyncio.Protocol):
    """One that can be referred to weakly."""


@pytest.mark.usefixtures("no_collector")
def test_a_connection_that_is_over_leaves_no_cycle(loops: Loops, net: Loopback) -> None:
    """What a long-lived server gathers between two runs of the collector."""

    async def main() -> list[weakref.ref[object]]:
        loop = asyncio.get_running_loop()
        near, far = net.tcp_pair()
        transport, protocol = await loop.create_connection(Protocol, sock=near)
        gone: list[weakref.ref[object]] = [weakref.ref(transport), weakref.ref(protocol)]
        far.close()
        del protocol
        while not transport.is_closing():  # noqa: ASYNC110  the protocol is to have no more
            await asyncio.sleep(0)
        return gone

    assert [reference() for reference in loops.run(main())] == [None, None]
