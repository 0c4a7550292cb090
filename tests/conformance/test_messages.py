"""Messages with control data: what comes beside the data, and who owns it."""

from __future__ import annotations

import array
import gc
import os
import socket
import struct
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

from netpoll import Message, Overlapped, UnsupportedOperation
from netpoll.testing.attempts import NO_SOCKET, attempt, pattern
from netpoll.testing.drain import collect, nothing_more, take
from netpoll.testing.outcome import require
from netpoll.testing.pairs import has_ipv6, reset, wait_readable

if TYPE_CHECKING:
    from pathlib import Path

    from netpoll import CompletionPort
    from netpoll.testing.pairs import Loopback

UDP: Final = socket.SOCK_DGRAM
IP_PKTINFO: Final = {"win32": 19, "linux": 8}.get(sys.platform, 0)
"""Python knows the name since 3.12 only."""
PKTINFO_DATA: Final = 8 if sys.platform == "win32" else 12
ROOM: Final = 128
RESET: Final = frozenset({64, 10054})
NO_ROOM: Final[int] = getattr(socket, "MSG_CTRUNC", 0x200)


@pytest.fixture(autouse=True)
def _has_messages(port: CompletionPort) -> None:  # pyright: ignore[reportUnusedFunction]
    require(port, "recvmsg_into")


@pytest.fixture
def unix(net: Loopback) -> tuple[socket.socket, socket.socket]:
    """Two connected Unix sockets."""
    if not hasattr(socket, "AF_UNIX"):
        pytest.skip("Python has no Unix sockets here")
    near, far = map(net.track, socket.socketpair(socket.AF_UNIX))
    far.settimeout(30)
    return near, far


def rights(*numbers: int) -> list[tuple[int, int, bytes]]:
    data = array.array("i", numbers).tobytes()
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, data)]


def descriptors(message: Message) -> list[int]:
    found: list[int] = []
    for level, kind, data in message.ancillary:
        assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        found += array.array("i", data)
    return found


# -- datagrams -------------------------------------------------------------------------------------


@pytest.mark.statement("UDP-01", "UDP-02")
@pytest.mark.parametrize("early", [True, False], ids=["waits", "comes-later"])
def test_a_datagram_is_received_with_its_sender(
    port: CompletionPort, net: Loopback, early: bool
) -> None:
    near, far = net.bound(kind=UDP), net.bound(kind=UDP)
    port.associate(near)
    buffers = [bytearray(2), bytearray(4)]
    if early:
        far.sendto(b"data", near.getsockname())
        wait_readable(near)
    operation = port.recvmsg_into(near, buffers)
    if not early:
        nothing_more(port)
        far.sendto(b"data", near.getsockname())
    message = take(port).result()
    assert isinstance(message, Message)
    assert (message.size, message.ancillary, message.address) == (4, [], far.getsockname())
    assert b"".join(buffers) == b"data\0\0"
    port.resubmit(operation)
    far.sendto(b"too long for it", near.getsockname())
    completion = take(port)
    assert (completion.error, completion.transferred, completion.status) == (234, 6, 0x80000005)
    assert operation.value is not None
    assert operation.value.address == far.getsockname()
    assert operation.value.flags & socket.MSG_TRUNC
    with pytest.raises(OSError, match="longer"):
        completion.result()


@pytest.mark.skipif(not IP_PKTINFO, reason="this system has no IP_PKTINFO")
def test_control_data_comes_with_a_datagram_each_time(port: CompletionPort, net: Loopback) -> None:
    near, far = net.bound(kind=UDP), net.bound(kind=UDP)
    near.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    port.associate(near)
    operation = port.recvmsg_into(near, bytearray(10), ROOM)
    for _ in range(3):
        far.sendto(b"data", near.getsockname())
        message = take(port).result()
        assert message.size == 4
        assert message.address == far.getsockname()
        [(level, kind, data)] = message.ancillary
        assert (level, kind, len(data)) == (socket.IPPROTO_IP, IP_PKTINFO, PKTINFO_DATA)
        assert socket.inet_aton("127.0.0.1") in data
        port.resubmit(operation)
    operation.cancel()
    take(port)


@pytest.mark.skipif(not IP_PKTINFO, reason="this system has no IP_PKTINFO")
def test_control_data_without_room_is_said_to_be_lost(port: CompletionPort, net: Loopback) -> None:
    near, far = net.bound(kind=UDP), net.bound(kind=UDP)
    near.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    port.associate(near)
    far.sendto(b"data", near.getsockname())
    operation = port.recvmsg_into(near, bytearray(10), 1)
    take(port)
    assert operation.value is not None
    assert (operation.value.size, operation.value.ancillary) == (4, [])
    assert operation.value.flags & NO_ROOM


@pytest.mark.skipif(sys.platform != "linux", reason="the control data is Linux' own")
@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
def test_control_data_goes_out_with_a_datagram(port: CompletionPort, net: Loopback) -> None:
    near, far = net.bound(socket.AF_INET6, UDP), net.bound(socket.AF_INET6, UDP)
    far.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
    port.associate(near)
    tclass = (socket.IPPROTO_IPV6, socket.IPV6_TCLASS, struct.pack("i", 40))
    operation = port.sendmsg(near, [b"da", b"ta"], [tclass], far.getsockname())
    for _ in range(2):
        assert take(port).result() == 4
        data, ancillary, _, address = far.recvmsg(10, ROOM)
        assert (data, address) == (b"data", near.getsockname())
        assert ancillary == [tclass]
        port.resubmit(operation)
    take(port)


def test_a_message_without_anything_beside_it(port: CompletionPort, net: Loopback) -> None:
    near, far = net.udp_pair()
    port.associate(near)
    port.sendmsg(near, b"to the peer")
    assert take(port).result() == 11
    port.sendmsg(near, [b"to", b" ", b"him"], (), far.getsockname())
    assert take(port).result() == 6
    assert (far.recv(100), far.recv(100)) == (b"to the peer", b"to him")


@pytest.mark.parametrize(
    "ancillary",
    [
        12,
        None,
        "text",
        [1, 2, 3],
        [(1, 2)],
        [("1", 2, b"")],
        [(1, 2, "text")],
        [(1.0, 2, b"")],
        [(1, 2, b"", 4)],
        [(1, 2, None)],
    ],
    ids=repr,
)
def test_what_is_no_control_data_is_refused(
    port: CompletionPort, net: Loopback, ancillary: Any
) -> None:
    near, _ = net.udp_pair()
    port.associate(near)
    with pytest.raises(TypeError, match=r"ancillary|level"):
        port.sendmsg(near, b"data", ancillary)
    assert port.inflight() == []


@pytest.mark.parametrize("size", [-1, 1.5, "10", None, 1 << 40], ids=repr)
def test_what_is_no_room_is_refused(port: CompletionPort, net: Loopback, size: Any) -> None:
    near, _ = net.udp_pair()
    port.associate(near)
    with pytest.raises((TypeError, ValueError), match="ancillary_size"):
        port.recvmsg_into(near, bytearray(1), size)
    assert port.inflight() == []


# -- streams ---------------------------------------------------------------------------------------


@pytest.mark.statement("RECV-04", "RECV-20")
def test_a_stream_is_received_without_an_address(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    operation = port.recvmsg_into(near, [bytearray(2), bytearray(8)], ROOM)
    nothing_more(port)
    far.sendall(b"data")
    assert take(port).result() == (4, [], 0, None)
    port.resubmit(operation)
    far.shutdown(socket.SHUT_WR)
    assert take(port).result()[:2] == (0, [])


@pytest.mark.statement("RECV-01", "RECV-05")
def test_an_empty_receive_of_a_stream_is_a_probe(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    port.recvmsg_into(near, bytearray(), ROOM)
    nothing_more(port)
    far.sendall(b"data")
    assert take(port).result() == (0, [], 0, None)
    port.recv(near, 10)
    assert take(port).result() == b"data"
    port.recvmsg_into(near, bytearray(10))
    nothing_more(port)
    reset(far)
    assert take(port).error in RESET


@pytest.mark.statement("SEND-04")
def test_all_of_a_stream_message_is_sent(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair(buffer=8192)
    port.associate(near)
    data = pattern(1 << 20)
    port.sendmsg(near, [data[:300_000], data[300_000:]])
    received = bytearray()
    while len(received) < len(data):
        port.get_many(timeout=0)
        received += far.recv(1 << 16)
    assert received == data


def test_windows_sends_control_data_with_datagrams_only(
    port: CompletionPort, net: Loopback
) -> None:
    if sys.platform != "win32":
        pytest.skip("this is not Windows")
    near, _ = net.tcp_pair()
    port.associate(near)
    with pytest.raises(UnsupportedOperation, match="datagrams"):
        port.sendmsg(near, b"data", [(0, 1, b"")])
    assert port.inflight() == []


# -- descriptors -----------------------------------------------------------------------------------


def test_descriptors_are_received_and_not_inherited(
    port: CompletionPort, unix: tuple[socket.socket, socket.socket]
) -> None:
    near, far = unix
    port.associate(near)
    read, write = os.pipe()
    operation = port.recvmsg_into(near, bytearray(10), ROOM)
    far.sendmsg([b"data"], rights(read, write))
    os.close(read)
    os.close(write)
    message = take(port).result()
    assert (message.size, message.address) == (4, None)
    first, second = descriptors(message)
    assert not os.get_inheritable(first)
    os.write(second, b"through it")
    assert os.read(first, 100) == b"through it"
    assert operation.result() == message  # asked again, it is the same, and still the program's
    port.resubmit(operation)
    far.sendall(b"no more")
    assert take(port).result() == (7, [], 0, None)
    port.resubmit(operation)  # and there is room for some again
    far.sendmsg([b"again"], rights(first, second))
    again = descriptors(take(port).result())
    assert len(again) == 2
    for number in (first, second, *again):
        os.close(number)


@pytest.mark.parametrize("buffers", [b"data", [b"data"], [b"da", b"ta"]], ids=repr)
def test_descriptors_are_sent_each_time(
    port: CompletionPort, unix: tuple[socket.socket, socket.socket], buffers: Any
) -> None:
    near, far = unix
    port.associate(near)
    read, write = os.pipe()
    operation = port.sendmsg(near, buffers, rights(write))
    for _ in range(3):
        assert take(port).result() == 4
        data, ancillary, _, _ = far.recvmsg(10, ROOM)
        assert data == b"data"
        (number,) = descriptors(Message(4, ancillary, 0, None))
        os.write(number, b"x")
        assert os.read(read, 10) == b"x"
        os.close(number)
        port.resubmit(operation)
    assert take(port).result() == 4
    os.close(read)
    os.close(write)


def test_a_descriptor_that_is_none_is_not_the_end_of_the_socket(
    port: CompletionPort, unix: tuple[socket.socket, socket.socket]
) -> None:
    near, far = unix
    port.associate(near)
    for buffers in ([b"data"], [b"da", b"ta"]):
        ended = attempt(port, lambda buffers=buffers: port.sendmsg(near, buffers, rights(9999)))  # type: ignore[misc]
        assert ended.number in NO_SOCKET
    port.send(near, b"fine")
    assert take(port).result() == 4
    assert far.recv(10) == b"fine"


@pytest.mark.parametrize("room", [0, 1, 16, ROOM], ids=str)
def test_descriptors_that_nobody_asks_for_are_closed(
    port: CompletionPort, unix: tuple[socket.socket, socket.socket], room: int
) -> None:
    near, far = unix
    port.associate(near)
    read, write = os.pipe()
    operation = port.recvmsg_into(near, bytearray(10), room)
    for _ in range(3):
        far.sendmsg([b"data"], rights(write, write))
        assert take(port).transferred == 4
        port.resubmit(operation)
    operation.cancel()
    take(port)
    os.close(write)
    del operation
    gc.collect()
    assert os.read(read, 1) == b""  # every copy of its other end is closed
    os.close(read)


@pytest.mark.parametrize("how", ["recv", "recv_into", "recvfrom_into"])
def test_descriptors_for_which_there_is_no_place_are_closed(
    port: CompletionPort, unix: tuple[socket.socket, socket.socket], how: str
) -> None:
    near, far = unix
    port.associate(near)
    read, write = os.pipe()
    far.sendmsg([b"data"], rights(write))
    getattr(port, how)(near, 10 if how == "recv" else [bytearray(2), bytearray(9)])
    assert take(port).transferred == 4
    os.close(write)
    assert os.read(read, 1) == b""
    os.close(read)


def test_descriptors_of_a_port_that_closes_are_closed(
    port: CompletionPort, unix: tuple[socket.socket, socket.socket]
) -> None:
    near, far = unix
    port.associate(near)
    read, write = os.pipe()
    far.sendmsg([b"data"], rights(write))
    wait_readable(near)
    port.recvmsg_into(near, bytearray(10), ROOM)  # it has ended, and nobody takes its packet
    port.close()
    os.close(write)
    gc.collect()
    assert os.read(read, 1) == b""
    os.close(read)


def test_descriptors_are_sent_with_the_first_bytes_and_once(
    port: CompletionPort, unix: tuple[socket.socket, socket.socket]
) -> None:
    near, far = unix
    port.associate(near)
    read, write = os.pipe()
    data = pattern(1 << 20)
    operation = port.sendmsg(near, [data[:10], data[10:]], rights(write))
    for _ in range(2):
        received, found = bytearray(), list[int]()
        while len(received) < len(data):
            port.get_many(timeout=0)
            part, ancillary, _, _ = far.recvmsg(1 << 16, ROOM)
            received += part
            found += descriptors(Message(0, ancillary, 0, None))
        assert received == data
        assert len(found) == 1
        os.close(found[0])
        if not operation.done:
            take(port)
        assert operation.result() == len(data)
        port.resubmit(operation)
        port.flush()
    port.cancel(operation)
    take(port)
    os.close(write)
    os.close(read)


# -- Unix datagrams --------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="Python has no Unix sockets here")
def test_unix_datagrams_have_paths(port: CompletionPort, net: Loopback, tmp_path: Path) -> None:
    near = net.track(socket.socket(socket.AF_UNIX, UDP))
    far = net.track(socket.socket(socket.AF_UNIX, UDP))
    nobody = net.track(socket.socket(socket.AF_UNIX, UDP))
    near.bind(str(tmp_path / "near"))
    far.bind(str(tmp_path / "far"))
    port.associate(near)
    operation = port.recvfrom_into(near, bytearray(10))
    far.sendto(b"data", str(tmp_path / "near"))
    assert take(port).result() == (4, str(tmp_path / "far"))
    longer = net.track(socket.socket(socket.AF_UNIX, UDP))
    longer.bind(str(tmp_path / "another, whose name is longer"))
    for sender in (longer, far):  # each has room for its name
        port.resubmit(operation)
        sender.sendto(b"data", str(tmp_path / "near"))
        assert take(port).result() == (4, sender.getsockname())
    port.sendto(near, b"back", os.fsencode(tmp_path / "far"))
    assert take(port).result() == 4
    assert far.recv(10) == b"back"
    port.resubmit(operation)
    nobody.sendto(b"too long for it", str(tmp_path / "near"))
    assert take(port).error == 234
    assert operation.value is not None
    assert operation.value[1] in (None, "")
    far.close()
    for gone in ("far", "never"):
        ended = attempt(port, lambda gone=gone: port.sendto(near, b"x", str(tmp_path / gone)))  # type: ignore[misc]
        assert ended.inline
        assert ended.number


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux' own")
def test_unix_datagrams_have_abstract_names(port: CompletionPort, net: Loopback) -> None:
    near = net.track(socket.socket(socket.AF_UNIX, UDP))
    near.bind("")  # the system chooses one
    name = near.getsockname()
    assert isinstance(name, bytes)
    port.associate(near)
    received = port.recvfrom_into(near, bytearray(10))
    sent = port.sendto(near, b"self", name)
    ended = {completion.overlapped: completion.result() for completion in collect(port, 2)}
    assert ended == {received: (4, name), sent: 4}


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="Python has no Unix sockets here")
@pytest.mark.parametrize(
    "address", ["", "x" * 200, "zero\0byte", ("127.0.0.1", 80), 12, None], ids=repr
)
def test_what_is_no_path_is_refused(port: CompletionPort, net: Loopback, address: Any) -> None:
    near = net.track(socket.socket(socket.AF_UNIX, UDP))
    port.associate(near)
    with pytest.raises((TypeError, ValueError), match="path"):
        port.sendto(near, b"data", address)
    assert port.inflight() == []


class FullQueue:
    """A Unix socket that has as many datagrams as it takes, and a send that waits for room."""

    def __init__(self, port: CompletionPort, net: Loopback, path: str, kind: str) -> None:
        if not hasattr(socket, "AF_UNIX"):
            pytest.skip("Python has no Unix sockets here")
        self.port = port
        self.peer = net.track(socket.socket(socket.AF_UNIX, UDP))
        self.peer.bind(path)
        self.near = net.track(socket.socket(socket.AF_UNIX, UDP))
        connected = kind == "connected"
        if connected:
            self.near.connect(path)
        self.address = None if connected else path
        port.associate(self.near)
        self.sent = 0
        while True:
            self.waiting = self.start(b"da", b"ta")
            if port.get(timeout=0) is None:
                break
            assert self.sent < 10_000

    def start(self, *buffers: bytes, ancillary: Any = ()) -> Overlapped[int]:
        self.sent += 1
        return self.port.sendmsg(self.near, buffers, ancillary, address=self.address)

    def empty(self, count: int) -> list[bytes]:
        return [self.peer.recv(100) for _ in range(count)]


@pytest.mark.parametrize("kind", ["connected", "addressed"])
@pytest.mark.statement("EMU-01")
def test_a_send_to_a_full_unix_socket_waits_and_arrives_whole(
    port: CompletionPort, net: Loopback, tmp_path: Path, kind: str
) -> None:
    full = FullQueue(port, net, str(tmp_path / "far"), kind)
    behind = [full.start(b"more"), full.start(b"", b"last", ancillary=rights(0))]
    before = port.stats().get("polls", 0)
    assert port.get(timeout=0.1) is None
    assert port.stats().get("polls", 0) - before < 50, "a wait for room would spin"
    room = full.sent - 3
    assert set(full.empty(room)) == {b"data"}
    ended = collect(port, 3)
    assert [each.overlapped for each in ended] == [full.waiting, *behind]
    assert [each.transferred for each in ended] == [4, 4, 4]
    assert full.empty(3) == [b"data", b"more", b"last"]
    nothing_more(port)


@pytest.mark.parametrize("kind", ["connected", "addressed"])
@pytest.mark.parametrize("how", ["cancel", "close", "timeout"])
@pytest.mark.statement("CAN-05", "CLOSE-01")
def test_a_send_that_waits_for_a_full_unix_socket_can_be_given_up(
    port: CompletionPort, net: Loopback, tmp_path: Path, kind: str, how: str
) -> None:
    full = FullQueue(port, net, str(tmp_path / "far"), kind)
    operation = full.waiting
    assert port.get(timeout=0.05) is None
    if how == "cancel":
        assert port.cancel(operation)
    elif how == "close":
        port.close_handle(full.near)
    else:
        port.cancel(operation)
        assert take(port).error == 995
        operation = port.sendmsg(full.near, b"data", address=full.address, timeout=0.05)
        full.sent += 1
    completion = take(port)
    assert completion.overlapped is operation
    assert completion.error in {995, 1236, 258, 1460, 121, 10060}
    assert completion.transferred == 0
    full.empty(full.sent - (2 if how == "timeout" else 1))
    if how != "close":
        port.resubmit(operation)
        assert take(port).result() == 4
        assert full.empty(1) == [b"data"]
    full.peer.setblocking(False)
    with pytest.raises(BlockingIOError):
        full.peer.recv(1)


def test_an_operation_may_be_of_any_kind_in_turn(port: CompletionPort, net: Loopback) -> None:
    near, far = net.udp_pair()
    port.associate(near)
    operation: Overlapped[Any] = Overlapped()
    port.sendmsg(near, b"1", (), overlapped=operation)
    assert take(port).result() == 1
    port.send(near, b"2", overlapped=operation)
    assert take(port).result() == 1
    far.send(b"answer")
    port.recvmsg_into(near, bytearray(10), ROOM, overlapped=operation)
    assert take(port).result().size == 6
    far.send(b"answer")
    port.recv(near, 10, overlapped=operation)
    assert take(port).result() == b"answer"
