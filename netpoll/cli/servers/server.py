"""A server on one completion port: its threads, its counters, and how it ends."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from netpoll import Opcode
from netpoll.cli.servers.listener import Listener
from netpoll.cli.servers.report import Figures

if TYPE_CHECKING:
    import socket

    from netpoll import Completion, CompletionPort
    from netpoll.cli.servers.connection import Connection
    from netpoll.cli.servers.services import Service

_logger = logging.getLogger("netpoll")

TICK: Final = 0.5
"""Seconds between two looks at what moves."""
STOP: Final = object()
"""The key of the packet that ends the threads."""


class Tally:
    """What one thread has counted. Each has its own: adding to a shared number loses some."""

    __slots__ = ("received", "sent")

    def __init__(self) -> None:
        self.received: int = 0
        self.sent: int = 0


class Server:
    """Serves the clients of `listener` until it is told to end; `start`, then `drain`, then
    `close`.

    :param port: closed by whoever opened it, after this server
    :param listener: a listening socket; the server closes it
    :param threads: how many take completions from the port
    """

    def __init__(
        self, port: CompletionPort, listener: socket.socket, service: Service, threads: int = 1
    ) -> None:
        self.port = port
        self.lock: threading.Lock = threading.Lock()
        """Guards what several threads change: who is connected, and the ends of connections. Never
        held while a method of the port runs."""
        self.events: SimpleQueue[object] = SimpleQueue()
        """What whoever watches the server waits for: an exception of a thread, `None` when the last
        connection is gone while it drains, and anything else that others put there."""
        self._listener = Listener(self, listener, service)
        self._connections: set[Connection] = set()
        self._total = 0
        self._peak = 0
        self._outcomes: Counter[str] = Counter()
        self._explained: set[str] = set()
        self._draining = False
        self._dropping = False
        self._tallies = [Tally() for _ in range(threads)]
        self._threads = [
            threading.Thread(target=self._run, args=(tally,), name=f"serve-{number}", daemon=True)
            for number, tally in enumerate(self._tallies)
        ]
        self._since = time.monotonic()

    def start(self) -> None:
        """Begin to accept and to serve."""
        self._since = time.monotonic()
        self._listener.start()
        for thread in self._threads:
            thread.start()

    # -- the threads -----------------------------------------------------------------------------

    def _run(self, tally: Tally) -> None:
        try:
            self._serve(tally)
        except BaseException as error:
            self.events.put(error)

    def _serve(self, tally: Tally) -> None:
        """The loop that everything here is about: take completions, and let each go on from
        there.
        """
        get_many = self.port.get_many
        running = True
        while running:
            for completion in get_many():
                if completion.key is STOP:
                    running = False
                else:
                    _count(tally, completion)
                    completion.key.completed(completion)
        self.port.post(key=STOP)  # for the next thread

    # -- the connections -------------------------------------------------------------------------

    def began(self, connection: Connection) -> None:
        """One more client, which is to be opened next."""
        with self.lock:
            self._connections.add(connection)
            self._total += 1
            self._peak = max(self._peak, len(self._connections))
            too_late = self._dropping
        if too_late:
            # accepted before the listener was closed, and taken from the port after all others had
            # been dropped: nobody would
            connection.drop()

    def ended(self, connection: Connection) -> None:
        """The connection is closed and nothing of it is in flight."""
        with self.lock:
            self._connections.remove(connection)
            self._outcomes[connection.outcome] += 1
            last = self._draining and not self._connections
        self._listener.retry()
        if last:
            self.events.put(None)

    def explain(self, kind: str, why: str) -> None:
        """Log why a connection failed that was not just reset: once for each kind of failure."""
        with self.lock:
            known = kind in self._explained
            self._explained.add(kind)
        if not known:
            _logger.warning("a connection %s: %s", kind, why)

    def tick(self) -> Figures:
        """To be called every `TICK` seconds: what has been done so far."""
        # also without a connection that ends: descriptors may become free elsewhere
        self._listener.retry()
        return self.figures()

    def figures(self) -> Figures:
        """What has been done so far."""
        completions = int(self.port.stats()["taken"])
        with self.lock:
            return Figures(
                seconds=time.monotonic() - self._since,
                connections=len(self._connections),
                peak=self._peak,
                total=self._total,
                received=sum(tally.received for tally in self._tallies),
                sent=sum(tally.sent for tally in self._tallies),
                completions=completions,
                outcomes=dict(self._outcomes),
            )

    # -- the end ---------------------------------------------------------------------------------

    def stop_accepting(self) -> None:
        """Take no more clients."""
        self._listener.close()

    def drain(self, seconds: float) -> None:
        """Let the connections finish what they are in the middle of: each is closed as soon as it
        has moved nothing for a moment, and what is left after `seconds` is reset. An event that
        others put into `events` ends the patience at once.

        :raises BaseException: what one of the threads raised
        """
        deadline = time.monotonic() + seconds
        self._draining = True
        before = self._finish_idle({})
        while (left := deadline - time.monotonic()) > 0 and self._connected():
            try:
                event = self.events.get(timeout=min(left, TICK))
            except Empty:
                before = self._finish_idle(before)
            else:
                _raise(event)
                if event is not None:
                    break
        with self.lock:
            self._dropping = True
        for connection in self._connected():
            connection.drop()

    def _connected(self) -> list[Connection]:
        with self.lock:
            return list(self._connections)

    def _finish_idle(self, before: dict[Connection, int]) -> dict[Connection, int]:
        """End the connections that have moved nothing since `before`; what each has moved by
        now.
        """
        now = {connection: connection.moved() for connection in self._connected()}
        for connection, moved in now.items():
            if before.get(connection) == moved:
                connection.finish()
        return now

    def close(self, seconds: float = 10.0) -> None:
        """End the threads, when the connections that were dropped are gone.

        :raises BaseException: what one of the threads raised
        """
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and self._connected():
            try:
                _raise(self.events.get(timeout=min(left, TICK)))
            except Empty:
                continue
        self.port.post(key=STOP)
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def _count(tally: Tally, completion: Completion) -> None:
    opcode = completion.overlapped.opcode
    if opcode is Opcode.RECV_INTO:
        tally.received += completion.transferred
    elif opcode is Opcode.SEND:
        tally.sent += completion.transferred


def _raise(event: object) -> None:
    if isinstance(event, BaseException):
        raise event
