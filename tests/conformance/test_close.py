"""Closing handles with operations pending (CLOSE): how those end, and what the peer sees."""

from __future__ import annotations

import contextlib
import gc
import socket
import struct
import sys
import weakref
from typing import TYPE_CHECKING

import pytest

from netpoll import OperationAborted
from netpoll import status as nt
from netpoll.testing.accepted import CLOSED_HERE
from netpoll.testing.attempts import NO_SOCKET, attempt, clog, read_to_end, winerror
from netpoll.testing.drain import collect, nothing_more, take
from netpoll.testing.pairs import wait_readable
from netpoll.testing.waiting import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll import CompletionPort
    from netpoll.testing.backends import Target
    from netpoll.testing.pairs import Loopback


def close_through_port(port: CompletionPort, sock: socket.socket) -> None:
    port.close_handle(sock)


def close_directly(_: CompletionPort, sock: socket.socket) -> None:
    sock.close()


either_way = pytest.mark.parametrize(
    "close", [close_through_port, close_directly], ids=["through-the-port", "behind-its-back"]
)


@pytest.mark.statement("CLOSE-01")
@either_way
def test_closing_a_listener_aborts_its_accepts(
    port: CompletionPort, net: Loopback, close: Callable[[CompletionPort, socket.socket], None]
) -> None:
    listener = net.listener()
    port.associate(listener, "listener")
    started = [port.accept(listener) for _ in range(3)]
    nothing_more(port)
    close(port, listener)
    ended = collect(port, 3)
    assert {completion.overlapped for completion in ended} == set(started)
    for completion in ended:
        assert completion.key == "listener"
        assert (completion.error, completion.transferred) == (995, 0)
        assert completion.status == nt.STATUS_CANCELLED
        assert isinstance(completion.exception(), OperationAborted)


@pytest.mark.statement("CLOSE-01")
def test_closing_a_listener_aborts_an_accept_that_has_a_client_but_no_data(
    port: CompletionPort, net: Loopback
) -> None:
    listener = net.listener()
    client = net.new_socket()
    port.associate(listener, "listener")
    port.accept(listener, receive=bytearray(10))
    client.connect(listener.getsockname())
    nothing_more(port)
    port.close_handle(listener)
    completion = take(port)
    assert completion.key == "listener"
    assert completion.error in CLOSED_HERE
    assert completion.transferred == 0
    # nobody owns the connection now: its client must not wait for ever
    with contextlib.suppress(ConnectionResetError):
        assert client.recv(10) == b""


@pytest.mark.statement("CLOSE-02")
@either_way
def test_closing_a_connection_ends_its_receives_as_closed_here(
    port: CompletionPort,
    target: Target,
    net: Loopback,
    close: Callable[[CompletionPort, socket.socket], None],
) -> None:
    near, _ = net.tcp_pair()
    port.associate(near, "near")
    started = [port.recv(near, 10), port.recv_into(near, bytearray(10)), port.recv(near, 0)]
    nothing_more(port)
    close(port, near)
    ended = collect(port, 3)
    assert {completion.overlapped for completion in ended} == set(started)
    for completion in ended:
        assert completion.key == "near"
        assert completion.error in CLOSED_HERE
        assert completion.transferred == 0
        if target.emulated:
            assert completion.status == nt.STATUS_CONNECTION_ABORTED


@pytest.mark.statement("CLOSE-03")
def test_a_local_close_is_told_from_a_reset(port: CompletionPort, net: Loopback) -> None:
    """Windows may give the number of a reset; where it does not, neither does the exception."""
    near, _ = net.tcp_pair()
    port.associate(near)
    port.recv(near, 10)
    nothing_more(port)
    port.close_handle(near)
    completion = take(port)
    assert completion.error in CLOSED_HERE
    if completion.error != 64:
        assert not isinstance(completion.exception(), ConnectionResetError)


def test_closing_leaves_other_handles_alone(port: CompletionPort, net: Loopback) -> None:
    near, _ = net.tcp_pair()
    other, other_far = net.tcp_pair()
    port.associate(near, "near")
    port.associate(other, "other")
    port.recv(near, 10)
    port.recv(other, 10)
    nothing_more(port)
    port.close_handle(near)
    assert take(port).key == "near"
    other_far.sendall(b"fine")
    completion = take(port)
    assert (completion.key, completion.result()) == ("other", b"fine")


@pytest.mark.statement("CLOSE-06")
def test_what_a_closed_operation_used_lives_until_its_packet_is_taken(
    port: CompletionPort, net: Loopback
) -> None:
    near, _ = net.tcp_pair()
    port.associate(near, "near")
    buffer = bytearray(10)
    port.recv_into(near, buffer)
    nothing_more(port)
    port.close_handle(near)
    gc.collect()
    with pytest.raises(BufferError):
        buffer.append(0)
    completion = take(port)
    assert completion.error in CLOSED_HERE
    completion.overlapped.release()
    buffer.append(0)


@pytest.mark.statement("CLOSE-06")
@either_way
def test_the_number_of_a_closed_handle_may_be_used_again_at_once(
    port: CompletionPort, net: Loopback, close: Callable[[CompletionPort, socket.socket], None]
) -> None:
    old, old_far = net.tcp_pair()
    # prepared, so that the next descriptor made is the one that takes the number over
    listener = net.listener()
    client = net.new_socket()
    client.connect(listener.getsockname())
    port.associate(old, "old")
    stale = port.recv(old, 10)
    nothing_more(port)
    number = old.fileno()
    close(port, old)
    new = net.track(listener.accept()[0])
    assert new.fileno() == number or sys.platform == "win32"
    port.associate(new, "new")
    fresh = port.recv(new, 10)
    with contextlib.suppress(OSError):  # the close may have reset the connection already
        old_far.sendall(b"stale")
    client.sendall(b"fresh")
    ended = {completion.overlapped: completion for completion in collect(port, 2)}
    assert (ended[stale].key, ended[fresh].key) == ("old", "new")
    assert ended[stale].error in CLOSED_HERE
    assert ended[fresh].result() == b"fresh"


@pytest.mark.statement("CLOSE-06")
def test_the_number_of_a_closed_handle_may_go_to_an_accepted_connection(
    port: CompletionPort, net: Loopback
) -> None:
    """The connection of an accept that waits for data is known to the backend alone."""
    listener = net.listener()
    client = net.new_socket()
    old, old_far = net.tcp_pair()
    port.associate(listener, "listener")
    port.associate(old, "old")
    port.recv(old, 10)
    nothing_more(port)
    buffer = bytearray(10)
    client.connect(listener.getsockname())
    net.new_socket()  # takes the number that making the pair left free
    number = old.fileno()
    old.close()
    port.accept(listener, receive=buffer)
    # the end of the old operation comes when the port notices, the new connection stays untouched
    completion = take(port)
    assert completion.key == "old"
    assert completion.error in CLOSED_HERE
    client.sendall(b"fresh")
    completion = take(port)
    assert (completion.key, completion.error, completion.transferred) == ("listener", 0, 5)
    sock = net.track(completion.result()[0])
    assert sock.fileno() == number or sys.platform == "win32"
    assert buffer.startswith(b"fresh")
    old_far.close()


@pytest.mark.statement("CLOSE-06")
def test_dropping_every_reference_is_harmless(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    buffer = bytearray(10)
    alive = weakref.ref(port.recv_into(near, buffer))
    gc.collect()
    assert alive() is not None
    far.sendall(b"data")
    assert take(port).result() == 4
    assert buffer.startswith(b"data")
    gc.collect()
    assert alive() is None


@pytest.mark.statement("CLOSE-07", "EMU-09")
def test_closing_with_a_receive_pending_resets_the_connection(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    port.recv(near, 10)
    nothing_more(port)
    port.close_handle(near)
    with pytest.raises(ConnectionResetError):
        far.recv(10)
    assert take(port).error in CLOSED_HERE


@pytest.mark.statement("CLOSE-07", "CLOSE-08")
def test_closing_after_the_receives_were_cancelled_is_graceful(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    operation = port.recv(near, 10)
    port.send(near, b"last words")
    assert take(port).transferred == 10
    assert operation.cancel()
    assert take(port).error == 995
    port.close_handle(near)
    assert read_to_end(far) == b"last words"


@pytest.mark.statement("CLOSE-08")
def test_what_was_sent_before_closing_is_delivered(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    sent = clog(near)
    port.close_handle(near)
    assert len(read_to_end(far)) == sent
    nothing_more(port)


def linger(sock: socket.socket, seconds: int) -> None:
    # BSD and Linux have two ints there, Winsock two shorts
    value = struct.pack("hh" if sys.platform == "win32" else "ii", 1, seconds)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, value)


@pytest.mark.statement("CLOSE-08")
def test_a_linger_with_a_time_delivers_what_was_sent_or_leaves_the_socket_open(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    sent = clog(near)
    linger(near, 60)
    near.setblocking(False)
    reading = run(read_to_end, far)
    refused: list[OSError] = []
    try:
        port.close_handle(near)
    except OSError as error:
        refused.append(error)
        linger(near, 0)  # fails if it is not open any more
        near.close()
    if refused:
        assert winerror(refused[0]) == 10035
        with contextlib.suppress(ConnectionResetError):
            reading.result()
    else:
        assert len(reading.result()) == sent
    nothing_more(port)


@pytest.mark.statement("CLOSE-08")
def test_a_linger_of_nothing_resets(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    linger(near, 0)
    port.close_handle(near)
    with pytest.raises(ConnectionResetError):
        far.recv(10)


@pytest.mark.statement("CLOSE-09")
def test_closing_ends_pending_sends_as_closed_here(port: CompletionPort, net: Loopback) -> None:
    near, _ = net.tcp_pair()
    port.associate(near)
    clog(near)
    started = [port.send(near, b"x" * 1000) for _ in range(3)]
    nothing_more(port)
    port.close_handle(near)
    ended = collect(port, 3)
    assert {completion.overlapped for completion in ended} == set(started)
    for completion in ended:
        assert completion.error in CLOSED_HERE
        assert completion.transferred == 0


@pytest.mark.statement("CLOSE-02", "CLOSE-09")
def test_closing_ends_both_directions(port: CompletionPort, net: Loopback) -> None:
    near, _ = net.tcp_pair()
    port.associate(near)
    clog(near)
    started = {port.send(near, b"x"), port.recv(near, 1), port.send(near, b"y")}
    nothing_more(port)
    port.close_handle(near)
    ended = collect(port, 3)
    assert {completion.overlapped for completion in ended} == started
    assert {completion.error for completion in ended} <= CLOSED_HERE


@pytest.mark.statement("CLOSE-06")
def test_completions_that_were_due_before_the_close_keep_their_outcome(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    sent = port.send(near, b"data")
    far.sendall(b"answer")
    received = port.recv(near, 100)
    assert take_both(port, sent, received) == (4, b"answer")
    port.close_handle(near)
    nothing_more(port)


def take_both(port: CompletionPort, first: object, second: object) -> tuple[object, object]:
    results = {completion.overlapped: completion.result() for completion in collect(port, 2)}
    return results[first], results[second]


def test_a_waiting_thread_gets_what_a_close_elsewhere_ends(
    port: CompletionPort, net: Loopback
) -> None:
    near, _ = net.tcp_pair()
    port.associate(near, "near")
    port.recv(near, 10)
    waiting = run(lambda: port.get(timeout=30.0))
    port.close_handle(near)
    completion = waiting.result()
    assert completion is not None
    assert completion.error in CLOSED_HERE


def test_a_handle_is_closed_when_close_handle_returns(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    unknown, unknown_far = net.tcp_pair()
    port.associate(near)
    for sock, peer in ((near, far), (unknown, unknown_far)):
        port.close_handle(sock)
        assert sock.fileno() == -1
        assert peer.recv(1) == b""
    with pytest.raises(OSError, match="closed") as caught:
        port.recv(near, 1)
    assert winerror(caught.value) in NO_SOCKET


@pytest.mark.statement("XFER-08")
@either_way
def test_starting_again_after_the_close_is_refused(
    port: CompletionPort, net: Loopback, close: Callable[[CompletionPort, socket.socket], None]
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    receiving = port.recv(near, 10)
    far.sendall(b"x")
    assert take(port).result() == b"x"
    sending = port.send(near, b"y")
    assert take(port).result() == 1
    close(port, near)
    net.tcp_pair()  # one of them has the number now
    # what nobody told the port, it may notice a little later
    expected = NO_SOCKET | CLOSED_HERE if close is close_directly else NO_SOCKET
    for operation in (receiving, sending):
        ended = attempt(port, lambda again=operation: port.resubmit(again))  # type: ignore[misc]
        assert ended.number in expected
    assert port.inflight() == []


@pytest.mark.statement("XFER-08")
def test_that_it_is_closed_outdoes_that_it_was_shut_down(
    port: CompletionPort, net: Loopback
) -> None:
    near, _ = net.tcp_pair()
    port.associate(near)
    sending = port.send(near, b"x")
    assert take(port).result() == 1
    port.shutdown(near, socket.SHUT_WR)
    near.close()  # which nobody tells the port
    ended = attempt(port, lambda: port.resubmit(sending))
    assert ended.number in NO_SOCKET


@pytest.mark.statement("EMU-27")
def test_closing_with_data_unread_resets(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    far.sendall(b"never read")
    wait_readable(near)
    port.close_handle(near)
    with pytest.raises(ConnectionResetError):
        far.recv(10)
    nothing_more(port)


@pytest.mark.statement("CLOSE-07")
def test_shutting_sending_down_first_keeps_the_end_graceful(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    port.send(near, b"last words")
    assert take(port).transferred == 10
    port.recv(near, 10)
    port.shutdown(near, socket.SHUT_WR)
    port.close_handle(near)
    assert take(port).error in CLOSED_HERE
    assert read_to_end(far) == b"last words"
    assert far.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


@either_way
def test_what_was_started_before_the_close_does_not_go_to_the_next_socket(
    port: CompletionPort, net: Loopback, close: Callable[[CompletionPort, socket.socket], None]
) -> None:
    """A backend that hands over later what it has by number only could take another's data."""
    near, far = net.tcp_pair()
    port.associate(near, "closed")
    operation = port.recv(near, 100)
    far.sendall(b"first")
    assert take(port).result() == b"first"
    # made already, for the number must be used again at once
    listener = net.listener()
    client = net.new_socket()
    client.connect(listener.getsockname())
    port.resubmit(operation)
    close(port, near)
    other = net.track(listener.accept()[0])  # on POSIX it has the number
    client.sendall(b"not yours")
    completion = take(port)
    assert (completion.overlapped, completion.key) == (operation, "closed")
    assert completion.error in CLOSED_HERE
    assert other.recv(100) == b"not yours"
