"""The software port's concurrency limit: how many threads may have a packet at once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from unit.scripted import Rig

from netpoll.testing.waiting import DEADLINE, run, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


def queued(rig: Rig) -> float:
    return rig.port.stats()["queued"]


class Worker:
    """A thread that takes packets one at a time and works on each until told to go on."""

    def __init__(self, rig: Rig, packets: int) -> None:
        self.taken: list[Any] = []
        self.go_on = threading.Semaphore(0)
        before = rig.port.stats()["waits"]
        self.running = run(self._main, rig, packets)
        wait_until(lambda: rig.port.stats()["waits"] > before, "the worker asking")

    def _main(self, rig: Rig, packets: int) -> None:
        for _ in range(packets):
            self.taken += rig.take(1, None)
            assert self.go_on.acquire(timeout=DEADLINE)


@pytest.fixture
def limited() -> Iterator[Rig]:
    rig = Rig(concurrency=1)
    yield rig
    rig.port.close()


def test_no_more_threads_than_the_limit_have_a_packet(limited: Rig) -> None:
    """PORT-04, PORT-05."""
    workers = [Worker(limited, 2) for _ in range(2)]
    limited.post(1, 2)
    wait_until(lambda: workers[1].taken, "the younger worker having a packet")
    assert queued(limited) == 1
    assert limited.port.stats()["waiting"] == 1
    workers[1].go_on.release()  # it asks again, and is the younger one again
    wait_until(lambda: workers[1].taken == [1, 2], "its second packet")
    assert workers[0].taken == []
    workers[1].go_on.release()
    workers[1].running.result()
    limited.post(3, 4)
    wait_until(lambda: workers[0].taken == [3], "the older worker's packet")
    workers[0].go_on.release()
    wait_until(lambda: workers[0].taken == [3, 4], "its second packet")
    workers[0].go_on.release()
    workers[0].running.result()
    assert queued(limited) == 0


def test_who_only_looks_gets_nothing_beyond_the_limit(limited: Rig) -> None:
    worker = Worker(limited, 1)
    limited.post(1)
    wait_until(lambda: worker.taken, "the worker having a packet")
    limited.post(2)
    assert limited.take() == []
    assert queued(limited) == 1
    worker.go_on.release()
    worker.running.result()
    assert limited.take(timeout=DEADLINE) == [2]


def test_a_thread_that_died_counts_no_longer(limited: Rig) -> None:
    """Nobody tells the port of its death: the one that waits finds out (EMU-12)."""
    worker = Worker(limited, 1)
    limited.post(1)
    wait_until(lambda: worker.taken, "the worker having a packet")
    waiter = limited.wait()
    limited.post(2)
    worker.go_on.release()
    worker.running.result()
    assert waiter.result() == [2]


def test_a_thread_that_turns_to_another_port_counts_no_longer(limited: Rig) -> None:
    """PORT-05, PORT-30."""
    other = Rig()
    limited.post(1, 2)
    assert limited.take(1) == [1]
    waiter = limited.wait()
    assert queued(limited) == 1
    assert other.take() == []
    assert waiter.result() == [2]
    other.port.close()


def test_an_interrupted_wait_takes_no_place(limited: Rig) -> None:
    waiter = limited.wait()
    limited.wait_until_polled_by(waiter)
    with limited.port._lock:
        limited.post(1)  # is handed over, and with it the place
        limited.engine.fail(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        waiter.result()
    assert limited.take() == [1]
