"""The software port over an engine that does what the test says: who gets which packet, when."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from unit.scripted import PENDING, Clock, Handle, Rig

from netpoll import status as nt
from netpoll.backends.packets import TURNS_WITHOUT_POLL
from netpoll.backends.waiters import Waiter
from netpoll.testing.waiting import DEADLINE, Running, at_least, run, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.port.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Time that passes when the test says so."""
    clock = Clock()
    clock.install(monkeypatch.setattr)
    return clock


def queued(rig: Rig) -> float:
    return rig.port.stats()["queued"]


# -- who gets a packet -----------------------------------------------------------------------------


def by_post(rig: Rig, number: int) -> Any:
    rig.post(number)
    return number


def by_a_start(rig: Rig, number: int) -> Any:
    rig.engine.at_once.append(0)
    return rig.start()


def by_the_engine(rig: Rig, number: int) -> Any:
    operation = rig.start()
    rig.engine.end(operation)
    return operation


def by_a_cancel(rig: Rig, number: int) -> Any:
    operation = rig.start()
    assert rig.port.cancel(operation)
    return operation


ORIGINS = [by_post, by_a_start, by_the_engine, by_a_cancel]


@pytest.mark.parametrize("origin", ORIGINS, ids=lambda origin: origin.__name__)
def test_the_waiter_that_came_last_is_served_first(
    rig: Rig, origin: Callable[[Rig, int], Any]
) -> None:
    """PORT-07, be the packet from where it may, and the waiter the poller or not."""
    waiters = [rig.wait() for _ in range(4)]
    rig.wait_until_polled_by(waiters[0])
    for number, waiter in enumerate(reversed(waiters)):
        packet = origin(rig, number)
        assert waiter.result() == [packet]
        assert rig.port.stats()["waiting"] == 3 - number
    rig.check_at_rest()


def test_packets_that_come_together_go_to_a_waiter_each(rig: Rig) -> None:
    """The oldest packet to the youngest waiter."""
    waiters = [rig.wait(limit=64) for _ in range(3)]
    rig.post("oldest", "middle", "youngest")
    assert [waiter.result() for waiter in reversed(waiters)] == [
        ["oldest"],
        ["middle"],
        ["youngest"],
    ]


def test_what_else_is_there_comes_along(rig: Rig) -> None:
    """PORT-21."""
    waiter = rig.wait(limit=3)
    rig.post(*range(5))
    assert waiter.result() == [0, 1, 2]
    assert rig.take() == [3, 4]
    assert rig.take() == []


def test_packets_of_all_origins_are_taken_in_the_order_in_which_they_came(rig: Rig) -> None:
    late = rig.start()
    rig.post("first")
    rig.engine.at_once.append(0)
    second = rig.start()
    rig.engine.end(late)
    rig.post("third")
    assert rig.take(2) == ["first", second]
    assert rig.take() == ["third"]
    assert rig.take() == [late]  # nobody asked the engine before


def test_no_packet_is_lost_or_doubled_between_many_threads(rig: Rig) -> None:
    takers, each = 4, 300
    stop = object()

    def take() -> list[Any]:
        taken: list[Any] = []
        while stop not in taken:
            taken += rig.take(2, DEADLINE)
            excess = taken.count(stop) - 1
            if excess > 0:
                taken.remove(stop)
                rig.post(stop)
        return taken

    def give(first: int) -> None:
        for number in range(first, first + each):
            if number % 3:
                rig.post(number)
            else:
                rig.engine.end(rig.start())

    running = [run(take) for _ in range(takers)]
    for giver in [run(give, first) for first in (0, each)]:
        giver.result()
    wait_until(lambda: not rig.port.inflight() and not queued(rig), "everything being taken")
    rig.post(*[stop] * takers)
    taken = [packet for taker in running for packet in taker.result() if packet is not stop]
    posted = [packet for packet in taken if isinstance(packet, int)]
    assert sorted(posted) == [number for number in range(2 * each) if number % 3]
    operations = [packet for packet in taken if not isinstance(packet, int)]
    assert len(operations) == len(set(map(id, operations))) == 2 * each - len(posted)
    rig.check_at_rest()


# -- who runs the engine ---------------------------------------------------------------------------


def test_one_thread_polls_whoever_else_waits(rig: Rig) -> None:
    waiters = [rig.wait() for _ in range(3)]
    rig.wait_until_polled_by(waiters[0])
    rig.post(1, 2)
    for waiter in waiters[1:]:
        waiter.result()
    assert set(rig.engine.pollers) == {waiters[0].thread}  # and the engine asserts the rest
    rig.post(3)
    waiters[0].result()


def leave_by_timeout(rig: Rig, clock: Clock, poller: Running[Any]) -> None:
    clock.now += 10
    rig.engine.interrupt()
    assert poller.result() == []


def leave_by_packet(rig: Rig, clock: Clock, poller: Running[Any]) -> None:
    rig.post("packet")
    assert poller.result() == ["packet"]


def leave_by_error(rig: Rig, clock: Clock, poller: Running[Any]) -> None:
    rig.engine.fail(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        poller.result()


LEAVINGS = [leave_by_timeout, leave_by_packet, leave_by_error]
Leave = Callable[[Rig, Clock, Running[Any]], None]


@pytest.mark.parametrize("leave", LEAVINGS, ids=lambda leave: leave.__name__)
def test_a_poller_that_leaves_makes_a_waiter_its_successor(
    rig: Rig, clock: Clock, leave: Leave
) -> None:
    """Nothing happens but the leaving, so only a hand-over makes another thread poll."""
    first = rig.wait(timeout=5)
    rig.wait_until_polled_by(first)
    older, younger = rig.wait(), rig.wait(timeout=25)
    leave_by_timeout(rig, clock, first)
    rig.wait_until_polled_by(younger)
    clock.now += 10
    leave(rig, clock, younger)
    rig.wait_until_polled_by(older)
    rig.post("last")
    assert older.result() == ["last"]
    rig.check_at_rest()


# no packet: that would be the other one's, who came last
@pytest.mark.parametrize(
    "leave", [leave_by_timeout, leave_by_error], ids=lambda leave: leave.__name__
)
def test_a_poller_that_came_alone_leaves_a_waiter_behind(
    rig: Rig, clock: Clock, leave: Leave
) -> None:
    poller = rig.wait(timeout=5)
    rig.wait_until_polled_by(poller)
    other = rig.wait()
    leave(rig, clock, poller)
    rig.wait_until_polled_by(other)
    rig.post("last")
    assert other.result() == ["last"]
    rig.check_at_rest()


@pytest.mark.parametrize("leave", LEAVINGS, ids=lambda leave: leave.__name__)
def test_a_poller_that_leaves_makes_a_bystander_its_successor(
    rig: Rig, clock: Clock, leave: Leave
) -> None:
    poller = rig.wait(timeout=5)
    rig.wait_until_polled_by(poller)
    operation = rig.start()
    other = run(rig.port.run_until, lambda: operation._final != PENDING, None)
    wait_until(lambda: rig.port._bystanders, "a bystander")
    leave(rig, clock, poller)
    rig.wait_until_polled_by(other)
    rig.engine.end(operation)
    assert other.result() is True
    assert rig.take() == [operation]
    rig.check_at_rest()


def test_a_bystander_lets_others_have_the_packets(rig: Rig) -> None:
    operation = rig.start()
    bystander = run(rig.port.run_until, lambda: operation._final != PENDING, None)
    wait_until(lambda: rig.engine.blocked, "the bystander polling")
    waiter = rig.wait()
    rig.post("packet")
    assert waiter.result() == ["packet"]
    rig.engine.end(operation)
    assert bystander.result() is True
    assert rig.take() == [operation]


def test_wake_ups_coalesce(rig: Rig) -> None:
    waiter = rig.wait(limit=64)
    rig.wait_until_polled_by(waiter)
    before = rig.engine.wakes
    rig.post(*range(10))
    assert waiter.result() == list(range(10))
    assert rig.engine.wakes == before + 1


def test_a_sleeper_is_woken_once_however_often_it_is_told() -> None:
    waiter = Waiter()
    for _ in range(3):
        waiter.wake()
    assert waiter.signal.acquire(blocking=False)
    assert not waiter.signal.acquire(blocking=False)


def test_what_the_engine_returned_is_taken_out_of_its_list(rig: Rig) -> None:
    """The list is the engine's, so that what Ctrl-C keeps from being taken is still in it."""
    for special in (False, True):
        operations = [rig.start(event=threading.Event() if special else None) for _ in range(3)]
        for operation in operations:
            rig.engine.end(operation)
        assert rig.take() == operations
        assert rig.engine.ended == []
        assert rig.take() == []


def test_packets_that_never_run_dry_do_not_keep_the_engine_waiting(rig: Rig) -> None:
    operation = rig.start()
    rig.engine.end(operation)
    taken: list[Any] = []
    for number in range(2 * TURNS_WITHOUT_POLL):
        rig.post(number)
        taken += rig.take(1)
        if operation in taken:
            break
    assert operation in taken
    assert set(rig.engine.timeouts) == {0.0}  # a look, while there are packets


# -- what is counted, and how much may be under way ------------------------------------------------


def test_the_counters(rig: Rig) -> None:
    rig.engine.at_once.append(0)
    rig.start()
    pending = rig.start()
    rig.post("packet")
    rig.engine.at_once.append(nt.STATUS_CONNECTION_RESET)
    with pytest.raises(ConnectionResetError):
        rig.start()  # fails at once: never was an operation
    expected = {
        "started": 2,
        "taken": 0,
        "inflight": 2,
        "posted": 1,
        "queued": 2,
        "waits": 0,
        "waiting": 0,
        "polls": 0,
    }
    assert rig.port.stats() == expected
    assert len(rig.take()) == 2
    taken = {"taken": 1, "inflight": 1, "queued": 0}
    assert rig.port.stats() == expected | taken
    waiter = rig.wait()
    assert rig.port.stats()["waiting"] == rig.port.stats()["waits"] == 1
    rig.engine.end(pending)
    assert waiter.result() == [pending]
    stats = rig.port.stats()
    assert (stats["started"], stats["taken"], stats["inflight"]) == (2, 2, 0)


def test_no_more_operations_than_allowed_are_in_use() -> None:
    rig = Rig(max_inflight=2)
    started = [rig.start(), rig.start()]
    third = rig.operation()
    for _ in range(2):
        with pytest.raises(OSError, match="max_inflight: 2"):
            rig.port.start(third)
    rig.engine.end(started[0])
    with pytest.raises(OSError, match="take completions first"):
        rig.port.start(third)  # ended, but its packet not taken
    assert rig.take() == [started[0]]
    rig.port.start(third)
    assert rig.port.cancel(third)
    assert rig.take() == [third]
    rig.engine.at_once.append(nt.STATUS_CONNECTION_RESET)
    with pytest.raises(ConnectionResetError):
        rig.port.start(third)  # a failed start takes no room
    rig.port.start(third)
    with pytest.raises(OSError, match="max_inflight"):
        rig.port.start(started[0])
    rig.post(*range(5))  # posted packets are none
    rig.port.close()


# -- handles ---------------------------------------------------------------------------------------


def test_a_number_that_is_used_again_is_another_handle(rig: Rig) -> None:
    """EMU-07: what was pending on the old one ends, and the new one starts without it."""
    operation = rig.start()
    new = Handle(rig.handle.number)
    rig.handle.number = -1
    rig.port.associate(new, "new", False)
    assert rig.take() == [operation]
    assert operation.status == nt.STATUS_CONNECTION_ABORTED
    assert rig.port.inflight() == []


def test_a_handle_closed_behind_the_ports_back_is_found_by_looking(rig: Rig) -> None:
    operation = rig.start()
    waiter = rig.wait()
    rig.port._next_sweep = 0  # as the time for it comes
    rig.handle.number = -1
    rig.engine.interrupt()
    assert waiter.result() == [operation]


def test_a_detached_handle_is_released_even_if_the_port_never_saw_it(rig: Rig) -> None:
    released: list[int] = []
    rig.port.detach(Handle(9), lambda: released.append(9))
    assert released == [9]


# -- time ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("others", [0, 1], ids=["as the poller", "asleep"])
def test_a_wait_is_never_too_short(rig: Rig, others: int) -> None:
    waiters = [rig.wait() for _ in range(others)]
    with at_least(0.05):
        assert rig.take(timeout=0.05) == []
    rig.post(*waiters)
    for waiter in waiters:
        waiter.result()


def test_waking_for_nothing_does_not_end_a_wait(rig: Rig) -> None:
    waiter = rig.wait()
    for polls in range(2, 5):
        rig.engine.interrupt()
        wait_until(partial(rig.has_polled, polls), "another poll")
        rig.wait_until_polled_by(waiter)
    assert waiter.running
    rig.post("packet")
    assert waiter.result() == ["packet"]
