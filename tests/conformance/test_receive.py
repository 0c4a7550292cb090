"""Receiving from a stream (RECV): how much completes one, in which order, and how it ends."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

import pytest

from netpoll import status as nt
from netpoll.testing.accepted import RESET
from netpoll.testing.attempts import NOT_CONNECTED, SHUT_DOWN, attempt
from netpoll.testing.drain import collect, nothing_more, take
from netpoll.testing.outcome import unsupported
from netpoll.testing.pairs import reset, wait_readable
from netpoll.testing.waiting import wait_until

if TYPE_CHECKING:
    from netpoll import CompletionPort
    from netpoll.testing.backends import Target
    from netpoll.testing.pairs import Loopback


@pytest.mark.statement("EMU-20", "RECV-01", "RECV-02")
@pytest.mark.parametrize("early", [True, False], ids=["data-waits", "data-comes-later"])
def test_an_empty_receive_waits_for_data_and_consumes_none(
    port: CompletionPort, net: Loopback, early: bool
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    if early:
        far.sendall(b"data")
        wait_readable(near)
    probe = port.recv_into(near, bytearray())
    if not early:
        nothing_more(port)
        far.sendall(b"data")
    completion = take(port)
    assert completion.overlapped is probe
    assert (completion.error, completion.transferred) == (0, 0)
    port.recv(near, 100)
    assert take(port).result() == b"data"


@pytest.mark.statement("RECV-01", "RECV-02", "RECV-04")
def test_an_empty_receive_also_ends_at_the_end_of_the_stream(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    port.recv(near, 0)
    nothing_more(port)
    far.shutdown(socket.SHUT_WR)
    for size in (0, 10):  # the probe, then the real receive that alone tells the end
        completion = take(port)
        assert (completion.error, completion.transferred, completion.result()) == (0, 0, b"")
        if size == 0:
            port.recv(near, 10)


@pytest.mark.statement("RECV-01", "RECV-12")
def test_an_empty_receive_keeps_its_place_among_the_others(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    started = [port.recv(near, size) for size in (4, 0, 4, 0)]
    nothing_more(port)
    far.sendall(b"aaaabbbbc")
    ended = collect(port, 4)
    assert {completion.overlapped for completion in ended} == set(started)
    assert [operation.result() for operation in started] == [b"aaaa", b"", b"bbbb", b""]


@pytest.mark.statement("RECV-01", "RECV-05")
def test_an_empty_receive_reports_a_reset(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    port.recv(near, 0)
    nothing_more(port)
    reset(far)
    assert take(port).error in RESET


@pytest.mark.statement("RECV-01", "RECV-05")
def test_a_reset_is_told_to_an_empty_receive_beside_a_send(
    port: CompletionPort, net: Loopback
) -> None:
    """The system tells it once, and the send may be told (found by the differential test)."""
    near, far = net.tcp_pair(buffer=16384)
    port.associate(near)
    port.recv(near, 0)
    port.send(near, bytes(400_000))
    nothing_more(port)
    reset(far)
    assert {completion.error for completion in collect(port, 2)} <= RESET


@pytest.mark.statement("RECV-01", "RECV-05")
def test_a_reset_is_told_to_an_empty_receive_behind_another(
    port: CompletionPort, net: Loopback
) -> None:
    """The system tells it once (found by the differential test)."""
    near, far = net.tcp_pair()
    port.associate(near)
    for size in (1, 0, 1, 0):
        port.recv(near, size)
    nothing_more(port)
    reset(far)
    assert {completion.error for completion in collect(port, 4)} <= RESET


@pytest.mark.statement("RECV-03")
def test_a_receive_ends_with_any_data(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    buffer = bytearray(4096)
    for data in (b"1", b"22"):
        port.recv_into(near, buffer)
        nothing_more(port)
        far.sendall(data)
        completion = take(port)
        assert (completion.error, completion.transferred) == (0, len(data))
        assert buffer.startswith(data)


@pytest.mark.statement("RECV-04")
@pytest.mark.parametrize("early", [True, False], ids=["end-waits", "end-comes-later"])
def test_the_end_of_the_stream_is_a_success_of_no_bytes_as_often_as_asked(
    port: CompletionPort, net: Loopback, early: bool
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    if early:
        far.shutdown(socket.SHUT_WR)
        wait_readable(near)
    port.recv(near, 10)
    if not early:
        nothing_more(port)
        far.shutdown(socket.SHUT_WR)
    completion = take(port)
    assert (completion.error, completion.transferred, completion.result()) == (0, 0, b"")
    for _ in range(3):
        ended = attempt(port, lambda: port.recv_into(near, bytearray(10)))
        assert (ended.number, ended.transferred, ended.inline) == (0, 0, False)


@pytest.mark.statement("RECV-04")
def test_data_before_the_end_comes_first(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    started = [port.recv(near, 4) for _ in range(3)]
    far.sendall(b"aaaab")
    far.shutdown(socket.SHUT_WR)
    collect(port, 3)
    assert b"".join(operation.result() for operation in started) == b"aaaab"
    assert started[2].result() == b""


@pytest.mark.statement("RECV-05")
def test_a_reset_ends_a_pending_receive_as_a_reset(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "near")
    operation = port.recv(near, 10)
    nothing_more(port)
    reset(far)
    completion = take(port)
    assert (completion.overlapped, completion.key) == (operation, "near")
    assert completion.error in RESET
    assert completion.transferred == 0
    assert completion.status == operation.status == nt.STATUS_CONNECTION_RESET
    error = completion.exception()
    assert isinstance(error, ConnectionResetError)
    assert error.errno == errno.ECONNRESET
    assert (vars(error)["winerror"], vars(error)["wsaerror"]) == (64, 10054)
    with pytest.raises(ConnectionResetError):
        operation.result()


@pytest.mark.statement("RECV-05")
def test_a_reset_ends_every_pending_receive_once(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    started = [port.recv(near, 10) for _ in range(5)]
    nothing_more(port)
    reset(far)
    ended = collect(port, 5)
    assert {completion.overlapped for completion in ended} == set(started)
    assert {completion.error for completion in ended} <= RESET


@pytest.mark.statement("RECV-06")
@pytest.mark.parametrize("how", ["recv", "send"])
def test_a_transfer_started_after_the_reset_fails_with_it(
    port: CompletionPort, net: Loopback, how: str
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    reset(far)
    wait_readable(near)
    if how == "recv":
        ended = attempt(port, lambda: port.recv(near, 10))
    else:
        ended = attempt(port, lambda: port.send(near, b"data"))
    assert ended.number in RESET
    assert ended.inline
    assert ended.transferred == 0
    assert isinstance(ended.error, ConnectionResetError)


@pytest.mark.statement("EMU-15", "RECV-07")
@pytest.mark.parametrize("pending", [True, False], ids=["pending", "not-pending"])
def test_a_reset_is_reported_again_and_again(
    port: CompletionPort, net: Loopback, pending: bool
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    if pending:
        port.recv(near, 10)
    reset(far)
    if pending:
        assert take(port).error in RESET
    else:
        wait_readable(near)
        assert attempt(port, lambda: port.recv(near, 10)).number in RESET
    assert near.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    for _ in range(3):
        assert attempt(port, lambda: port.send(near, b"x")).number in RESET
        assert attempt(port, lambda: port.recv(near, 10)).number in RESET
        assert attempt(port, lambda: port.recv(near, 0)).number in RESET
        assert attempt(port, lambda: port.recv_into(near, [bytearray(1)] * 2)).number in RESET


@pytest.mark.statement("RECV-08")
@pytest.mark.parametrize("listening", [False, True], ids=["unconnected", "listening"])
def test_a_socket_without_a_connection_receives_nothing(
    port: CompletionPort, net: Loopback, listening: bool
) -> None:
    sock = net.listener() if listening else net.new_socket()
    port.associate(sock)
    for size in (10, 0):
        ended = attempt(port, lambda size=size: port.recv(sock, size))  # type: ignore[misc]
        assert ended.number in NOT_CONNECTED
        assert ended.inline
        assert ended.error is not None
        assert ended.error.errno == errno.ENOTCONN


@pytest.mark.statement("EMU-17", "RECV-09")
def test_shutting_receiving_down_leaves_pending_receives_alone(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    started = [port.recv(near, 4) for _ in range(2)]
    nothing_more(port)
    port.shutdown(near, socket.SHUT_RD)
    assert port.get(timeout=0.05) is None
    refused = attempt(port, lambda: port.recv(near, 10))
    assert refused.number in SHUT_DOWN
    assert refused.inline
    far.sendall(b"aaaabbbb")
    ended = collect(port, 2)
    assert [completion.error for completion in ended] == [0, 0]
    assert [operation.result() for operation in started] == [b"aaaa", b"bbbb"]
    assert attempt(port, lambda: port.recv(near, 10)).number in SHUT_DOWN


@pytest.mark.statement("RECV-09")
def test_shutting_receiving_down_does_not_touch_sending(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    port.shutdown(near, socket.SHUT_RD)
    port.send(near, b"still")
    assert take(port).result() == 5
    assert far.recv(10) == b"still"


@pytest.mark.statement("RECV-10")
def test_after_the_end_and_the_shutdown_receives_fail(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    far.shutdown(socket.SHUT_WR)
    port.recv(near, 10)
    assert take(port).result() == b""
    port.shutdown(near, socket.SHUT_RD)
    for size in (10, 0):
        ended = attempt(port, lambda size=size: port.recv(near, size))  # type: ignore[misc]
        assert ended.number in SHUT_DOWN


@pytest.mark.statement("RECV-11")
@pytest.mark.parametrize("early", [True, False], ids=["data-waits", "data-comes-later"])
def test_buffers_are_filled_in_order_without_gaps(
    port: CompletionPort, net: Loopback, early: bool
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    buffers = [bytearray(b"-" * size) for size in (3, 0, 1, 4, 2)]
    if early:
        far.sendall(b"abcdef")
        wait_readable(near)
    port.recv_into(near, buffers)
    if not early:
        nothing_more(port)
        far.sendall(b"abcdef")
    assert take(port).result() == 6
    assert buffers == [b"abc", b"", b"d", b"ef--", b"--"]


@pytest.mark.statement("RECV-12", "RECV-13")
def test_receives_are_filled_in_the_order_of_their_start(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    first, second = bytearray(16), bytearray(16)
    started = [port.recv_into(near, first), port.recv_into(near, second)]
    nothing_more(port)
    far.sendall(b"a" * 16 + b"b" * 16)
    ended = collect(port, 2)
    assert [completion.overlapped for completion in ended] == started
    assert [completion.transferred for completion in ended] == [16, 16]
    assert (first, second) == (b"a" * 16, b"b" * 16)


@pytest.mark.statement("EMU-01", "RECV-12")
def test_a_later_start_never_overtakes_a_pending_one(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    started = [port.recv(near, 4)]
    nothing_more(port)
    far.sendall(b"aaaabbbbcccc")
    wait_readable(near)
    # the data is there, but so is the first receive
    started += [port.recv(near, 4), port.recv(near, 4)]
    collect(port, 3)
    assert [operation.result() for operation in started] == [b"aaaa", b"bbbb", b"cccc"]


@pytest.mark.statement("RECV-12", "RECV-13")
def test_many_receives_on_many_sockets_keep_their_order(
    port: CompletionPort, net: Loopback
) -> None:
    pairs = [net.tcp_pair() for _ in range(8)]
    for index, (near, _) in enumerate(pairs):
        port.associate(near, index)
    started = {i: [port.recv(near, 2) for _ in range(50)] for i, (near, _) in enumerate(pairs)}
    message = b"".join(b"%02d" % number for number in range(50))
    for _, far in pairs:
        far.sendall(message)
    ended = collect(port, 8 * 50)
    for index, operations in started.items():
        mine = [completion for completion in ended if completion.key == index]
        assert [completion.overlapped for completion in mine] == operations
        assert b"".join(operation.result() for operation in operations) == message


@pytest.mark.statement("RECV-19")
def test_a_receive_after_sending_to_a_peer_that_has_closed_is_aborted(
    port: CompletionPort, net: Loopback, target: Target
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    far.close()
    assert not attempt(port, lambda: port.send(near, b"x")).number
    # that the reset is here is seen by a send that fails
    wait_until(lambda: attempt(port, lambda: port.send(near, b"x")).number, "the reset")
    ended = attempt(port, lambda: port.recv(near, 10))
    if target.emulated:
        assert ended.number in {0} | RESET
        unsupported("the system tells of the end of the stream, and of a reset once a send failed")
    assert ended.number in {1236, 10053}


@pytest.mark.statement("RECV-15")
def test_peeking_leaves_the_data(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    buffer = bytearray(4)
    port.recv_into(near, buffer, flags=socket.MSG_PEEK)
    nothing_more(port)
    far.sendall(b"data")
    assert take(port).result() == 4
    assert buffer == b"data"
    port.recv(near, 100)
    assert take(port).result() == b"data"


@pytest.mark.statement("RECV-18")
@pytest.mark.parametrize("inline", [False, True], ids=["apart", "inline"])
def test_an_urgent_byte_is_not_part_of_the_stream_unless_it_is_to_be(
    port: CompletionPort, net: Loopback, inline: bool
) -> None:
    near, far = net.tcp_pair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, inline)
    port.associate(near)
    far.sendall(b"ab")
    far.send(b"!", socket.MSG_OOB)
    far.sendall(b"cd")
    far.shutdown(socket.SHUT_WR)
    received = b""
    while True:
        port.recv(near, 100)
        part = take(port).result()
        if not part:
            break
        received += part
    assert received == (b"ab!cd" if inline else b"abcd")
