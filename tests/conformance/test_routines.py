"""Completion routines and alertable waits (PORT-24, PORT-25, ASSOC-12, OVL-17, APC-*)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

import netpoll
from netpoll import Overlapped
from netpoll.testing.accepted import winerror_of
from netpoll.testing.drain import nothing_more, take
from netpoll.testing.pairs import reset, wait_readable
from netpoll.testing.waiting import DEADLINE, at_least, run, wait_for_waiters, wait_until

if TYPE_CHECKING:
    from netpoll import Completion, CompletionPort
    from netpoll.testing.fixtures import MakePort
    from netpoll.testing.pairs import Loopback


class Routine:
    """A completion routine that keeps what it was called with, and in which thread."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, Overlapped[Any], int]] = []
        self.threads: list[int] = []

    def __call__(
        self, error: int, transferred: int, overlapped: Overlapped[Any], flags: int
    ) -> None:
        self.calls.append((error, transferred, overlapped, flags))
        self.threads.append(threading.get_ident())


# -- the port's alertable waits --------------------------------------------------------------------


@pytest.mark.statement("PORT-24")
def test_a_routine_ends_an_alertable_wait_that_has_no_packet(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    routine = Routine()
    operation = port.recv(near, 10, routine=routine)
    far.sendall(b"data")
    assert port.get_many(timeout=DEADLINE, alertable=True) == []
    assert routine.calls == [(0, 4, operation, 0)]

    port.recv(near, 10, overlapped=operation, routine=routine)
    far.sendall(b"x")
    assert port.get(DEADLINE, alertable=True) is None
    assert len(routine.calls) == 2


@pytest.mark.statement("PORT-24", "APC-01")
@pytest.mark.parametrize("waits_on", ["same_port", "other_port"])
def test_a_routine_ends_an_alertable_wait_though_another_thread_runs_the_engine(
    port: CompletionPort, make_port: MakePort, net: Loopback, waits_on: str
) -> None:
    other = port if waits_on == "same_port" else make_port()
    poller = run(port.get, None)
    wait_for_waiters(port, 1)
    near, far = net.tcp_pair()
    routine = Routine()

    def issue_and_wait() -> Completion | None:
        port.recv(near, 10, routine=routine)
        return other.get(None, alertable=True)  # endless: only the routine can end it

    issuer = run(issue_and_wait)
    wait_for_waiters(other, 2 if other is port else 1)
    far.sendall(b"x")
    assert issuer.result() is None
    assert len(routine.calls) == 1
    assert routine.threads == [issuer.thread.ident]
    assert poller.running
    port.post(key="end")
    assert poller.result() is not None


@pytest.mark.statement("PORT-24")
def test_a_wait_that_is_not_alertable_never_runs_a_routine(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    routine = Routine()
    operation = port.recv(near, 10, routine=routine)
    far.sendall(b"x")
    assert operation.wait(DEADLINE)  # finished, so the routine is due
    assert port.get(timeout=0.02) is None
    assert port.get_many(timeout=0.02) == []
    assert netpoll.sleep(0, alertable=False) is False
    assert routine.calls == []
    assert netpoll.sleep(0) is True
    assert len(routine.calls) == 1


@pytest.mark.statement("APC-01")
def test_a_sleep_of_no_time_runs_what_is_due(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    routine = Routine()
    port.recv(near, 10, routine=routine)
    far.sendall(b"x")
    # where the clock is finer than the call, its time is over before it has looked
    wait_until(lambda: netpoll.sleep(0))
    assert len(routine.calls) == 1


@pytest.mark.statement("EMU-13", "PORT-25")
def test_a_packet_goes_before_a_routine(port: CompletionPort, net: Loopback) -> None:
    assert port.get(timeout=0, alertable=True) is None  # from now on this thread uses the port
    near, far = net.tcp_pair()
    routine = Routine()
    operation = port.recv(near, 10, routine=routine)
    far.sendall(b"x")
    assert operation.wait(DEADLINE)
    port.post(key="packet")
    got = port.get(DEADLINE, alertable=True)
    assert got is not None
    assert got.key == "packet"
    assert routine.calls == []

    port.post(key="packet")
    batch = port.get_many(timeout=DEADLINE, alertable=True)
    assert [done.key for done in batch] == ["packet"]
    assert routine.calls == []

    assert port.get(DEADLINE, alertable=True) is None
    assert len(routine.calls) == 1


# -- which operations may have one -----------------------------------------------------------------


@pytest.mark.statement("ASSOC-12")
def test_an_associated_handle_takes_no_routine(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "key")
    routine = Routine()
    with pytest.raises(OSError, match="routine") as caught:
        port.recv(near, 10, routine=routine)
    assert winerror_of(caught.value) == 10022
    with pytest.raises(OSError, match="routine") as caught:
        port.send(near, b"never sent", routine=routine)
    assert winerror_of(caught.value) == 10022
    assert netpoll.sleep(0) is False
    assert routine.calls == []
    nothing_more(port)
    port.send(near, b"x")
    take(port)
    assert far.recv(100) == b"x"


@pytest.mark.statement("ASSOC-07")
def test_a_routine_started_before_the_association_runs_and_queues_no_packet(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    routine = Routine()
    operation = port.recv(near, 10, routine=routine)
    port.associate(near, "later")
    far.sendall(b"x")
    assert netpoll.sleep(DEADLINE)
    assert routine.calls == [(0, 1, operation, 0)]
    nothing_more(port)


@pytest.mark.statement("OVL-17", "APC-01")
def test_with_a_routine_the_event_is_ignored(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    event = threading.Event()
    routine = Routine()
    port.recv(near, 10, overlapped=Overlapped(event=event), routine=routine)
    far.sendall(b"x")
    assert netpoll.sleep(DEADLINE)
    assert len(routine.calls) == 1
    assert not event.is_set()


# -- where and when it runs ------------------------------------------------------------------------


@pytest.mark.statement("APC-01")
def test_a_routine_runs_in_the_thread_that_started_it_and_nowhere_else(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    routine = Routine()
    operation = port.recv(near, 10, routine=routine)
    far.sendall(b"x")
    assert operation.wait(DEADLINE)
    assert run(netpoll.sleep, 0).result() is False
    assert run(lambda: port.get(timeout=0, alertable=True)).result() is None
    assert routine.calls == []
    assert netpoll.sleep(DEADLINE) is True
    assert routine.threads == [threading.get_ident()]


@pytest.mark.statement("APC-01")
def test_another_thread_may_run_the_engine_while_the_issuer_sleeps(
    port: CompletionPort, net: Loopback
) -> None:
    poller = run(port.get, None)
    wait_for_waiters(port, 1)
    near, far = net.tcp_pair()
    routine = Routine()

    def issue_and_sleep() -> bool:
        port.recv(near, 10, routine=routine)
        far.sendall(b"x")
        return netpoll.sleep(None)  # endless: only the routine can end it

    issuer = run(issue_and_sleep)
    assert issuer.result() is True
    assert routine.threads == [issuer.thread.ident]
    assert poller.running
    port.post(key="end")
    assert poller.result() is not None


@pytest.mark.statement("APC-02")
def test_an_inline_success_still_queues_its_routine(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    far.sendall(b"x")
    wait_readable(near)
    routine = Routine()
    received = port.recv(near, 10, routine=routine)
    sent = port.send(near, b"yz", routine=routine)
    assert routine.calls == [], "a routine ran inside the start"
    while len(routine.calls) < 2:
        assert netpoll.sleep(DEADLINE)
    assert {call[2]: call[:2] for call in routine.calls} == {received: (0, 1), sent: (0, 2)}
    assert received.result() == b"x"


@pytest.mark.statement("APC-03")
def test_every_routine_that_is_due_runs_before_the_wait_returns(
    port: CompletionPort, net: Loopback
) -> None:
    routine = Routine()
    operations: list[Overlapped[bytes]] = []
    for _ in range(5):
        near, far = net.tcp_pair()
        operations.append(port.recv(near, 10, routine=routine))
        far.sendall(b"x")
    for operation in operations:
        assert operation.wait(DEADLINE)
    assert netpoll.sleep(DEADLINE)
    assert {call[2] for call in routine.calls} == set(operations)
    assert netpoll.sleep(0) is False


@pytest.mark.statement("APC-03")
def test_a_routine_may_start_operations_and_is_not_nested(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    received: list[bytes] = []
    depth = 0

    def again(_error: int, _transferred: int, overlapped: Overlapped[Any], _flags: int) -> None:
        nonlocal depth
        depth += 1
        assert depth == 1, "a routine of a socket ran inside another"
        received.append(overlapped.result())
        if len(received) < 10:
            port.recv(near, 1, overlapped=overlapped, routine=again)  # there is data: inline
        depth -= 1

    far.sendall(b"0123456789")
    wait_readable(near)
    port.recv(near, 1, routine=again)
    while len(received) < 10:
        assert netpoll.sleep(DEADLINE)
    assert b"".join(received) == b"0123456789"


@pytest.mark.statement("APC-04")
def test_a_routine_is_told_the_winsock_number(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    routine = Routine()
    operation = port.recv(near, 10, routine=routine)
    reset(far)
    assert netpoll.sleep(DEADLINE)
    assert routine.calls == [(10054, 0, operation, 0)]


@pytest.mark.statement("APC-04", "CAN-06")
def test_a_cancelled_operation_runs_its_routine_once_with_995(
    port: CompletionPort, net: Loopback
) -> None:
    near, _far = net.tcp_pair()
    routine = Routine()
    operation = port.recv(near, 10, routine=routine)
    assert port.cancel(operation)
    assert netpoll.sleep(DEADLINE)
    assert routine.calls == [(995, 0, operation, 0)]
    assert netpoll.sleep(0) is False
    nothing_more(port)


# -- waits that run none ---------------------------------------------------------------------------


@pytest.mark.statement("OVL-13")
def test_waiting_for_an_operation_is_not_alertable(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    other, other_far = net.tcp_pair()
    routine = Routine()
    due = port.recv(near, 10, routine=routine)
    plain = port.recv(other, 10)
    far.sendall(b"x")
    assert due.wait(DEADLINE)
    assert plain.wait(0.02) is False
    other_far.sendall(b"y")
    assert plain.wait(DEADLINE)
    assert routine.calls == []
    assert netpoll.sleep(0) is True


def test_a_sleep_is_never_early_and_says_that_nothing_ran() -> None:
    for alertable in (True, False):
        with at_least(0.02):
            assert netpoll.sleep(0.02, alertable=alertable) is False


def test_a_routine_that_raises_ends_the_wait_and_the_others_stay_due(
    port: CompletionPort, net: Loopback
) -> None:
    def fails(*_: object) -> None:
        raise LookupError("from the routine")

    routine = Routine()
    operations: list[Overlapped[bytes]] = []
    for function in (fails, routine):
        near, far = net.tcp_pair()
        operation = port.recv(near, 10, routine=function)
        far.sendall(b"x")
        assert operation.wait(DEADLINE)
        operations.append(operation)
    with pytest.raises(LookupError, match="from the routine"):
        netpoll.sleep(DEADLINE)
    assert routine.calls == []
    assert netpoll.sleep(DEADLINE) is True
    assert len(routine.calls) == 1
