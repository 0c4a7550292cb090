"""Transports: what comes in which order, and to which protocol."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import struct
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from loops import Loops

    from netpoll.testing.pairs import Loopback


class Recorder(asyncio.Protocol):
    """Takes what comes."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.ended = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.said.append(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.ended.set_result(exc)


class BufferedRecorder(asyncio.BufferedProtocol):
    """The same with a buffer of its own."""

    def __init__(self, size: int = 100) -> None:
        self.said: list[Any] = []
        self.ended = asyncio.get_running_loop().create_future()
        self._buffer = bytearray(size)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.said.append(bytes(self._buffer[:nbytes]))

    def connection_lost(self, exc: BaseException | None) -> None:
        self.ended.set_result(exc)


def test_who_waits_for_a_connection_goes_on_before_there_is_data(
    loops: Loops, net: Loopback
) -> None:
    async def main() -> None:
        near, far = net.tcp_pair()
        far.sendall(b"data")
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_connection(Recorder, sock=near)
        assert protocol.said == []
        far.close()
        assert await protocol.ended is None
        assert protocol.said == [b"data"]
        assert transport.is_closing()

    loops.run(main())


def test_what_is_ready_goes_before_data(loops: Loops, net: Loopback) -> None:
    async def main() -> None:
        near, far = net.tcp_pair()
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_connection(Recorder, sock=near)
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # the receive is pending
        far.sendall(b"data")
        loop.call_soon(protocol.said.append, "ready")
        far.close()
        await protocol.ended
        assert protocol.said == ["ready", b"data"]
        transport.close()

    loops.run(main())


@pytest.mark.parametrize("debug", [False, True])
def test_the_end_is_told_in_the_next_turn(loops: Loops, net: Loopback, debug: bool) -> None:
    """With a receive pending, and a send: not only once their packets have come."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_debug(debug)
        near, _ = net.tcp_pair()
        transport, protocol = await loop.create_connection(Recorder, sock=near)
        while not transport.get_write_buffer_size():
            transport.write(bytes(1 << 20))
        transport.abort()
        assert not protocol.ended.done()
        await asyncio.sleep(0)
        assert protocol.ended.done()
        assert near.fileno() == -1

    loops.run(main())


@pytest.mark.parametrize("first", [Recorder, lambda: BufferedRecorder(3), BufferedRecorder])
@pytest.mark.parametrize("second", [Recorder, BufferedRecorder, lambda: BufferedRecorder(1)])
def test_a_new_protocol_gets_what_was_received_for_the_old_one(
    loops: Loops, net: Loopback, first: Callable[[], Any], second: Callable[[], Any]
) -> None:
    """`start_tls`: the receive that is pending then has a buffer of the old protocol's."""

    async def main() -> None:
        near, far = net.tcp_pair()
        loop = asyncio.get_running_loop()
        transport, old = await loop.create_connection(first, sock=near)
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # the receive is pending
        new = second()
        transport.set_protocol(new)
        far.sendall(b"of the new")
        far.shutdown(socket.SHUT_WR)
        await new.ended
        assert old.said == []
        assert b"".join(new.said) == b"of the new"

    loops.run(main())


def test_what_a_protocol_sets_is_its_connections(loops: Loops, net: Loopback) -> None:
    """Context variables: from the server to its connections, and not from one to the next."""
    variable = contextvars.ContextVar("variable", default="")
    seen: list[str] = []

    class Connection(asyncio.Protocol):
        def __init__(self) -> None:
            seen.append(variable.get())
            variable.set("made")

        def data_received(self, data: bytes) -> None:
            seen.append(variable.get())
            variable.set("received")

        def eof_received(self) -> None:
            seen.append(variable.get())

    async def main() -> None:
        loop = asyncio.get_running_loop()
        variable.set("server")
        server = await loop.create_server(Connection, "127.0.0.1", 0)
        variable.set("later")
        for _ in range(2):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"data")
            writer.write_eof()
            await reader.read()
            writer.close()
        server.close()
        await server.wait_closed()

    loops.run(main())
    assert seen == ["server", "made", "received"] * 2


@pytest.mark.skipif(not hasattr(socket, "AF_NETLINK"), reason="a kind of socket that Linux has")
def test_sockets_with_addresses_that_netpoll_does_not_read(loops: Loops) -> None:
    """Of netlink, Bluetooth, CAN: by readiness, on every backend."""
    # RTM_GETLINK of interface 1, the loopback
    question = struct.pack("=IHHIIBxHiII", 32, 18, 1, 1, 0, 0, 0, 1, 0, 0)

    def netlink() -> socket.socket:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM)  # type: ignore[attr-defined, unused-ignore]
        sock.setblocking(False)
        sock.bind((0, 0))
        return sock

    async def main() -> None:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[tuple[bytes, Any]] = loop.create_future()

        class Endpoint(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                answer.set_result((data, addr))

        transport, _ = await loop.create_datagram_endpoint(Endpoint, sock=netlink())
        transport.sendto(question, (0, 0))
        data, address = await answer
        assert (address, struct.unpack_from("=4xH", data)) == ((0, 0), (16,))  # RTM_NEWLINK
        transport.close()
        with netlink() as sock:
            assert await loop.sock_sendto(sock, question, (0, 0)) == len(question)
            data, address = await loop.sock_recvfrom(sock, 65536)
            assert (address, struct.unpack_from("=4xH", data)) == ((0, 0), (16,))

    loops.run(main())


# -- what a receive costs --------------------------------------------------------------------------

MOST = 32 << 10
"""Bytes that a receive may allocate, with all else that happens meanwhile."""


class Tally(asyncio.Protocol):
    """Counts what comes."""

    size = 0

    def data_received(self, data: bytes) -> None:
        self.size += len(data)


class BufferedTally(asyncio.BufferedProtocol):
    """The same with a buffer of its own."""

    size = 0

    def __init__(self) -> None:
        self._buffer = bytearray(4 * MOST)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.size += nbytes


@pytest.mark.parametrize(
    ("make", "message"),
    [(Tally, b"x"), (BufferedTally, bytes(2 * MOST))],
    ids=["not_what_might_come", "nothing_for_a_buffer_of_the_protocol_s"],
)
def test_cpython_85445_a_receive_allocates_no_more_than_it_brings(
    loops: Loops, net: Loopback, make: Callable[[], Any], message: bytes
) -> None:
    """asyncio's transports allocate 256 KiB for each receive and give back what was too much, or
    copy what they have received for another's buffer."""

    async def main() -> None:
        near, far = net.tcp_pair()
        transport, protocol = await asyncio.get_running_loop().create_connection(make, sock=near)

        async def exchange(times: int) -> None:
            for _ in range(times):
                expected = protocol.size + len(message)
                far.sendall(message)
                while protocol.size < expected:  # noqa: ASYNC110  an event would allocate
                    await asyncio.sleep(0)

        await exchange(3)  # the first ones make what stays
        tracemalloc.start()
        try:
            await exchange(20)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < MOST
        transport.close()

    loops.run(main())
