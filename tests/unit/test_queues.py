"""The rules of one direction of a handle, against a model, for every course of events."""

from __future__ import annotations

from collections import deque
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

from netpoll import status as nt
from netpoll.backends.queues import BLOCKED, BUDGET, DONE, EXHAUSTED, MOVED, Direction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PENDING = nt.STATUS_PENDING
REFUSALS = (nt.STATUS_CONNECTION_RESET, nt.STATUS_PIPE_DISCONNECTED, nt.STATUS_INVALID_HANDLE)

outcomes = st.sampled_from((BLOCKED, DONE, EXHAUSTED, MOVED))
fair_outcomes = st.lists(st.sampled_from((DONE, DONE, DONE, MOVED, EXHAUSTED, BLOCKED)), max_size=6)


class Fake:
    """An operation whose tries have the outcomes that a test scripts."""

    def __init__(self, number: int, attempt: Callable[[Fake], int]) -> None:
        self.number = number
        self.ends = 0
        self._perform: Callable[[Any], int] = attempt
        self._final = PENDING
        self._association = self

    def alive(self) -> bool:
        """As the record of an open handle says."""
        return True

    def __eq__(self, other: object) -> bool:
        """Equal to all others: an Overlapped may be subclassed, so a queue may not ask."""
        return isinstance(other, Fake)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Fake {self.number}>"


def numbers(operations: Iterable[Fake]) -> list[int]:
    return [operation.number for operation in operations]


class QueueMachine(RuleBasedStateMachine):
    """A `Direction`, and beside it what a reader of its rules expects of it."""

    def __init__(self) -> None:
        super().__init__()
        self.direction: Direction[Fake] = Direction(self.watch)
        self.made = 0
        self.script: deque[int] = deque()
        """The outcomes of the tries to come."""
        self.tried: list[int] = []
        self.asked: list[int] = []
        """The operations for which readiness was asked."""
        self.watching_works = True
        self.waiting: list[Fake] = []
        self.ready = True
        self.watched = False
        self.refusal = 0

    # what the direction calls

    def watch(self, operation: Fake) -> None:
        assert not self.direction.watched
        self.asked.append(operation.number)
        self.direction.watched = self.watching_works

    def attempt(self, operation: Fake) -> int:
        assert not operation.ends, "tried again after its end"
        outcome = self.script.popleft()
        self.tried.append(operation.number)
        if outcome in (DONE, EXHAUSTED):
            operation._final = 0
        return outcome

    # what happens to it

    def begin(self, *script: int) -> None:
        self.script = deque(script)
        self.tried = []
        self.asked = []

    def end(self, operation: Fake) -> None:
        operation.ends += 1
        assert operation.ends == 1

    @rule(outcome=outcomes)
    def start(self, outcome: int) -> None:
        self.begin(outcome)
        self.made += 1
        operation = Fake(self.made, self.attempt)
        finished = self.direction.start(operation)

        may_be_tried = not self.refusal and not self.waiting and self.ready
        assert self.tried == ([operation.number] if may_be_tried else [])
        waits = not self.refusal and not (may_be_tried and outcome != BLOCKED)
        if waits:
            self.waiting.append(operation)
        if may_be_tried and outcome in (BLOCKED, EXHAUSTED):
            self.ready = False
        assert self.asked == ([operation.number] if waits and not self.watched else [])
        if waits and self.watching_works:
            self.watched = True
        ends = bool(self.refusal) or (may_be_tried and outcome in (DONE, EXHAUSTED))
        assert finished is ends
        if ends:
            self.end(operation)
            assert operation._final == self.refusal
        else:
            assert operation._final == PENDING

    @rule(script=fair_outcomes, budget=st.integers(1, 4) | st.none())
    def become_ready(self, script: list[int], budget: int | None) -> None:
        self.begin(*script, *[BLOCKED] * BUDGET)
        finished: list[Fake] = []
        if budget is None:
            self.direction.on_ready(finished)
        else:
            self.direction.on_ready(finished, budget)

        tried: list[int] = []
        ended: list[Fake] = []
        self.ready = True
        for outcome in [*script, BLOCKED][: budget or BUDGET]:
            if not self.waiting:
                break
            tried.append(self.waiting[0].number)
            if outcome != BLOCKED:
                operation = self.waiting.pop(0)
                if outcome != MOVED:
                    ended.append(operation)
            if outcome in (BLOCKED, EXHAUSTED):
                self.ready = False
                break
        assert self.tried == tried
        assert numbers(finished) == numbers(ended)
        assert self.asked == []  # whoever reports readiness does watch
        for operation in finished:
            self.end(operation)

    @rule()
    def become_ready_after_others(self) -> None:
        """What others finished in this turn stays before it."""
        self.begin(EXHAUSTED)
        others = [Fake(0, self.attempt), Fake(0, self.attempt)]
        finished = list(others)
        self.direction.on_ready(finished)
        assert finished[0] is others[0]
        assert finished[1] is others[1]
        assert numbers(finished[2:]) == numbers(self.waiting[:1])
        self.ready = not self.waiting
        if self.waiting:
            self.end(self.waiting.pop(0))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        self.begin()
        place = data.draw(st.integers(0, len(self.waiting) - 1))
        operation = self.waiting.pop(place)
        assert self.direction.remove(operation)
        self.end(operation)
        assert not self.direction.remove(operation)

    @rule()
    def remove_a_stranger(self) -> None:
        assert not self.direction.remove(Fake(0, self.attempt))

    @rule()
    def drain(self) -> None:
        self.begin()
        drained = self.direction.drain()
        assert numbers(drained) == numbers(self.waiting)
        for operation in drained:
            self.end(operation)
        self.waiting = []

    @rule(status=st.sampled_from((0, *REFUSALS)))
    def refuse(self, status: int) -> None:
        """What waits already is not touched by it (RECV-09)."""
        self.direction.refusal = self.refusal = status

    @rule(works=st.booleans())
    def stop_watching(self, works: bool) -> None:
        """The engine asks lazily, and stops when readiness finds nobody waiting. A `watch` that
        does nothing is one whose readiness is asked for elsewhere."""
        self.direction.watched = self.watched = False
        self.watching_works = works

    # what is always true

    @invariant()
    def what_waits_is_in_order(self) -> None:
        assert numbers(self.direction.waiting()) == numbers(self.waiting)
        assert (self.direction.head is None) is (not self.waiting)

    @invariant()
    def what_is_known_of_the_handle_is_right(self) -> None:
        assert self.direction.ready is self.ready
        assert self.direction.watched is self.watched

    @invariant()
    def what_waits_has_not_ended(self) -> None:
        assert all(each.ends == 0 and each._final == PENDING for each in self.waiting)


def test_a_direction_does_what_the_model_does() -> None:
    course = settings(max_examples=200, stateful_step_count=40, deadline=None)
    run_state_machine_as_test(QueueMachine, settings=course)


# -- single rules, for whoever reads them first ----------------------------------------------------


def scripted(*script: int) -> Callable[[Fake], int]:
    left = iter(script)

    def attempt(operation: Fake) -> int:
        return next(left)

    return attempt


def blocked(count: int, attempt: Callable[[Fake], int]) -> tuple[Direction[Fake], list[Fake]]:
    """A direction with `count` operations waiting, whose tries from now on are `attempt`."""
    direction: Direction[Fake] = Direction(id)
    operations = [Fake(number, scripted(BLOCKED)) for number in range(count)]
    for operation in operations:
        assert direction.start(operation) is False
        operation._perform = attempt
    return direction, operations


def test_nothing_overtakes_what_waits() -> None:
    direction, (first, second) = blocked(2, scripted(DONE, DONE))
    direction.ready = True  # as after a spent budget
    third = Fake(3, scripted())  # a try would raise
    assert direction.start(third) is False
    finished: list[Fake] = []
    third._perform = scripted(DONE)
    direction.on_ready(finished)
    assert [id(each) for each in finished] == [id(first), id(second), id(third)]


def test_one_handle_finishes_no_more_than_the_budget_in_one_turn() -> None:
    direction, operations = blocked(2 * BUDGET + 3, lambda operation: DONE)
    turns: list[int] = []
    while direction.waiting():
        finished: list[Fake] = []
        direction.on_ready(finished)
        turns.append(len(finished))
    assert turns == [BUDGET, BUDGET, 3]
    assert len(operations) == sum(turns)


def test_an_empty_direction_costs_no_second_try_to_find_out() -> None:
    """After "done and exhausted" the next start waits for readiness and makes no system call."""
    direction: Direction[Fake] = Direction(id)
    assert direction.start(Fake(1, scripted(EXHAUSTED))) is True
    assert direction.start(Fake(2, scripted())) is False
    direction.drain()
    direction.on_ready([])
    assert direction.start(Fake(3, scripted(DONE))) is True


def test_a_watch_that_fails_leaves_nothing_behind() -> None:
    """The engine takes the operation out and raises when the handle turns out to be closed."""

    def watch(operation: Fake) -> None:
        direction.remove(operation)
        raise OSError("closed")

    direction = Direction(watch)
    with pytest.raises(OSError, match="closed"):
        direction.start(Fake(1, scripted(BLOCKED)))
    assert direction.waiting() == []


def test_a_try_that_is_interrupted_takes_nothing_with_it() -> None:
    """Ctrl-C between two tries: what finished is reported, what waits still waits, in order."""

    def interrupted(operation: Fake) -> int:
        raise KeyboardInterrupt

    direction, operations = blocked(3, interrupted)
    operations[0]._perform = scripted(DONE)
    finished: list[Fake] = []
    with pytest.raises(KeyboardInterrupt):
        direction.on_ready(finished)
    assert numbers(finished) == [0]
    assert numbers(direction.waiting()) == [1, 2]
    operations[1]._perform = operations[2]._perform = scripted(DONE, DONE)
    direction.on_ready(finished)
    assert numbers(finished) == [0, 1, 2]
