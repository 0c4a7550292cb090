"""What a connection costs that waits for data without a buffer, and what a buffer's way back costs:
counted, not timed."""

from __future__ import annotations

import gc
import platform
import socket
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from backends.uring import grown, needs_io_uring

import netpoll
from netpoll import BufferPool, CompletionPort, Overlapped, handles
from netpoll.testing.waiting import DEADLINE

if TYPE_CHECKING:
    from netpoll.testing.pairs import Loopback

MOST_IDLE = 1536
"""Bytes of netpoll's for a connection that waits for data; the pool is everybody's."""
CONNECTIONS = 500
OURS = tracemalloc.Filter(True, str(Path(netpoll.__file__).parent / "*"))


@pytest.mark.skipif(
    platform.python_implementation() != "CPython", reason="only CPython counts its allocations"
)
def test_an_idle_connection_costs_little(
    port: CompletionPort, net: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the table of an earlier test's handles would be allocated anew as a whole
    monkeypatch.setattr(handles, "_uses", handles._Uses())
    few = 100 if port.backend == "selectors" else CONNECTIONS  # select() takes no more
    socks: list[socket.socket] = []
    for _ in range(few // 2):
        socks += [net.track(each) for each in socket.socketpair()]
    pool = BufferPool(16, 16384)
    operations: list[Overlapped[Any]] = []
    gc.collect()
    tracemalloc.start()
    try:
        for sock in socks:
            port.associate(sock)
            operations.append(port.recv_pooled(sock, pool))
        assert port.get(timeout=0) is None
        gc.collect()
        traces = tracemalloc.take_snapshot().filter_traces([OURS]).traces
        each = sum(trace.size for trace in traces) / len(socks)
    finally:
        tracemalloc.stop()
    assert pool.free == 16
    port.close()
    assert each <= MOST_IDLE, f"{each:.0f} bytes for each of {len(socks)}"


@needs_io_uring
def test_a_buffer_comes_back_without_a_system_call(net: Loopback) -> None:
    with CompletionPort("io_uring") as port:
        pool = BufferPool(4, 64)
        pairs = [net.tcp_pair() for _ in range(20)]
        for near, _ in pairs:
            port.associate(near)
            port.recv_pooled(near, pool)

        def exchange() -> None:
            for _, far in pairs:
                far.send(b"message")
            for _ in pairs:
                completion = port.get(timeout=DEADLINE)
                assert completion is not None
                with completion.result() as buffer:
                    assert bytes(buffer) == b"message"
                port.resubmit(completion.overlapped)

        exchange()
        before: Any = port.stats()
        for _ in range(20):
            exchange()
        counted = grown(port, before)
        assert counted["taken"] == 400
        # one turn hands over what was resubmitted, and one takes what has come, for many at once
        assert counted["enters"] <= 0.5 * 400, f"{counted['enters']} for 400 messages"
        assert pool.free == 4
