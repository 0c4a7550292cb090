"""Cancel, close, reset and completion at once: one completion each, no byte lost, no leak."""

from __future__ import annotations

import random
import socket
import sys
import threading
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest
from stress.chaos import CONSUMERS, ENDINGS, Chaos
from stress.echo import EchoServer

from netpoll import CompletionPort, Overlapped, PortClosed
from netpoll.testing.accepted import CLOSED_HERE
from netpoll.testing.attempts import TIMED_OUT, pattern, winerror
from netpoll.testing.drain import collect, nothing_more
from netpoll.testing.pairs import receive_exactly, reset
from netpoll.testing.waiting import DEADLINE, run, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll.testing.backends import Target
    from netpoll.testing.fixtures import MakePort
    from netpoll.testing.pairs import Loopback


def test_a_hundred_threads_starting_cancelling_and_closing(
    port: CompletionPort, seed: int, seconds: float
) -> None:
    chaos = Chaos(port, seed, threads=100 - CONSUMERS)
    chaos.run(seconds)
    ends = [end for book in chaos.books for end in book.ends]
    assert {len(book.starts) - len(book.ends) for book in chaos.books} == {0}
    odd = {(*book.starts, end) for book in chaos.books for end in book.ends if end not in ENDINGS}
    assert not odd
    assert len(ends) > 100
    assert 0 in ends
    assert 995 in ends
    assert port.inflight() == []
    assert port.stats()["inflight"] == 0
    nothing_more(port)


# -- clients that reset ---------------------------------------------------------------------------


def at_once(client: socket.socket, address: Any) -> None:
    client.setblocking(False)
    client.connect_ex(address)


def connected(client: socket.socket, address: Any) -> None:
    client.connect(address)


def after_a_byte(client: socket.socket, address: Any) -> None:
    client.connect(address)
    client.sendall(b"x")


def with_much_under_way(client: socket.socket, address: Any) -> None:
    client.connect(address)
    client.setblocking(False)
    with suppress(BlockingIOError):
        for _ in range(64):
            client.send(bytes(65536))


def with_an_answer_unread(client: socket.socket, address: Any) -> None:
    client.connect(address)
    client.sendall(b"x" * 1000)
    assert client.recv(1) == b"x"


def after_the_answer(client: socket.socket, address: Any) -> None:
    client.connect(address)
    client.sendall(b"x" * 1000)
    receive_exactly(client, 1000)


def after_its_end(client: socket.socket, address: Any) -> None:
    client.connect(address)
    client.shutdown(socket.SHUT_WR)


def after_data_and_end(client: socket.socket, address: Any) -> None:
    client.connect(address)
    client.sendall(b"x" * 1000)
    client.shutdown(socket.SHUT_WR)
    assert client.recv(1) == b"x"


MOMENTS = [
    at_once,
    connected,
    after_a_byte,
    with_much_under_way,
    with_an_answer_unread,
    after_the_answer,
    after_its_end,
    after_data_and_end,
]


@pytest.mark.parametrize("receive", [None, 4096], ids=["accept", "accept-with-data"])
def test_clients_that_reset_at_every_moment_lose_nothing(
    port: CompletionPort, net: Loopback, seed: int, full: bool, receive: int | None
) -> None:
    """A client gone before it was accepted, between two operations, in the middle of one."""
    rng = random.Random(seed)
    server = EchoServer(port, net.listener(), receive=receive)
    for number in range(10_000 if full else 250):
        moment = MOMENTS[number % len(MOMENTS)]
        client = socket.socket()
        client.settimeout(DEADLINE)
        try:
            moment(client, server.address)
        finally:
            if rng.random() < 0.9:
                reset(client)
            client.close()
    with closing(socket.create_connection(server.address, DEADLINE)) as good:
        for size in (1, 1000, 65536):
            good.sendall(pattern(size))
            assert receive_exactly(good, size) == pattern(size)
    if receive is None:
        wait_until(lambda: not server.connections, "every connection having been dropped")
        wait_until(lambda: len(port.inflight()) == 4, "nothing but accepts pending")
    server.stop()
    assert server.accepted > 0
    assert server.starts == server.ends == port.stats()["taken"]


# -- descriptors used again -----------------------------------------------------------------------


@pytest.mark.parametrize("waiting", [True, False], ids=["while-a-thread-waits", "unnoticed"])
def test_a_number_used_again_never_gets_a_stale_completion(
    port: CompletionPort, net: Loopback, target: Target, seconds: float, waiting: bool
) -> None:
    listener = net.listener()
    deadline = time.monotonic() + seconds
    rounds = reused = 0
    near, far = connect_to(listener)
    while time.monotonic() < deadline or rounds < 20:
        port.associate(near, rounds)
        stale = port.recv(near, 10)
        client = socket.create_connection(listener.getsockname(), DEADLINE)
        consumer = run(port.get, DEADLINE) if waiting else None
        number = near.fileno()
        near.close()
        # the next descriptor made is the connection's
        near = listener.accept()[0]
        reused += near.fileno() == number
        with suppress(OSError):
            far.sendall(b"stale")
        far.close()
        far = client
        port.associate(near, rounds + 1)
        fresh = port.recv(near, 10)
        far.sendall(b"fresh")
        first = consumer.result() if consumer is not None else None
        taken = [first] if first is not None else []
        ended = {done.overlapped: done for done in taken + collect(port, 2 - len(taken))}
        assert (ended[stale].key, ended[fresh].key) == (rounds, rounds + 1)
        if target.backend == "io_uring" and not ended[stale].error:
            # the kernel keeps the connection until it is noticed that the socket was closed
            assert ended[stale].result() == b"stale"
        else:
            assert ended[stale].error in CLOSED_HERE
        assert ended[fresh].result() == b"fresh"
        near.close()
        far.close()
        near, far = connect_to(listener)
        rounds += 1
    near.close()
    far.close()
    if sys.platform != "win32":
        assert reused > 0


def connect_to(listener: socket.socket) -> tuple[socket.socket, socket.socket]:
    far = socket.create_connection(listener.getsockname(), DEADLINE)
    return listener.accept()[0], far


# -- cancelling as data arrives -------------------------------------------------------------------


@pytest.mark.statement("CAN-05", "CAN-10")
@pytest.mark.parametrize("how", ["cancel", "cancel-the-handle", "timeout"])
def test_no_byte_is_lost_when_a_receive_is_stopped_as_data_arrives(
    port: CompletionPort, net: Loopback, seed: int, seconds: float, full: bool, how: str
) -> None:
    rng = random.Random(seed)
    near, far = net.tcp_pair()
    port.associate(near)
    received = bytearray()
    stopped = served = 0
    stop_at = time.monotonic() + seconds
    races = 20_000 if full else 100
    enough = threading.Event()
    stopper = Stopper(port, near, whole=how == "cancel-the-handle")
    turn = threading.Semaphore(0)  # a receive is started: send something just now
    sending = run(trickle, far, seed, enough, turn)
    end = False
    while not end:
        if stopped + served >= races and time.monotonic() > stop_at:
            enough.set()
        limit = rng.choice([0, 0.0001, 0.001]) if how == "timeout" else None
        operation = port.recv(near, rng.choice([1, 50, 200, 200]), timeout=limit)
        turn.release()
        if how != "timeout":
            stopper.stop(operation)
        [completion] = collect(port, 1)
        assert completion.overlapped is operation
        if completion.error:
            assert completion.error in ({995} | TIMED_OUT)
            assert completion.transferred == 0
            stopped += 1
            continue
        end = not completion.transferred
        received += completion.result()
        served += 1
    stopper.end()
    sent = sending.result()
    assert bytes(received) == (STREAM * (sent // len(STREAM) + 1))[:sent]
    assert stopped > 0
    assert served > 0


STREAM = pattern(1 << 20)


class Stopper:
    """A thread that cancels whatever it is given, some time soon."""

    def __init__(self, port: CompletionPort, sock: socket.socket, *, whole: bool) -> None:
        self.port = port
        self.target: Overlapped[Any] | None = None
        self.sock = sock
        self.whole = whole
        self.given = threading.Semaphore(0)
        self.thread = run(self.main)

    def stop(self, operation: Overlapped[Any]) -> None:
        self.target = operation
        self.given.release()

    def end(self) -> None:
        self.stop(Overlapped())
        self.target = None
        self.thread.result()

    def main(self) -> None:
        while self.given.acquire(timeout=2 * DEADLINE):
            target = self.target
            if target is None or target.opcode is None:
                return
            if self.whole:
                self.port.cancel(self.sock)
            else:
                target.cancel()


def trickle(
    sock: socket.socket, seed: int, enough: threading.Event, turn: threading.Semaphore
) -> int:
    """Send a small piece of the stream at each turn, then its end; the number of bytes."""
    rng = random.Random(seed)
    sent = 0
    while turn.acquire(timeout=DEADLINE) and not enough.is_set():
        offset = sent % len(STREAM)
        sent += sock.send(STREAM[offset : offset + rng.randrange(1, 100)])
    sock.shutdown(socket.SHUT_WR)
    return sent


# -- closing the port -----------------------------------------------------------------------------


@pytest.mark.statement("PORT-18", "PORT-19")
def test_a_port_closed_while_threads_wait_and_start(
    make_port: MakePort, net: Loopback, seed: int, seconds: float
) -> None:
    rng = random.Random(seed)
    deadline = time.monotonic() + seconds
    rounds = 0
    while time.monotonic() < deadline or rounds < 3:
        close_under_load(make_port(), net, rng.randrange(2000))
        rounds += 1


def close_under_load(port: CompletionPort, net: Loopback, after: int) -> None:
    """Close the port when `after` operations have been started."""
    started: list[Overlapped[Any]] = []
    taken: list[Any] = []
    waiters = [run(until_closed, lambda: taken.extend(port.get_many(8))) for _ in range(8)]
    pairs = [net.tcp_pair() for _ in range(6)]
    for near, _ in pairs:
        port.associate(near)
    starters = [run(until_closed, starter(port, *pair, started)) for pair in pairs]
    wait_until(lambda: len(started) >= after, f"{after} starts")
    port.close()
    numbers = [each.result() for each in waiters]
    for each in starters:
        each.result()
    assert set(numbers) <= {735, 6}
    assert all(operation.done for operation in started)
    ended = [completion.overlapped for completion in taken]
    assert len(ended) == len(set(ended))
    port.close()
    for near, far in pairs:
        near.close()
        far.close()


def until_closed(step: Callable[[], object]) -> int:
    """Repeat `step` until the port is closed; the number it is told with."""
    while True:
        try:
            step()
        except PortClosed as error:
            return winerror(error)


def starter(
    port: CompletionPort, near: socket.socket, far: socket.socket, started: list[Overlapped[Any]]
) -> Callable[[], None]:
    def start() -> None:
        operation = port.recv(near, 10)
        started.append(operation)
        if len(started) % 3 == 0:
            far.send(b"x")
        elif len(started) % 3 == 1:
            operation.cancel()

    return start
