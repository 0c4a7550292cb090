"""Timers: an operation that only takes time."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any

import pytest

import netpoll
from netpoll import OperationAborted, Overlapped
from netpoll.testing.attempts import winerror
from netpoll.testing.drain import collect, nothing_more, take
from netpoll.testing.waiting import DEADLINE, at_least, run, wait_for_waiters

if TYPE_CHECKING:
    from netpoll import CompletionPort
    from netpoll.testing.fixtures import MakePort
    from netpoll.testing.pairs import Loopback

pytestmark = pytest.mark.statement("EMU-32")


@pytest.mark.parametrize("seconds", [0, 0.01, 0.1])
def test_a_timer_ends_once_and_never_early(port: CompletionPort, seconds: float) -> None:
    with at_least(seconds):
        timer = port.timer(seconds)
        assert not timer.done
        completion = take(port)
    assert completion.overlapped is timer
    assert (completion.key, completion.error, completion.transferred) == (None, 0, 0)
    assert completion.result() is None
    assert timer.result() is None
    assert timer.handle is None


def test_timers_end_in_the_order_of_their_times(port: CompletionPort) -> None:
    late, early, soon = (port.timer(seconds) for seconds in (0.15, 0.1, 0.05))
    assert [each.overlapped for each in collect(port, 3, batch=1)] == [soon, early, late]


def test_an_earlier_timer_shortens_a_wait_that_is_under_way(port: CompletionPort) -> None:
    far_off = port.timer(1e9)
    waiter = run(port.get, DEADLINE)
    wait_for_waiters(port, 1)
    soon = port.timer(0.01)
    completion = waiter.result(DEADLINE / 2)
    assert completion is not None
    assert completion.overlapped is soon
    assert far_off.cancel()
    assert take(port).overlapped is far_off


@pytest.mark.statement("CAN-02", "CAN-03", "CAN-05")
def test_a_cancelled_timer_ends_as_cancelled(port: CompletionPort) -> None:
    timer = port.timer(60)
    assert [each.overlapped for each in port.inflight()] == [timer]
    assert "timer" in repr(port.inflight()[0].overlapped)
    assert timer.cancel()
    assert not timer.cancel()
    completion = take(port)
    assert (completion.overlapped, completion.error) == (timer, 995)
    assert isinstance(completion.exception(), OperationAborted)
    assert not timer.cancel()


def test_a_timer_started_again_takes_its_time_again(port: CompletionPort) -> None:
    timer = port.timer(0.03)
    for _ in range(3):
        assert take(port).overlapped is timer
        with at_least(0.03):
            port.resubmit(timer)
            with pytest.raises(RuntimeError, match="in use"):
                port.resubmit(timer)
            assert timer.wait(DEADLINE)
    assert take(port).overlapped is timer


def test_the_end_of_an_earlier_start_does_not_end_the_next_one(port: CompletionPort) -> None:
    timer = port.timer(0.05)
    timer.cancel()
    take(port)
    with at_least(0.3):
        port.timer(0.3, overlapped=timer)
        assert take(port).overlapped is timer


@pytest.mark.statement("OVL-16", "ASSOC-15", "OVL-05")
@pytest.mark.parametrize("packet", [True, False])
def test_a_timer_sets_its_event(port: CompletionPort, packet: bool) -> None:
    event = threading.Event()
    timer: Overlapped[None] = Overlapped(event=event, packet=packet)
    port.timer(0.02, overlapped=timer)
    assert timer.wait(DEADLINE)
    assert event.is_set()
    assert timer.done
    assert timer.result() is None
    if packet:
        assert take(port).overlapped is timer
    nothing_more(port)


@pytest.mark.statement("APC-01")
@pytest.mark.parametrize("where", ["port", "sleep"])
def test_a_routine_runs_instead_of_a_packet(port: CompletionPort, where: str) -> None:
    calls: list[tuple[int, int, Overlapped[Any], int, int]] = []

    def routine(error: int, transferred: int, overlapped: Overlapped[Any], flags: int) -> None:
        calls.append((error, transferred, overlapped, flags, threading.get_ident()))

    timer = port.timer(0.02, routine=routine)
    with at_least(0.01):
        if where == "sleep":
            assert netpoll.sleep(DEADLINE)
        else:
            assert port.get_many(timeout=DEADLINE, alertable=True) == []
    assert calls == [(0, 0, timer, 0, threading.get_ident())]
    port.resubmit(timer)
    timer.cancel()
    assert netpoll.sleep(DEADLINE)
    assert calls[1][:3] == (995, 0, timer)


@pytest.mark.statement("PORT-18")
def test_closing_the_port_ends_its_timers(make_port: MakePort) -> None:
    port = make_port()
    timers = [port.timer(60) for _ in range(3)]
    port.close()
    for timer in timers:
        assert timer.done
        with pytest.raises(OperationAborted):
            timer.result()
    with pytest.raises(netpoll.PortClosed):
        port.timer(0)
    with pytest.raises(netpoll.PortClosed):
        port.resubmit(timers[0])


def test_a_timer_counts_among_the_operations_in_use(make_port: MakePort) -> None:
    port = make_port(max_inflight=1)
    timer = port.timer(0)
    with pytest.raises(OSError, match="max_inflight") as caught:
        port.timer(0)
    assert winerror(caught.value) in (10055, 1816)
    assert take(port).overlapped is timer


def test_many_timers_beside_traffic(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    timers = {port.timer(index % 7 / 100) for index in range(200)}
    port.recv(near, 10)
    far.sendall(b"data")
    ended = collect(port, 201, batch=8)
    assert {each.overlapped for each in ended} > timers


@pytest.mark.parametrize("nonsense", [-1, -0.001, math.nan, None, "soon"])
def test_a_time_that_is_none_is_refused(port: CompletionPort, nonsense: Any) -> None:
    with pytest.raises(ValueError, match="number"):
        port.timer(nonsense)
    assert not port.inflight()


@pytest.mark.parametrize("seconds", [math.inf, 1e300, 4e9])
def test_a_timer_of_centuries_can_be_cancelled(port: CompletionPort, seconds: float) -> None:
    timer = port.timer(seconds)
    assert port.get(timeout=0.01) is None
    assert timer.cancel()
    assert take(port).error == 995


def test_the_capability_says_how(port: CompletionPort) -> None:
    capability = port.capability("timer")
    assert capability == "emulated"
    assert "deadlines" in capability.reason


def test_a_thread_that_waits_for_its_timer_alone(port: CompletionPort) -> None:
    timer = port.timer(0.05)
    other = run(timer.wait, DEADLINE)
    assert take(port).overlapped is timer
    assert other.result()
