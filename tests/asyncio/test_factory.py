"""What is left of pains K and L: timers, and how a program comes by a loop."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli.running import Running

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


# -- what a loop stands on -------------------------------------------------------------------------


def open_descriptors() -> Counter[str]:
    """How many are open of what a loop may stand on."""
    names = [os.path.realpath(path) for path in Path("/proc/self/fd").iterdir()]
    return Counter(kind for kind in ("io_uring", "eventpoll") for name in names if kind in name)


def test_cpython_85443_a_loop_on_io_uring_stands_on_nothing_else(
    loops: Loops, target: Target, tmp_path: Path
) -> None:
    """Not on a selector that watches the ring, nor on threads for files and children. Also
    cpython#88901, Liburing#5, async-utils#18."""
    if target.backend != "io_uring":
        pytest.skip("about the loop on io_uring")
    before, threads = open_descriptors(), threading.active_count()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(5))
        writer.close()

    async def main() -> None:
        port = loops.running().port
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello")
            assert await reader.read() == b"hello"
            writer.close()
        with netpoll.open_file(tmp_path / "file", "w+") as file:
            port.associate(file)
            assert await netpoll.asyncio.wrap(port.write(file, b"written")) == 7
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", "exit(3)")
        assert await child.wait() == 3
        await asyncio.sleep(
            0.001
        )  # a timer is the loop's own, too: this is not a wait for anything
        # more than one descriptor of it: each memory map has a duplicate
        assert set(open_descriptors() - before) == {"io_uring"}
        assert threading.active_count() == threads

    loops.run(main())


WITHOUT_CFFI = """
import sys
sys.modules["cffi"] = sys.modules["_cffi_backend"] = None
before = set(sys.modules)
import asyncio
import netpoll.asyncio

async def echo(reader, writer):
    writer.write(await reader.readexactly(5))
    writer.close()

async def main():
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello")
        assert await reader.read() == b"hello"
        writer.close()
    return asyncio.get_running_loop().port.backend

with asyncio.Runner(loop_factory=lambda: netpoll.asyncio.new_event_loop(sys.argv[1] or None)) as it:
    print(it.run(main()))
names = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(names - {*sys.stdlib_module_names, "_missing_stdlib_info"}))
"""


@pytest.mark.parametrize("named", [True, False])
def test_free_threaded_compatibility_240_a_python_that_cffi_refuses(
    target: Target, named: bool
) -> None:
    """Free-threaded 3.13, or the next Python before cffi has come to it: there is nothing else to
    compile, so the loop is there, and a backend that needs cffi says so. Also lite-bootstrap#172,
    cffi#232."""
    environment = {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "NETPOLL_BACKEND": None,
        "NETPOLL_CONFIG": None,
    }
    backend = target.backend if named else ""
    # -S: what site and its .pth files import is not ours
    with Running("-S", "-c", WITHOUT_CFFI, backend, environment=environment) as program:
        result = program.ended()
    if named and backend != "selectors":
        assert result.code == 1
        assert "needs cffi" in result.err
        assert "Usable: selectors" in result.err
    else:
        assert (result.code, result.err) == (0, "")
        assert result.out.split() == ["selectors", "netpoll"]
