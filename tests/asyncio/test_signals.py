"""Pain H: Ctrl-C that comes late or never, and signal handlers."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING

import pytest
from cli.interrupts import INTERRUPTS
from cli.running import Running

from netpoll.testing.waiting import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loops import Loops

    from netpoll.testing.backends import Target
    from netpoll.testing.pairs import Loopback

SIGNAL = signal.SIGINT if sys.platform == "win32" else signal.SIGUSR1
OTHER = signal.Signals["SIGBREAK" if sys.platform == "win32" else "SIGUSR2"]

WAITING = """
import asyncio, socket, sys
import netpoll.asyncio

async def main():
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    near.setblocking(False)
    print("waiting", flush=True)
    try:
        await loop.sock_recv(near, 1)
    except asyncio.CancelledError:
        print("cancelled", flush=True)
        raise
    finally:
        near.close()
        far.close()

try:
    netpoll.asyncio.run(main(), backend=sys.argv[1])
except KeyboardInterrupt:
    print("interrupted")
"""

HANDLING = """
import asyncio, signal, sys
import netpoll.asyncio

async def main():
    loop = asyncio.get_running_loop()
    came = asyncio.Event()
    for number in (signal.SIGINT, getattr(signal, "SIGBREAK", signal.SIGTERM)):
        loop.add_signal_handler(number, came.set)
    print("waiting", flush=True)
    await came.wait()
    print("handled")

netpoll.asyncio.run(main(), backend=sys.argv[1])
"""


@pytest.fixture
def handlers() -> Iterator[None]:
    """Puts back what the process does at signals."""
    before = {number: signal.getsignal(number) for number in (SIGNAL, OTHER, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_cpython_77373_ctrl_c_ends_a_wait(target: Target) -> None:
    """Also cpython#101166, asyncio#191, curio#201."""
    with Running("-c", WAITING, target.backend) as program:
        program.wait_for_output("waiting")
        result = program.stop(INTERRUPTS[0])
    if INTERRUPTS[0] == signal.SIGINT:
        assert (result.out, result.err) == ("waiting\ncancelled\ninterrupted\n", "")
    assert result.code == 0 or INTERRUPTS[0] != signal.SIGINT


@pytest.mark.parametrize("number", INTERRUPTS)
def test_cpython_137863_a_program_ends_in_its_own_way(target: Target, number: int) -> None:
    """`add_signal_handler` was not there on Windows. Also hindsight#1411, sopel#2610."""
    with Running("-c", HANDLING, target.backend) as program:
        program.wait_for_output("waiting")
        result = program.stop(number)
    assert (result.code, result.out, result.err) == (0, "waiting\nhandled\n", "")


@pytest.mark.usefixtures("handlers")
def test_cpython_137863_a_handler_is_called_in_the_loop(loops: Loops) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        came: asyncio.Queue[str] = asyncio.Queue()
        loop.add_signal_handler(SIGNAL, came.put_nowait, "first")
        signal.raise_signal(SIGNAL)
        assert await came.get() == "first"
        loop.add_signal_handler(SIGNAL, came.put_nowait, "second")
        signal.raise_signal(SIGNAL)
        assert await came.get() == "second"
        assert loop.remove_signal_handler(SIGNAL)
        assert not loop.remove_signal_handler(SIGNAL)

    loops.run(main())


@pytest.mark.usefixtures("handlers")
def test_cpython_77373_an_interrupt_while_the_loop_waits(loops: Loops, net: Loopback) -> None:
    """In this process: `asyncio.Runner` makes a cancel of it, and then a KeyboardInterrupt."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cancelled: list[bool] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, _ = net.tcp_pair()
        near.setblocking(False)
        loop.call_soon(signal.raise_signal, signal.SIGINT)
        try:
            await loop.sock_recv(near, 1)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    with pytest.raises(KeyboardInterrupt):
        loops.run(main())
    assert cancelled


@pytest.mark.usefixtures("handlers")
def test_cpython_91170_the_wakeup_descriptor_is_put_back(loops: Loops, net: Loopback) -> None:
    """A second loop took it from the first, or from another library. Also asyncio#407."""
    mine, _ = net.tcp_pair()
    mine.setblocking(False)
    signal.set_wakeup_fd(mine.fileno())
    try:

        async def main() -> None:
            loop = asyncio.get_running_loop()
            came = asyncio.Event()
            loop.add_signal_handler(SIGNAL, came.set)
            signal.raise_signal(SIGNAL)
            await came.wait()

        loops.run(main())
    finally:
        now = signal.set_wakeup_fd(-1)
    assert now == mine.fileno()


@pytest.mark.usefixtures("handlers")
def test_cpython_86849_a_second_loop_leaves_the_first_its_signals(loops: Loops) -> None:
    first = loops.new()
    came: list[str] = []

    def stop() -> None:
        came.append("first")
        first.stop()

    first.add_signal_handler(SIGNAL, stop)
    second = loops.new()
    second.add_signal_handler(OTHER, came.append, "second")
    second.run_until_complete(asyncio.sleep(0))
    second.close()
    other = run(loops.run, asyncio.sleep(0))  # in another thread, where there are no signals
    other.result()
    first.call_soon(signal.raise_signal, SIGNAL)
    first.run_forever()
    assert came == ["first"]
    assert first.remove_signal_handler(SIGNAL)
