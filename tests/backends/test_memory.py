"""What a connection and a message cost in memory, counted and not measured by the system."""

from __future__ import annotations

import gc
import platform
import socket
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import netpoll
from netpoll import CompletionPort, Overlapped, handles
from netpoll.backends.selectors.readiness import available
from netpoll.testing.drain import collect, take

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from netpoll.testing.pairs import Loopback

pytestmark = pytest.mark.skipif(
    platform.python_implementation() != "CPython", reason="only CPython counts its allocations"
)

OURS = tracemalloc.Filter(True, str(Path(netpoll.__file__).parent / "*"))
CONNECTIONS = 100
MOST_PER_CONNECTION = 2048
"""Bytes of netpoll's for a connection that waits for data; its buffer not counted."""
RESUBMITS = 10_000
SLACK = 4096
"""Bytes that ten thousand messages may leave behind: a counter that grew past 2**30, a cache."""


@pytest.fixture(params=available())
def port(request: pytest.FixtureRequest, net: Loopback) -> Iterator[CompletionPort]:
    with CompletionPort("selectors", selector=request.param) as port:
        yield port


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """Asks for the bytes that are alive now and were allocated in netpoll's own lines."""
    # A table of the process that held the ten thousand handles of an earlier test is allocated
    # anew, as a whole, whenever it next fills up; no connection of this test costs that.
    monkeypatch.setattr(handles, "_uses", handles._Uses())

    def count() -> int:
        gc.collect()
        snapshot = tracemalloc.take_snapshot().filter_traces([OURS])
        return sum(trace.size for trace in snapshot.traces)

    tracemalloc.start()
    yield count
    tracemalloc.stop()


def zero_bytes(port: CompletionPort, sock: socket.socket) -> Overlapped[Any]:
    """The way to wait for data without a buffer (RECV-01)."""
    return port.recv(sock, 0)


def a_little(port: CompletionPort, sock: socket.socket) -> Overlapped[Any]:
    return port.recv(sock, 16)


def shared_buffer(port: CompletionPort, sock: socket.socket) -> Overlapped[Any]:
    return port.recv_into(sock, BUFFER)


BUFFER = bytearray(4096)


@pytest.mark.parametrize(
    "receive", [zero_bytes, a_little, shared_buffer], ids=lambda receive: receive.__name__
)
def test_an_idle_connection_costs_little(
    port: CompletionPort,
    net: Loopback,
    ours: Callable[[], int],
    receive: Callable[[CompletionPort, socket.socket], Overlapped[Any]],
) -> None:
    def come_and_go() -> float:
        """Many connections that wait, and go; what each of them cost while it was there."""
        before = ours()
        pairs = [socket.socketpair() for _ in range(CONNECTIONS)]
        pending: list[Overlapped[Any]] = []
        for near, far in pairs:
            net.track(far)
            port.associate(near)
            pending.append(receive(port, near))
        assert port.get(timeout=0) is None
        each = (ours() - before) / CONNECTIONS
        for near, _ in pairs:
            port.close_handle(near)
        assert len(collect(port, CONNECTIONS)) == CONNECTIONS
        return each

    assert come_and_go() <= MOST_PER_CONNECTION
    before = ours()  # tables have grown, and stay as large as they are
    come_and_go()
    left = ours() - before
    assert left <= SLACK, f"{left} bytes more after {CONNECTIONS} connections"


def test_a_message_leaves_nothing_behind(
    port: CompletionPort, net: Loopback, ours: Callable[[], int]
) -> None:
    near, far = socket.socketpair()
    net.track(near)
    net.track(far)
    far.settimeout(30)
    port.associate(near, "key")
    buffer = bytearray(64)
    receive = port.recv_into(near, buffer)
    send = None

    def exchange(times: int) -> None:
        nonlocal send
        for _ in range(times):
            far.send(b"message")
            completion = port.get(timeout=30)
            assert completion is not None
            assert completion.overlapped is receive
            if send is None:
                send = port.send(near, memoryview(buffer)[:7])
            else:
                port.resubmit(send)
            completion = port.get(timeout=30)
            assert completion is not None
            assert completion.overlapped is send
            assert far.recv(64) == b"message"
            port.resubmit(receive)

    exchange(100)
    before = ours()
    exchange(RESUBMITS)
    grown = ours() - before
    assert grown <= SLACK, f"{grown} bytes more after {RESUBMITS} messages"
    assert port.cancel(receive)
    take(port)


def test_operations_with_limits_leave_nothing_behind(
    port: CompletionPort, net: Loopback, ours: Callable[[], int]
) -> None:
    """Neither does a timer that never fires, nor an operation that is cancelled."""
    near, _ = net.tcp_pair()
    port.associate(near)
    receive = port.recv(near, 16, timeout=3600)

    def cancel(times: int) -> None:
        for _ in range(times):
            assert port.cancel(receive)
            completion = port.get(timeout=30)
            assert completion is not None
            assert completion.error == 995
            port.resubmit(receive)

    cancel(200)
    before = ours()
    cancel(RESUBMITS // 10)
    grown = ours() - before
    # up to 64 dead timers may wait to be dropped
    assert grown <= SLACK + 64 * 200, f"{grown} bytes more"
    assert port.cancel(receive)
    take(port)
