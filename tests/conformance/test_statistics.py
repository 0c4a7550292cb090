"""What `Statistics` counts: cancels by their outcome, and the sizes of batches."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from netpoll import Completion, Overlapped
from netpoll import status as nt
from netpoll.instruments import Statistics
from netpoll.instruments.statistics import OUTCOMES, SIZES
from netpoll.overlapped import FailedCompletion
from netpoll.testing.drain import collect, take
from netpoll.testing.waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netpoll import CompletionPort
    from netpoll.testing.fixtures import MakePort
    from netpoll.testing.pairs import Loopback

    Operation = Overlapped[Any]


@pytest.fixture
def statistics() -> Statistics:
    return Statistics()


@pytest.fixture
def counted(make_port: MakePort, statistics: Statistics) -> Iterator[CompletionPort]:
    with make_port(instruments=[statistics]) as port:
        yield port


def outcomes(statistics: Statistics) -> dict[str, float]:
    """How operations ended that were asked to, the counts that are not 0."""
    counts = statistics.stats()
    names = ("cancels", "cancels_in_vain", *OUTCOMES)
    return {name: counts[name] for name in names if counts[name]}


def test_one_is_cancelled(counted: CompletionPort, net: Loopback, statistics: Statistics) -> None:
    near, _ = net.tcp_pair()
    counted.associate(near)
    receive = counted.recv(near, 4)
    assert receive.cancel()
    assert take(counted).error == 995
    assert not receive.cancel()
    assert outcomes(statistics) == {"cancels": 2, "cancels_in_vain": 1, "cancelled": 1}


def test_all_on_a_handle_are_cancelled(
    counted: CompletionPort, net: Loopback, statistics: Statistics
) -> None:
    near, _ = net.tcp_pair()
    other, far = net.tcp_pair()
    counted.associate(near)
    counted.associate(other)
    for _ in range(3):
        counted.recv(near, 4)
    counted.recv(other, 4)
    assert counted.cancel(near)
    assert [each.error for each in collect(counted, 3)] == [995] * 3
    assert not counted.cancel(near)
    far.sendall(b"four")
    take(counted)
    assert outcomes(statistics) == {"cancels": 2, "cancels_in_vain": 1, "cancelled": 3}


def test_what_has_no_packet_is_counted_too(
    counted: CompletionPort, net: Loopback, statistics: Statistics
) -> None:
    near, _ = net.tcp_pair()
    first = counted.recv(near, 4, overlapped=Overlapped(event=threading.Event()))
    second = counted.recv(near, 4)
    counted.cancel(first)
    counted.cancel(near)
    assert first.wait(DEADLINE)
    assert second.wait(DEADLINE)
    assert outcomes(statistics) == {"cancels": 2, "cancelled": 2}


def test_a_time_limit_is_a_cancel(
    counted: CompletionPort, net: Loopback, statistics: Statistics
) -> None:
    near, far = net.tcp_pair()
    counted.associate(near)
    counted.recv(near, 4, timeout=0.01)
    assert take(counted).error == 121
    counted.recv(near, 4, timeout=DEADLINE)
    far.sendall(b"four")
    take(counted)
    counted.timer(0)
    take(counted)  # whose end is what it is for
    assert outcomes(statistics) == {"timed_out": 1}


def test_closing_a_handle_is_a_cancel(
    counted: CompletionPort, net: Loopback, statistics: Statistics
) -> None:
    near, _ = net.tcp_pair()
    counted.associate(near)
    for _ in range(2):
        counted.recv(near, 4)
    listener = net.listener()
    counted.associate(listener)
    counted.accept(listener)
    counted.close_handle(near)
    counted.close_handle(listener)
    collect(counted, 3)
    assert outcomes(statistics) == {"closed": 3}


def test_closing_the_port_is_a_cancel(
    counted: CompletionPort, net: Loopback, statistics: Statistics
) -> None:
    near, _ = net.tcp_pair()
    alone, _ = net.tcp_pair()
    counted.associate(near)
    for _ in range(2):
        counted.recv(near, 4)
    counted.recv(alone, 4, overlapped=Overlapped(event=threading.Event()))
    counted.close()
    assert outcomes(statistics) == {"cancelled": 3}


def test_a_cancel_may_come_too_late(
    counted: CompletionPort, net: Loopback, statistics: Statistics
) -> None:
    """What had ended already was not asked: there was nothing to stop. What was asked and had bytes
    has kept them (CAN-10); which of the two it is, is the system's secret."""
    near, far = net.tcp_pair()
    counted.associate(near)
    receive = counted.recv(near, 4)
    far.sendall(b"four")
    found = receive.cancel()
    completion = take(counted)
    expected: dict[str, float] = {"cancels": 1}
    if not found:
        expected["cancels_in_vain"] = 1
    else:
        expected["cancelled" if completion.error else "cancelled_too_late"] = 1
    assert outcomes(statistics) == expected


def test_outcomes_by_themselves() -> None:
    """Whatever a system does: the outcome is what the request and the end say together."""

    def end(asked: int | None, status: int) -> dict[str, float]:
        statistics, operation = Statistics(), Overlapped[int]()
        if asked is not None:
            statistics.stopping(operation, asked)
        completion = Completion()
        if status:
            completion = FailedCompletion()
            completion.status = status
        completion.overlapped = operation
        statistics.ended(completion)
        statistics.ended(completion)  # of a start that nobody has asked to stop
        return outcomes(statistics)

    assert end(nt.STATUS_CANCELLED, 0) == {"cancelled_too_late": 1}
    assert end(nt.STATUS_CANCELLED, nt.STATUS_BUFFER_OVERFLOW) == {"cancelled_too_late": 1}
    assert end(nt.STATUS_CANCELLED, nt.STATUS_CONNECTION_RESET) == {"cancelled_failed": 1}
    assert end(nt.STATUS_IO_TIMEOUT, nt.STATUS_IO_TIMEOUT) == {"timed_out": 1}
    assert end(nt.STATUS_CONNECTION_ABORTED, nt.STATUS_CONNECTION_RESET) == {"closed": 1}
    assert end(None, nt.STATUS_CONNECTION_RESET) == {}
    assert end(None, nt.STATUS_IO_TIMEOUT) == {}  # a connect that the system gave up
    assert end(None, nt.STATUS_CANCELLED) == {"cancelled": 2}


@pytest.mark.parametrize(
    ("size", "counted_as"), [(1, 1), (2, 2), (3, 2), (4, 4), (63, 32), (64, 64), (100, 64)]
)
def test_batches_are_counted_by_their_size(
    counted: CompletionPort, statistics: Statistics, size: int, counted_as: int
) -> None:
    for _ in range(size):
        counted.post()
    assert len(counted.get_many(size, 0)) == size
    assert counted.get_many(1, 0) == []
    counts = statistics.stats()
    assert (counts["batches"], counts["packets"], counts["largest_batch"]) == (1, size, size)
    assert {each: counts[f"batches_of_{each}"] for each in SIZES} == {
        each: int(each == counted_as) for each in SIZES
    }
