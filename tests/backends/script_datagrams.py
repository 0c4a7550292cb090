"""The kinds of datagram sockets that scripts have; see `script_sockets.py`."""

from __future__ import annotations

import contextlib
import socket
import tempfile
from typing import TYPE_CHECKING, Any

from backends.script_lines import Waiting
from backends.script_sockets import MOST, Socket

from netpoll.testing.attempts import pattern
from netpoll.testing.waiting import run

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from backends.scripts import World

    from netpoll import Overlapped

    Operation = Overlapped[Any]


class Datagrams(Socket):
    """A UDP socket that is not connected, and two peers."""

    family = socket.AF_INET
    reporting = False
    """Whether receives are told of ports that are not there."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name, stream=False)
        self._open()
        self.addresses = [peer.getsockname() for peer in self.peers]
        for number, address in enumerate(self.addresses):
            world.names[address] = f"{name} peer {number}"
        self._join(self.near)

    def _open(self) -> None:
        bound = self.world.net.bound
        self.near = bound(self.family, socket.SOCK_DGRAM)
        self.peers = [bound(self.family, socket.SOCK_DGRAM) for _ in range(2)]

    def _peer(self, number: int) -> int:
        return number % len(self.peers)

    # -- sends -------------------------------------------------------------------------------------

    def _send(
        self, peer: int, begin: Callable[[], Operation], again: Operation | None = None
    ) -> None:
        """Send to that peer, who takes it.

        :param again: what is to be started again for that
        """
        far = self.peers[peer]
        if far.fileno() < 0 and self.reporting and (self.inbox.reports or self.inbox.refusing):
            return  # several are one, or are not (EMU-18)
        operation = self.world.at_once(begin)
        if operation is None:
            if again is not None:
                self.has_sent.drop(again)
            return
        if far.fileno() < 0:
            self.inbox.reports = int(self.reporting)
        self.world.settle()
        if operation.opcode in ("sendto", "sendmsg"):
            self.has_sent.add(operation)
        if far.fileno() >= 0:
            self.world.tell("peer", self.name, far.recv(2 * MOST))

    def send_to(self, size: int, /) -> None:
        peer, size = self._peer(size), size // 2 * (size % 5 > 0)
        address, how = self.addresses[peer], self._how(size)
        buffers = [pattern(size), b"end"]
        self._send(peer, lambda: self.port.sendto(self.near, buffers, address, **how))

    def send_message(self, size: int, /) -> None:
        peer, how = self._peer(size), self._how(size)
        address = self.addresses[peer]
        self._send(
            peer, lambda: self.port.sendmsg(self.near, pattern(size), address=address, **how)
        )

    def send_elsewhere(self, size: int, /) -> None:
        """The last send again, to another peer."""
        operation, peer = self._finished(self.has_sent, size), self._peer(size)
        if operation is not None:
            address = self.addresses[peer]
            self._send(peer, lambda: self.port.resubmit(operation, size, address), operation)

    def both_again(self, _: int, /) -> None:
        """A receive and a send, started again together."""
        receive, send = self._finished(self.received), self._finished(self.has_sent)
        if not (receive and send) or any(peer.fileno() < 0 for peer in self.peers):
            return
        peer = self.peers[self.addresses.index(send._address)]
        started = self.world.again([receive, send])
        if receive in started:
            self.inbox.operations.append(receive)
        else:
            self.received.drop(receive)
        if send not in started:
            self.has_sent.drop(send)
            return
        self.world.is_due(send)
        self.world.settle()
        if not send.status:
            self.world.tell("peer", self.name, peer.recv(2 * MOST))

    # -- the peers ---------------------------------------------------------------------------------

    def peer_sends(self, size: int, /) -> None:
        peer = self.peers[self._peer(size)]
        if not self.is_open or peer.fileno() < 0:
            return
        size_sent = size // 2 * (size % 5 > 0)  # also nothing at all (UDP-04)
        peer.sendto(pattern(size_sent), self.near.getsockname())
        self.inbox.put(size_sent)

    def peer_vanishes(self, _: int, /) -> None:
        self.peers[-1].close()

    def report(self, number: int, /) -> None:
        """Ask for reports, or for none."""
        on = bool(number % 2)
        if self.is_open:
            self.world.call("report", lambda: self.port.report_unreachable(self.near, on))
            self.reporting = on
            if not on:
                self.inbox.reports = 0
                self.inbox.refusing = False


class Datagrams6(Datagrams):
    """One of IPv6."""

    family = socket.AF_INET6


class SkippingDatagrams(Datagrams):
    """One whose successes queue no packet where they are seen within their start (MODE-03)."""

    skips = True


class ConnectedDatagrams(Datagrams):
    """A UDP socket with one peer."""

    reporting = True

    def _open(self) -> None:
        super()._open()
        self.peers.pop()
        self.near.connect(self.peers[0].getsockname())

    def send(self, size: int, /) -> None:
        how, buffers = self._how(size), [pattern(size), b"end"]
        self._send(0, lambda: self.port.send(self.near, buffers, **how))


class UnixDatagrams(Datagrams):
    """One of Unix, whose queue may be full: a datagram waits then until there is room."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self.sends = Waiting(world)
        """What the first peer has to read before it ends."""
        self.lines.append(self.sends)
        self.lying = 0
        """Datagrams that fill the first peer's queue."""

    def _open(self) -> None:
        folder = self.world.ends.enter_context(tempfile.TemporaryDirectory(prefix="np"))
        self.near, *self.peers = (self._bound(f"{folder}/{name}") for name in "nab")

    def _bound(self, path: str) -> socket.socket:
        sock = self.world.net.new_socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.bind(path)
        return sock

    def fill(self, _: int, /) -> None:
        """Send to the first peer until its queue is full."""
        if not self.is_open or self.lying:
            return
        with contextlib.suppress(BlockingIOError), _own_socket() as sock:
            while True:
                sock.sendto(b"lies there", self.addresses[0])
                self.lying += 1

    def peer_reads(self, _: int, /) -> None:
        """All that lies there, and what waits to come after it."""
        count = self.lying + len(self.sends.operations)
        reading = run(lambda: [self.peers[0].recv(2 * MOST) for _ in range(count)])
        self.sends.end(closing=False)
        self.world.settle()
        self.world.tell("peer", self.name, reading.result()[self.lying :])
        self.lying = 0

    def _send(
        self, peer: int, begin: Callable[[], Operation], again: Operation | None = None
    ) -> None:
        if peer == 0 and (self.lying or self.sends.operations):
            if self.sends.add(begin) is None and again is not None:
                self.has_sent.drop(again)
        elif not self.sends.operations:  # or it would wait in their line
            super()._send(peer, begin, again)

    def both_again(self, number: int, /) -> None:
        if not self.lying:
            super().both_again(number)

    peer_vanishes = report = None  # type: ignore[assignment]  # one that is gone fails sends


class UnixPeer(UnixDatagrams):
    """One that is connected, which is told when there is room."""

    def _open(self) -> None:
        super()._open()
        self.peers.pop()
        self.near.connect(self.peers[0].getsockname())

    @property
    def _writable(self) -> bool:
        return not self.lying

    def send(self, size: int, /) -> None:
        how, buffers = self._how(size), [pattern(size), b"end"]
        self._send(0, lambda: self.port.send(self.near, buffers, **how))


@contextlib.contextmanager
def _own_socket() -> Generator[socket.socket, None, None]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        yield sock
