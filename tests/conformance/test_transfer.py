"""Starting transfers: what a start may answer, and what it never does (XFER)."""

from __future__ import annotations

import socket
import struct
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from netpoll import Overlapped
from netpoll.testing.attempts import INVALID, NO_SOCKET, NOT_CONNECTED, attempt, clog, winerror
from netpoll.testing.drain import collect, nothing_more, take
from netpoll.testing.pairs import receive_exactly, wait_readable
from netpoll.testing.waiting import run

if TYPE_CHECKING:
    from netpoll import CompletionPort
    from netpoll.testing.pairs import Loopback


@pytest.mark.statement("EMU-05", "XFER-01", "XFER-04")
@pytest.mark.parametrize("early", [True, False], ids=["data-waits", "data-comes-later"])
def test_a_receive_queues_one_packet_whether_its_data_was_there_or_not(
    port: CompletionPort, net: Loopback, early: bool
) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "near")
    if early:
        far.sendall(b"data")
        wait_readable(near)
    operation = port.recv(near, 100)
    if not early:
        nothing_more(port)
        far.sendall(b"data")
    completion = take(port)
    assert completion.overlapped is operation
    assert completion.key == "near"
    assert (completion.error, completion.transferred) == (0, 4)
    assert completion.result() == b"data"


@pytest.mark.statement("XFER-01")
def test_a_send_that_fits_queues_one_packet(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "near")
    operation = port.send(near, b"data")
    completion = take(port)
    assert completion.overlapped is operation
    assert (completion.error, completion.transferred, completion.result()) == (0, 4, 4)
    assert receive_exactly(far, 4) == b"data"


@pytest.mark.statement("XFER-02")
def test_a_pending_transfer_has_no_packet_until_it_ends(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    receiving = port.recv(near, 100)
    filled = clog(near)
    sending = port.send(near, b"behind")
    nothing_more(port)
    assert receiving.transferred == sending.transferred == 0
    assert {record.overlapped for record in port.inflight()} == {receiving, sending}
    reading = run(receive_exactly, far, filled + 6)
    assert take(port).overlapped is sending
    assert reading.result().endswith(b"behind")
    far.sendall(b"x")
    assert take(port).overlapped is receiving


@pytest.mark.statement("XFER-03")
@pytest.mark.parametrize("how", ["recv", "recv_into", "send"])
def test_a_start_that_fails_has_no_packet_and_sets_no_event(
    port: CompletionPort, net: Loopback, how: str
) -> None:
    unconnected = net.new_socket()
    port.associate(unconnected)
    event = threading.Event()
    operation: Overlapped[Any] = Overlapped(event=event)
    argument: Any = 10 if how == "recv" else bytearray(10)
    ended = attempt(port, lambda: getattr(port, how)(unconnected, argument, overlapped=operation))
    assert ended.number in NOT_CONNECTED
    if ended.inline:
        assert not event.is_set()
        assert port.inflight() == []


@pytest.mark.statement("XFER-03")
def test_the_record_of_a_start_that_failed_can_be_used_again(
    port: CompletionPort, net: Loopback
) -> None:
    unconnected = net.new_socket()
    near, far = net.tcp_pair()
    port.associate(unconnected, "unconnected")
    port.associate(near, "near")
    operation: Overlapped[bytes] = Overlapped()
    attempt(port, lambda: port.recv(unconnected, 10, overlapped=operation))
    far.sendall(b"x")
    assert port.recv(near, 10, overlapped=operation) is operation
    completion = take(port)
    assert (completion.key, completion.result()) == ("near", b"x")


@pytest.mark.statement("XFER-05")
@pytest.mark.parametrize("timeout", [None, 0.0, 0.001], ids=["blocking", "non-blocking", "limit"])
def test_the_socket_s_own_blocking_mode_changes_nothing(
    port: CompletionPort, net: Loopback, timeout: float | None
) -> None:
    near, far = net.tcp_pair()
    near.settimeout(timeout)
    port.associate(near)
    filled = clog(near)
    receiving = port.recv(near, 100)
    sending = port.send(near, b"behind")
    nothing_more(port)
    far.sendall(b"x")
    completion = take(port)
    assert (completion.overlapped, completion.result()) == (receiving, b"x")
    reading = run(receive_exactly, far, filled + 6)
    completion = take(port)
    assert (completion.overlapped, completion.result()) == (sending, 6)
    reading.result()


@pytest.mark.statement("XFER-07")
def test_the_socket_s_own_time_limits_do_not_end_transfers(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    # 20 ms: an int of milliseconds in Winsock, a timeval elsewhere
    limit = struct.pack("i", 20) if sys.platform == "win32" else struct.pack("ll", 0, 20_000)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    port.associate(near)
    receiving = port.recv(near, 10)
    filled = clog(near)
    sending = port.send(near, b"x")
    assert port.get(timeout=0.1) is None
    reading = run(receive_exactly, far, filled + 1)
    completion = take(port)
    assert (completion.overlapped, completion.error) == (sending, 0)
    reading.result()
    far.sendall(b"late")
    completion = take(port)
    assert (completion.overlapped, completion.result()) == (receiving, b"late")


@pytest.mark.statement("XFER-08")
def test_a_closed_socket_is_no_socket(port: CompletionPort, net: Loopback) -> None:
    near, _ = net.tcp_pair()
    port.associate(near)
    port.close_handle(near)
    for start in (
        lambda: port.recv(near, 10),
        lambda: port.recv_into(near, bytearray(10)),
        lambda: port.send(near, b"x"),
        lambda: port.accept(near),
        lambda: port.connect(near, ("127.0.0.1", 9)),
    ):
        with pytest.raises(OSError, match="closed") as caught:
            start()
        assert winerror(caught.value) in NO_SOCKET
    nothing_more(port)


@pytest.mark.statement("XFER-08")
@pytest.mark.parametrize("thing", [None, "socket", ..., -1], ids=repr)
def test_what_is_no_handle_at_all_is_refused(port: CompletionPort, thing: Any) -> None:
    for start in (
        lambda: port.recv(thing, 10),
        lambda: port.send(thing, b"x"),
        lambda: port.accept(thing),
    ):
        with pytest.raises((TypeError, OSError)):
            start()
    nothing_more(port)


@pytest.mark.statement("XFER-09")
@pytest.mark.parametrize("empty", [[], ()], ids=["list", "tuple"])
def test_a_receive_without_any_buffer_is_refused(
    port: CompletionPort, net: Loopback, empty: Any
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    with pytest.raises((ValueError, OSError), match="buffer") as caught:
        port.recv_into(near, empty)
    if isinstance(caught.value, OSError):
        assert winerror(caught.value) in INVALID
    nothing_more(port)
    far.sendall(b"x")
    port.recv(near, 10)
    assert take(port).result() == b"x"


def test_a_failure_on_one_socket_leaves_the_others_alone(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    unconnected = net.new_socket()
    port.associate(near, "near")
    port.associate(unconnected, "unconnected")
    receiving = port.recv(near, 10)
    with pytest.raises(TypeError):
        port.send(near, 12)  # type: ignore[arg-type]
    for _ in range(3):
        assert attempt(port, lambda: port.send(unconnected, b"x")).number in NOT_CONNECTED
    far.sendall(b"fine")
    completion = take(port)
    assert (completion.overlapped, completion.result()) == (receiving, b"fine")


def test_both_directions_of_a_socket_are_independent(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    receives = [port.recv(near, 4) for _ in range(3)]
    sends = [port.send(near, b"sent") for _ in range(3)]
    ended = collect(port, 3)
    assert {completion.overlapped for completion in ended} == set(sends)
    far.sendall(b"aaaabbbbcccc")
    ended = collect(port, 3)
    assert [completion.overlapped for completion in ended] == receives
    assert [completion.result() for completion in ended] == [b"aaaa", b"bbbb", b"cccc"]
    assert receive_exactly(far, 12) == b"sent" * 3
