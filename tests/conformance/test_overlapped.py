"""The life of one operation's record (OVL-01 to 08, 16, 17), and the time limit of an operation."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import TYPE_CHECKING, Any, cast

import pytest

import netpoll
from netpoll import Overlapped
from netpoll.testing.accepted import winerror_of
from netpoll.testing.drain import collect, nothing_more, take
from netpoll.testing.pairs import reset, wait_readable
from netpoll.testing.waiting import DEADLINE, at_least, run, wait_for_waiters, wait_until

if TYPE_CHECKING:
    from netpoll import CompletionPort
    from netpoll.testing.backends import Target
    from netpoll.testing.pairs import Loopback

PENDING = 0x103


# -- status ----------------------------------------------------------------------------------------


@pytest.mark.statement("OVL-01", "OVL-03")
def test_a_pending_operation_says_0x103_and_has_moved_nothing(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "key")
    operation = port.recv(near, 10)
    assert (operation.status, operation.transferred, operation.done) == (PENDING, 0, False)
    far.sendall(b"data")
    take(port)
    assert (operation.status, operation.transferred, operation.done) == (0, 4, True)


@pytest.mark.statement("OVL-03")
def test_a_failed_operation_is_done_too(port: CompletionPort, net: Loopback) -> None:
    near, _far = net.tcp_pair()
    port.associate(near, "key")
    operation = port.recv(near, 10)
    assert not operation.done
    assert operation.cancel()
    take(port)
    assert operation.done
    assert operation.status == 0xC0000120


@pytest.mark.statement("OVL-02")
def test_a_start_that_raises_leaves_nothing_behind(port: CompletionPort, net: Loopback) -> None:
    unconnected = net.new_socket()
    port.associate(unconnected, "unconnected")
    operation: Overlapped[Any] = Overlapped("context")
    with pytest.raises(OSError, match=r"10057|ENOTCONN") as caught:
        port.recv(unconnected, 10, overlapped=operation)
    assert winerror_of(caught.value) == 10057
    assert port.inflight() == []
    nothing_more(port)
    # `status` means nothing now (OVL-02), but the record can be used again
    near, far = net.tcp_pair()
    port.associate(near, "connected")
    port.recv(near, 10, overlapped=operation)
    far.sendall(b"x")
    completion = take(port)
    assert completion.overlapped is operation
    assert completion.result() == b"x"
    assert operation.context == "context"


@pytest.mark.statement("OVL-02")
def test_a_connect_that_raises_leaves_nothing_behind(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "key")
    operation: Overlapped[Any] = Overlapped()
    with pytest.raises(OSError, match=r"10056|EISCONN") as caught:
        port.connect(near, far.getsockname(), overlapped=operation)
    assert winerror_of(caught.value) == 10056
    nothing_more(port)
    port.send(near, b"x", overlapped=operation)
    assert take(port).overlapped is operation
    assert far.recv(1) == b"x"


@pytest.mark.statement("EMU-06", "OVL-04")
def test_the_status_changes_when_the_packet_is_taken(
    port: CompletionPort, net: Loopback, target: Target
) -> None:
    pairs = [net.tcp_pair() for _ in range(3)]
    operations: list[Overlapped[bytes]] = []
    for near, far in pairs:
        port.associate(near, "key")
        operations.append(port.recv(near, 10))
        far.sendall(b"x")
    if target.readiness:
        wait_readable(*(near for near, _ in pairs))
    for taken in range(1, 4):
        assert len(port.get_many(1, DEADLINE)) == 1
        # the others have finished, which shows only when their packets are taken
        assert sum(operation.done for operation in operations) == taken
        assert [op.status for op in operations if not op.done] == [PENDING] * (3 - taken)
    nothing_more(port)


@pytest.mark.statement("OVL-05")
def test_with_an_event_the_result_is_there_before_the_packet_is_taken(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "key")
    event = threading.Event()
    operation: Overlapped[Any] = Overlapped(event=event)
    port.recv(near, 10, overlapped=operation)
    assert operation.status == PENDING
    far.sendall(b"data")
    assert operation.wait(DEADLINE)
    assert event.is_set()
    assert (operation.done, operation.status, operation.transferred) == (True, 0, 4)
    assert operation.result() == b"data"
    assert take(port).overlapped is operation


@pytest.mark.statement("OVL-08")
def test_the_result_of_a_pending_operation_is_996(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "key")
    operation = port.recv(near, 10)
    with pytest.raises(OSError, match="pending") as caught:
        operation.result()
    assert getattr(caught.value, "wsaerror", None) == 996
    assert winerror_of(caught.value) in (996, 997)
    assert winerror_of(operation.exception()) in (996, 997)
    far.sendall(b"x")
    take(port)
    assert operation.result() == b"x"
    assert operation.exception() is None


# -- using one again -------------------------------------------------------------------------------


@pytest.mark.statement("OVL-06")
def test_using_a_pending_record_again_raises_and_harms_nothing(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    other, other_far = net.tcp_pair()
    port.associate(near, "key")
    port.associate(other, "other")
    operation = port.recv(near, 10)
    # Windows does not notice, which is why netpoll must
    with pytest.raises(RuntimeError, match=r"pending|in use"):
        port.recv(near, 10, overlapped=operation)
    with pytest.raises(RuntimeError, match=r"pending|in use"):
        port.send(other, b"never sent", overlapped=cast("Any", operation))
    with pytest.raises(RuntimeError, match=r"pending|in use"):
        port.resubmit(operation)
    far.sendall(b"x")
    completion = take(port)
    assert (completion.key, completion.overlapped) == ("key", operation)
    assert completion.result() == b"x"
    other_far.setblocking(False)
    with pytest.raises(BlockingIOError):
        other_far.recv(1)


@pytest.mark.statement("OVL-06")
def test_a_finished_record_whose_packet_is_queued_is_still_in_use(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "key")
    operation = port.send(near, b"x")  # finished, but its completion has not been taken
    with pytest.raises(RuntimeError, match=r"pending|in use"):
        port.send(near, b"y", overlapped=operation)
    assert take(port).overlapped is operation
    port.send(near, b"z", overlapped=operation)
    take(port)
    assert far.recv(1) + far.recv(1) == b"xz"


@pytest.mark.statement("OVL-06")
def test_a_record_may_be_used_for_another_operation_once_done(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "key")
    operation: Overlapped[Any] = Overlapped("mine")
    for number in range(5):
        port.send(near, b"%d" % number, overlapped=operation)
        assert take(port).transferred == 1
        assert far.recv(10) == b"%d" % number
        port.recv(near, 10, overlapped=operation)
        far.sendall(b"answer %d" % number)
        assert take(port).result() == b"answer %d" % number
    assert operation.context == "mine"


def test_a_record_that_was_refused_shows_nothing_of_its_last_operation(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    far.sendall(b"data")
    operation: Overlapped[Any] = port.recv(near, 10)
    take(port)
    with pytest.raises(TypeError):
        port.send(near, "text", overlapped=operation)  # type: ignore[arg-type]
    assert operation.done
    assert operation.transferred == 0
    with pytest.raises(OSError, match="87"):
        operation.result()
    port.send(near, b"fine", overlapped=operation)
    assert take(port).result() == 4


# -- buffers ---------------------------------------------------------------------------------------


@pytest.mark.statement("OVL-07")
def test_the_list_of_buffers_may_change_after_the_start(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "key")
    first, second = bytearray(3), bytearray(3)
    buffers = [first, second]
    port.recv_into(near, buffers)
    buffers[0] = bytearray(3)
    buffers.clear()
    far.sendall(b"abcdef")
    assert take(port).transferred == 6
    assert (first, second) == (b"abc", b"def")


@pytest.mark.statement("OVL-07")
def test_a_pending_operation_keeps_itself_its_buffers_and_its_handle(
    port: CompletionPort, net: Loopback
) -> None:
    class Tracked(Overlapped[Any]):
        """Has a dictionary, so that the buffer can be found through it."""

    near, far = net.tcp_pair()
    port.associate(near, "key")

    def start() -> weakref.ref[Any]:
        operation = Tracked()
        port.recv_into(near, bytearray(10), overlapped=operation)
        return weakref.ref(operation)

    reference = start()
    gc.collect()
    assert reference() is not None, "nobody holds the pending operation"
    far.sendall(b"kept alive")
    completion = take(port)
    assert bytes(completion.overlapped.buffers) == b"kept alive"
    assert completion.overlapped is reference()
    del completion
    gc.collect()
    assert reference() is None, "a finished operation is held for ever"


@pytest.mark.statement("OVL-07")
def test_a_buffer_cannot_be_resized_while_the_operation_has_it(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "key")
    buffer = bytearray(4)
    operation = port.recv_into(near, buffer)
    with pytest.raises(BufferError):
        buffer.extend(b"more")
    far.sendall(b"data")
    take(port)
    operation.release()
    buffer.extend(b"more")
    assert buffer == b"datamore"


# -- how an end is told ----------------------------------------------------------------------------


@pytest.mark.statement("OVL-17")
def test_without_a_port_and_without_an_event_only_the_record_tells(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    operation = port.recv(near, 10)
    assert not operation.done
    assert operation.wait(0.01) is False
    far.sendall(b"x")
    assert operation.wait(DEADLINE)
    assert operation.done
    assert operation.result() == b"x"
    nothing_more(port)


@pytest.mark.statement("OVL-17", "OVL-16")
def test_without_a_port_the_event_tells(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    event = threading.Event()
    event.set()
    operation: Overlapped[Any] = Overlapped(event=event)
    port.recv(near, 10, overlapped=operation)
    assert not event.is_set(), "the start resets the event"
    waiter = run(port.get, None)  # somebody has to wait, for the operation to progress
    wait_for_waiters(port, 1)
    far.sendall(b"x")
    assert event.wait(DEADLINE)
    assert operation.done
    assert operation.result() == b"x"
    assert waiter.running, "an operation without a port queued a packet"
    port.post(key="end")
    completion = waiter.result()
    assert completion is not None
    assert completion.key == "end"


@pytest.mark.statement("OVL-17")
def test_without_a_port_a_failure_is_told_as_well(port: CompletionPort, net: Loopback) -> None:
    near, _far = net.tcp_pair()
    operation = port.recv(near, 10)
    assert operation.cancel()
    assert operation.wait(DEADLINE)
    with pytest.raises(netpoll.OperationAborted):
        operation.result()
    nothing_more(port)


@pytest.mark.statement("OVL-17")
def test_several_threads_may_wait_for_operations_without_a_port(
    port: CompletionPort, net: Loopback
) -> None:
    pairs = [net.tcp_pair() for _ in range(4)]
    operations = [port.recv(near, 10) for near, _ in pairs]
    waiters = [run(operation.wait, DEADLINE) for operation in operations]
    for number, (_, far) in reversed(list(enumerate(pairs))):
        far.sendall(b"%d" % number)
        assert waiters[number].result()
    assert [operation.result() for operation in operations] == [b"0", b"1", b"2", b"3"]
    nothing_more(port)


@pytest.mark.statement("OVL-16", "ASSOC-16")
def test_an_event_is_set_once(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    event = threading.Event()
    operation = port.recv(near, 10, overlapped=Overlapped[bytes](event=event))
    far.sendall(b"x")
    assert operation.wait(DEADLINE)
    wait_until(event.is_set, "the event")
    event.clear()
    assert take(port).overlapped is operation
    assert not event.is_set(), "its packet is no second end"


def test_a_wait_without_time_looks_all_the_same(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    operation = port.recv(near, 10)
    assert operation.wait(0) is False
    far.sendall(b"x")
    wait_until(lambda: operation.wait(0), "the end of the receive")
    assert take(port).overlapped is operation


def test_waiting_for_a_packet_does_not_take_it(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "key")
    operation = port.recv(near, 10)
    far.sendall(b"x")
    assert operation.wait(DEADLINE)
    assert take(port).overlapped is operation


# -- time limits -----------------------------------------------------------------------------------


def test_an_operation_that_runs_out_of_time_completes_once_as_timed_out(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "key")
    with at_least(0.05):
        operation = port.recv(near, 10, timeout=0.05)
        completion = take(port)
    assert completion.overlapped is operation
    assert (completion.status, completion.error, completion.transferred) == (0xC00000B5, 121, 0)
    with pytest.raises(TimeoutError) as caught:
        completion.result()
    assert getattr(caught.value, "wsaerror", None) == 10060
    # nothing of the stream is lost
    far.sendall(b"later")
    port.recv(near, 10)
    assert take(port).result() == b"later"


def test_an_operation_that_ends_in_time_is_not_told_twice(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "key")
    port.recv(near, 10, timeout=0.05)
    far.sendall(b"x")
    assert take(port).result() == b"x"
    assert port.get(0.1) is None


def test_a_used_record_does_not_inherit_the_time_limit(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "key")
    operation: Overlapped[Any] = Overlapped()
    port.recv(near, 10, overlapped=operation, timeout=0.05)
    far.sendall(b"x")
    assert port.get(DEADLINE) is not None
    port.recv(near, 10, overlapped=operation)  # at once, before anything looks at the clock again
    assert port.get(0.15) is None, "the first start's time limit ended the second"
    far.sendall(b"y")
    assert take(port).result() == b"y"


def test_time_limits_run_out_in_their_own_order(port: CompletionPort, net: Loopback) -> None:
    limits = {"last": 0.12, "first": 0.02, "middle": 0.07}
    for key, limit in limits.items():
        near, _far = net.tcp_pair()
        port.associate(near, key)
        port.recv(near, 10, timeout=limit)
    assert [done.key for done in collect(port, 3)] == ["first", "middle", "last"]


def test_an_accept_runs_out_of_time_and_the_listener_goes_on(
    port: CompletionPort, net: Loopback
) -> None:
    listener = net.listener()
    port.associate(listener, "listener")
    port.accept(listener, timeout=0.02)
    assert take(port).status == 0xC00000B5
    port.accept(listener)
    client = net.new_socket()
    client.connect(listener.getsockname())
    net.track(take(port).result()[0])


def test_a_time_limit_needs_no_port(port: CompletionPort, net: Loopback) -> None:
    near, _far = net.tcp_pair()
    operation = port.recv(near, 10, timeout=0.02)
    assert operation.wait(DEADLINE)
    with pytest.raises(TimeoutError):
        operation.result()
    nothing_more(port)


def test_a_start_from_another_thread_shortens_a_wait_already_begun(
    port: CompletionPort, net: Loopback
) -> None:
    near, _far = net.tcp_pair()
    port.associate(near, "key")
    waiter = run(port.get, None)
    wait_for_waiters(port, 1)
    port.recv(near, 10, timeout=0.02)
    completion = waiter.result()
    assert completion is not None
    assert completion.status == 0xC00000B5


def test_a_failed_start_has_the_winsock_number_and_a_completion_the_win32_one(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "key")
    port.recv(near, 10)
    reset(far)
    error = take(port).exception()
    assert isinstance(error, ConnectionResetError)
    assert (winerror_of(error), getattr(error, "wsaerror", None)) == (64, 10054)
    with pytest.raises(ConnectionResetError) as caught:
        port.recv(near, 10)
    assert winerror_of(caught.value) == 10054
    nothing_more(port)
