"""Pain E: a cancel that loses what had come, or ends an operation twice."""

from __future__ import annotations

import asyncio
import random
import select
import socket
from typing import TYPE_CHECKING, Any

import pytest

import netpoll.asyncio
from netpoll.testing.attempts import read_to_end
from netpoll.testing.pairs import wait_readable
from netpoll.testing.waiting import DEADLINE, run

if TYPE_CHECKING:
    from loops import Loops

    from netpoll.testing.backends import Target
    from netpoll.testing.pairs import Loopback

ROUNDS = 80


async def recv(loop: asyncio.AbstractEventLoop, sock: socket.socket, size: int) -> bytes:
    return await loop.sock_recv(sock, size)


async def recv_into(loop: asyncio.AbstractEventLoop, sock: socket.socket, size: int) -> bytes:
    buffer = bytearray(size)
    return bytes(buffer[: await loop.sock_recv_into(sock, buffer)])


async def recvfrom(loop: asyncio.AbstractEventLoop, sock: socket.socket, size: int) -> bytes:
    return (await loop.sock_recvfrom(sock, size))[0]


async def recvfrom_into(loop: asyncio.AbstractEventLoop, sock: socket.socket, size: int) -> bytes:
    buffer = bytearray(size)
    return bytes(buffer[: (await loop.sock_recvfrom_into(sock, buffer))[0]])


Receive = "Callable[[asyncio.AbstractEventLoop, socket.socket, int], Awaitable[bytes]]"
RECEIVES = [recv, recv_into, recvfrom, recvfrom_into]
every_receive = pytest.mark.parametrize("receive", RECEIVES, ids=lambda each: each.__name__)


async def cancelled(task: asyncio.Task[Any]) -> bool:
    """Cancel a task; whether that ended it."""
    task.cancel()
    await asyncio.wait([task])
    return task.cancelled()


@every_receive
def test_bpo_33694_a_cancelled_receive_loses_nothing(
    loops: Loops, net: Loopback, target: Target, receive: Any
) -> None:
    """The data was there already when the task was cancelled. Also mypy#21228, websockets#486."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, far = net.udp_pair() if receive in (recvfrom, recvfrom_into) else net.tcp_pair()
        near.setblocking(False)
        task = asyncio.create_task(receive(loop, near, 10))
        await asyncio.sleep(0)
        far.sendall(b"data")
        if target.readiness:  # a kernel's completion port has handed the data over already
            wait_readable(near)
        assert await cancelled(task)
        assert await receive(loop, near, 10) == b"data"
        far.sendall(b"more")
        assert await receive(loop, near, 10) == b"more"

    loops.run(main())


def test_bpo_33694_what_a_cancelled_receive_brought_is_taken_in_parts(
    loops: Loops, net: Loopback
) -> None:
    """By other methods than the one that was cancelled, and smaller buffers."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, far = net.tcp_pair()
        near.setblocking(False)
        task = asyncio.create_task(loop.sock_recv(near, 100))
        await asyncio.sleep(0)
        far.sendall(b"0123456789")
        assert await cancelled(task)
        parts = [await receive(loop, near, 3) for receive in (recv, recv_into, recv)]
        assert b"".join(parts) == b"012345678"
        far.close()
        assert await loop.sock_recv(near, 100) == b"9"
        assert await loop.sock_recv(near, 100) == b""

    loops.run(main())


@every_receive
def test_bpo_33694_no_byte_is_lost_in_a_race(loops: Loops, net: Loopback, receive: Any) -> None:
    chance = random.Random(33694)

    def send(far: socket.socket) -> None:
        for number in range(ROUNDS):
            far.sendall(number.to_bytes(2, "big"))

    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        datagrams = receive in (recvfrom, recvfrom_into)
        near, far = net.udp_pair() if datagrams else net.tcp_pair()
        near.setblocking(False)
        sender = run(send, far)
        got = bytearray()
        while len(got) < 2 * ROUNDS:
            task = asyncio.create_task(receive(loop, near, 2 if datagrams else 7))
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            if chance.random() < 0.7:
                task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                got += task.result()
        sender.result()
        return bytes(got)

    assert loops.run(main()) == b"".join(n.to_bytes(2, "big") for n in range(ROUNDS))


def test_cpython_153761_a_cancelled_accept_loses_no_connection(loops: Loops, net: Loopback) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        listener, client = net.listener(), net.new_socket()
        listener.setblocking(False)
        task = asyncio.create_task(loop.sock_accept(listener))
        await asyncio.sleep(0)
        client.connect(listener.getsockname())
        assert await cancelled(task)
        connection, address = await loop.sock_accept(listener)
        with connection:
            assert address == client.getsockname()
            assert connection.gettimeout() == 0
            await loop.sock_sendall(connection, b"welcome")
            assert client.recv(10) == b"welcome"

    loops.run(main())


def test_cpython_153761_no_connection_is_lost_in_a_race(loops: Loops, net: Loopback) -> None:
    chance = random.Random(153761)
    clients = 60

    def connect(address: Any) -> list[Any]:
        names: list[Any] = []
        for _ in range(clients):
            with socket.create_connection(address) as client:
                names.append(client.getsockname())
        return names

    async def main() -> None:
        loop = asyncio.get_running_loop()
        listener = net.listener()
        listener.setblocking(False)
        connecting = run(connect, listener.getsockname())
        accepted: list[Any] = []
        while len(accepted) < clients:
            task = asyncio.create_task(loop.sock_accept(listener))
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            if chance.random() < 0.7:
                task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                connection, address = task.result()
                connection.close()
                accepted.append(address)
        assert accepted == connecting.result()

    loops.run(main())


def test_cpython_149123_a_late_end_finds_a_future_that_is_done(loops: Loops, net: Loopback) -> None:
    """It raised InvalidStateError out of the loop, and the service was dead."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, netpoll.asyncio.EventLoop)
        near, far = net.tcp_pair()
        loop.port.associate(near)
        settled, stopped = loop.port.recv(near, 1), loop.port.recv(near, 1)
        futures = [netpoll.asyncio.wrap(settled), netpoll.asyncio.wrap(stopped)]
        futures[0].set_result(b"by somebody else")
        futures[1].cancel()
        futures[1].cancel()
        far.sendall(b"ab")
        while not (settled.done and stopped.done):  # noqa: ASYNC110  they have no event
            await asyncio.sleep(0)
        assert futures[0].result() == b"by somebody else"
        assert futures[1].cancelled()

    loops.run(main())


def test_cpython_149123_a_cancel_in_the_turn_of_the_end(loops: Loops, net: Loopback) -> None:
    """The operation has ended, its task is about to be told, and is cancelled before that."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, far = net.tcp_pair()
        other, trigger = net.tcp_pair()
        for sock in (near, other):
            sock.setblocking(False)
        task = asyncio.create_task(loop.sock_recv(near, 10))

        async def cancel() -> None:
            await loop.sock_recv(other, 10)
            task.cancel()

        canceller = asyncio.create_task(cancel())
        await asyncio.sleep(0)
        trigger.sendall(b"now")
        far.sendall(b"data")
        await asyncio.wait([task, canceller])
        if task.cancelled():
            assert await loop.sock_recv(near, 10) == b"data"
        else:
            assert task.result() == b"data"

    loops.run(main())


def test_bpo_39010_a_cancel_is_no_reset(loops: Loops, net: Loopback) -> None:
    """995, "the I/O operation has been aborted", was told as a ConnectionResetError, or logged.
    Also prompt-toolkit#1311, spyder#18766."""

    class Lost(asyncio.Protocol):
        def __init__(self) -> None:
            self.reason = asyncio.get_running_loop().create_future()

        def connection_lost(self, exc: Exception | None) -> None:
            self.reason.set_result(exc)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, _ = net.tcp_pair()
        near.setblocking(False)
        task = asyncio.create_task(loop.sock_recv(near, 10))
        await asyncio.sleep(0)
        assert await cancelled(task)
        for end in ("close", "abort"):
            sock, far = net.tcp_pair()
            transport, protocol = await loop.create_connection(Lost, sock=sock)
            getattr(transport, end)()
            assert await protocol.reason is None
            assert far.recv(1) == b""

    loops.run(main())


def wait_writable(sock: socket.socket) -> None:
    """Return as soon as there is room."""
    assert select.select([], [sock], [], DEADLINE)[1]


def numbered(first: int, size: int) -> bytes:
    """`size` bytes in which each piece tells its place."""
    return b"".join(number.to_bytes(4, "big") for number in range(first, first + size // 4))


def test_trio_889_what_follows_a_cancelled_send_comes_behind_what_went_out_of_it(
    loops: Loops, net: Loopback
) -> None:
    """How much that was, nobody can tell: Windows says 0 bytes. But it is the beginning, and it is
    over: nothing of it comes later, between or behind what is sent next."""
    size = 4 << 20
    first, second = numbered(0, size), numbered(1 << 24, size)
    got: list[bytes] = []

    async def replace(near: socket.socket, far: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_sendall(near, first)
        except asyncio.CancelledError:
            # room for more, before the cancel can have come to the kernel
            got.append(far.recv(1 << 20))
            wait_writable(near)
            await loop.sock_sendall(near, second)

    async def main() -> None:
        near, far = net.tcp_pair(buffer=16384)
        near.setblocking(False)
        sending = asyncio.create_task(replace(near, far))
        for _ in range(3):
            await asyncio.sleep(0)
        sending.cancel()
        await asyncio.sleep(0)
        reading = run(read_to_end, far)
        await sending
        near.shutdown(socket.SHUT_WR)
        got.append(await asyncio.to_thread(reading.result))

    loops.run(main())
    whole = b"".join(got)
    part = len(whole) - size
    assert 0 < part < size
    assert whole[:part] == first[:part]
    assert whole[part:] == second


def test_trio_889_a_cancelled_drain_cuts_no_write(loops: Loops, net: Loopback) -> None:
    """What has been written goes out whole, whoever stops waiting for that."""
    size = 4 << 20

    async def main() -> None:
        near, far = net.tcp_pair(buffer=16384)
        _, writer = await asyncio.open_connection(sock=near)
        first, second = numbered(0, size), numbered(1 << 24, size)
        writer.write(first)
        draining = asyncio.create_task(writer.drain())
        for _ in range(3):
            await asyncio.sleep(0)
        assert await cancelled(draining)
        reading = run(read_to_end, far)
        writer.write(second)
        writer.close()
        await writer.wait_closed()
        assert await asyncio.to_thread(reading.result) == first + second

    loops.run(main())
