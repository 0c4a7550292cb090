"""What is left of pains K and L: timers, and how a program comes by a loop."""

from __future__ import annotations

import asyncio
import sys
import time
import warnings
from typing import TYPE_CHECKING

import pytest

import netpoll.asyncio
from netpoll.testing.waiting import run

if TYPE_CHECKING:
    from loops import Loops

    from netpoll.testing.backends import Target


def test_cpython_75720_no_timer_is_early(loops: Loops) -> None:
    """Also cpython#110695, python-zeroconf#1711: sleeps ended up to 15.6 ms too soon."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        early: list[float] = []
        done = asyncio.Event()
        delays = [0.0001 * step for step in range(1, 200, 7)]

        def called(when: float) -> None:
            left = when - loop.time()
            if left > time.get_clock_info("monotonic").resolution:
                early.append(left)
            delays.pop()
            if not delays:
                done.set()

        for delay in tuple(delays):
            when = loop.time() + delay
            loop.call_at(when, called, when)
        await done.wait()
        assert early == []

    loops.run(main())


async def which() -> asyncio.AbstractEventLoop:
    await asyncio.sleep(0)
    return asyncio.get_running_loop()


def test_cpython_127949_a_loop_needs_no_policy(target: Target) -> None:
    """Also pytest-asyncio#1049, tornado#3461: policies end with Python 3.16."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        loop = netpoll.asyncio.run(which(), backend=target.backend)
    assert isinstance(loop, netpoll.asyncio.EventLoop)
    assert loop.port.backend == target.backend
    assert loop.is_closed()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio.run has loop_factory from 3.12 on")
def test_cpython_127949_asyncio_run_takes_the_factory() -> None:
    if sys.version_info >= (3, 12):
        loop = asyncio.run(which(), loop_factory=netpoll.asyncio.new_event_loop)
        assert isinstance(loop, netpoll.asyncio.EventLoop)


def test_cpython_127949_a_loop_in_each_thread(loops: Loops) -> None:
    """Nothing is shared but what the program shares."""
    threads = [run(loops.run, which()) for _ in range(4)]
    assert len({id(thread.result()) for thread in threads}) == 4
