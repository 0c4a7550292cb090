"""A crowd of threads that do everything to one port at once, and the books that must balance."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from netpoll import Overlapped
from netpoll.status import STATUS_INVALID_CONNECTION, win32_error
from netpoll.testing.accepted import CLOSED_HERE, REFUSED, RESET
from netpoll.testing.attempts import NO_SOCKET, NOT_CONNECTED, SHUT_DOWN, TIMED_OUT, winerror
from netpoll.testing.pairs import reset
from netpoll.testing.waiting import DEADLINE, Running, run, wait_until
from netpoll.testing.wine import wine_version

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll import Completion, CompletionPort

CONSUMERS = 3
SLOTS = 24
"""Connections that all threads share: few, so that they get into each other's way."""
STOP = object()

# A ConnectEx whose socket is closed while Wine sends its data ends as one on a socket that was
# never connected (on Windows: cancelled). For STATUS_ALERTED, 0x101, see THR-02 in testing/wine.py.
_WINES = frozenset((win32_error(STATUS_INVALID_CONNECTION), win32_error(0x101)))
ENDINGS = (
    {0} | CLOSED_HERE | RESET | TIMED_OUT | REFUSED | (_WINES if wine_version() else set[int]())
)
"""How an operation may end here."""
REFUSALS = NO_SOCKET | RESET | CLOSED_HERE | SHUT_DOWN | NOT_CONNECTED | {10022, 10056}
"""How a start may fail here: its socket is closed, shut down or reset by somebody else."""


class Book:
    """What happened to one operation; appending is atomic, counting would not be."""

    __slots__ = ("ends", "starts")

    def __init__(self) -> None:
        self.starts: list[str] = []
        self.ends: list[int] = []


class Chaos:
    """The crowd. `run(seconds)` returns when everything it started has ended."""

    def __init__(self, port: CompletionPort, seed: int, threads: int) -> None:
        self.port = port
        self.seed = seed
        self.threads = threads
        self.slots: list[tuple[socket.socket, socket.socket]] = []
        self.books: list[Book] = []
        self.recent: deque[Overlapped[Any]] = deque(maxlen=64)
        self.over = threading.Event()

    def run(self, seconds: float) -> None:
        consumers = [run(self.consume, number) for number in range(CONSUMERS)]
        self.slots += [connected() for _ in range(SLOTS)]
        for near, _ in self.slots:
            self.port.associate(near)
        workers = [
            run(self.work, number, time.monotonic() + seconds) for number in range(self.threads)
        ]
        for worker in workers:
            worker.result(timeout=seconds + DEADLINE)
        for pair in self.slots:
            self.close(pair, random.Random(self.seed))
        self.drain(consumers)

    def drain(self, consumers: list[Running[None]]) -> None:
        """Let everything end; the consumers start nothing more."""
        self.over.set()
        wait_until(self.balanced, "every operation having ended once")
        for _ in consumers:
            self.port.post(key=STOP)
        for consumer in consumers:
            consumer.result()

    def balanced(self) -> bool:
        idle = not self.port.stats()["inflight"]
        return idle and all(len(book.starts) == len(book.ends) for book in self.books)

    # -- threads -----------------------------------------------------------------------------------

    def consume(self, number: int) -> None:
        rng = random.Random(self.seed * 1000 - number)
        while True:
            batch = self.port.get_many(rng.choice([1, 4, 64]), timeout=DEADLINE)
            stops = [completion for completion in batch if completion.key is STOP]
            for completion in batch:
                if isinstance(completion.overlapped, Overlapped):
                    self.end(completion, rng)
            for _ in stops[1:]:
                self.port.post(key=STOP)  # that was another consumer's
            if stops:
                return

    def end(self, completion: Completion, rng: random.Random) -> None:
        operation = completion.overlapped
        if operation.opcode == "accept" and not completion.error:
            reset(completion.result()[0])
        operation.context.ends.append(completion.error)
        again = operation.opcode in ("recv_into", "send") and rng.random() < 0.3
        if again and not self.over.is_set():
            self.start(operation, lambda: self.port.resubmit(operation))
        else:
            operation.release()  # the books are kept, not what they are about

    def work(self, number: int, deadline: float) -> None:
        rng = random.Random(self.seed * 1000 + number)
        on_connections = [self.receive, self.transmit, self.speak, self.cancel, self.replace]
        with socket.create_server(("127.0.0.1", 0), backlog=8) as listener:
            self.port.associate(listener)
            while time.monotonic() < deadline:
                if rng.random() < 0.04:
                    self.take_clients(listener, rng)
                else:
                    action = rng.choices(on_connections, [6, 4, 8, 4, 1])[0]
                    action(self.slots[rng.randrange(SLOTS)], rng)
            self.port.close_handle(listener)

    # -- what they do ------------------------------------------------------------------------------

    def start(self, operation: Overlapped[Any], begin: Callable[[], object]) -> None:
        """Begin and keep the books: what raises has no end, what returns has one."""
        try:
            begin()
        except OSError as error:
            if winerror(error) not in REFUSALS:
                raise
        else:
            operation.context.starts.append(operation.opcode)
            self.recent.append(operation)

    def fresh(self) -> Overlapped[Any]:
        operation: Overlapped[Any] = Overlapped(Book())
        self.books.append(operation.context)
        return operation

    def receive(self, pair: tuple[socket.socket, socket.socket], rng: random.Random) -> None:
        operation = self.fresh()
        timeout = rng.choice([None, None, 0, 0.001, 0.01])
        sizes = [rng.randrange(100) for _ in range(rng.choice([1, 1, 3]))]
        buffers = [bytearray(size) for size in sizes]
        near = pair[0]
        self.start(
            operation,
            lambda: self.port.recv_into(near, buffers, overlapped=operation, timeout=timeout),
        )

    def transmit(self, pair: tuple[socket.socket, socket.socket], rng: random.Random) -> None:
        operation = self.fresh()
        timeout = rng.choice([None, None, 0.001, 0.01])
        data = bytes(rng.choice([0, 1, 100, 100_000]))
        near = pair[0]
        self.start(
            operation, lambda: self.port.send(near, data, overlapped=operation, timeout=timeout)
        )

    def speak(self, pair: tuple[socket.socket, socket.socket], rng: random.Random) -> None:
        """The peer, which knows nothing of netpoll, reads or writes."""
        far = pair[1]
        with suppress(OSError):  # closed, reset, full or empty: all the same to it
            if rng.random() < 0.5:
                far.send(bytes(rng.randrange(1, 500)))
            else:
                far.recv(rng.choice([10, 100_000]))

    def cancel(self, pair: tuple[socket.socket, socket.socket], rng: random.Random) -> None:
        if rng.random() < 0.2:
            with suppress(OSError):  # closed meanwhile
                self.port.cancel(pair[0])
        elif self.recent:
            with suppress(IndexError, RuntimeError):  # others append to it
                rng.choice(self.recent).cancel()

    def replace(self, pair: tuple[socket.socket, socket.socket], rng: random.Random) -> None:
        """Close a connection that others are using, and open one in its place."""
        new = connected()
        self.port.associate(new[0])
        with suppress(ValueError):
            index = self.slots.index(pair)
            self.slots[index] = new
            new = pair
        self.close(new, rng)

    def close(self, pair: tuple[socket.socket, socket.socket], rng: random.Random) -> None:
        near, far = pair
        first = rng.random() < 0.5
        if first:
            with suppress(OSError):  # closed by another thread
                reset(far)
        if self.port.backend == "iocp" or rng.random() < 0.8:
            # never behind the port's back there: a start that another thread is just about to make
            # would go to whatever socket gets the number next, as in any program for Windows
            self.port.close_handle(near)
        else:
            near.close()
        if not first:
            far.close()

    def take_clients(self, listener: socket.socket, rng: random.Random) -> None:
        """An accept and a client for it, both through the port."""
        accepting = self.fresh()
        buffer = rng.choice([None, bytearray(10)])
        timeout = rng.choice([None, 0.001, 0.01])
        self.start(
            accepting,
            lambda: self.port.accept(
                listener, receive=buffer, overlapped=accepting, timeout=timeout
            ),
        )
        connecting = self.fresh()
        address = listener.getsockname()
        data = rng.choice([None, b"hello"])
        with socket.socket() as client:
            self.port.associate(client)
            self.start(
                connecting,
                lambda: self.port.connect(client, address, data=data, overlapped=connecting),
            )
            if rng.random() < 0.5:
                connecting.wait(0.01)
            reset(client)


def connected() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection, with buffers so small that sends pend soon."""
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        near = socket.create_connection(listener.getsockname())
        far = listener.accept()[0]
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    far.setblocking(False)
    return near, far
