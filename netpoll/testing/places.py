"""Each parameter that takes a buffer, with what is needed to try it.

One row is one operation on one kind of handle: how to start it with the buffer there, and what the
other end does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import netpoll
from netpoll import Overlapped
from netpoll.testing.drain import take
from netpoll.testing.outcome import require
from netpoll.testing.pairs import receive_exactly

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from netpoll import CompletionPort
    from netpoll.testing.pairs import Loopback


class World:
    """What one test works with: one `Overlapped` for all starts, and a port for the other ends."""

    def __init__(
        self, port: CompletionPort, others: CompletionPort, net: Loopback, folder: Path
    ) -> None:
        self.port = port
        self.others = others
        self.net = net
        self.path: Path = folder / "file"
        self.operation: Overlapped[Any] = Overlapped()
        self.files: list[netpoll.File] = []

    def tcp(self) -> tuple[socket.socket, socket.socket]:
        near, far = self.net.tcp_pair()
        self.port.associate(near)
        return near, far

    def udp(self) -> tuple[socket.socket, socket.socket]:
        near, far = self.net.udp_pair()
        self.port.associate(near)
        return near, far

    def pipe(self, mine: int) -> list[netpoll.File]:
        ends = [*netpoll.pipe()]
        self.files += ends
        self.port.associate(ends[mine])
        self.others.associate(ends[1 - mine])
        return ends

    def file(self, mode: str) -> netpoll.File:
        file = netpoll.open_file(self.path, mode)
        self.files.append(file)
        self.port.associate(file)
        return file

    def take_accepted(self) -> None:
        """If that was an accept, have its connection closed at the end."""
        if self.operation.opcode == "accept":
            self.net.track(self.operation.result()[0])

    def close(self) -> None:
        """Let go of all of it, but for the ports and what `net` has."""
        self.operation.release()
        for file in self.files:
            file.close()


@dataclass
class Receive:
    """A parameter that takes a buffer to receive into."""

    start: Callable[[Any], Overlapped[Any]]
    give: Callable[[bytes], object]
    """Have so much come."""
    one: bool = False
    """It takes no sequence of buffers, and no buffer at all is legal."""
    keeps: bool = True
    """A receive of nothing leaves the data where it is."""


@dataclass
class Send:
    """A parameter that takes a buffer to send."""

    start: Callable[[Any], Overlapped[Any]]
    got: Callable[[int], bytes]
    """So many bytes, as they have arrived."""
    one: bool = False
    optional: bool = False
    """No buffer at all is legal."""


def recv_into(world: World) -> Receive:
    near, far = world.tcp()
    return Receive(
        lambda buffer: world.port.recv_into(near, buffer, overlapped=world.operation), far.sendall
    )


def recvfrom_into(world: World) -> Receive:
    near, far = world.udp()
    return Receive(
        lambda buffer: world.port.recvfrom_into(near, buffer, overlapped=world.operation),
        far.send,
        keeps=False,
    )


def recvmsg_into(world: World) -> Receive:
    require(world.port, "recvmsg_into")
    near, far = world.udp()
    return Receive(
        lambda buffer: world.port.recvmsg_into(near, buffer, overlapped=world.operation),
        far.send,
        keeps=False,
    )


def recvmsg_into_of_a_stream(world: World) -> Receive:
    require(world.port, "recvmsg_into")
    near, far = world.tcp()
    return Receive(
        lambda buffer: world.port.recvmsg_into(near, buffer, overlapped=world.operation),
        far.sendall,
    )


def accept(world: World) -> Receive:
    listener = world.net.listener()
    world.port.associate(listener)

    def give(data: bytes) -> None:
        client = world.net.new_socket()
        client.connect(listener.getsockname())
        client.sendall(data)

    return Receive(
        lambda buffer: world.port.accept(listener, receive=buffer, overlapped=world.operation),
        give,
        one=True,
        keeps=False,
    )


def read_into(world: World) -> Receive:
    require(world.port, "read_into")
    world.path.write_bytes(b"")
    file = world.file("r")
    return Receive(
        lambda buffer: world.port.read_into(file, buffer, offset=0, overlapped=world.operation),
        world.path.write_bytes,
    )


def read_into_of_a_pipe(world: World) -> Receive:
    require(world.port, "read_into")
    reader, writer = world.pipe(0)

    def give(data: bytes) -> None:
        world.others.write(writer, data)
        assert take(world.others).result() == len(data)

    return Receive(
        lambda buffer: world.port.read_into(reader, buffer, overlapped=world.operation), give
    )


RECEIVES: Final = (
    *(recv_into, recvfrom_into, recvmsg_into, recvmsg_into_of_a_stream),
    *(accept, read_into, read_into_of_a_pipe),
)


def send(world: World) -> Send:
    near, far = world.tcp()
    return Send(
        lambda buffer: world.port.send(near, buffer, overlapped=world.operation),
        lambda count: receive_exactly(far, count),
    )


def sendto(world: World) -> Send:
    near, far = world.udp()
    address = far.getsockname()
    return Send(
        lambda buffer: world.port.sendto(near, buffer, address, overlapped=world.operation),
        lambda count: far.recv(100),
    )


def sendmsg(world: World) -> Send:
    require(world.port, "sendmsg")
    near, far = world.udp()
    return Send(
        lambda buffer: world.port.sendmsg(near, buffer, overlapped=world.operation),
        lambda count: far.recv(100),
    )


def sendmsg_of_a_stream(world: World) -> Send:
    require(world.port, "sendmsg")
    near, far = world.tcp()
    return Send(
        lambda buffer: world.port.sendmsg(near, buffer, overlapped=world.operation),
        lambda count: receive_exactly(far, count),
    )


def connect(world: World) -> Send:
    listener = world.net.listener()

    def start(buffer: Any) -> Overlapped[Any]:
        sock = world.net.new_socket()
        world.port.associate(sock)
        address = listener.getsockname()
        return world.port.connect(sock, address, data=buffer, overlapped=world.operation)

    def got(count: int) -> bytes:
        return receive_exactly(world.net.track(listener.accept()[0]), count)

    return Send(start, got, optional=True)


def sendfile_head(world: World) -> Send:
    near, far = world.tcp()
    return Send(
        lambda buffer: world.port.sendfile(near, None, head=buffer, overlapped=world.operation),
        lambda count: receive_exactly(far, count),
        one=True,
    )


def sendfile_tail(world: World) -> Send:
    near, far = world.tcp()
    return Send(
        lambda buffer: world.port.sendfile(near, None, tail=buffer, overlapped=world.operation),
        lambda count: receive_exactly(far, count),
        one=True,
    )


def write(world: World) -> Send:
    require(world.port, "write")
    file = world.file("w")
    return Send(
        lambda buffer: world.port.write(file, buffer, offset=0, overlapped=world.operation),
        lambda count: world.path.read_bytes()[:count],
    )


def write_of_a_pipe(world: World) -> Send:
    require(world.port, "write")
    reader, writer = world.pipe(1)

    def got(count: int) -> bytes:
        buffer = bytearray(count)
        if count:
            world.others.read_into(reader, buffer)
            assert take(world.others).result() == count
        return bytes(buffer)

    return Send(lambda buffer: world.port.write(writer, buffer, overlapped=world.operation), got)


SENDS: Final = (
    *(send, sendto, sendmsg, sendmsg_of_a_stream, connect),
    *(sendfile_head, sendfile_tail, write, write_of_a_pipe),
)
