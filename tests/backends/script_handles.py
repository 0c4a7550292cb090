"""What scripts work on: each class is a kind of handle, each public method a step, which takes a
number from 1 to `MOST`. Those of sockets that carry data are in `script_sockets.py`.

Steps that make no sense at that moment do nothing. Those whose outcome the contract leaves open are
not taken: a poll beside receives (what was ready may be gone), a client that resets (ACC-12).
"""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import TYPE_CHECKING, Any

from backends.script_sockets import (
    ConnectedDatagrams,
    Connecting,
    Datagrams,
    Handle,
    Narrow,
    Pooled,
    Stream,
    UnixStream,
)
from backends.scripts import Inbox, Waiting, World

import netpoll
from netpoll.testing.attempts import pattern

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll import Overlapped

    Operation = Overlapped[Any]


class Client:
    """The far end of a connection that is to be accepted."""

    def __init__(self, world: World, listener: socket.socket, name: str) -> None:
        self.sock = world.net.new_socket()
        self.sock.connect(listener.getsockname())
        world.names[self.sock.getsockname()] = name
        self.said = False
        """Whether it has sent something, or its end."""
        self.accept: Operation | None = None
        """Who has it."""

    def speak(self, act: Callable[[socket.socket], object]) -> None:
        self.said = True
        with contextlib.suppress(OSError):  # its accept was cancelled or closed
            act(self.sock)


class Listener(Handle):
    """A listening socket, its accepts, and clients that come, talk and end."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self.near = world.net.listener()
        self.port.associate(self.near)
        self.accepts = Waiting(world)
        self.lines = [self.accepts]
        self.clients: list[Client] = []
        """Those whose accept has not completed."""

    def accept(self, size: int, /) -> None:
        buffer = bytearray(size) if size % 3 else None
        operation: Operation = netpoll.Overlapped(context=buffer)
        self.accepts.add(lambda: self.port.accept(self.near, receive=buffer, overlapped=operation))

    def client_comes(self, number: int, /) -> None:
        if self.near.fileno() >= 0:
            self.clients.append(Client(self.world, self.near, f"{self.name} client {number}"))

    def client_sends(self, size: int, /) -> None:
        self._speak(lambda sock: sock.send(pattern(size)))

    def client_ends(self, _: int, /) -> None:
        self._speak(lambda sock: sock.shutdown(socket.SHUT_WR))

    def _speak(self, act: Callable[[socket.socket], object]) -> None:
        silent = [client for client in self.clients if not client.said]
        if silent:
            silent[0].speak(act)

    def count_due(self) -> None:
        pending = self.accepts.operations
        taken = [client.accept for client in self.clients]
        free = [operation for operation in pending if operation not in taken]
        for client in list(self.clients):
            if client.accept is None and free:
                client.accept = free.pop(0)
            if client.accept is None:
                continue
            if client.accept not in pending:  # which was cancelled, and its client with it
                self.clients.remove(client)
            elif client.accept.context is None or client.said:
                pending.remove(client.accept)
                self.world.due += 1
                self.clients.remove(client)

    def cancel_all(self, _: int, /) -> None:
        if self.near.fileno() >= 0:
            self.world.tell("cancel_all", self.port.cancel(self.near))
            self.end(closing=False)

    def close_handle(self, _: int, /) -> None:
        self.close()

    def close(self) -> None:
        if self.near.fileno() >= 0:
            self.end(closing=True)
            self.clients.clear()
            self.port.close_handle(self.near)


class Pipe(Handle):
    """Both ends of a pipe."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self.reader, self.writer = netpoll.pipe()
        self.port.associate(self.reader)
        self.port.associate(self.writer)
        self.inbox = Inbox(world, stream=True)
        self.lines = [self.inbox]

    def read(self, size: int, /) -> None:
        buffers = [bytearray(size % 100), bytearray(size)]
        self.inbox.add(lambda: self.port.read_into(self.reader, buffers))

    def write(self, size: int, /) -> None:
        size = 1 + size % 500  # so that it fits into the pipe, whatever is read of it
        if self.world.at_once(lambda: self.port.write(self.writer, pattern(size))) is not None:
            self.inbox.put(size)

    def cancel_all(self, _: int, /) -> None:
        if not self.reader.closed:
            self.world.tell("cancel_all", self.port.cancel(self.reader))
            self.end(closing=False)

    def close_reader(self, _: int, /) -> None:
        if not self.reader.closed:
            self.end(closing=True)
            self.port.close_handle(self.reader)

    def close_writer(self, _: int, /) -> None:
        if not self.writer.closed:
            self.port.close_handle(self.writer)
            self.inbox.over = True

    def close(self) -> None:
        self.close_reader(0)
        self.close_writer(0)


class File(Handle):
    """A file of 2,000 bytes."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        path = world.folder / name
        path.write_bytes(pattern(2000))
        self.file = netpoll.open_file(path, "r+")
        self.port.associate(self.file)

    def read(self, size: int, /) -> None:
        buffers = [bytearray(size % 100), bytearray(size)]
        self.world.at_once(lambda: self.port.read_into(self.file, buffers, offset=size))

    def read_on(self, size: int, /) -> None:
        self.world.at_once(lambda: self.port.read_into(self.file, [bytearray(size)]))

    def write(self, size: int, /) -> None:
        buffers = [pattern(size), b"end"]
        self.world.at_once(lambda: self.port.write(self.file, buffers, offset=size))

    def write_on(self, size: int, /) -> None:
        self.world.at_once(lambda: self.port.write(self.file, pattern(size)))

    def close(self) -> None:
        self.port.close_handle(self.file)


class Port(Handle):
    """What works on no handle: timers, and cancels of whatever it is."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self.long = Waiting(world)
        self.lines = [self.long]
        self.again: Operation | None = None

    def timer(self, number: int, /) -> None:
        self.again = self.world.at_once(lambda: self.port.timer(number / 1e6))

    def timer_again(self, _: int, /) -> None:
        operation = self.again
        if operation is not None:
            self.world.at_once(lambda: self.port.resubmit(operation))

    def long_timer(self, number: int, /) -> None:
        self.long.add(lambda: self.port.timer(1000 + number))

    def cancel(self, number: int, /) -> None:
        self.world.cancel(number)

    def close(self) -> None:
        for operation in self.long.operations:
            operation.cancel()
        self.end(closing=True)


KINDS: dict[str, Callable[[World, str], Handle]] = {
    "stream": Stream,
    "narrow": Narrow,
    "connecting": Connecting,
    "pooled": Pooled,
    "datagrams": Datagrams,
    "connected": ConnectedDatagrams,
    "listener": Listener,
    "pipe": Pipe,
    "file": File,
    "port": Port,
}
if sys.platform != "win32":
    KINDS["unix"] = UnixStream
NEEDS = {
    "receive_from": "recvfrom_into",
    "receive_message": "recvmsg_into",
    "send_to": "sendto",
    "send_message": "sendmsg",
    "send_file": "sendfile",
    "read": "read_into",
    "read_on": "read_into",
    "write": "write",
    "write_on": "write",
}
"""The operations of steps that not every backend has."""
OFTEN = frozenset(
    ("accept", "cancel", "client_comes", "connect", "hold", "peer_sends", "receive", "send_much")
)
"""Without these not much happens."""
SELDOM = frozenset(
    (
        "close_handle",
        "close_reader",
        "close_writer",
        "disconnect",
        "peer_resets",
        "peer_shuts_down",
        "peer_vanishes",
        "stop_receiving",
        "stop_sending",
    )
)
"""After these not much happens."""
FRAME = frozenset(("close", "count_due", "end", "forget"))
"""What is no step."""


def steps(kind: str) -> list[str]:
    """The names of what can be done with that kind of handle."""
    made: Any = KINDS[kind]
    public = [name for name in dir(made) if not name.startswith("_") and name not in FRAME]
    return [name for name in public if callable(getattr(made, name))]


def weight(step: str) -> int:
    """How often a step is taken, among others."""
    return 6 if step in OFTEN else 1 if step in SELDOM else 2
