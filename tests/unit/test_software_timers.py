"""Time limits of operations, under a clock that passes only while the port waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,  # pyright: ignore[reportUnknownVariableType]
)
from unit.scripted import Clock, Rig

from netpoll import status as nt
from netpoll.backends import packets
from netpoll.testing.waiting import run, wait_until

if TYPE_CHECKING:
    from netpoll.overlapped import Overlapped

limits = st.sampled_from((0.0, 0.25, 1.0, 1.0, 3.0)) | st.none()


class TimerMachine(RuleBasedStateMachine):
    """Operations with and without limits, started again and again on the same records.

    The model: an operation ends by time exactly if nothing else has ended it by then; it is seen to
    end no earlier than that, and no later than the next wait that lasts as long.
    """

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.clock = Clock()
        self.clock.install(self.patch.setattr)
        self.rig = Rig()
        self.rig.engine.pass_time = self.pass_time
        self.early = 1.0
        self.idle: list[Overlapped[Any]] = [self.rig.operation() for _ in range(3)]
        self.deadlines: dict[int, float | None] = {}
        """Of what is pending; by id."""
        self.expected: dict[int, int] = {}
        """How it has to end, of what has ended; by id."""

    def teardown(self) -> None:
        self.rig.port.close()
        self.patch.undo()

    def pass_time(self, timeout: float | None) -> None:
        self.clock.pass_time(3600.0 if timeout is None else timeout * self.early)

    @precondition(lambda self: self.idle)
    @rule(limit=limits, inline=st.booleans())
    def start(self, limit: float | None, inline: bool) -> None:
        operation = self.idle.pop()
        operation._timeout = limit
        operation._deadline = 0.0  # as the port does for each start of its own
        self.rig.port.prepare(operation)
        if inline:
            self.rig.engine.at_once.append(0)
            self.expected[id(operation)] = 0
        else:
            self.deadlines[id(operation)] = None if limit is None else self.clock.now + limit
        self.rig.port.start(operation)

    @precondition(lambda self: self.rig.engine.waiting)
    @rule(data=st.data(), cancel=st.booleans())
    def end(self, data: st.DataObject, cancel: bool) -> None:
        operation = data.draw(st.sampled_from(self.rig.engine.waiting))
        if cancel:
            assert self.rig.port.cancel(operation)
        else:
            self.rig.engine.end(operation)
        self.expected[id(operation)] = nt.STATUS_CANCELLED if cancel else 0
        del self.deadlines[id(operation)]

    @rule(timeout=st.sampled_from((0.0, 0.25, 0.5, 1.0, 4.0)), early=st.sampled_from((1.0, 0.5)))
    def wait(self, timeout: float, early: float) -> None:
        """Also with an engine that comes back before the time, as spurious wake-ups make it."""
        self.early = early
        began = self.clock.now
        completions = self.rig.port.dequeue(64, timeout, False)
        assert completions or self.clock.now >= began + timeout
        for completion in completions:
            operation = completion.overlapped
            if id(operation) in self.expected:
                assert completion.status == self.expected.pop(id(operation))
            else:
                deadline = self.deadlines.pop(id(operation))  # KeyError: its end came twice
                assert completion.status == nt.STATUS_IO_TIMEOUT
                assert deadline is not None
                assert self.clock.now >= deadline
            self.idle.append(operation)

    @invariant()
    def dead_timers_do_not_pile_up(self) -> None:
        assert len(self.rig.port._timers) <= 65

    @invariant()
    def what_is_pending_is_pending(self) -> None:
        assert len(self.rig.port.inflight()) == len(self.deadlines) + len(self.expected)


def test_an_operation_ends_by_time_once_and_never_early() -> None:
    course = settings(max_examples=150, stateful_step_count=40, deadline=None)
    run_state_machine_as_test(TimerMachine, settings=course)


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig()


def test_a_wait_sleeps_until_the_next_limit_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, rig = Clock(), Rig()
    clock.install(monkeypatch.setattr)
    rig.engine.pass_time = clock.pass_time
    late, soon = rig.start(timeout=30.0), rig.start(timeout=20.0)
    began = clock.now
    assert rig.take(timeout=None) == [soon]
    assert clock.now == began + 20
    assert rig.take(timeout=None) == [late]
    assert clock.now == began + 30
    assert [soon.status, late.status] == [nt.STATUS_IO_TIMEOUT] * 2
    rig.port.close()


def test_a_limit_set_while_a_thread_waits_is_kept() -> None:
    """The poller has to be woken: it sleeps for longer, or for ever."""
    rig = Rig()
    waiter = rig.wait()
    rig.wait_until_polled_by(waiter)
    operation = rig.start(timeout=0.05)
    assert waiter.result() == [operation]
    assert operation.status == nt.STATUS_IO_TIMEOUT
    rig.port.close()


def test_later_limits_do_not_wake_the_poller() -> None:
    rig = Rig()
    waiter = rig.wait()
    rig.wait_until_polled_by(waiter)
    rig.start(timeout=3600)
    wait_until(lambda: len(rig.engine.timeouts) == 2, "the poller having seen the first limit")
    rig.wait_until_polled_by(waiter)
    wakes = rig.engine.wakes
    for _ in range(100):
        rig.start(timeout=3600)
    assert rig.engine.wakes == wakes
    rig.post("last")
    assert waiter.result() == ["last"]
    rig.port.close()


def test_limits_are_kept_while_packets_never_run_dry(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, rig = Clock(), Rig()
    clock.install(monkeypatch.setattr)
    operation = rig.start(timeout=1.0)
    clock.now += 2
    taken: list[Any] = []
    for number in range(2 * packets.TURNS_WITHOUT_POLL):
        rig.post(number)
        taken += rig.take(1)
    assert operation in taken
    rig.port.close()


def test_operations_that_end_in_time_leave_few_timers_behind() -> None:
    """A request with a limit of a minute, answered at once, a thousand times a second."""
    rig = Rig()
    operation = rig.operation(timeout=60.0)
    for _ in range(1000):
        rig.port.start(operation)
        rig.engine.end(operation)
        assert rig.take() == [operation]
    assert len(rig.port._timers) <= 65
    rig.port.close()


def test_a_limit_is_for_bystanders_too() -> None:
    rig = Rig()
    operation = rig.start(timeout=0.05)
    bystander = run(rig.port.run_until, lambda: operation._final != nt.STATUS_PENDING, None)
    assert bystander.result() is True
    assert rig.take() == [operation]
    rig.port.close()
