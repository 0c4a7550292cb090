"""The software port when a wait is broken off, by Ctrl-C or by closing the port."""

from __future__ import annotations

import signal
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from unit.scripted import Rig

from netpoll import PortClosed
from netpoll import status as nt
from netpoll.testing.attempts import winerror
from netpoll.testing.waiting import DEADLINE, run, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.port.close()


# -- Ctrl-C ----------------------------------------------------------------------------------------


def test_an_interrupted_poll_loses_no_packet(rig: Rig) -> None:
    """Not even those that were handed to the interrupted thread already; their order stays."""
    waiter = rig.wait(limit=64)
    rig.wait_until_polled_by(waiter)
    with rig.port._lock:
        rig.post("first", "second")
        rig.engine.fail(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        waiter.result()
    rig.check_at_rest()
    rig.post("third")
    assert rig.take() == ["first", "second", "third"]


def test_an_interrupted_poll_passes_its_packets_on(rig: Rig) -> None:
    poller = rig.wait()
    rig.wait_until_polled_by(poller)
    sleeper = rig.wait()
    with rig.port._lock:
        rig.post("to the sleeper", "to the poller")
        rig.engine.fail(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        poller.result()
    assert sleeper.result()[:1] == ["to the sleeper"]
    assert rig.take() == ["to the poller"]


def test_an_interrupted_poll_loses_no_operation(rig: Rig) -> None:
    operation = rig.start()
    waiter = rig.wait()
    rig.wait_until_polled_by(waiter)
    with rig.port._lock:
        rig.engine.end(operation)
        rig.engine.fail(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        waiter.result()
    assert rig.take(timeout=DEADLINE) == [operation]
    rig.check_at_rest()


class Alarm(Exception):
    """What the signal handler raises."""


@pytest.fixture
def alarm() -> Iterator[Callable[[], object]]:
    """A signal to this thread, whose handler raises `Alarm` in whatever it is doing."""
    if sys.platform == "win32":
        pytest.skip("Windows cannot interrupt a waiting lock")

    def handler(number: int, frame: Any) -> None:
        raise Alarm

    me = threading.get_ident()
    old = signal.signal(signal.SIGUSR1, handler)
    yield partial(signal.pthread_kill, me, signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, old)


@pytest.mark.parametrize("handed", [False, True])
def test_a_signal_in_a_sleeping_waiter(rig: Rig, alarm: Callable[[], object], handed: bool) -> None:
    poller = rig.wait()
    rig.wait_until_polled_by(poller)

    def interrupt() -> None:
        wait_until(lambda: rig.port.stats()["waiting"] == 2, "the main thread sleeping")
        with rig.port._lock:
            if handed:
                rig.post("packet")
            alarm()

    helper = run(interrupt)
    with pytest.raises(Alarm):
        rig.take(timeout=None)
    helper.result()
    rig.post("last")
    # the packet that was handed to us went to the other one, or waits
    assert poller.result()[0] == ("packet" if handed else "last")
    assert rig.take() == (["last"] if handed else [])
    rig.check_at_rest()


# -- the end of the port ---------------------------------------------------------------------------


def test_closing_ends_every_wait_and_then_the_engine(rig: Rig) -> None:
    """PORT-18. The engine asserts that nobody is inside it when it is closed."""
    waiters = [rig.wait() for _ in range(3)]
    rig.wait_until_polled_by(waiters[0])
    rig.port.close()
    for waiter in waiters:
        with pytest.raises(PortClosed) as caught:
            waiter.result()
        assert winerror(caught.value) == 735
    assert rig.engine.closed == 1
    rig.port.close()
    assert rig.engine.closed == 1
    rig.check_at_rest()


def test_closing_an_idle_port_closes_the_engine_at_once(rig: Rig) -> None:
    rig.port.close()
    assert rig.engine.closed == 1
    for refused in (rig.take, lambda: rig.post(1), rig.operation):
        with pytest.raises(PortClosed) as caught:
            refused()
        assert winerror(caught.value) == 6


def test_closing_ends_what_is_under_way_once(rig: Rig) -> None:
    event = threading.Event()
    pending = rig.start()
    with_event = rig.start(event=event)
    ended = rig.start()
    rig.engine.end(ended)
    rig.engine.at_once.append(0)
    untaken = rig.start()
    rig.port.close()
    assert pending.done
    assert pending.status == nt.STATUS_CANCELLED
    assert event.is_set()
    assert with_event.status == nt.STATUS_CANCELLED
    for operation in (ended, untaken):
        assert operation.done
        assert operation.status == 0
    assert rig.port.inflight() == []
    assert rig.port.stats()["started"] == rig.port.stats()["taken"] == 4


def test_a_packet_handed_over_before_the_close_is_still_delivered(rig: Rig) -> None:
    waiter = rig.wait()
    rig.wait_until_polled_by(waiter)
    with rig.port._lock:
        rig.post("packet")
        rig.port.close()
    assert waiter.result() == ["packet"]
    assert rig.engine.closed == 1


def test_a_start_on_a_closed_port_is_refused(rig: Rig) -> None:
    operation = rig.operation()
    rig.port.close()
    with pytest.raises(PortClosed):
        rig.port.start(operation)
    assert operation.done
