"""Sending on a stream (SEND): when one ends, that it is whole or failed, and in which order."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from netpoll.testing.accepted import RESET
from netpoll.testing.attempts import (
    NOT_CONNECTED,
    SHUT_DOWN,
    attempt,
    clog,
    pattern,
    read_to_end,
)
from netpoll.testing.drain import collect, nothing_more, take
from netpoll.testing.outcome import unsupported
from netpoll.testing.pairs import receive_exactly, reset, wait_readable
from netpoll.testing.waiting import run

if TYPE_CHECKING:
    from netpoll import CompletionPort
    from netpoll.testing.backends import Target
    from netpoll.testing.pairs import Loopback

LARGE = 16 << 20
"""Bytes; more than the buffers of a loopback connection ever hold."""


@pytest.mark.statement("SEND-01")
def test_a_send_ends_without_the_peer_reading(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    for _ in range(10):
        port.send(near, b"0123456789")
    assert [completion.result() for completion in collect(port, 10)] == [10] * 10
    assert receive_exactly(far, 100) == b"0123456789" * 10


@pytest.mark.statement("SEND-02")
def test_sends_pend_while_the_peer_does_not_read_and_end_when_it_does(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair(buffer=16384)
    port.associate(near)
    data = pattern(LARGE)
    started = [port.send(near, data) for _ in range(3)]
    # the first may be taken whole by a system that copies; the last never fits
    early = port.get_many(timeout=0.1)
    assert len(early) < 3
    reading = run(receive_exactly, far, 3 * LARGE)
    ended = early + collect(port, 3 - len(early))
    assert [completion.overlapped for completion in ended] == started
    assert [completion.result() for completion in ended] == [LARGE] * 3
    assert reading.result() == data * 3


@pytest.mark.statement("EMU-16", "SEND-06")
@pytest.mark.parametrize("kind", ["listener", "bound"])
def test_a_send_on_what_was_never_connected_harms_nothing(
    port: CompletionPort, net: Loopback, kind: str
) -> None:
    sock = net.listener() if kind == "listener" else net.bound()
    port.associate(sock)
    for _ in range(2):
        assert attempt(port, lambda: port.send(sock, b"x")).number in NOT_CONNECTED
        assert attempt(port, lambda: port.recv(sock, 1)).number in NOT_CONNECTED
    if kind == "listener":
        net.new_socket().connect(sock.getsockname())
        port.accept(sock)
        net.track(take(port).result()[0])
    else:
        port.connect(sock, net.listener().getsockname())
        assert take(port).error == 0
        port.send(sock, b"x")
        assert take(port).result() == 1


@pytest.mark.parametrize("how", ["send", "sendto", "sendmsg"])
@pytest.mark.parametrize("flags", [-1, 1 << 31, 1 << 70, "x", None, 1.0], ids=repr)
def test_flags_that_are_none_are_refused(
    port: CompletionPort, net: Loopback, how: str, flags: Any
) -> None:
    near, far = net.udp_pair()
    port.associate(near)
    arguments = [far.getsockname()] if how == "sendto" else []
    with pytest.raises((TypeError, ValueError), match="flags"):
        getattr(port, how)(near, b"x", *arguments, flags=flags)
    with pytest.raises((TypeError, ValueError), match="flags"):
        port.recv_into(near, bytearray(1), flags=flags)
    assert port.inflight() == []


@pytest.mark.statement("SEND-02")
def test_a_send_that_fits_ends_within_its_start(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near, skip_on_success=True)
    for _ in range(3):
        operation = port.send(near, b"0123456789")
        assert operation.done
        assert operation.result() == 10
    nothing_more(port)
    assert receive_exactly(far, 30) == b"0123456789" * 3


@pytest.mark.statement("SEND-02")
def test_one_send_of_any_size_is_taken_at_once(
    port: CompletionPort, net: Loopback, target: Target
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    data = pattern(LARGE)
    operation = port.send(near, data)
    if target.emulated:
        nothing_more(port)
        reading = run(receive_exactly, far, LARGE)
        assert take(port).result() == LARGE
        assert reading.result() == data
        unsupported("the system takes what its buffer has room for, and the send waits for more")
    completion = port.get(timeout=1)  # nobody reads
    reading = run(receive_exactly, far, LARGE)
    late = completion or take(port)
    assert (late.overlapped, late.result(), reading.result()) == (operation, LARGE, data)
    assert completion is not None, "not before the peer had read"


@pytest.mark.statement("SEND-03")
def test_without_a_send_buffer_a_send_pends_until_its_bytes_are_delivered(
    port: CompletionPort, net: Loopback, target: Target
) -> None:
    if target.emulated:
        unsupported("the system has a least size of the send buffer, which is not 0")
    near, far = net.tcp_pair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 0)
    port.associate(near)
    data = pattern(LARGE)
    operation = port.send(near, data)  # with a buffer it would be copied, and end (SEND-02)
    assert port.get(timeout=0.1) is None
    reading = run(receive_exactly, far, LARGE)
    completion = take(port)
    assert (completion.overlapped, completion.result()) == (operation, LARGE)
    assert reading.result() == data


@pytest.mark.statement("EMU-26", "SEND-04")
@pytest.mark.parametrize("buffer", [None, 4096], ids=["system-buffers", "small-buffers"])
def test_a_large_send_is_whole(port: CompletionPort, net: Loopback, buffer: int | None) -> None:
    near, far = net.tcp_pair(buffer=buffer)
    port.associate(near)
    data = pattern(1 << 20 if buffer else LARGE)
    operation = port.send(near, data)
    reading = run(receive_exactly, far, len(data))
    completion = take(port)
    assert completion.overlapped is operation
    assert (completion.error, completion.transferred) == (0, len(data))
    assert reading.result() == data


@pytest.mark.statement("EMU-04", "SEND-04")
def test_a_large_gathered_send_is_whole(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair(buffer=16384)
    port.associate(near)
    data = pattern(2 << 20)
    sizes = [1, 0, 65536, 7, 700_000, 0, 300_001]
    pieces: list[bytes] = []
    offset = 0
    for size in sizes:
        pieces.append(data[offset : offset + size])
        offset += size
    pieces.append(data[offset:])
    port.send(near, pieces)
    reading = run(receive_exactly, far, len(data))
    assert take(port).result() == len(data)
    assert reading.result() == data


@pytest.mark.statement("SEND-05")
def test_sends_go_out_in_the_order_of_their_start(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair(buffer=16384)
    port.associate(near)
    data = pattern(3 << 20)
    sizes = [1, 500_000, 3, 1_000_000, 4096]
    offset = 0
    for size in sizes:
        port.send(near, data[offset : offset + size])
        offset += size
    port.send(near, [data[offset : offset + 9], data[offset + 9 :]])
    reading = run(receive_exactly, far, len(data))
    ended = collect(port, 6)
    assert sum(completion.result() for completion in ended) == len(data)
    assert reading.result() == data


@pytest.mark.statement("EMU-30", "SEND-05")
def test_a_later_send_never_overtakes_a_pending_one(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    filled = clog(near)
    port.send(near, b"first")
    nothing_more(port)
    receive_exactly(far, filled)
    # there is room again, but the first send has not been through the port
    port.send(near, b"second")
    collect(port, 2)
    assert receive_exactly(far, 11) == b"firstsecond"


@pytest.mark.statement("EMU-16", "SEND-06")
def test_after_shutting_sending_down_sends_fail(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    port.shutdown(near, socket.SHUT_WR)
    assert far.recv(10) == b""
    for data in (b"x", b"", [b"x", b"y"]):
        ended = attempt(port, lambda data=data: port.send(near, data))  # type: ignore[misc]
        assert ended.number in SHUT_DOWN
        assert ended.inline
        assert ended.transferred == 0
    far.sendall(b"back")
    port.recv(near, 10)
    assert take(port).result() == b"back"


@pytest.mark.statement("EMU-16", "SEND-06")
def test_after_a_reset_sends_fail_with_it(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    reset(far)
    wait_readable(near)
    for _ in range(3):
        ended = attempt(port, lambda: port.send(near, b"x"))
        assert ended.number in RESET
        assert ended.inline


@pytest.mark.statement("SEND-04")
def test_a_reset_ends_every_pending_send_with_no_bytes(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair(buffer=16384)
    port.associate(near)
    filled = clog(near)
    assert filled
    started = [port.send(near, bytes(LARGE)) for _ in range(3)]
    nothing_more(port)
    reset(far)
    ended = collect(port, 3)
    assert {completion.overlapped for completion in ended} == set(started)
    for completion in ended:
        assert completion.error in RESET
        assert completion.transferred == 0
        assert isinstance(completion.exception(), ConnectionResetError)


@pytest.mark.statement("SEND-07")
def test_the_end_of_the_stream_goes_behind_pending_sends(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair(buffer=16384)
    port.associate(near)
    data = pattern(4 << 20)
    half = len(data) // 2
    started = [port.send(near, data[:half]), port.send(near, data[half:])]
    port.shutdown(near, socket.SHUT_WR)
    assert attempt_to_send(port, near) in SHUT_DOWN
    reading = run(read_to_end, far)
    ended = collect(port, 2)
    assert [completion.overlapped for completion in ended] == started
    assert [completion.result() for completion in ended] == [half, half]
    assert reading.result() == data


def attempt_to_send(port: CompletionPort, sock: socket.socket) -> int:
    """The number with which a send fails at once, while others are pending."""
    with pytest.raises(OSError, match="shut") as caught:
        port.send(sock, b"too late")
    return int(vars(caught.value)["winerror"])


@pytest.mark.statement("SEND-08")
def test_a_cancelled_send_reports_no_bytes(port: CompletionPort, net: Loopback) -> None:
    near, _ = net.tcp_pair(buffer=16384)
    port.associate(near)
    clog(near)
    operation = port.send(near, bytes(LARGE))
    nothing_more(port)
    assert operation.cancel()
    completion = take(port)
    assert completion.overlapped is operation
    assert (completion.error, completion.transferred) == (995, 0)


@pytest.mark.statement("SEND-09")
@pytest.mark.parametrize(
    "pieces",
    [[b"", b"ab", b"", b"c", b""], [b"", b""], [b""]],
    ids=["some-empty", "all-empty", "one-empty"],
)
def test_empty_members_of_a_gathered_send_are_legal(
    port: CompletionPort, net: Loopback, pieces: list[bytes]
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    data = b"".join(pieces)
    port.send(near, pieces)
    completion = take(port)
    assert (completion.error, completion.result()) == (0, len(data))
    port.shutdown(near, socket.SHUT_WR)
    assert read_to_end(far) == data


@pytest.mark.statement("SEND-05", "SEND-09")
def test_an_empty_send_keeps_its_place(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    filled = clog(near)
    started = [port.send(near, b"x"), port.send(near, b""), port.send(near, b"y")]
    nothing_more(port)
    reading = run(receive_exactly, far, filled + 2)
    ended = collect(port, 3)
    assert [completion.overlapped for completion in ended] == started
    assert [completion.result() for completion in ended] == [1, 0, 1]
    assert reading.result().endswith(b"xy")
