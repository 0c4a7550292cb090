"""Reads: whichever way data comes in, the protocol is told all of it, in order, and only when it
wants it."""

from __future__ import annotations

import asyncio
import gc
import random
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from netpoll.testing.pairs import reset
from netpoll.testing.waiting import DEADLINE, Running, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from loops import Loops

    from netpoll.testing.pairs import Loopback


def no_receives(*_: object) -> None:
    """In the place of `Backend.multishot`: none that stay."""


@pytest.fixture(params=["best", "plain"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As this machine reads best, and as older kernels do."""
    if request.param == "plain":
        monkeypatch.setattr("netpoll.backends.software.SoftwarePort.multishot", no_receives)


class Reader(asyncio.Protocol):
    """Collects what it is told."""

    def __init__(self) -> None:
        self.data = b""
        self.pieces = 0
        self.at_end = False
        self.ended: asyncio.Future[BaseException | None] = (
            asyncio.get_running_loop().create_future()
        )
        self.more = asyncio.Event()
        self.on_data: Callable[[bytes], object] = len
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        assert not self.at_end
        self.data += data
        self.pieces += 1
        self.more.set()
        self.on_data(data)

    def eof_received(self) -> bool:
        assert not self.at_end
        self.at_end = True
        return False

    def connection_lost(self, exc: BaseException | None) -> None:
        self.ended.set_result(exc)

    async def until(self, size: int) -> None:
        """Until so many bytes have come."""
        async with asyncio.timeout(DEADLINE):
            while len(self.data) < size:
                self.more.clear()
                await self.more.wait()


class Buffered(Reader, asyncio.BufferedProtocol):
    """The same with a buffer of its own, a small one."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = bytearray(1000)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        super().data_received(bytes(self.buffer[:nbytes]))


async def connect(net: Loopback, kind: type[Reader] = Reader) -> tuple[Reader, socket.socket]:
    near, far = net.tcp_pair()
    _, protocol = await asyncio.get_running_loop().create_connection(kind, sock=near)
    return protocol, far


async def turns(count: int = 20) -> None:
    """Time for what would happen, if it did."""
    for _ in range(count):
        await asyncio.sleep(0)


# -- all of it, in order ---------------------------------------------------------------------------


def test_every_byte_of_many_connections(loops: Loops, net: Loopback) -> None:
    """Each pauses and goes on again as it likes."""
    size = 400_000

    def send(far: socket.socket, data: bytes, rng: random.Random) -> None:
        at = 0
        while at < len(data):
            step = rng.choice((1, 64, 1000, 5000, 70_000))
            far.sendall(data[at : at + step])
            at += step
        far.shutdown(socket.SHUT_WR)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        rng = random.Random(3)

        def sometimes_pause(reader: Reader) -> None:
            if rng.random() < 0.2:
                reader.transport.pause_reading()
                for _ in range(rng.choice((0, 0, 1, 2))):
                    reader.transport.resume_reading()
                    reader.transport.pause_reading()
                loop.call_later(rng.choice((0, 0, 0.001)), reader.transport.resume_reading)

        connections = [await connect(net) for _ in range(10)]
        sent = [random.Random(seed).randbytes(size) for seed in range(10)]
        senders: list[Running[None]] = []
        for index, (reader, far) in enumerate(connections):
            reader.on_data = lambda _, reader=reader: sometimes_pause(reader)  # type: ignore[misc]
            senders.append(run(send, far, sent[index], random.Random(index)))
        async with asyncio.timeout(DEADLINE):
            for reader, _ in connections:
                assert await reader.ended is None
        for sender in senders:
            sender.result()
        assert [reader.data for reader, _ in connections] == sent

    loops.run(main())


@pytest.mark.parametrize("kind", [Reader, Buffered])
def test_data_and_the_end_of_what_is_paused_wait(
    loops: Loops, net: Loopback, kind: type[Reader]
) -> None:
    async def main() -> None:
        reader, far = await connect(net, kind)
        far.sendall(b"before, ")
        await reader.until(8)
        reader.transport.pause_reading()
        far.sendall(b"meanwhile, ")
        await turns()
        far.sendall(b"and the last")
        far.shutdown(socket.SHUT_WR)
        await turns()
        assert reader.data == b"before, "
        assert not reader.at_end
        reader.transport.resume_reading()
        assert reader.data == b"before, "  # never within the call
        assert await reader.ended is None
        assert reader.data == b"before, meanwhile, and the last"

    loops.run(main())


def test_a_pause_with_nothing_in_it_costs_nothing(loops: Loops, net: Loopback) -> None:
    async def main() -> None:
        reader, far = await connect(net)
        for round in range(20):
            reader.transport.pause_reading()
            if round % 2:
                await turns(3)
            reader.transport.resume_reading()
            far.sendall(b"%02d" % round)
            await reader.until(2 * round + 2)
        assert reader.data == b"".join(b"%02d" % round for round in range(20))
        reader.transport.close()
        await reader.ended

    loops.run(main())


def test_a_reset_of_what_is_paused_is_told_by_and_by(loops: Loops, net: Loopback) -> None:
    async def main() -> None:
        reader, far = await connect(net)
        reader.transport.pause_reading()
        reset(far)
        await turns()
        reader.transport.resume_reading()
        async with asyncio.timeout(DEADLINE):
            assert isinstance(await reader.ended, ConnectionResetError)

    loops.run(main())


def test_what_came_before_a_reset_is_told_before_it(loops: Loops, net: Loopback) -> None:
    async def main() -> None:
        reader, far = await connect(net)
        reader.transport.pause_reading()
        far.sendall(b"data")
        await turns()
        reset(far)
        await turns()
        reader.transport.resume_reading()
        async with asyncio.timeout(DEADLINE):
            assert isinstance(await reader.ended, ConnectionResetError)
        assert reader.data == b"data"

    loops.run(main())


def test_a_peer_of_what_is_paused_has_to_wait(loops: Loops, net: Loopback) -> None:
    """What was read ahead is no more than asyncio's own loop takes at a time."""

    async def main() -> None:
        reader, far = await connect(net)
        far.setblocking(False)

        def send() -> int:
            sent = 0
            try:
                while True:
                    sent += far.send(bytes(100_000))
            except BlockingIOError:
                return sent

        reader.transport.pause_reading()
        total = quiet = 0
        while quiet < 20:
            sent = send()
            quiet = 0 if sent else quiet + 1
            total += sent
            await asyncio.sleep(0)
        assert reader.data == b""
        assert len(reader.transport._held) <= 256 << 10
        reader.transport.resume_reading()
        await reader.until(total)
        reader.transport.close()
        await reader.ended

    loops.run(main())


def test_a_slow_reader_is_given_little_more_than_it_takes(loops: Loops, net: Loopback) -> None:
    """It pauses whenever it is told of something, as a `StreamReader` that is full does."""

    async def main() -> None:
        reader, far = await connect(net)
        sent = random.Random(5).randbytes(3_000_000)
        sender = run(far.sendall, sent)
        largest = 0

        def pause(data: bytes) -> None:
            nonlocal largest
            largest = max(largest, len(data))
            reader.transport.pause_reading()
            reader.transport._loop.call_soon(reader.transport.resume_reading)

        reader.on_data = pause
        await reader.until(len(sent))
        sender.result()
        assert reader.data == sent
        assert largest <= 256 << 10
        reader.transport.close()
        await reader.ended

    loops.run(main())


# -- another protocol ------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [Reader, Buffered])
def test_the_protocol_changes_back_and_forth(
    loops: Loops, net: Loopback, first: type[Reader]
) -> None:
    async def main() -> None:
        reader, far = await connect(net, first)
        other = Buffered() if first is Reader else Reader()
        told: list[bytes] = []
        current = reader
        all_told = asyncio.Event()

        def change(data: bytes) -> None:
            nonlocal current
            told.append(data)
            if sum(map(len, told)) == len(sent):
                all_told.set()
            current = other if current is reader else reader
            transport.set_protocol(current)

        transport = reader.transport
        reader.on_data = other.on_data = change
        sent = random.Random(9).randbytes(200_000)
        sender = run(far.sendall, sent)
        async with asyncio.timeout(DEADLINE):
            await all_told.wait()
        sender.result()
        assert b"".join(told) == sent
        assert reader.pieces
        assert other.pieces
        transport.close()
        await current.ended

    loops.run(main())


def test_the_protocol_changes_while_paused(loops: Loops, net: Loopback) -> None:
    """As `start_tls()` does it: what comes meanwhile is for the new one."""

    async def main() -> None:
        reader, far = await connect(net)
        far.sendall(b"for the first")
        await reader.until(13)
        transport = reader.transport
        transport.pause_reading()
        far.sendall(b"for the second")
        await turns()
        second = Buffered()
        transport.set_protocol(second)
        await turns()
        assert second.data == b""
        transport.resume_reading()
        await second.until(14)
        far.sendall(b", too")
        await second.until(19)
        assert (reader.data, second.data) == (b"for the first", b"for the second, too")
        transport.close()
        await second.ended

    loops.run(main())


# -- the end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["close", "abort"])
def test_nothing_is_told_after_the_end(loops: Loops, net: Loopback, end: str) -> None:
    async def main() -> None:
        reader, far = await connect(net)
        reader.on_data = lambda _: getattr(reader.transport, end)()
        for _ in range(10):
            far.sendall(bytes(100_000))
            if reader.data:
                break
            await turns(1)
        await reader.ended
        assert reader.pieces == 1
        assert not reader.at_end

    loops.run(main())


def test_the_peer_sees_the_end_although_the_loop_stops(loops: Loops, net: Loopback) -> None:
    async def main() -> socket.socket:
        reader, far = await connect(net)
        reader.transport.close()
        await reader.ended
        return far

    loop = loops.new()
    far = loop.run_until_complete(main())
    far.settimeout(DEADLINE)
    assert far.recv(10) == b""


def test_closed_before_they_began_they_take_nobody_elses_data(loops: Loops, net: Loopback) -> None:
    """Their numbers are other sockets' by then."""

    class Closes(Reader):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            transport.close()

    async def main() -> None:
        for _ in range(20):
            closed = [await connect(net, Closes) for _ in range(5)]
            reader, far = await connect(net)
            far.sendall(b"data")
            await reader.until(4)
            for each, _ in closed:
                await each.ended
                assert each.data == b""
            assert reader.data == b"data"
            reader.transport.close()
            await reader.ended

    loops.run(main())


def test_one_that_raises_does_not_keep_the_others_from_theirs(loops: Loops, net: Loopback) -> None:
    async def main() -> None:
        failure = RuntimeError("mine")

        def fail(_: bytes) -> None:
            raise failure

        connections = [await connect(net) for _ in range(5)]
        connections[2][0].on_data = fail
        for _, far in connections:
            far.sendall(b"data")
        for reader, _ in connections:
            await reader.until(4)
        assert await connections[2][0].ended is failure
        assert [context["exception"] for context in loops.complaints] == [failure]
        assert "data_received" in loops.complaints[0]["message"]
        loops.complaints.clear()
        for index in (0, 1, 3, 4):
            reader, far = connections[index]
            far.sendall(b"more")
            await reader.until(8)
            reader.transport.close()
            await reader.ended

    loops.run(main())


def test_a_protocol_that_only_writes(loops: Loops, net: Loopback) -> None:
    """It is no `Protocol`, and has no `data_received`: that is wrong when there is data."""

    class Writes(asyncio.BaseProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            transport.write(b"data")

        def connection_lost(self, exc: BaseException | None) -> None:
            ended.set_result(exc)

    ended: asyncio.Future[BaseException | None]

    async def main() -> None:
        nonlocal ended
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        near, far = net.tcp_pair()
        await loop.create_connection(Writes, sock=near)
        far.settimeout(DEADLINE)
        await turns()
        assert far.recv(10) == b"data"
        far.sendall(b"data")
        assert isinstance(await ended, AttributeError)
        assert len(loops.complaints) == 1
        loops.complaints.clear()

    loops.run(main())


def test_ctrl_c_in_one_leaves_the_others_for_the_next_run(loops: Loops, net: Loopback) -> None:
    connections: list[tuple[Reader, socket.socket]] = []

    async def main() -> None:
        def interrupt(_: bytes) -> None:
            raise KeyboardInterrupt

        connections.extend([await connect(net) for _ in range(5)])
        connections[1][0].on_data = interrupt
        for _, far in connections:
            far.sendall(b"data")
        await asyncio.get_running_loop().create_future()

    async def rest() -> None:
        for reader, _ in connections:
            await reader.until(4)
            reader.transport.close()
            await reader.ended

    loop = loops.new()
    task = loop.create_task(main())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(task)
    loop.run_until_complete(rest())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)


def test_the_loop_goes_on_in_another_thread(loops: Loops, net: Loopback) -> None:
    """The kernel ends what a thread has pending when it exits."""
    loop = loops.new()
    near, far = net.tcp_pair()

    def first() -> Reader:
        async def main() -> Reader:
            _, reader = await asyncio.get_running_loop().create_connection(Reader, sock=near)
            far.sendall(b"first, ")
            await reader.until(7)
            return reader

        return loop.run_until_complete(main())

    reader = run(first).result()
    far.sendall(b"second")

    async def main() -> None:
        await reader.until(13)
        assert reader.data == b"first, second"
        reader.transport.close()
        await reader.ended

    loop.run_until_complete(main())


def test_a_loop_is_closed_with_connections_open(loops: Loops, net: Loopback) -> None:
    """Nobody reads from them any more."""

    async def main() -> list[tuple[Reader, socket.socket]]:
        connections = [await connect(net) for _ in range(10)]
        await turns()
        return connections

    loop = loops.new()
    connections = loop.run_until_complete(main())
    loop.close()
    for index in range(10):
        connections[index][1].sendall(b"data")
        near = connections[index][0].transport._sock
        near.settimeout(DEADLINE)
        assert near.recv(10) == b"data"
        del near
    with pytest.raises(RuntimeError, match="closed"):
        loop.run_forever()
    connections.clear()
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        gc.collect()


def test_connections_that_come_and_go_leave_nothing_behind(loops: Loops, net: Loopback) -> None:
    async def main() -> None:
        loop = loops.running()
        counts: set[float] = set()
        for _ in range(30):
            connections = [await connect(net) for _ in range(3)]
            for reader, far in connections:
                far.sendall(b"data")
                await reader.until(4)
            for reader, far in connections:
                far.close()
                assert await reader.ended is None
            await turns(3)
            counts.add(loop.port.stats()["inflight"])
            assert threading.active_count() < 10
        assert len(counts) == 1

    loops.run(main())
