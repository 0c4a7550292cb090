"""What scripts do with sockets that carry data; see `script_handles.py`.

Steps that make no sense at that moment do nothing. Those whose outcome the contract leaves open are
not taken.
"""

from __future__ import annotations

import selectors
import socket
from typing import TYPE_CHECKING, Any

from backends.scripts import Inbox, Pool, Waiting, World

import netpoll
from netpoll.testing.attempts import pattern
from netpoll.testing.pairs import receive_exactly, reset
from netpoll.testing.waiting import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll import Overlapped

    Operation = Overlapped[Any]

MOST = 3000
BOTH = selectors.EVENT_READ | selectors.EVENT_WRITE


class Handle:
    """What every kind has."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.port = world.port
        self.name = name
        self.lines: list[Waiting] = []

    def count_due(self) -> None:
        for line in self.lines:
            if isinstance(line, Inbox):
                line.count_due()

    def forget(self, operation: Operation) -> bool:
        return any(line.forget(operation) for line in self.lines)

    def end(self, *, closing: bool) -> None:
        for line in self.lines:
            line.end(closing=closing)

    def close(self) -> None:
        raise NotImplementedError


class Socket(Handle):
    """A socket, and what all sockets do."""

    near: socket.socket

    def __init__(self, world: World, name: str, *, stream: bool) -> None:
        super().__init__(world, name)
        self.inbox = Inbox(world, stream=stream)
        self.lines = [self.inbox]
        self.again: Operation | None = None
        self.room = 0
        """Bytes that it has room for."""

    def _receive(self, begin: Callable[[], Operation]) -> None:
        operation = self.inbox.add(begin)
        if operation is not None:
            self.again, self.room = operation, operation._size

    def receive(self, size: int, /) -> None:
        self._receive(lambda: self.port.recv(self.near, size))

    def receive_some(self, size: int, /) -> None:
        buffers = [bytearray(size), bytearray(2), bytearray(size)]
        self._receive(lambda: self.port.recv_into(self.near, buffers))

    def receive_from(self, size: int, /) -> None:
        buffers = [bytearray(1), bytearray(size)]
        self._receive(lambda: self.port.recvfrom_into(self.near, buffers))

    def receive_message(self, size: int, /) -> None:
        self._receive(lambda: self.port.recvmsg_into(self.near, [bytearray(size)]))

    def receive_again(self, size: int, /) -> None:
        operation = self.again
        if operation is not None and operation.done and size <= self.room:
            self.inbox.add(lambda: self.port.resubmit(operation, size=size))

    def cancel_all(self, _: int, /) -> None:
        if self.near.fileno() >= 0:
            self.world.tell("cancel_all", self.port.cancel(self.near))
            self.end(closing=False)

    def poll(self, number: int, /) -> None:
        if self.inbox.operations or self.near.fileno() < 0:
            return
        events = 1 + number % BOTH
        operation = self.world.start(lambda: self.port.poll(self.near, events))
        if operation is None:
            return
        if not (events & selectors.EVENT_WRITE or self.inbox.readable):
            self.world.tell("cancel of a poll", operation.cancel())
        self.world.due += 1

    def close_handle(self, _: int, /) -> None:
        self.close()

    def close(self) -> None:
        if self.near.fileno() >= 0:
            self.end(closing=True)
            self.port.close_handle(self.near)


class Stream(Socket):
    """The near end of a TCP connection on the port, and the far end."""

    far: socket.socket

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name, stream=True)
        self.sent = 0
        """Bytes that the far end has not read."""
        self.broken = False
        """What was sent may not come."""
        self.sends = Waiting(world)
        """What the peer has to read before it ends."""
        self.lines.append(self.sends)
        self._open()

    def _open(self) -> None:
        self.near, self.far = self.world.net.tcp_pair()
        self.port.associate(self.near)

    def _send(self, size: int, begin: Callable[[], Operation]) -> None:
        if self.sends.operations:
            self.sent += size * (self.sends.add(begin) is not None)
        elif self.world.at_once(begin) is not None:
            self.sent += size

    def forget(self, operation: Operation) -> bool:
        if operation in self.sends.operations:
            self.broken = True  # a part of it may have gone (SEND-08)
        return super().forget(operation)

    def end(self, *, closing: bool) -> None:
        self.broken = self.broken or bool(self.sends.operations)
        super().end(closing=closing)

    @property
    def _talks(self) -> bool:
        return self.far.fileno() >= 0 and not self.inbox.over and self.near.fileno() >= 0

    def probe(self, _: int, /) -> None:
        self._receive(lambda: self.port.recv(self.near, 0))

    def send(self, size: int, /) -> None:
        buffers = [pattern(size), b"", b"end"]
        self._send(size + 3, lambda: self.port.send(self.near, buffers))

    def send_message(self, size: int, /) -> None:
        self._send(size, lambda: self.port.sendmsg(self.near, [pattern(size)]))

    def send_file(self, number: int, /) -> None:
        file = self.world.ends.enter_context((self.world.folder / "file").open("rb"))
        offset, count, head = number % 1000, number % 1500, pattern(number % 7)
        self._send(
            len(head) + count + 4,
            lambda: self.port.sendfile(
                self.near, file, offset=offset, count=count, head=head, tail=b"tail"
            ),
        )

    def disconnect(self, _: int, /) -> None:
        self._send(0, lambda: self.port.disconnect(self.near))

    def peer_reads(self, _: int, /) -> None:
        if self.far.fileno() >= 0 and not self.broken:
            reading = run(receive_exactly, self.far, self.sent)
            self.sends.end(closing=False)
            self.world.settle()
            self.world.tell("peer", self.name, reading.result())
            self.sent = 0

    def peer_sends(self, size: int, /) -> None:
        if not self._talks:
            return
        try:
            self.far.send(pattern(size))
        except OSError:  # this end was reset by what it had not read
            return
        self.inbox.put(size)

    def peer_shuts_down(self, _: int, /) -> None:
        if self._talks:
            self.far.shutdown(socket.SHUT_WR)
            self.inbox.over = True

    def peer_resets(self, _: int, /) -> None:
        if self.far.fileno() >= 0:
            reset(self.far)
            self.inbox.arrived.clear()
            self.inbox.over = True
            self.sends.end(closing=False)

    def stop_receiving(self, _: int, /) -> None:
        self._shut_down(socket.SHUT_RD)

    def stop_sending(self, _: int, /) -> None:
        self._shut_down(socket.SHUT_WR)

    def _shut_down(self, how: int, /) -> None:
        self.world.call("shutdown", lambda: self.port.shutdown(self.near, how))

    def close(self) -> None:
        self.broken = True
        super().close()


class Narrow(Stream):
    """One whose buffers are small, so that much waits until the peer has read."""

    def _open(self) -> None:
        self.near, self.far = self.world.net.tcp_pair(buffer=16384)
        self.port.associate(self.near)

    def _send(self, size: int, begin: Callable[[], Operation]) -> None:
        # what is small fits behind something large or not, as the system likes; what ends when the
        # sends before it are cancelled is cancelled with them or not (CAN-05)
        if not self.sent:
            super()._send(size, begin)

    def send_much(self, size: int, /) -> None:
        if self.broken or self.far.fileno() < 0:
            return
        size += 400_000
        if self.sends.add(lambda: self.port.send(self.near, pattern(size))) is not None:
            self.sent += size

    poll = None  # type: ignore[assignment]  # how full is full is the system's


class Connecting(Stream):
    """One that is connected by a step, with data or without."""

    def _open(self) -> None:
        self.near = self.world.net.new_socket()
        self.far = socket.socket()
        self.far.close()
        self.connected = False
        self.port.associate(self.near)

    def poll(self, number: int, /) -> None:
        if self.connected:  # else systems differ (EMU-33)
            super().poll(number)

    def connect(self, size: int, /) -> None:
        if self.connected and self.inbox.over:
            return  # whether a connection that is gone leaves a new socket is the system's (EMU-21)
        listener = self.world.net.listener()
        data = pattern(size) if size % 3 else None
        operation = self.world.at_once(
            lambda: self.port.connect(self.near, listener.getsockname(), data=data)
        )
        if operation is not None and not self.connected:
            self.world.settle()
            if not operation.status:
                self.connected = True
                self.far = self.world.net.track(listener.accept()[0])
                self.sent = 0 if data is None else size


class Pooled(Stream):
    """One whose receives come from a pool: all of them, which is what `iocp` asks for."""

    def _open(self) -> None:
        super()._open()
        self.pool = self.inbox.pool = Pool(3, 700)

    def receive(self, size: int, /) -> None:
        operation: Operation = netpoll.Overlapped(context=self.pool)
        self._receive(
            lambda: self.port.recv_pooled(self.near, self.pool.buffers, overlapped=operation)
        )

    def hold(self, _: int, /) -> None:
        # what was not read before a reset may have come or not, so it needs a buffer or not
        if not self.inbox.over:
            self.pool.holding = True

    def peer_resets(self, number: int, /) -> None:
        self.pool.release()
        self.world.settle()
        super().peer_resets(number)

    def release(self, _: int, /) -> None:
        self.pool.release()

    def stop_receiving(self, number: int, /) -> None:
        if not self.inbox.operations:  # on iocp they receive later, when that is forbidden
            super().stop_receiving(number)

    probe = receive_some = receive_from = receive_message = receive

    def receive_again(self, size: int, /) -> None:
        operation = self.again
        if operation is not None and operation.done:
            self.inbox.add(lambda: self.port.resubmit(operation))


class UnixStream(Stream):
    """A pair of Unix sockets."""

    def _open(self) -> None:
        self.near, self.far = map(self.world.net.track, socket.socketpair())
        self.port.associate(self.near)

    peer_resets = None  # type: ignore[assignment]  # they have no resets


class Datagrams(Socket):
    """A UDP socket that is not connected, and two peers."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name, stream=False)
        self.near = world.net.bound(kind=socket.SOCK_DGRAM)
        self.peers = [world.net.bound(kind=socket.SOCK_DGRAM) for _ in range(2)]
        self._connect()
        self.addresses = [peer.getsockname() for peer in self.peers]
        for number, address in enumerate(self.addresses):
            world.names[address] = f"{name} peer {number}"
        self.port.associate(self.near)

    def _connect(self) -> None:
        """Nothing to do."""

    def _address(self, peer: socket.socket) -> Any:
        return self.addresses[self.peers.index(peer)]

    def _peer(self, number: int) -> socket.socket:
        return self.peers[number % len(self.peers)]

    def _send(self, peer: socket.socket, size: int, begin: Callable[[], Operation]) -> None:
        if self.world.at_once(begin) is not None:
            self.world.settle()
            self.world.tell("peer", self.name, peer.recv(2 * MOST))

    def send_to(self, size: int, /) -> None:
        peer, size = self._peer(size), size // 2 * (size % 5 > 0)
        address = self._address(peer)
        self._send(
            peer, size, lambda: self.port.sendto(self.near, [pattern(size), b"end"], address)
        )

    def send_message(self, size: int, /) -> None:
        peer = self._peer(size)
        address = self._address(peer)
        self._send(peer, size, lambda: self.port.sendmsg(self.near, pattern(size), address=address))

    def peer_sends(self, size: int, /) -> None:
        peer = self._peer(size)
        if self.near.fileno() < 0 or peer.fileno() < 0:
            return
        size_sent = size // 2 * (size % 5 > 0)  # also nothing at all (UDP-04)
        peer.sendto(pattern(size_sent), self.near.getsockname())
        self.inbox.put(size_sent)


class ConnectedDatagrams(Datagrams):
    """A UDP socket with one peer."""

    def _connect(self) -> None:
        self.peers.pop()
        self.near.connect(self.peers[0].getsockname())

    def peer_vanishes(self, _: int, /) -> None:
        self.peers[0].close()

    def _send(self, peer: socket.socket, size: int, begin: Callable[[], Operation]) -> None:
        if peer.fileno() >= 0:
            super()._send(peer, size, begin)
        elif self.world.at_once(begin) is not None:
            self.inbox.reports = 1

    def send(self, size: int, /) -> None:
        self._send(self.peers[0], size, lambda: self.port.send(self.near, [pattern(size), b"end"]))
