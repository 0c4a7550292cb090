"""Receives from a pool: a buffer only where data is, every buffer back, and nobody overlooked."""

from __future__ import annotations

import gc
import pickle
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from netpoll import BufferPool, CompletionPort, Overlapped, PooledBuffer, UnsupportedOperation
from netpoll.testing.accepted import CLOSED_HERE, RESET
from netpoll.testing.attempts import NO_SOCKET, NOT_CONNECTED, SHUT_DOWN, attempt, pattern
from netpoll.testing.drain import collect, nothing_more, take
from netpoll.testing.pairs import reset, wait_readable
from netpoll.testing.waiting import run, wait_for_waiters

if TYPE_CHECKING:
    from netpoll.testing.backends import Target
    from netpoll.testing.fixtures import MakePort
    from netpoll.testing.pairs import Loopback


def taken_data(port: CompletionPort) -> bytes:
    """What the next completion has received; its buffer goes back."""
    with take(port).result() as buffer:
        return bytes(buffer)


@pytest.mark.statement("RECV-03")
@pytest.mark.parametrize("early", [True, False], ids=["data-waits", "data-comes-later"])
def test_data_comes_in_a_buffer_of_the_pool(
    port: CompletionPort, net: Loopback, early: bool
) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "near")
    pool = BufferPool(2, 16)
    if early:
        far.sendall(b"data")
        wait_readable(near)
    operation = port.recv_pooled(near, pool)
    if not early:
        nothing_more(port)
        assert pool.free == 2  # a connection that waits has none
        far.sendall(b"data")
    completion = take(port)
    assert completion.overlapped is operation
    assert (completion.key, completion.error, completion.transferred) == ("near", 0, 4)
    buffer = completion.result()
    assert isinstance(buffer, PooledBuffer)
    assert (len(buffer), bytes(buffer), buffer.data.readonly) == (4, b"data", False)
    assert pool.free == 1
    buffer.release()
    buffer.release()
    assert pool.free == 2
    assert "released" in repr(buffer)


@pytest.mark.statement("RECV-03", "RECV-12")
def test_a_stream_comes_in_pieces_of_the_buffer_s_size(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    pool = BufferPool(3, 1000)
    data = pattern(100_000)
    sending = run(far.sendall, data)
    operation = port.recv_pooled(near, pool)
    received = bytearray()
    while len(received) < len(data):
        with take(port).result() as buffer:
            assert 1 <= len(buffer) <= 1000
            received += buffer.data
        if len(received) < len(data):
            port.resubmit(operation)
    sending.result()
    assert (received, pool.free) == (data, 3)


@pytest.mark.statement("RECV-12")
@pytest.mark.parametrize("skip", [False, True], ids=["plain", "skip-on-success"])
def test_receives_of_a_socket_are_served_in_order(
    port: CompletionPort, net: Loopback, skip: bool
) -> None:
    near, far = net.tcp_pair()
    port.associate(near, skip_on_success=skip)
    pool = BufferPool(4, 4)
    operations = [port.recv_pooled(near, pool) for _ in range(4)]
    nothing_more(port)
    far.sendall(b"aaaabbbbccccdddd")
    ended = collect(port, 4)
    assert [each.overlapped for each in ended] == operations
    assert [bytes(each.result()) for each in ended] == [b"aaaa", b"bbbb", b"cccc", b"dddd"]


@pytest.mark.statement("RECV-04")
def test_the_end_of_the_stream_needs_no_buffer(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    pool = BufferPool(1, 16)
    port.recv_pooled(near, pool)
    far.shutdown(socket.SHUT_WR)
    for _ in range(2):
        completion = take(port)
        assert (completion.error, completion.transferred) == (0, 0)
        with completion.result() as buffer:
            assert bytes(buffer) == b""
        assert pool.free == 1
        port.recv_pooled(near, pool)
    take(port)


# -- a pool without a buffer -----------------------------------------------------------------------


def holder_and_two_that_wait(
    port: CompletionPort, net: Loopback, pool: BufferPool
) -> tuple[PooledBuffer, list[Overlapped[PooledBuffer]]]:
    """The pool's one buffer, and two receives whose data is there."""
    holder, its_peer = net.tcp_pair()
    port.associate(holder)
    port.recv_pooled(holder, pool)
    its_peer.sendall(b"data")
    buffer: PooledBuffer = take(port).result()
    operations: list[Overlapped[PooledBuffer]] = []
    for _ in range(2):
        near, far = net.tcp_pair()
        port.associate(near)
        operations.append(port.recv_pooled(near, pool))
        far.sendall(b"data")
        nothing_more(port)
    return buffer, operations


def test_without_a_buffer_it_waits_until_one_comes_back(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    pool = BufferPool(1, 4)
    port.recv_pooled(near, pool)
    far.sendall(b"datamore")
    first = take(port).result()
    port.recv_pooled(near, pool)
    nothing_more(port)
    assert bytes(first) == b"data"
    first.release()
    assert taken_data(port) == b"more"
    assert pool.free == 1


def test_those_that_wait_are_served_in_order(port: CompletionPort, net: Loopback) -> None:
    pool = BufferPool(1, 16)
    first, its_peer = net.tcp_pair()
    port.associate(first)
    port.recv_pooled(first, pool)
    its_peer.sendall(b"first")
    buffer = take(port).result()
    for number in range(5):
        near, far = net.tcp_pair()
        port.associate(near, number)
        port.recv_pooled(near, pool)
        far.sendall(b"data%d" % number)
        nothing_more(port)
    for number in range(5):
        buffer.release()
        completion = take(port)
        assert completion.key == number
        buffer = completion.result()
        assert bytes(buffer) == b"data%d" % number
        nothing_more(port)
    buffer.release()
    assert pool.free == 1


def test_those_that_have_waited_with_their_data_are_served_in_order(
    port: CompletionPort, net: Loopback
) -> None:
    """Whose data came before they were started, all in one turn."""
    pool = BufferPool(1, 16)
    for number in range(8):
        near, far = net.tcp_pair()
        port.associate(near, number)
        far.sendall(b"data%d" % number)
        wait_readable(near)
        port.recv_pooled(near, pool)
    for number in range(8):
        completion = take(port)
        assert completion.key == number
        assert bytes(completion.result()) == b"data%d" % number
        completion.result().release()
    nothing_more(port)


@pytest.mark.parametrize("how", ["end", "reset"])
def test_an_end_that_comes_while_the_pool_is_empty_is_told_at_once(
    port: CompletionPort, net: Loopback, how: str
) -> None:
    pool = BufferPool(1, 16)
    near, far = net.tcp_pair()
    port.associate(near)
    far.sendall(b"data")
    port.recv_pooled(near, pool)
    held = take(port).result()
    operation = port.recv_pooled(near, pool)
    nothing_more(port)
    if how == "end":
        far.close()
        completion = take(port)
        assert bytes(completion.result()) == b""
    else:
        reset(far)
        completion = take(port)
        assert completion.error in RESET
    assert completion.overlapped is operation
    held.release()
    assert pool.free == 1
    nothing_more(port)


def test_a_buffer_may_come_back_while_a_thread_waits_on_the_port(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    pool = BufferPool(1, 4)
    port.recv_pooled(near, pool)
    far.sendall(b"datamore")
    buffer = take(port).result()
    port.recv_pooled(near, pool)
    waiting = run(port.get, 30)
    wait_for_waiters(port, 1)
    buffer.release()
    completion = waiting.result()
    assert completion is not None
    assert bytes(completion.result()) == b"more"
    assert port.stats()["waits"] < 20  # and it has not spun


def test_an_empty_pool_makes_nobody_spin(port: CompletionPort, net: Loopback) -> None:
    pool = BufferPool(1, 4)
    near, far = net.tcp_pair()
    other, its_peer = net.tcp_pair()
    port.associate(near)
    port.associate(other, "other")
    port.recv_pooled(near, pool)
    far.sendall(b"datamore")
    buffer = take(port).result()
    port.recv_pooled(near, pool)
    assert port.get(timeout=0.05) is None
    before = port.stats().get("polls", 0)
    assert port.get(timeout=0.2) is None
    assert port.stats().get("polls", 0) - before < 10
    its_peer.sendall(b"fine")  # the others go on
    port.recv(other, 4)
    assert take(port).result() == b"fine"
    buffer.release()
    assert taken_data(port) == b"more"


def test_data_without_a_buffer_does_not_hold_up_those_that_have_none(
    port: CompletionPort, net: Loopback, target: Target
) -> None:
    """A connection without data must not take the buffer that comes back."""
    pool = BufferPool(1, 4)
    idle = [net.tcp_pair() for _ in range(5)]
    near, far = net.tcp_pair()
    port.associate(near)
    port.recv_pooled(near, pool)
    far.sendall(b"datamore")
    buffer = take(port).result()
    for each, _ in idle:
        port.associate(each, "idle")
        port.recv_pooled(each, pool)
    port.recv_pooled(near, pool)
    nothing_more(port)
    buffer.release()
    assert taken_data(port) == b"more"
    assert pool.free == 1
    for _, peer in idle:
        peer.sendall(b"late")
        assert taken_data(port) == b"late"


@pytest.mark.statement("CAN-05", "CAN-10")
def test_one_that_waits_for_a_buffer_can_be_cancelled(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    pool = BufferPool(1, 4)
    port.recv_pooled(near, pool)
    far.sendall(b"datamorelast")
    buffer = take(port).result()
    second, third = port.recv_pooled(near, pool), port.recv_pooled(near, pool)
    nothing_more(port)
    assert port.cancel(second)
    assert not port.cancel(second)
    completion = take(port)
    assert (completion.overlapped, completion.error) == (second, 995)
    buffer.release()
    completion = take(port)
    assert (completion.overlapped, bytes(completion.result())) == (third, b"more")
    assert port.inflight() == []


def test_the_buffer_of_one_that_is_cancelled_goes_to_the_next(
    port: CompletionPort, net: Loopback
) -> None:
    """It had got it, but the port had not looked yet."""
    pool = BufferPool(1, 4)
    buffer, operations = holder_and_two_that_wait(port, net, pool)
    buffer.release()
    assert port.cancel(operations[0])
    ended = {each.overlapped: each for each in collect(port, 2)}
    assert ended[operations[0]].error == 995
    assert bytes(ended[operations[1]].result()) == b"data"
    ended[operations[1]].result().release()
    assert pool.free == 1


@pytest.mark.statement("CLOSE-02")
@pytest.mark.parametrize("how", ["close_handle", "close"])
def test_all_receives_in_the_line_end_with_the_socket(
    port: CompletionPort, net: Loopback, how: str
) -> None:
    near, _ = net.tcp_pair()
    port.associate(near)
    pool = BufferPool(2, 100)
    operations = [port.recv_pooled(near, pool) for _ in range(3)]
    nothing_more(port)
    if how == "close":
        near.close()
    else:
        port.close_handle(near)
    completions = collect(port, 3)
    assert {each.overlapped for each in completions} == set(operations)
    assert {each.error for each in completions} <= CLOSED_HERE


@pytest.mark.parametrize("how", ["time", "close"])
def test_one_that_waits_for_a_buffer_can_end_otherwise(
    port: CompletionPort, net: Loopback, how: str
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    pool = BufferPool(1, 4)
    port.recv_pooled(near, pool)
    far.sendall(b"datamore")
    buffer = take(port).result()
    operation = port.recv_pooled(near, pool, timeout=0.05 if how == "time" else None)
    if how == "close":
        nothing_more(port)
        port.close_handle(near)
    completion = take(port)
    assert completion.overlapped is operation
    assert completion.error == 121 if how == "time" else completion.error in CLOSED_HERE
    buffer.release()
    assert pool.free == 1
    nothing_more(port)


def test_closing_the_port_ends_those_that_wait(port: CompletionPort, net: Loopback) -> None:
    pool = BufferPool(1, 4)
    buffer, operations = holder_and_two_that_wait(port, net, pool)
    port.close()
    assert [each.status for each in operations] == [0xC0000120] * 2
    buffer.release()
    assert pool.free == 1


# -- buffers that come back ------------------------------------------------------------------------


def test_a_buffer_that_is_dropped_comes_back(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    pool = BufferPool(1, 4)
    operation = port.recv_pooled(near, pool)
    far.sendall(b"data")
    take(port)
    assert pool.free == 0
    del operation
    gc.collect()
    assert pool.free == 1


def test_a_new_start_lets_go_of_the_last_buffer(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    pool = BufferPool(1, 4)
    operation = port.recv_pooled(near, pool)
    for data in (b"one!", b"two!"):
        far.sendall(data)
        kept = take(port).result()
        assert bytes(kept) == data
        port.resubmit(operation)
        assert pool.free == 0  # the program has it
        del kept
        gc.collect()
        assert pool.free == 1
    assert port.cancel(operation)
    assert take(port).error == 995


def test_a_buffer_in_use_by_somebody_else_is_not_given_back(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    pool = BufferPool(1, 4)
    port.recv_pooled(near, pool)
    far.sendall(b"data")
    buffer = take(port).result()
    looking = pickle.PickleBuffer(buffer.data)
    with pytest.raises(BufferError):
        buffer.release()
    assert pool.free == 0
    looking.release()
    buffer.release()
    assert pool.free == 1


def test_buffers_may_come_back_in_any_thread(port: CompletionPort, net: Loopback) -> None:
    pool = BufferPool(2, 64)
    pairs = [net.tcp_pair() for _ in range(10)]
    for number, (near, far) in enumerate(pairs):
        port.associate(near, number)
        port.recv_pooled(near, pool)
        far.sendall(b"%d" % number * 20)
    seen: dict[Any, bytes] = {}
    threads: list[threading.Thread] = []
    for _ in pairs:
        completion = port.get(timeout=30)
        assert completion is not None
        buffer = completion.result()
        seen[completion.key] = bytes(buffer)
        threads.append(threading.Thread(target=buffer.release))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert seen == {number: b"%d" % number * 20 for number in range(10)}
    assert pool.free == 2


# -- what is refused, what fails -------------------------------------------------------------------


def test_nonsense_is_refused(port: CompletionPort, net: Loopback) -> None:
    near, _ = net.tcp_pair()
    for count, size in ((0, 1), (1, 0), (-1, 1), (1.5, 1), (32769, 1)):
        with pytest.raises(ValueError, match=r"pool|number"):
            BufferPool(count, size)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="BufferPool"):
        port.recv_pooled(near, bytearray(10))  # type: ignore[arg-type]
    with pytest.raises(UnsupportedOperation, match="datagram"):
        port.recv_pooled(net.udp_pair()[0], BufferPool(1, 1))
    nothing_more(port)


def test_a_pool_belongs_to_one_port(make_port: MakePort, net: Loopback) -> None:
    one, other = make_port(), make_port()
    pool = BufferPool(1, 4)
    (near, _), (second, _) = net.tcp_pair(), net.tcp_pair()
    one.associate(near)
    other.associate(second)
    operation = one.recv_pooled(near, pool)
    with pytest.raises(ValueError, match="another port"):
        other.recv_pooled(second, pool)
    assert one.cancel(operation)
    take(one)


@pytest.mark.statement("RECV-05", "RECV-07")
def test_a_reset_is_a_reset(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    pool = BufferPool(1, 4)
    port.recv_pooled(near, pool)
    nothing_more(port)
    reset(far)
    assert take(port).error in RESET
    assert pool.free == 1


@pytest.mark.statement("RECV-08", "RECV-09")
def test_failures_are_those_of_any_receive(port: CompletionPort, net: Loopback) -> None:
    pool = BufferPool(1, 4)
    unconnected = net.new_socket()
    port.associate(unconnected)
    assert attempt(port, lambda: port.recv_pooled(unconnected, pool)).number in NOT_CONNECTED
    near, _ = net.tcp_pair()
    port.associate(near)
    port.shutdown(near, socket.SHUT_RD)
    assert attempt(port, lambda: port.recv_pooled(near, pool)).number in SHUT_DOWN
    port.close_handle(near)
    assert attempt(port, lambda: port.recv_pooled(near, pool)).number in NO_SOCKET
    assert pool.free == 1


@pytest.mark.statement("CAN-05")
def test_an_idle_one_can_be_cancelled(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    pool = BufferPool(1, 4)
    operations = [port.recv_pooled(near, pool) for _ in range(2)]
    assert port.cancel(near)
    ended = collect(port, 2)
    assert {each.overlapped for each in ended} == set(operations)
    assert {each.error for each in ended} == {995}
    port.recv_pooled(near, pool)
    far.sendall(b"fine")
    assert taken_data(port) == b"fine"


@pytest.mark.statement("MODE-03")
def test_one_that_skips_its_packet_has_its_value(
    port: CompletionPort, net: Loopback, target: Target
) -> None:
    near, far = net.tcp_pair()
    port.associate(near, skip_on_success=True)
    pool = BufferPool(1, 16)
    far.sendall(b"data")
    wait_readable(near)
    operation = port.recv_pooled(near, pool)
    if not operation.done:
        take(port)
    with operation.result() as buffer:
        assert bytes(buffer) == b"data"
    nothing_more(port)


def test_a_crowd_shares_a_few_buffers(port: CompletionPort, net: Loopback) -> None:
    """More connections talk at the same time than there are buffers, again and again."""
    pool = BufferPool(3, 64)
    peers: list[socket.socket] = []
    for number in range(20):
        near, far = net.tcp_pair()
        port.associate(near, number)
        port.recv_pooled(near, pool)
        peers.append(far)
    for turn in range(10):
        for number, far in enumerate(peers):
            far.sendall(b"%d:%d" % (number, turn))
        held: list[PooledBuffer] = []
        for _ in peers:
            completion = port.get(timeout=30)
            assert completion is not None
            buffer = completion.result()
            assert bytes(buffer) == b"%d:%d" % (completion.key, turn)
            port.resubmit(completion.overlapped)
            held.append(buffer)
            if len(held) == 3:
                nothing_more(port)
                held.pop(0).release()
        for buffer in held:
            buffer.release()
        assert pool.free == 3
    for record in port.inflight():
        assert port.cancel(record.overlapped)
    assert {each.error for each in collect(port, 20)} == {995}
