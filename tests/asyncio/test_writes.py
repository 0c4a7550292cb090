"""Writes: whichever way they go out, the peer gets what was written, all of it, in order."""

from __future__ import annotations

import asyncio
import random
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netpoll.testing.pairs import reset
from netpoll.testing.waiting import DEADLINE

if TYPE_CHECKING:
    import socket

    from loops import Loops

    from netpoll.testing.pairs import Loopback


class Collector(threading.Thread):
    """A peer that reads until the end."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self.sock = sock
        self.data = b""
        self.error: OSError | None = None
        self.start()

    def run(self) -> None:
        try:
            while part := self.sock.recv(1 << 16):
                self.data += part
        except OSError as error:
            self.error = error

    def all(self) -> bytes:
        """What came, once the end has."""
        self.join(DEADLINE)
        assert not self.is_alive()
        return self.data


class Quiet(asyncio.Protocol):
    """Waits for the end only."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[BaseException | None] = (
            asyncio.get_running_loop().create_future()
        )

    def connection_lost(self, exc: BaseException | None) -> None:
        self.ended.set_result(exc)


async def connect(near: socket.socket) -> tuple[asyncio.Transport, Quiet]:
    return await asyncio.get_running_loop().create_connection(Quiet, sock=near)


@pytest.mark.parametrize("end", ["close", "write_eof", "abort"])
def test_what_was_written_arrives_before_the_end(loops: Loops, net: Loopback, end: str) -> None:
    async def main() -> None:
        near, far = net.tcp_pair()
        peer = Collector(far)
        transport, protocol = await connect(near)
        transport.write(b"one, ")
        transport.write(b"two")
        if end == "write_eof":
            transport.write_eof()
            await asyncio.get_running_loop().run_in_executor(None, peer.all)
            transport.close()
        elif end == "close":
            transport.close()
        else:
            transport.abort()
        await protocol.ended
        assert peer.all() == b"one, two"

    loops.run(main())


def test_a_turn_that_writes_more_than_fits(loops: Loops, net: Loopback) -> None:
    async def main() -> None:
        near, far = net.tcp_pair()
        transport, protocol = await connect(near)
        parts = [b"%06d" % index * 50 for index in range(40_000)]
        for part in parts:
            transport.write(part)
        assert transport.get_write_buffer_size() > 0
        peer = Collector(far)
        transport.close()
        assert await protocol.ended is None
        assert peer.all() == b"".join(parts)

    loops.run(main())


def test_small_writes_to_a_peer_that_does_not_read(loops: Loops, net: Loopback) -> None:
    """At some time nothing fits any more: what comes back is sent later, and the rest behind it."""

    async def main() -> None:
        near, far = net.tcp_pair()
        transport, protocol = await connect(near)
        written = b""
        while not transport.get_write_buffer_size():
            part = b"%08d" % len(written) * 500
            transport.write(part)
            written += part
            await asyncio.sleep(0)
        for part in (b"and more, ", b"to the end"):
            transport.write(part)
            written += part
        peer = Collector(far)
        transport.close()
        assert await protocol.ended is None
        assert peer.all() == written

    loops.run(main())


def test_many_transports_write_in_one_turn(loops: Loops, net: Loopback) -> None:
    async def main() -> None:
        pairs = [net.tcp_pair() for _ in range(50)]
        connections = [await connect(near) for near, _ in pairs]
        order = random.Random(7)
        expected = [b""] * len(pairs)
        for turn in range(20):
            for _ in range(100):
                index = order.randrange(len(pairs))
                data = b"%d," % turn * order.choice((1, 10, 500, 9000))
                connections[index][0].write(data)
                expected[index] += data
            await asyncio.sleep(0)
        peers = [Collector(far) for _, far in pairs]
        for transport, _ in connections:
            transport.close()
        for _, protocol in connections:
            assert await protocol.ended is None
        assert [peer.all() for peer in peers] == expected

    loops.run(main())


def test_what_was_written_is_out_when_the_loop_has_stopped(loops: Loops, net: Loopback) -> None:
    """Whoever ran it may wait for the peer then, in the same thread; and may write."""
    loop = loops.new()
    near, far = net.tcp_pair()

    async def main() -> asyncio.Transport:
        transport, _ = await connect(near)
        transport.write(b"from within")
        return transport

    transport = loop.run_until_complete(main())
    assert far.recv(100) == b"from within"
    transport.write(b"from without")
    assert far.recv(100) == b"from without"
    transport.close()
    loop.run_until_complete(asyncio.sleep(0))


def test_a_write_to_a_peer_that_has_gone(loops: Loops, net: Loopback) -> None:
    async def main() -> None:
        near, far = net.tcp_pair()
        transport, protocol = await connect(near)
        transport.pause_reading()
        reset(far)
        while not protocol.ended.done():
            transport.write(b"anybody there?")
            await asyncio.sleep(0)
        assert isinstance(protocol.ended.result(), ConnectionError)

    loops.run(main())


def test_what_was_written_may_change_afterwards(loops: Loops, net: Loopback) -> None:
    async def main() -> None:
        near, far = net.tcp_pair()
        peer = Collector(far)
        transport, protocol = await connect(near)
        data = bytearray(b"as it was")
        transport.write(data)
        transport.write(memoryview(data)[2:])
        data[:] = b"otherwise"
        transport.close()
        await protocol.ended
        assert peer.all() == b"as it was" + b" it was"

    loops.run(main())


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # each example has its own pairs
)
@given(
    writes=st.lists(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from((1, 2, 63, 64, 255, 256, 257, 4000, 16 << 10, (16 << 10) + 1, 200_000)),
            st.sampled_from(("bytes", "bytearray", "memoryview")),
            st.booleans(),
        ),
        max_size=30,
    )
)
def test_any_writes_on_three_connections(
    writes: list[tuple[int, int, str, bool]], loops: Loops, net: Loopback
) -> None:
    kinds = {"bytes": bytes, "bytearray": bytearray, "memoryview": memoryview}

    async def main() -> None:
        pairs = [net.tcp_pair() for _ in range(3)]
        peers = [Collector(far) for _, far in pairs]
        connections = [await connect(near) for near, _ in pairs]
        expected = [b"", b"", b""]
        for number, (index, size, kind, pause) in enumerate(writes):
            data = (b"%d." % number * size)[:size]
            connections[index][0].write(kinds[kind](data))
            expected[index] += data
            if pause:
                await asyncio.sleep(0)
        for transport, _ in connections:
            transport.close()
        for _, protocol in connections:
            assert await protocol.ended is None
        assert [peer.all() for peer in peers] == expected

    loops.run(main())
