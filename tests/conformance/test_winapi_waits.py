"""`netpoll.winapi`: waits, what goes on during them, and who is told of it at once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

import netpoll.winapi as w
from netpoll.testing.outcome import unsupported
from netpoll.testing.waiting import DEADLINE, run, wait_for_waiters, wait_until
from netpoll.winapi import waits

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from netpoll import CompletionPort
    from netpoll.testing.backends import Target
    from netpoll.testing.fixtures import MakePort
    from netpoll.testing.pairs import Loopback

pytestmark = pytest.mark.usefixtures("winapi")

MILLISECONDS = int(1000 * DEADLINE)


def with_event() -> w.OVERLAPPED:
    record = w.OVERLAPPED()
    record.hEvent = w.WSACreateEvent()
    return record


def receive(sock: socket.socket, record: w.OVERLAPPED, routine: Any = w.NULL) -> bytearray:
    """Start a receive that pends; its buffer."""
    buffer = bytearray(10)
    assert w.WSARecv(sock, w.WSABUF(10, buffer), 1, 0, record, routine) == (-1, 0, 0)
    assert w.WSAGetLastError() == w.WSA_IO_PENDING
    return buffer


@pytest.fixture
def long_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who only looks again now and then is not there in time."""
    for name in ("SLICE", "IDLE"):
        monkeypatch.setattr(waits, name, 2 * DEADLINE)


# -- polling ---------------------------------------------------------------------------------------


def _completed(sock: socket.socket, record: w.OVERLAPPED) -> bool:
    return w.HasOverlappedIoCompleted(record)


def _has_result(sock: socket.socket, record: w.OVERLAPPED) -> bool:
    return bool(w.GetOverlappedResult(sock, record, w.FALSE)[0])


def _has_winsock_result(sock: socket.socket, record: w.OVERLAPPED) -> bool:
    return bool(w.WSAGetOverlappedResult(sock, record, w.FALSE)[0])


@pytest.mark.statement("OVL-03", "OVL-08", "EMU-11")
@pytest.mark.parametrize("event", [True, False], ids=["event", "none"])
@pytest.mark.parametrize("look", [_completed, _has_result, _has_winsock_result])
def test_who_asks_again_and_again_is_told(
    port: CompletionPort,
    net: Loopback,
    look: Callable[[socket.socket, w.OVERLAPPED], bool],
    event: bool,
) -> None:
    near, far = net.tcp_pair()
    record = with_event() if event else w.OVERLAPPED()
    buffer = receive(near, record)
    assert not look(near, record)
    far.sendall(b"data")
    wait_until(lambda: look(near, record), "the end that nobody waits for")
    assert (record.Internal, record.InternalHigh, buffer[:4]) == (0, 4, b"data")


@pytest.mark.statement("OVL-05", "OVL-03")
def test_who_asks_about_an_event_of_a_port_is_told(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    w.CreateIoCompletionPort(near, port, "key", 0)
    record = with_event()
    receive(near, record)
    far.sendall(b"data")
    wait_until(lambda: w.HasOverlappedIoCompleted(record), "the end that nobody waits for")
    assert w.GetQueuedCompletionStatus(port, MILLISECONDS) == (w.TRUE, 4, "key", record)


@pytest.mark.statement("OVL-04")
def test_who_asks_about_a_packet_is_not(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    w.CreateIoCompletionPort(near, port, "key", 0)
    record, behind = w.OVERLAPPED(), with_event()
    receive(near, record)
    receive(near, behind)
    far.sendall(b"0123456789 and so on")
    assert w.WaitForSingleObject(behind.hEvent, MILLISECONDS) == w.WAIT_OBJECT_0
    assert w.HasOverlappedIoCompleted(behind), "so the first has ended, too"
    assert not any(w.HasOverlappedIoCompleted(record) for _ in range(10))
    taken = {w.GetQueuedCompletionStatus(port, MILLISECONDS)[3] for _ in range(2)}
    assert taken == {record, behind}


@pytest.mark.statement("OVL-06")
def test_a_record_whose_end_nobody_has_looked_at_may_be_used_again(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    record = w.OVERLAPPED()
    receive(near, record)
    far.sendall(b"data")
    assert w.WaitForSingleObject(near, MILLISECONDS) == w.WAIT_OBJECT_0
    receive(near, record)
    assert w.CancelIoEx(near, record)


@pytest.mark.statement("EMU-11")
@pytest.mark.parametrize("alertable", [w.FALSE, w.TRUE], ids=["deaf", "alertable"])
def test_operations_without_a_port_go_on_while_a_thread_sleeps(
    port: CompletionPort, net: Loopback, alertable: int
) -> None:
    near, far = net.tcp_pair(buffer=8192)
    size = 4 << 20
    record = with_event()
    sent, _ = w.WSASend(near, w.WSABUF(size, bytes(size)), 1, 0, record)
    assert (sent, w.WSAGetLastError()) == (w.SOCKET_ERROR, w.WSA_IO_PENDING)

    def read_all() -> int:
        left = size
        while left:
            left -= len(far.recv(min(left, 1 << 16)))
        return left

    reader = run(read_all)
    wait_until(
        lambda: w.SleepEx(10, alertable) == 0 and not reader.running, "the peer that reads all"
    )
    assert reader.result() == 0
    assert w.WaitForSingleObject(record.hEvent, MILLISECONDS) == w.WAIT_OBJECT_0


# -- told at once ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("long_slices")
@pytest.mark.parametrize("alertable", [w.FALSE, w.TRUE], ids=["deaf", "alertable"])
def test_the_last_of_several_events_ends_the_wait(
    port: CompletionPort, net: Loopback, alertable: int
) -> None:
    pairs = [net.tcp_pair() for _ in range(3)]
    records = [with_event() for _ in pairs]
    for (near, _), record in zip(pairs, records, strict=True):
        receive(near, record)
    events: list[Any] = [record.hEvent for record in records]
    waiter = run(w.WSAWaitForMultipleEvents, 3, events, w.FALSE, w.INFINITE, alertable)
    pairs[2][1].sendall(b"x")
    assert waiter.result() == w.WSA_WAIT_EVENT_0 + 2


@pytest.mark.usefixtures("long_slices")
@pytest.mark.parametrize("pending", [True, False], ids=["pending", "idle"])
@pytest.mark.parametrize("alertable", [w.FALSE, w.TRUE], ids=["deaf", "alertable"])
def test_an_event_that_a_thread_sets_ends_the_wait(
    port: CompletionPort, net: Loopback, alertable: int, pending: bool
) -> None:
    near, far = net.tcp_pair()
    record, event = with_event(), w.WSACreateEvent()
    if pending:
        receive(near, record)
    events: list[Any] = [record.hEvent, event]
    waiter = run(w.WSAWaitForMultipleEvents, 2, events, w.FALSE, w.INFINITE, alertable)
    assert w.WSASetEvent(event)
    assert waiter.result() == w.WSA_WAIT_EVENT_0 + 1
    assert event._watchers == []
    if pending:
        far.sendall(b"x")
        assert w.WSAWaitForMultipleEvents(1, events, w.FALSE, w.INFINITE, alertable) == 0


@pytest.mark.usefixtures("long_slices")
@pytest.mark.statement("EMU-11")
def test_an_operation_that_is_started_during_the_wait_ends_it(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    record = with_event()
    waiting = threading.Event()

    def wait() -> int:
        waiting.set()
        return w.WaitForSingleObject(record.hEvent, w.INFINITE)

    waiter = run(wait)
    waiting.wait(DEADLINE)
    receive(near, record)
    far.sendall(b"x")
    assert waiter.result() == w.WAIT_OBJECT_0
    assert w.GetOverlappedResult(near, record, w.FALSE) == (w.TRUE, 1)


@pytest.mark.statement("APC-01", "APC-03")
def test_a_routine_ends_an_alertable_wait_for_events(port: CompletionPort, net: Loopback) -> None:
    (near, far), (other, _) = net.tcp_pair(), net.tcp_pair()
    ran: list[int] = []
    record = with_event()
    receive(other, record)

    def routine(error: int, moved: int, overlapped: Any, flags: int) -> None:
        ran.append(moved)

    receive(near, w.OVERLAPPED(), routine)
    far.sendall(b"abc")
    events: list[Any] = [record.hEvent]
    assert w.WSAWaitForMultipleEvents(1, events, w.FALSE, 50, w.FALSE) == w.WSA_WAIT_TIMEOUT
    assert ran == []
    ended = w.WSAWaitForMultipleEvents(1, events, w.FALSE, w.INFINITE, w.TRUE)
    assert (ended, ran) == (w.WSA_WAIT_IO_COMPLETION, [3])
    assert w.CancelIoEx(other, record)


# -- the place of a thread that waits --------------------------------------------------------------


def nothing(error: int, moved: int, overlapped: Any, flags: int) -> None:
    """A completion routine."""


@pytest.mark.statement("PORT-05", "PORT-06", "EMU-12")
@pytest.mark.parametrize("how", ["event", "socket", "sleep", "receive", "result"])
def test_a_thread_that_waits_gives_its_place_to_another(
    make_port: MakePort, net: Loopback, how: str
) -> None:
    port = make_port(concurrency=1)
    near, far = net.tcp_pair()
    event, alone, record = w.WSACreateEvent(), w.OVERLAPPED(), with_event()

    def wait() -> Any:
        if how == "event":
            return w.WaitForSingleObject(event, w.INFINITE)
        if how == "sleep":
            receive(near, alone, nothing)
            return w.SleepEx(w.INFINITE, w.TRUE)
        if how == "receive":
            return w.WSARecv(near, w.WSABUF(4, bytearray(4)), 1)
        receive(near, record if how == "result" else alone)
        if how == "socket":
            return w.WaitForSingleObject(near, w.INFINITE)
        return w.WSAGetOverlappedResult(near, record, w.TRUE)

    def first() -> Any:
        w.GetQueuedCompletionStatus(port, w.INFINITE)
        return wait()

    def second() -> bool:
        ok, _, key, _ = w.GetQueuedCompletionStatus(port, MILLISECONDS)
        far.sendall(b"data")
        return bool(ok and key == "second" and w.SetEvent(event))

    waiter = run(first)
    w.PostQueuedCompletionStatus(port, 0, "first", w.NULL)
    wait_until(lambda: port.stats()["queued"] == 0, "the first packet taken")
    wait_for_waiters(port, 0)
    helper = run(second)
    w.PostQueuedCompletionStatus(port, 0, "second", w.NULL)
    assert helper.result(), "the thread that waits has kept its place"
    expected = {
        "sleep": w.WAIT_IO_COMPLETION,
        "receive": (0, 4, 0),
        "result": (w.TRUE, 4, 0),
    }
    assert waiter.result() == expected.get(how, w.WAIT_OBJECT_0)


@pytest.mark.statement("PORT-05")
def test_a_thread_whose_wait_is_over_runs_again(make_port: MakePort, target: Target) -> None:
    if not target.emulated:
        unsupported("who runs is for the kernel to say")
    port = make_port(concurrency=1)
    event, go = w.WSACreateEvent(), threading.Event()

    def first() -> None:
        w.GetQueuedCompletionStatus(port, w.INFINITE)
        w.WaitForSingleObject(event, w.INFINITE)
        waited.set()
        go.wait(DEADLINE)

    waited = threading.Event()
    waiter = run(first)
    w.PostQueuedCompletionStatus(port, 0, "first", w.NULL)
    wait_until(lambda: port.stats()["queued"] == 0, "the first packet taken")
    w.SetEvent(event)
    waited.wait(DEADLINE)
    helper = run(w.GetQueuedCompletionStatus, port, w.INFINITE)
    wait_for_waiters(port, 1)
    w.PostQueuedCompletionStatus(port, 0, "second", w.NULL)
    assert port.stats()["queued"] == 1, "the place is taken"
    go.set()
    assert helper.result()[2] == "second"
    waiter.result()


# -- handles of events -----------------------------------------------------------------------------


@pytest.mark.statement("ASSOC-15")
def test_the_low_bit_of_a_handle_is_not_looked_at(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    w.CreateIoCompletionPort(near, port, "key", 0)
    record, event = w.OVERLAPPED(), w.WSACreateEvent()
    handle = record.hEvent = event | 1
    receive(near, record)
    far.sendall(b"x")
    assert w.WaitForSingleObject(handle, MILLISECONDS) == w.WAIT_OBJECT_0
    assert w.WSAWaitForMultipleEvents(1, [handle], w.TRUE, 0, w.FALSE) == w.WSA_WAIT_EVENT_0
    assert w.ResetEvent(handle)
    assert w.WaitForSingleObject(event, 0) == w.WAIT_TIMEOUT
    assert w.SetEvent(handle)
    assert w.WaitForSingleObject(event, 0) == w.WAIT_OBJECT_0
    assert w.GetQueuedCompletionStatus(port, 0)[3] is w.NULL
    assert w.CloseHandle(handle)
    assert (w.WaitForSingleObject(event, 0), w.GetLastError()) == (w.WAIT_FAILED, 6)
    assert (w.WSACloseEvent(handle), w.GetLastError()) == (w.FALSE, 6)


def test_what_is_no_event_is_no_handle_to_wait_for() -> None:
    event, closed = w.WSACreateEvent(), w.WSACreateEvent()
    w.WSACloseEvent(closed)
    w.SetEvent(event)
    garbage: list[Any] = [closed, closed | 1, threading.Event(), 7, w.NULL]
    for each in garbage:
        waited = w.WSAWaitForMultipleEvents(2, [event, each], w.FALSE, 0, w.FALSE)
        assert (waited, w.WSAGetLastError()) == (w.WSA_WAIT_FAILED, w.WSA_INVALID_HANDLE)
        assert (w.SetEvent(each), w.GetLastError()) == (w.FALSE, w.WSA_INVALID_HANDLE)
        waited = w.WaitForSingleObject(each, 0)
        assert (waited, w.GetLastError()) == (w.WAIT_FAILED, w.WSA_INVALID_HANDLE)
