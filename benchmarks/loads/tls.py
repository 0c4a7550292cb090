"""The load over TLS: one message under way on each connection, as in `load.c`.

The connections are made once, before the first window: handshakes are no part of what is measured.
"""

import contextlib
import select
import socket
import ssl
import time

from benchmarks import certificates
from benchmarks.loads.window import LoadFailed, Options, Traffic, obey, run

SILENCE = 10.0
"""Seconds of nothing that are a failure."""
SHIFTS = 4096
"""Different payloads."""
PATTERN = bytes((7 * index + index // 251) % 256 for index in range(SHIFTS))


class Connection:
    """One connection, and the message that is under way on it."""

    def __init__(self, number: int, options: Options, context: ssl.SSLContext) -> None:
        self._number = number
        self._size = options.size
        self._messages = 0
        self._payload = b""
        self._missing = b""
        """The part of the message that has not come back yet."""
        plain = socket.create_connection(("127.0.0.1", options.port), timeout=SILENCE)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(plain, server_hostname=certificates.NAME)
        self.socket.setblocking(False)

    def start(self, pattern: bytes) -> None:
        """Send the next message: another one than before, and than those of other connections."""
        self._messages += 1
        shift = (self._number * 37 + self._messages * 11) % SHIFTS
        self._missing = pattern[shift : shift + self._size]
        if self.socket.send(self._missing) != self._size:
            raise LoadFailed("a message does not fit into the socket's buffer")

    def receive(self) -> bool:
        """Take what has come; return whether the message is back."""
        while self._missing:
            try:
                # a byte more than there should be, so that too much is seen
                data = self.socket.recv(len(self._missing) + 1)
            except ssl.SSLWantReadError:
                return False
            if not data:
                raise LoadFailed("the server closed a connection")
            if not self._missing.startswith(data):
                raise LoadFailed("the server sent back other bytes than it was sent")
            self._missing = self._missing[len(data) :]
        return True


class Load:
    """All the connections."""

    def __init__(self, options: Options) -> None:
        context = ssl.create_default_context(cafile=certificates.authority())
        self._pattern = PATTERN * (options.size // SHIFTS + 2)
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        for number in range(options.active):
            connection = Connection(number, options, context)
            self._connections[connection.socket.fileno()] = connection
            self._epoll.register(connection.socket, select.EPOLLIN)
        self._exchange(0.0)

    def measure(self, seconds: float) -> Traffic:
        begin, own = time.monotonic(), time.process_time()
        messages = self._exchange(begin + seconds)
        return Traffic(messages, time.monotonic() - begin, time.process_time() - own)

    def _exchange(self, end: float) -> int:
        """A message on every connection, and the next after each reply until ``end``; return how
        many, once all of them are back."""
        completed = 0
        under_way = len(self._connections)
        for connection in self._connections.values():
            connection.start(self._pattern)
        while under_way:
            events = self._epoll.poll(SILENCE)
            if not events:
                raise LoadFailed(f"nothing from the server for {SILENCE:.0f} s")
            for fd, _ in events:
                connection = self._connections[fd]
                if not connection.receive():
                    continue
                completed += 1
                if time.monotonic() < end:
                    connection.start(self._pattern)
                else:
                    under_way -= 1
        return completed


def main(options: Options) -> None:
    obey(options, options.active, Load(options).measure)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        run(main)
