"""The kinds of stream sockets that scripts have; see `script_sockets.py`."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from backends.script_freedoms import WINE
from backends.script_lines import Pool, Waiting
from backends.script_sockets import BRIEF, Socket

from netpoll import Overlapped
from netpoll.testing.attempts import pattern
from netpoll.testing.pairs import receive_exactly, reset
from netpoll.testing.waiting import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from backends.scripts import World

    Operation = Overlapped[Any]

MUCH = 400_000
"""More bytes than the buffers of a `Narrow` connection hold."""


class Stream(Socket):
    """The near end of a TCP connection on the port, and the far end."""

    far: socket.socket

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name, stream=True)
        self.sent = 0
        """Bytes that the far end has not read."""
        self.broken = False
        """What was sent may not come."""
        self.deaf = False
        """This side receives no more."""
        self.sends = Waiting(world)
        """What the peer has to read before it ends."""
        self.lines.append(self.sends)
        self._open()

    def _open(self) -> None:
        self.near, self.far = self.world.net.tcp_pair()
        self._join(self.near)

    def forget(self, operation: Operation) -> bool:
        if operation in self.sends.operations:
            self.broken = True  # a part of it may have gone (SEND-08)
        return super().forget(operation)

    def end(self, *, closing: bool) -> None:
        self.broken = self.broken or bool(self.sends.operations)
        super().end(closing=closing)

    @property
    def _talks(self) -> bool:
        return self.far.fileno() >= 0 and not self.inbox.over and self.is_open

    def probe(self, size: int, /) -> None:
        how = self._how(size)
        self._receive(lambda: self.port.recv(self.near, 0, **how))

    # -- sends -------------------------------------------------------------------------------------

    def _send(self, size: int, begin: Callable[[], Operation]) -> None:
        if self.sends.operations:
            operation = self.sends.add(begin)
        else:
            operation = self.world.at_once(begin)
        if operation is None:
            return
        if operation.opcode in ("send", "sendmsg"):
            self.has_sent.add(operation)
        self.sent += size

    def send(self, size: int, /) -> None:
        buffers, how = [pattern(size), b"", b"end"], self._how(size)
        self._send(size + 3, lambda: self.port.send(self.near, buffers, **how))

    def send_message(self, size: int, /) -> None:
        how = self._how(size)
        self._send(size, lambda: self.port.sendmsg(self.near, [pattern(size)], **how))

    def send_again(self, size: int, /) -> None:
        operation = self._finished(self.has_sent, size)
        if operation is not None and not self.sends.operations:
            if self.world.at_once(lambda: self.port.resubmit(operation, size=size)) is None:
                self.has_sent.drop(operation)
                return
            self.world.settle()
            self.sent += size * (not operation.status)

    def both_again(self, _: int, /) -> None:
        """A receive and a send, started again together."""
        receive, send = self._finished(self.received), self._finished(self.has_sent)
        if self.sends.operations or not (receive and send):
            return
        if self.inbox.over and self.far.fileno() < 0:  # it was reset, and the send finds that
            return
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
        self.sent += send._size * (not send.status)

    def send_file(self, number: int, /) -> None:
        file = self.world.ends.enter_context((self.world.folder / "file").open("rb"))
        offset, count, head = number % 1000, number % 1500, pattern(number % 7)
        how = self._how(number)
        self._send(
            len(head) + count + 4,
            lambda: self.port.sendfile(
                self.near, file, offset=offset, count=count, head=head, tail=b"tail", **how
            ),
        )

    def disconnect(self, number: int, /) -> None:
        how = self._how(number)
        self._send(0, lambda: self.port.disconnect(self.near, **how))

    def disconnect_for_reuse(self, _: int, /) -> None:
        self._send(0, lambda: self.port.disconnect(self.near, reuse=True))

    # -- the peer, and the end ---------------------------------------------------------------------

    def peer_reads(self, _: int, /) -> None:
        if self.far.fileno() >= 0 and not self.broken:
            reading = run(receive_exactly, self.far, self.sent)
            self.sends.end(closing=False)
            self.world.settle()
            self.world.tell("peer", self.name, reading.result())
            self.sent = 0
            self.broken = False

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
        self.deaf = True
        self._shut_down(socket.SHUT_RD)

    def stop_sending(self, _: int, /) -> None:
        self._shut_down(socket.SHUT_WR)

    def _shut_down(self, how: int, /) -> None:
        self.world.call("shutdown", lambda: self.port.shutdown(self.near, how))

    def _before_close(self) -> None:
        self.broken = True
        super()._before_close()

    def goes_on(self) -> None:
        if not self._talks or self.deaf or self.broken:
            return
        self.peer_sends(1)
        self.near.settimeout(self.world.patience)
        count = sum(piece.size for piece in self.inbox.arrived)
        self.world.tell("goes on", self.name, receive_exactly(self.near, count))


class Stream6(Stream):
    """One of IPv6."""

    def _open(self) -> None:
        self.near, self.far = self.world.net.tcp_pair(socket.AF_INET6)
        self._join(self.near)


class Skipping(Stream):
    """One whose successes queue no packet where they are seen within their start (MODE-03)."""

    skips = True

    def disconnect(self, number: int, /) -> None:
        if not WINE:  # MODE-04: it spares the packet of a DisconnectEx that has pended, too
            super().disconnect(number)


class Alone(Stream):
    """One without a port: its operations end by an event, by `wait()` or by a routine (OVL-17)."""

    alone = True

    def _how(self, number: int, context: Any = None) -> dict[str, Any]:
        if number % 2:
            return super()._how(number, context)
        return {"overlapped": Overlapped(context=context), "routine": self.world.routine}

    # what takes no routine on iocp (docs/platforms.md)
    def poll(self, number: int, /) -> None:
        super().poll(number | 1)

    def send_file(self, number: int, /) -> None:
        super().send_file(number | 1)

    def disconnect(self, number: int, /) -> None:
        super().disconnect(number | 1)


class Narrow(Stream):
    """One whose buffers are small, so that much waits until the peer has read."""

    def _open(self) -> None:
        self.near, self.far = self.world.net.tcp_pair(buffer=16384)
        self._join(self.near)

    def _send(self, size: int, begin: Callable[[], Operation]) -> None:
        # what is small fits behind something large or not, as the system likes (SEND-02); what ends
        # when the sends before it are cancelled is cancelled with them or not (CAN-05)
        if not self.sent:
            super()._send(size, begin)

    def send_much(self, size: int, /) -> None:
        if self.broken or self.far.fileno() < 0:
            return
        size += MUCH
        how = self._how(size)
        if self.sends.add(lambda: self.port.send(self.near, pattern(size), **how)) is not None:
            self.sent += size

    def send_much_briefly(self, size: int, /) -> None:
        """With a time that runs out."""
        if self.broken or self.far.fileno() < 0:
            return
        data = pattern(MUCH + size)
        if self.world.at_once(lambda: self.port.send(self.near, data, timeout=BRIEF)) is not None:
            self.sent += len(data)
            self.broken = True

    send_again = both_again = None  # type: ignore[assignment]  # as small sends
    poll = None  # type: ignore[assignment]  # how full is full is the system's


class Connecting(Stream):
    """One that is connected by a step, with data or without."""

    def _open(self) -> None:
        self.near = self.world.net.new_socket()
        self.far = socket.socket()
        self.far.close()
        self.connected = False
        self._join(self.near)

    def poll(self, number: int, /) -> None:
        if self.connected:  # else systems differ (EMU-33)
            super().poll(number)

    def connect(self, size: int, /) -> None:
        if self.connected and self.inbox.over:
            return  # whether a connection that is gone leaves a new socket is the system's (EMU-21)
        listener = self.world.net.listener()
        data = pattern(size) if size % 3 else None
        how = self._how(size)
        operation = self.world.at_once(
            lambda: self.port.connect(self.near, listener.getsockname(), data=data, **how)
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

    def receive(self, size: int, /, flags: int = 0) -> None:
        how: dict[str, Any] = {"overlapped": Overlapped(context=self.pool)}
        self._receive(lambda: self.port.recv_pooled(self.near, self.pool.buffers, **how))

    probe = receive_some = receive_from = receive_message = receive
    receive_briefly = receive_whole = receive_part = peek = None  # type: ignore[assignment]
    both_again = None  # type: ignore[assignment]

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

    def receive_again(self, size: int, /) -> None:
        operation = self._finished(self.received)
        if operation is None:
            return
        if self.inbox.add(lambda: self.port.resubmit(operation)) is None:
            self.received.drop(operation)


class UnixStream(Stream):
    """A pair of Unix sockets, over which descriptors go too."""

    def _open(self) -> None:
        self.near, self.far = map(self.world.net.track, socket.socketpair())
        self._join(self.near)
        self.file = self.world.ends.enter_context((self.world.folder / "file").open("rb"))
        about = os.fstat(self.file.fileno())
        self.world.names[about.st_dev, about.st_ino] = "the file"

    def send_descriptors(self, size: int, /) -> None:
        beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, self._numbers(size))]
        how = self._how(size)
        self._send(size, lambda: self.port.sendmsg(self.near, pattern(size), beside, **how))

    def peer_sends_descriptors(self, size: int, /) -> None:
        if self._talks:
            socket.send_fds(self.far, [pattern(size)], [self.file.fileno()] * (1 + size % 2))
            self.inbox.put(size, beside=True)

    def _numbers(self, size: int) -> bytes:
        number = self.file.fileno()
        return number.to_bytes(4, "little") * (1 + size % 2)

    peer_resets = None  # type: ignore[assignment]  # they have no resets
