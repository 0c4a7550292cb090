"""Datagrams (UDP): one for each receive, what is too long, and peers that are not there."""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

import pytest

from netpoll import Overlapped, UnsupportedOperation, sleep
from netpoll.testing.attempts import INVALID, NOT_CONNECTED, SHUT_DOWN, attempt, winerror
from netpoll.testing.drain import collect, nothing_more, take
from netpoll.testing.outcome import require
from netpoll.testing.pairs import has_ipv6, wait_readable
from netpoll.testing.waiting import DEADLINE

if TYPE_CHECKING:
    from netpoll import CompletionPort
    from netpoll.testing.fixtures import MakePort
    from netpoll.testing.pairs import Loopback

UDP: Final = socket.SOCK_DGRAM
TOO_LONG: Final = frozenset({1784, 10040})
UNREACHABLE: Final = frozenset({1234, 10054})
"""An earlier datagram found no port: of a completion, and of a start that fails."""
FAMILIES: Final = [
    pytest.param(socket.AF_INET, id="ipv4"),
    pytest.param(
        socket.AF_INET6,
        id="ipv6",
        marks=pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback"),
    ),
]
SOON: Final = 5.0
"""Seconds after which a report that has not come is missing."""
families = pytest.mark.parametrize("family", FAMILIES)
early_or_late = pytest.mark.parametrize("early", [True, False], ids=["waits", "comes-later"])


def unreachable(net: Loopback, family: socket.AddressFamily = socket.AF_INET) -> Any:
    """The address of a port that nobody has."""
    sock = net.bound(family, UDP)
    address = sock.getsockname()
    sock.close()
    return address


def receive(port: CompletionPort, sock: socket.socket, size: int = 100) -> tuple[bytes, Any]:
    """One datagram, which is there or about to come, and its sender."""
    buffer = bytearray(size)
    operation = port.recvfrom_into(sock, buffer)
    completion = take(port)
    assert completion.overlapped is operation
    moved, address = completion.result()
    return bytes(buffer[:moved]), address


# -- addresses -------------------------------------------------------------------------------------


@families
@early_or_late
def test_a_receive_tells_the_sender(
    port: CompletionPort, net: Loopback, family: socket.AddressFamily, early: bool
) -> None:
    near, far = net.bound(family, UDP), net.bound(family, UDP)
    port.associate(near, "key")
    buffer = bytearray(100)
    if early:
        far.sendto(b"data", near.getsockname())
        wait_readable(near)
    operation = port.recvfrom_into(near, buffer)
    if not early:
        nothing_more(port)
        far.sendto(b"data", near.getsockname())
    completion = take(port)
    assert (completion.key, completion.overlapped) == ("key", operation)
    assert completion.result() == operation.value == (4, far.getsockname())
    assert buffer.startswith(b"data")


@families
def test_every_repetition_tells_its_own_sender(
    port: CompletionPort, net: Loopback, family: socket.AddressFamily
) -> None:
    near = net.bound(family, UDP)
    senders = [net.bound(family, UDP) for _ in range(3)]
    port.associate(near)
    operation = port.recvfrom_into(near, bytearray(100))
    seen: list[Any] = []
    for sender in senders:
        sender.sendto(b"x", near.getsockname())
        seen.append(take(port).result()[1])
        port.resubmit(operation, size=50)
    assert seen == [sender.getsockname() for sender in senders]
    operation.cancel()
    take(port)


@families
@pytest.mark.statement("UDP-08")
def test_a_send_with_an_address_binds_and_is_repeated_to_the_same(
    port: CompletionPort, net: Loopback, family: socket.AddressFamily
) -> None:
    near, far = net.new_socket(family, UDP), net.bound(family, UDP)
    port.associate(near)
    operation = port.sendto(near, [b"da", b"ta"], far.getsockname())
    assert take(port).result() == 4
    port.resubmit(operation, size=3)
    assert take(port).result() == 3
    assert far.recvfrom(100)[0] == b"data"
    data, address = far.recvfrom(100)
    assert data == b"dat"
    assert address[1] == near.getsockname()[1] != 0


@families
@pytest.mark.parametrize("how", ["sendto", "sendmsg"])
def test_a_send_is_used_again_towards_others(
    port: CompletionPort, net: Loopback, family: socket.AddressFamily, how: str
) -> None:
    require(port, how)
    near = net.bound(family, UDP)
    peers = [net.bound(family, UDP) for _ in range(3)]
    port.associate(near)
    addresses: list[Any] = []
    for peer in peers:
        peer.sendto(b"x", near.getsockname())
        addresses.append(receive(port, near)[1])  # which a backend may know by heart
    addresses.append(peers[0].getsockname())
    send = getattr(port, how)(near, bytearray(b"abc"), address=addresses[0])
    assert take(port).result() == 3
    for turn, address in enumerate(addresses):
        assert port.resubmit(send, size=turn, address=address) is send
        assert take(port).result() == turn
    port.resubmit(send)  # to the same
    assert take(port).result() == 3
    assert [peer.recv(10) for peer in peers] == [b"abc", b"a", b"ab"]
    assert [peers[0].recv(10) for _ in range(3)] == [b"", b"abc", b"abc"]


@families
def test_a_send_without_an_address_goes_to_one_the_next_time(
    port: CompletionPort, net: Loopback, family: socket.AddressFamily
) -> None:
    require(port, "sendmsg")
    near, far = net.bound(family, UDP), net.bound(family, UDP)
    near.connect(far.getsockname())
    port.associate(near)
    send = port.sendmsg(near, [b"da", b"ta"])
    assert take(port).result() == 4
    near.connect(net.bound(family, UDP).getsockname())
    port.resubmit(send, address=far.getsockname())
    assert take(port).result() == 4
    assert [far.recv(10), far.recv(10)] == [b"data", b"data"]


def test_a_send_that_is_used_again_is_checked_again(port: CompletionPort, net: Loopback) -> None:
    near, far = net.bound(kind=UDP), net.bound(kind=UDP)
    port.associate(near)
    far.sendto(b"x", near.getsockname())
    receive = port.recvfrom_into(near, bytearray(10))
    _, address = take(port).result()
    send = port.sendto(near, b"abc", address)
    take(port)
    nonsense: list[Any] = [("name.invalid", 9), ("127.0.0.1", 70_000), ("::1", 9)]
    for wrong in nonsense:
        with pytest.raises(ValueError, match=r"address|port"):
            port.resubmit(send, address=wrong)
    for wrong in ("127.0.0.1", ("127.0.0.1", "9"), (*address[:1], float(address[1]))):
        with pytest.raises(TypeError):
            port.resubmit(send, address=wrong)
    with pytest.raises(ValueError, match="size"):
        port.resubmit(send, size=4, address=address)
    port.resubmit(send, size=2, address=address)
    with pytest.raises(RuntimeError, match="in use"):
        port.resubmit(send, address=address)
    assert take(port).result() == 2
    with pytest.raises(ValueError, match="takes no address"):
        port.resubmit(receive, address=address)
    assert [far.recv(10), far.recv(10)] == [b"abc", b"ab"]
    nothing_more(port)


def test_a_send_of_another_port_is_not_redirected(make_port: MakePort, net: Loopback) -> None:
    near, far, other = (net.bound(kind=UDP) for _ in range(3))
    port, its_port = make_port(), make_port()
    its_port.associate(near)
    send = its_port.sendto(near, b"data", far.getsockname())
    take(its_port)
    for unknown in (send, Overlapped[int]()):
        with pytest.raises(ValueError, match="not prepared on this port"):
            port.resubmit(unknown, address=other.getsockname())
    its_port.resubmit(send)
    assert take(its_port).result() == 4
    assert [far.recv(10), far.recv(10)] == [b"data", b"data"]
    nothing_more(port)


def test_an_echo_answers_who_has_asked(port: CompletionPort, net: Loopback) -> None:
    near = net.bound(kind=UDP)
    clients = [net.bound(kind=UDP) for _ in range(20)]
    port.associate(near)
    for number, client in enumerate(clients):
        client.sendto(b"%d" % number, near.getsockname())
    for _ in clients:
        data, address = receive(port, near)
        port.sendto(near, data, address)
        take(port)
    assert [client.recv(100) for client in clients] == [b"%d" % n for n in range(20)]


@pytest.mark.statement("RECV-20")
def test_a_stream_tells_no_address(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    operation = port.recvfrom_into(near, bytearray(10))
    far.sendall(b"data")
    assert take(port).result() == (4, None)
    port.resubmit(operation)
    far.shutdown(socket.SHUT_WR)
    assert take(port).result() == (0, None)
    port.sendto(near, b"answer", far.getsockname())
    assert take(port).result() == 6
    assert far.recv(100) == b"answer"


NONSENSE: Final[list[Any]] = [
    None,
    "127.0.0.1",
    b"127.0.0.1",
    (),
    ("127.0.0.1",),
    ("127.0.0.1", "80"),
    ("127.0.0.1", 80, 0),
    (b"127.0.0.1", 80),
    ("127.0.0.1", -1),
    ("127.0.0.1", 65536),
    ("127.0.0.1", 1 << 70),
    ("127.0.0.1", 80.0),
    ("localhost", 80),
    ("", 80),
    ("<broadcast>", 80),
    ("127.0.0.1%1", 80),
    ("127.0.0.1\0", 80),
    ("::1", 80),
    ("\udc80", 80),
    {0: "127.0.0.1", 1: 80},
]


@pytest.mark.parametrize("address", NONSENSE, ids=repr)
def test_what_is_no_address_is_refused(port: CompletionPort, net: Loopback, address: Any) -> None:
    near = net.bound(kind=UDP)
    port.associate(near)
    with pytest.raises((TypeError, ValueError), match=r"address|port|host"):
        port.sendto(near, b"data", address)
    assert port.inflight() == []


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
@pytest.mark.parametrize(
    "address",
    [
        ("127.0.0.1", 80),
        ("::1%nobody", 80),
        ("::1%99999999999", 80),
        ("::1", 80, -1),
        ("::1", 80, 1 << 20),
        ("::1", 80, 0, -1),
        ("::1", 80, 0, 1 << 32),
        ("::1", 80, 0, 0, 0),
        ("::1", 80, None),
    ],
    ids=repr,
)
def test_what_is_no_ipv6_address_is_refused(
    port: CompletionPort, net: Loopback, address: Any
) -> None:
    near = net.bound(socket.AF_INET6, UDP)
    port.associate(near)
    with pytest.raises((TypeError, ValueError), match=r"address|flow|scope|interface"):
        port.sendto(near, b"data", address)
    assert port.inflight() == []


@pytest.mark.parametrize("thing", ["text", 12, None, ["text"], memoryview(b"abcd")[::2]], ids=type)
def test_what_is_no_buffer_is_refused(port: CompletionPort, net: Loopback, thing: Any) -> None:
    near = net.bound(kind=UDP)
    port.associate(near)
    with pytest.raises((TypeError, ValueError), match=r"buffer|contiguous"):
        port.sendto(near, thing, near.getsockname())
    with pytest.raises((TypeError, ValueError), match=r"buffer|contiguous"):
        port.recvfrom_into(near, thing)
    with pytest.raises(TypeError, match="read-only"):
        port.recvfrom_into(near, [bytearray(1), b"read-only"])
    assert port.inflight() == []
    port.sendto(near, b"ok", near.getsockname())
    take(port)
    assert receive(port, near)[0] == b"ok"


def test_more_buffers_than_a_datagram_can_have_are_refused(
    port: CompletionPort, net: Loopback
) -> None:
    if port.capability("sendto").reason.startswith("WSA"):
        pytest.skip("Windows takes any number")
    near = net.bound(kind=UDP)
    port.associate(near)
    with pytest.raises(ValueError, match="1024 buffers"):
        port.sendto(near, [b"x"] * 1025, near.getsockname())
    with pytest.raises(ValueError, match="1024 buffers"):
        port.recvfrom_into(near, [bytearray(1) for _ in range(1025)])
    port.sendto(near, [b"x"] * 1024, near.getsockname())
    take(port)
    assert receive(port, near, 2000)[0] == b"x" * 1024


# -- what fits -------------------------------------------------------------------------------------


@pytest.mark.statement("UDP-01", "UDP-02", "EMU-19")
@early_or_late
@pytest.mark.parametrize("listed", [False, True], ids=["one-buffer", "several"])
def test_what_does_not_fit_is_said_once(
    port: CompletionPort, net: Loopback, early: bool, listed: bool
) -> None:
    near, far = net.bound(kind=UDP), net.bound(kind=UDP)
    port.associate(near)
    if early:
        far.sendto(b"too long", near.getsockname())
        wait_readable(near)
    buffers = [bytearray(1), bytearray(3)] if listed else [bytearray(4)]
    operation = port.recvfrom_into(near, buffers)  # never raises: it is a start that returns
    if not early:
        nothing_more(port)
        far.sendto(b"too long", near.getsockname())
    completion = take(port)
    assert completion.overlapped is operation
    assert (completion.error, completion.transferred) == (234, 4)
    assert completion.status == operation.status == 0x80000005
    assert b"".join(buffers) == b"too "
    error = completion.exception()
    assert error is not None
    assert vars(error)["wsaerror"] == 10040
    if not port.capability("recvmsg_into").startswith("unsupported"):
        assert operation.value == (4, far.getsockname())
    # the rest is lost, and the next receive is for the next datagram
    far.sendto(b"next", near.getsockname())
    assert receive(port, near) == (b"next", far.getsockname())


@pytest.mark.statement("UDP-02")
@pytest.mark.parametrize("skip", [True, False], ids=["skip", "packets"])
def test_truncation_at_once_completes_once_in_either_mode(
    port: CompletionPort, net: Loopback, skip: bool
) -> None:
    near, far = net.bound(kind=UDP), net.bound(kind=UDP)
    port.associate(near, skip_on_success=skip)
    far.sendto(b"too long", near.getsockname())
    wait_readable(near)
    operation = port.recvfrom_into(near, bytearray(4))
    if not (skip and operation.done):
        assert take(port).overlapped is operation
    nothing_more(port)
    assert (operation.status, operation.transferred) == (0x80000005, 4)


@pytest.mark.statement("UDP-03", "EMU-19")
def test_an_empty_receive_swallows_a_datagram(port: CompletionPort, net: Loopback) -> None:
    near, far = net.udp_pair()
    port.associate(near)
    far.send(b"swallowed")
    port.recvfrom_into(near, bytearray())
    completion = take(port)
    assert (completion.error, completion.transferred) == (234, 0)
    far.send(b"next")
    assert receive(port, near)[0] == b"next"


@pytest.mark.statement("UDP-03", "RECV-15")
def test_an_empty_peek_is_a_probe(port: CompletionPort, net: Loopback) -> None:
    near, far = net.udp_pair()
    port.associate(near)
    port.recvfrom_into(near, bytearray(), flags=socket.MSG_PEEK)
    nothing_more(port)
    far.send(b"there")
    assert take(port).transferred == 0
    assert receive(port, near)[0] == b"there"


@pytest.mark.statement("RECV-15")
def test_peeking_leaves_the_datagram(port: CompletionPort, net: Loopback) -> None:
    near, far = net.udp_pair()
    port.associate(near)
    operation = port.recvfrom_into(near, bytearray(10), flags=socket.MSG_PEEK)
    nothing_more(port)
    far.send(b"data")
    assert take(port).result() == (4, far.getsockname())
    port.resubmit(operation)
    assert take(port).result() == (4, far.getsockname())
    assert receive(port, near)[0] == b"data"


@pytest.mark.statement("UDP-04")
@early_or_late
def test_an_empty_datagram_is_no_end(port: CompletionPort, net: Loopback, early: bool) -> None:
    near, far = net.bound(kind=UDP), net.bound(kind=UDP)
    port.associate(near)
    port.associate(far)
    if early:
        port.sendto(far, b"", near.getsockname())
        assert take(port).result() == 0
    operation = port.recvfrom_into(near, bytearray(10))
    if not early:
        port.sendto(far, [b"", b""], near.getsockname())
        assert {each.transferred for each in collect(port, 2)} == {0}
    else:
        take(port)
    assert operation.result() == (0, far.getsockname())
    port.sendto(far, b"more", near.getsockname())
    take(port)
    assert receive(port, near)[0] == b"more"


@pytest.mark.statement("UDP-10")
def test_what_is_too_long_for_a_datagram_is_refused_at_once(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.bound(kind=UDP), net.bound(kind=UDP)
    port.associate(near)
    for data in (bytes(70_000), [bytes(40_000), bytes(30_000)]):
        ended = attempt(port, lambda data=data: port.sendto(near, data, far.getsockname()))  # type: ignore[misc]
        assert ended.number in TOO_LONG
        assert ended.inline
    port.sendto(near, b"fits", far.getsockname())
    take(port)
    assert far.recv(100) == b"fits"


@pytest.mark.statement("UDP-12", "RECV-12")
def test_one_datagram_is_for_the_oldest_receive(port: CompletionPort, net: Loopback) -> None:
    near, far = net.bound(kind=UDP), net.bound(kind=UDP)
    port.associate(near)
    buffers = [bytearray(4) for _ in range(5)]
    started = [port.recvfrom_into(near, buffer) for buffer in buffers]
    for number in range(3):
        far.sendto(b"%d" % number, near.getsockname())
    ended = collect(port, 3)
    assert [completion.overlapped for completion in ended] == started[:3]
    assert [bytes(buffer[:1]) for buffer in buffers] == [b"0", b"1", b"2", b"\0", b"\0"]
    assert port.cancel(near)
    assert {completion.error for completion in collect(port, 2)} == {995}


# -- who is there ----------------------------------------------------------------------------------


def test_a_datagram_nobody_waits_for_is_in_the_next_receive(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.bound(kind=UDP), net.bound(kind=UDP)
    port.associate(near)
    operation = port.recvfrom_into(near, bytearray(10))
    assert operation.cancel()
    assert take(port).error == 995
    far.sendto(b"data", near.getsockname())
    assert receive(port, near)[0] == b"data"


@families
@pytest.mark.statement("UDP-05", "EMU-18")
def test_an_unreachable_port_fails_the_pending_receive(
    port: CompletionPort, net: Loopback, family: socket.AddressFamily
) -> None:
    near = net.bound(family, UDP)
    near.connect(unreachable(net, family))
    port.associate(near)
    received = port.recvfrom_into(near, bytearray(10), timeout=SOON)
    nothing_more(port)
    sent = port.send(near, b"lost")
    ended = {completion.overlapped: completion for completion in collect(port, 2)}
    assert ended[sent].result() == 4
    assert (ended[received].error, ended[received].transferred) == (1234, 0)
    assert ended[received].status == 0xC000023F
    error = ended[received].exception()
    assert isinstance(error, ConnectionRefusedError)
    assert vars(error)["wsaerror"] == 10054


@pytest.mark.statement("UDP-05", "EMU-18")
def test_an_unreachable_port_fails_the_next_receive(port: CompletionPort, net: Loopback) -> None:
    near = net.bound(kind=UDP)
    near.connect(unreachable(net))
    port.associate(near)
    port.send(near, b"lost")
    assert take(port).result() == 4
    ended = attempt(port, lambda: port.recvfrom_into(near, bytearray(10), timeout=SOON))
    assert ended.number in UNREACHABLE
    assert isinstance(ended.error, ConnectionRefusedError)


@pytest.mark.statement("EMU-18")
def test_a_send_never_fails_because_of_an_earlier_one(port: CompletionPort, net: Loopback) -> None:
    near = net.bound(kind=UDP)
    near.connect(unreachable(net))
    port.associate(near)
    operation = port.send(near, b"lost")
    assert take(port).result() == 4
    for _ in range(5):
        port.resubmit(operation)
        assert take(port).result() == 4


@pytest.mark.statement("EMU-18")
def test_what_a_send_has_met_goes_to_the_receive_that_waits(
    port: CompletionPort, net: Loopback
) -> None:
    near = net.bound(kind=UDP)
    near.connect(unreachable(net))
    port.associate(near)
    received = port.recvfrom_into(near, bytearray(10), timeout=SOON)
    nothing_more(port)
    sends = [port.send(near, b"lost") for _ in range(20)]  # all but the first meet a report
    ended = {completion.overlapped: completion.error for completion in collect(port, 21)}
    assert {ended[each] for each in sends} == {0}
    assert ended[received] == 1234


@pytest.mark.statement("EMU-18")
@pytest.mark.parametrize("pending", [True, False], ids=["pending", "next"])
def test_no_report_is_lost_in_a_send(port: CompletionPort, net: Loopback, pending: bool) -> None:
    near, far = net.bound(kind=UDP), net.new_socket(kind=UDP)
    nobody = unreachable(net)
    near.connect(nobody)
    port.associate(near)
    received = port.recvfrom_into(near, bytearray(10), timeout=SOON) if pending else None
    port.send(near, b"lost")
    far.bind(nobody)
    port.send(near, b"found")  # this one meets what has become of the other
    if received is not None:
        errors = {completion.overlapped: completion.error for completion in collect(port, 3)}
        assert errors[received] == 1234
    else:
        collect(port, 2)
        ended = attempt(port, lambda: port.recvfrom_into(near, bytearray(10), timeout=SOON))
        assert ended.number in UNREACHABLE
    assert far.recv(10) == b"found"
    far.sendto(b"data", near.getsockname())
    assert receive(port, near)[0] == b"data"


@families
@pytest.mark.statement("UDP-05", "UDP-06")
def test_reports_can_be_asked_for_on_any_socket(
    port: CompletionPort, net: Loopback, family: socket.AddressFamily
) -> None:
    near, far = net.bound(family, UDP), net.bound(family, UDP)
    port.associate(near)
    port.report_unreachable(near, True)
    nobody = unreachable(net, family)
    received = port.recvfrom_into(near, bytearray(10), timeout=SOON)
    for _ in range(2):  # each of them is told of
        port.sendto(near, b"lost", nobody)
        ended = {completion.overlapped: completion for completion in collect(port, 2)}
        assert (ended[received].error, ended[received].status) == (1234, 0xC000023F)
        port.resubmit(received)
    far.sendto(b"data", near.getsockname())
    assert take(port).result() == (4, far.getsockname())
    if sys.platform == "linux":
        with pytest.raises(BlockingIOError):  # or the socket would count as ready for ever
            near.recvmsg(1, 100, socket.MSG_ERRQUEUE)


@pytest.mark.statement("UDP-05", "EMU-18")
def test_reports_harm_neither_sends_nor_data(port: CompletionPort, net: Loopback) -> None:
    near, far = net.bound(kind=UDP), net.bound(kind=UDP)
    port.associate(near)
    port.report_unreachable(near, True)
    nobody = unreachable(net)
    for _ in range(4):
        port.sendto(near, b"lost", nobody)
        assert take(port).result() == 4
    far.sendto(b"data", near.getsockname())
    failed = 0
    while (ended := attempt(port, lambda: port.recv(near, 10))).number:
        assert ended.number in UNREACHABLE
        failed += 1
    assert ended.value == b"data"
    assert failed <= 4


@pytest.mark.statement("UDP-06")
def test_reports_can_be_turned_off(port: CompletionPort, net: Loopback) -> None:
    near = net.bound(kind=UDP)
    nobody = unreachable(net)
    near.connect(nobody)
    port.associate(near)
    port.report_unreachable(near, False)
    received = port.recvfrom_into(near, bytearray(10))
    for _ in range(5):
        port.send(near, b"lost")
        assert take(port).result() == 4
    far = net.new_socket(kind=UDP)
    far.bind(nobody)
    far.sendto(b"found", near.getsockname())
    assert take(port).overlapped is received
    assert received.result() == (5, nobody)


@pytest.mark.statement("UDP-06")
def test_only_udp_sockets_have_reports(port: CompletionPort, net: Loopback) -> None:
    near, _ = net.tcp_pair()
    with pytest.raises(UnsupportedOperation, match="UDP"):
        port.report_unreachable(near, True)
    with pytest.raises(TypeError, match="socket"):
        port.report_unreachable(12, True)  # type: ignore[arg-type]


@pytest.mark.statement("UDP-07")
def test_a_peek_does_not_take_a_report(port: CompletionPort, net: Loopback) -> None:
    near = net.bound(kind=UDP)
    nobody = unreachable(net)
    near.connect(nobody)
    port.associate(near)
    port.send(near, b"lost")
    take(port)
    for _ in range(2):
        ended = attempt(
            port,
            lambda: port.recvfrom_into(near, bytearray(), flags=socket.MSG_PEEK, timeout=SOON),
        )
        assert ended.number in UNREACHABLE
    assert attempt(port, lambda: port.recv(near, 10)).number in UNREACHABLE
    far = net.new_socket(kind=UDP)
    far.bind(nobody)
    far.sendto(b"data", near.getsockname())
    assert receive(port, near)[0] == b"data"


@pytest.mark.statement("UDP-08")
@families
def test_an_unbound_socket_receives_nothing(
    port: CompletionPort, net: Loopback, family: socket.AddressFamily
) -> None:
    near = net.new_socket(family, UDP)
    port.associate(near)
    for how in ("recv", "recvfrom_into", "recvmsg_into"):
        if port.capability(how) == "unsupported":
            continue
        argument: Any = 10 if how == "recv" else bytearray(10)
        with pytest.raises(OSError, match="bind") as caught:
            getattr(port, how)(near, argument)
        assert winerror(caught.value) in INVALID
    assert port.inflight() == []
    # cpython#119711: the cure is in the message
    near.bind(("", 0))
    port.sendto(
        near, b"me", ("127.0.0.1" if family == socket.AF_INET else "::1", near.getsockname()[1])
    )
    take(port)
    assert receive(port, near)[0] == b"me"


@pytest.mark.statement("UDP-08")
def test_a_send_without_a_peer_is_not_connected(port: CompletionPort, net: Loopback) -> None:
    near = net.bound(kind=UDP)
    port.associate(near)
    ended = attempt(port, lambda: port.send(near, b"data"))
    assert ended.number in NOT_CONNECTED
    port.sendto(near, b"data", near.getsockname())
    take(port)


@pytest.mark.statement("UDP-09")
@pytest.mark.parametrize("connected", [True, False], ids=["connected", "unconnected"])
def test_after_a_shutdown_starts_fail(port: CompletionPort, net: Loopback, connected: bool) -> None:
    near, far = net.bound(kind=UDP), net.bound(kind=UDP)
    if connected:
        near.connect(far.getsockname())
    port.associate(near)
    port.shutdown(near, socket.SHUT_RD)
    for _ in range(2):
        assert attempt(port, lambda: port.recvfrom_into(near, bytearray(9))).number in SHUT_DOWN
    port.sendto(near, b"still", far.getsockname())
    assert take(port).result() == 5
    assert far.recv(100) == b"still"
    port.shutdown(near, socket.SHUT_WR)
    for _ in range(2):
        ended = attempt(port, lambda: port.sendto(near, b"no", far.getsockname()))
        assert ended.number in SHUT_DOWN


@pytest.mark.statement("UDP-11")
def test_a_connected_socket_hears_its_peer_alone(port: CompletionPort, net: Loopback) -> None:
    near, far, other = net.new_socket(kind=UDP), net.bound(kind=UDP), net.bound(kind=UDP)
    near.bind(unreachable(net))  # a port that was chosen for it Linux would take back in the end
    near.connect(far.getsockname())
    far.connect(near.getsockname())
    port.associate(near)
    operation = port.recvfrom_into(near, bytearray(10))
    other.sendto(b"other", near.getsockname())
    far.send(b"peer")
    assert take(port).result() == (4, far.getsockname())
    disconnect(near)
    port.resubmit(operation)
    other.sendto(b"other", near.getsockname())
    assert take(port).result() == (5, other.getsockname())


def disconnect(sock: socket.socket) -> None:
    """connect() to AF_UNSPEC, which Python's sockets cannot."""
    name: Any = sys.platform == "win32" and "ws2_32"
    library: Any = ctypes.CDLL(name or None)
    address = struct.pack("=H14x", 0)
    assert library.connect(sock.fileno(), address, len(address)) == 0


@pytest.mark.statement("CLOSE-04")
@pytest.mark.parametrize("how", ["recvfrom_into", "recv_into", "recvmsg_into"])
def test_closing_cancels_the_receives(port: CompletionPort, net: Loopback, how: str) -> None:
    require(port, how)
    near = net.bound(kind=UDP)
    port.associate(near)
    started = [getattr(port, how)(near, bytearray(10)) for _ in range(2)]
    told: Overlapped[Any] = Overlapped(event=threading.Event())
    started.append(getattr(port, how)(near, bytearray(10), overlapped=told))
    nothing_more(port)
    port.close_handle(near)
    assert told.wait(DEADLINE)
    ended = collect(port, 3)
    assert {completion.overlapped for completion in ended} == set(started)
    assert {(each.error, each.transferred) for each in ended} == {(995, 0)}
    assert {each.status for each in ended} == {0xC0000120}


def test_a_receive_without_a_port_ends_with_its_address(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.bound(kind=UDP), net.bound(kind=UDP)
    operation = port.recvfrom_into(near, bytearray(10))
    far.sendto(b"data", near.getsockname())
    assert operation.wait(30)
    assert operation.result() == (4, far.getsockname())


def test_a_routine_finds_the_address(port: CompletionPort, net: Loopback) -> None:
    near, far = net.bound(kind=UDP), net.bound(kind=UDP)
    seen: list[Any] = []

    def routine(error: int, moved: int, operation: Overlapped[Any], flags: int) -> None:
        seen.append((error, moved, operation.result()))

    port.recvfrom_into(near, bytearray(10), routine=routine)
    far.sendto(b"data", near.getsockname())
    sleep(SOON, alertable=True)
    assert seen == [(0, 4, (4, far.getsockname()))]


def test_an_event_finds_the_address(port: CompletionPort, net: Loopback) -> None:
    near, far = net.bound(kind=UDP), net.bound(kind=UDP)
    port.associate(near)
    operation: Overlapped[Any] = Overlapped(event=threading.Event())
    port.recvfrom_into(near, bytearray(10), overlapped=operation)
    far.sendto(b"data", near.getsockname())
    assert operation.wait(30)
    assert operation.result() == (4, far.getsockname())
    assert take(port).result() == (4, far.getsockname())


def test_a_receive_whose_time_is_over_leaves_the_socket_as_it_was(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.bound(kind=UDP), net.bound(kind=UDP)
    port.associate(near)
    operation = port.recvfrom_into(near, bytearray(10), timeout=0.01)
    assert take(port).error == 121
    far.sendto(b"data", near.getsockname())
    port.recvfrom_into(near, bytearray(10), overlapped=operation)
    assert take(port).result() == (4, far.getsockname())


@pytest.mark.statement("UDP-04", "UDP-05", "EMU-18")
def test_a_thousand_datagrams_to_peers_that_vanish(port: CompletionPort, net: Loopback) -> None:
    near = net.bound(kind=UDP)
    port.associate(near)
    received = port.recvfrom_into(near, bytearray(10))
    answered = 0
    for number in range(1000):
        peer = net.bound(kind=UDP)
        peer.sendto(b"%d" % number if number % 10 else b"", near.getsockname())
        completion = take(port)
        while completion.error:  # an answer has found no port: the receive's failure, and no more
            assert completion.error == 1234
            port.resubmit(received)
            completion = take(port)
        moved, address = completion.result()
        assert bytes(received.buffers[:moved]) == (b"%d" % number if number % 10 else b"")
        assert address == peer.getsockname()
        if number % 2:
            peer.close()
        port.sendto(near, b"answer", address)
        assert take(port).result() == 6
        if not number % 2:
            assert peer.recv(100) == b"answer"
            peer.close()
        port.resubmit(received)
        answered += 1
    assert answered == 1000
    received.cancel()
    take(port)


def test_an_operation_is_for_receives_and_sends_in_turn(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.bound(kind=UDP), net.bound(kind=UDP)
    port.associate(near)
    operation: Overlapped[Any] = Overlapped()
    far.sendto(b"ask", near.getsockname())
    buffer = bytearray(10)
    port.recvfrom_into(near, buffer, overlapped=operation)
    moved, address = take(port).result()
    port.sendto(near, memoryview(buffer)[:moved], address, overlapped=operation)
    assert take(port).result() == 3
    port.recv(near, 10, overlapped=operation)
    far.sendto(b"again", near.getsockname())
    assert take(port).result() == b"again"
    assert far.recv(10) == b"ask"
