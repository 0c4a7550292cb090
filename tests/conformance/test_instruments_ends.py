"""Of each start an instrument is told one end, however the operation ends and whoever ends it."""

from __future__ import annotations

import gc
import json
import os
import socket
import subprocess
import sys
import threading
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

import netpoll
from netpoll import Overlapped
from netpoll import status as nt
from netpoll.instruments import Instrument, Trace, operation_of
from netpoll.instruments.checks import Checks
from netpoll.testing.attempts import clog
from netpoll.testing.drain import collect, take
from netpoll.testing.pairs import receive_exactly
from netpoll.testing.waiting import DEADLINE, run, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from netpoll import Completion, CompletionPort
    from netpoll.testing.backends import Target
    from netpoll.testing.fixtures import MakePort
    from netpoll.testing.pairs import Loopback

    Operation = Overlapped[Any]


class Ends(Instrument):
    """How many ends each operation had that is not told of any more; what told of the last one."""

    def __init__(self) -> None:
        self.pending: dict[int, Operation] = {}
        self.ends: list[tuple[str, int, int]] = []
        self.packets: list[Any] = []
        self.mistakes: list[str] = []

    def starting(self, operation: Operation) -> None:
        if id(operation) in self.pending:
            self.mistakes.append(f"{operation!r} starts before its end was told")
        self.pending[id(operation)] = operation

    def _end(self, how: str, operation: Operation, status: int, transferred: int) -> None:
        if self.pending.pop(id(operation), None) is None:
            self.mistakes.append(f"{how}: {operation!r} ends once too often")
        self.ends.append((how, status, transferred))

    def not_started(self, operation: Operation, error: BaseException) -> None:
        self._end("not_started", operation, 0, 0)

    def ended_inline(self, operation: Operation) -> None:
        self._end("ended_inline", operation, operation.status, operation.transferred)

    def completed(self, completion: Completion) -> None:
        operation = operation_of(completion)
        if operation is None:
            self.packets.append(completion.overlapped)
        else:
            self._end("completed", operation, completion.status, completion.transferred)

    def ended(self, completion: Completion) -> None:
        operation = operation_of(completion)
        assert operation is not None
        self._end("ended", operation, completion.status, completion.transferred)

    def check(self) -> None:
        """Each start had its end."""
        assert self.mistakes == []
        assert self.pending == {}


@pytest.fixture
def ends() -> Ends:
    return Ends()


@pytest.fixture
def watched(make_port: MakePort, ends: Ends) -> Iterator[CompletionPort]:
    with make_port(instruments=[ends]) as port:
        yield port
    ends.check()


# -- ends without a packet -------------------------------------------------------------------------


def with_event(port: CompletionPort, near: socket.socket, timeout: float | None) -> Operation:
    operation = Overlapped[bytes](event=threading.Event())
    return port.recv(near, 16, overlapped=operation, timeout=timeout)


def without_packet(port: CompletionPort, near: socket.socket, timeout: float | None) -> Operation:
    port.associate(near)
    operation = Overlapped[bytes](event=threading.Event(), packet=False)
    return port.recv(near, 16, overlapped=operation, timeout=timeout)


def without_anything(port: CompletionPort, near: socket.socket, timeout: float | None) -> Operation:
    return port.recv(near, 16, timeout=timeout)


def nothing(error: int, transferred: int, overlapped: Operation, flags: int) -> None:
    """A completion routine."""


def with_routine(port: CompletionPort, near: socket.socket, timeout: float | None) -> Operation:
    return port.recv(near, 16, routine=nothing, timeout=timeout)


STARTS = [with_event, without_packet, without_anything, with_routine]
"""A receive that ends in no packet."""
every_start = pytest.mark.parametrize("start", STARTS)


def wait_for(operation: Operation) -> None:
    """Wait for its end as it is to be waited for."""
    if operation.routine is not None:
        assert netpoll.sleep(DEADLINE)
    else:
        assert operation.wait(DEADLINE)


@every_start
def test_the_end_without_a_packet_is_told_of(
    watched: CompletionPort,
    net: Loopback,
    ends: Ends,
    start: Callable[..., Operation],
) -> None:
    near, far = net.tcp_pair()
    operation = start(watched, near, None)
    assert ends.pending
    for number in range(1, 4):
        far.sendall(b"four")
        wait_for(operation)
        assert ends.ends == [("ended", 0, 4)] * number
        ends.check()
        if number < 3:
            watched.resubmit(operation)


@every_start
@pytest.mark.parametrize("what", ["operation", "handle"])
def test_the_end_by_a_cancel_is_told_of(
    watched: CompletionPort,
    net: Loopback,
    ends: Ends,
    start: Callable[..., Operation],
    what: str,
) -> None:
    near, _ = net.tcp_pair()
    operation = start(watched, near, None)
    assert watched.cancel(operation if what == "operation" else near)
    wait_for(operation)
    assert ends.ends == [("ended", nt.STATUS_CANCELLED, 0)]


@every_start
def test_the_end_by_a_time_limit_is_told_of(
    watched: CompletionPort, net: Loopback, ends: Ends, start: Callable[..., Operation]
) -> None:
    near, _ = net.tcp_pair()
    wait_for(start(watched, near, 0.01))
    assert ends.ends == [("ended", nt.STATUS_IO_TIMEOUT, 0)]


@every_start
def test_the_end_by_closing_the_handle_is_told_of(
    watched: CompletionPort, net: Loopback, ends: Ends, start: Callable[..., Operation]
) -> None:
    near, _ = net.tcp_pair()
    operation = start(watched, near, None)
    watched.close_handle(near)
    wait_for(operation)
    assert [how for how, status, _ in ends.ends if nt.is_error(status)] == ["ended"]


@every_start
def test_the_end_by_closing_the_port_is_told_of(
    watched: CompletionPort, net: Loopback, ends: Ends, start: Callable[..., Operation]
) -> None:
    near, _ = net.tcp_pair()
    operation = start(watched, near, None)
    watched.close()
    assert ends.ends == [("ended", nt.STATUS_CANCELLED, 0)]
    netpoll.sleep(0)  # its routine, if it has one
    assert operation.status == nt.STATUS_CANCELLED
    ends.check()


def test_the_end_with_the_thread_is_told_of(
    watched: CompletionPort, net: Loopback, ends: Ends
) -> None:
    """Of an event by the next who waits, as everywhere."""
    pairs = [net.tcp_pair() for _ in range(2)]
    started = run(
        lambda: [
            start(watched, near, None)
            for (near, _), start in zip(pairs, (with_event, with_routine), strict=True)
        ]
    ).result()
    for each in started:
        assert each.wait(DEADLINE)
    assert ends.ends == [("ended", nt.STATUS_CANCELLED, 0)] * 2


def test_a_timer_with_an_event_alone_is_told_of(watched: CompletionPort, ends: Ends) -> None:
    timer = watched.timer(0, overlapped=Overlapped(event=threading.Event(), packet=False))
    assert timer.wait(DEADLINE)
    assert ends.ends == [("ended", 0, 0)]


def test_an_event_beside_a_packet_changes_nothing(
    watched: CompletionPort, net: Loopback, ends: Ends
) -> None:
    near, far = net.tcp_pair()
    watched.associate(near)
    receive = watched.recv(near, 16, overlapped=Overlapped(event=threading.Event()))
    far.sendall(b"four")
    assert receive.wait(DEADLINE)
    assert ends.ends == []
    take(watched)
    assert ends.ends == [("completed", 0, 4)]


# -- packets that nobody takes ---------------------------------------------------------------------


def test_what_the_port_takes_along_has_ended(
    watched: CompletionPort, net: Loopback, ends: Ends
) -> None:
    """Operations that are pending, and packets that are there and not taken."""
    near, far = net.tcp_pair()
    watched.associate(near)
    receives = [watched.recv(near, 4) for _ in range(3)]
    far.sendall(b"four")
    assert receives[0].wait(DEADLINE)
    watched.post(0, None, receives[1])
    watched.close()
    assert sorted(ends.ends) == sorted([("ended", 0, 4), *[("ended", nt.STATUS_CANCELLED, 0)] * 2])
    assert ends.packets == []


def test_a_posted_packet_is_no_end_of_what_it_carries(
    watched: CompletionPort, net: Loopback, ends: Ends
) -> None:
    near, far = net.tcp_pair()
    watched.associate(near)
    receive = watched.recv(near, 4)
    watched.post(0, None, receive)
    assert take(watched).overlapped is receive
    assert (ends.ends, ends.packets) == ([], [receive])
    far.sendall(b"four")
    take(watched)
    assert ends.ends == [("completed", 0, 4)]


# -- ends within the start -------------------------------------------------------------------------


def test_what_has_not_ended_within_its_start_is_not_told_of_as_if(
    watched: CompletionPort, net: Loopback, ends: Ends
) -> None:
    """Also where its packet is taken before the start has returned (PORT-29)."""
    near, far = net.tcp_pair()
    watched.associate(near, skip_on_success=True)
    backend: Any = watched._backend
    inner, start = backend._backend, backend._backend.resubmit

    class Late:
        """Its start returns when the packet has been taken."""

        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

        def resubmit(self, *arguments: Any) -> Any:
            started = start(*arguments)
            far.sendall(b"four")
            assert run(take, watched).result().transferred == 4
            return started

    backend._backend = Late()
    assert watched.recv(near, 4).done
    backend._backend = inner
    assert ends.ends == [("completed", 0, 4)]


def test_each_start_has_one_end_whoever_takes_the_packets(
    watched: CompletionPort, net: Loopback, ends: Ends
) -> None:
    """Some threads, with operations that end in every way."""
    pairs = [net.tcp_pair() for _ in range(4)]
    for near, _ in pairs[:2]:
        watched.associate(near, skip_on_success=True)

    def work(number: int) -> None:
        near, far = pairs[number]
        for turn in range(50):
            event = Overlapped[bytes](event=threading.Event(), packet=False)
            receive = watched.recv(near, 1, overlapped=event)
            if turn % 3:
                far.sendall(b"x")
            else:
                watched.cancel(near)
            assert receive.wait(DEADLINE)
            send = watched.send(near, b"y")
            if number > 1:
                assert send.wait(DEADLINE)

    def serve() -> None:
        while watched.get(DEADLINE).key != "over":  # type: ignore[union-attr]
            pass

    servers = [run(serve) for _ in range(2)]
    for worker in [run(work, number) for number in range(4)]:
        worker.result()
    wait_until(lambda: not watched.inflight(), "the last packet")
    for _ in servers:
        watched.post(0, "over")
    for server in servers:
        server.result()
    ends.check()
    assert len(ends.ends) == 400


# -- debug mode ------------------------------------------------------------------------------------


def test_debug_mode_forgets_what_has_ended(make_port: MakePort, net: Loopback) -> None:
    checks = Checks()
    near, far = net.tcp_pair()
    with make_port(instruments=[checks]) as port:
        kept: list[Operation] = []
        for start in (with_event, without_anything, with_routine):
            kept.append(start(port, near, None))
            assert "test_instruments_ends.py:" in str(checks.where(kept[-1]))
            far.sendall(b"four")
            wait_for(kept[-1])
        assert [checks.where(each) for each in kept] == [None] * 3
        assert port.inflight() == []


def test_debug_mode_notices_a_buffer_that_changed_without_a_packet(
    make_port: MakePort, net: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETPOLL_DEBUG", "checks")
    near, far = net.tcp_pair(buffer=16384)
    data = bytearray(1 << 20)
    with make_port() as port:
        port.associate(near)
        clogged = clog(near)
        event = threading.Event()
        send = port.send(near, data, overlapped=Overlapped(event=event, packet=False))
        assert not event.is_set()
        data[-1] = 1
        reader = run(receive_exactly, far, clogged + len(data))
        with pytest.warns(RuntimeWarning, match=r"changed while .*test_instruments_ends.py"):
            assert send.wait(DEADLINE)
        reader.result()


# -- traces ----------------------------------------------------------------------------------------


def balance(events: list[dict[str, Any]]) -> None:
    """Each `b` is followed by an `e` of its name and number, and by no other `b` before that."""
    begun: dict[tuple[str, str], dict[str, Any]] = {}
    for event in events:
        if event["ph"] in "be":
            number = event["cat"], event["id"]
            if event["ph"] == "b":
                assert number not in begun
                begun[number] = event
            else:
                first = begun.pop(number)
                assert first["name"] == event["name"]
                assert first["ts"] <= event["ts"]
    assert begun == {}


def test_a_trace_has_an_end_for_each_beginning(
    make_port: MakePort, net: Loopback, tmp_path: Path
) -> None:
    path = tmp_path / "trace.json"
    near, far = net.tcp_pair()
    associated, other = net.tcp_pair()
    with make_port(instruments=[Trace(path)]) as port:
        port.associate(associated)
        for start in (with_event, without_anything, with_routine):
            operation = start(port, near, None)
            far.sendall(b"four")
            wait_for(operation)
            del operation
            gc.collect()  # the next one may be at the same place
        port.recv(associated, 4)
        other.sendall(b"four")
        port.send(associated, b"four")
        collect(port, 2)
        port.shutdown(associated, socket.SHUT_WR)
        with pytest.raises(BrokenPipeError):
            port.send(associated, b"x")
        port.recv(associated, 4)
        with_event(port, near, None)
    events = json.loads(path.read_text(encoding="utf-8"))
    balance(events)
    assert sum(event["ph"] == "b" for event in events) == 8
    assert all({"ph", "name", "pid"} <= event.keys() for event in events)
    assert all(
        "ts" in event and "tid" in event for event in events if event["name"][-5:] != "_name"
    )


DIES = """
    import os, socket, sys, threading
    import netpoll
    from netpoll.instruments import Trace

    listener = socket.create_server(("127.0.0.1", 0))
    near = socket.create_connection(listener.getsockname())
    far, _ = listener.accept()
    port = netpoll.CompletionPort(sys.argv[1], instruments=[Trace(sys.argv[2])])
    receive = port.recv(near, 1, overlapped=netpoll.Overlapped(event=threading.Event()))
    for turn in range(int(sys.argv[3])):
        far.sendall(b"x")
        assert receive.wait(30)
        port.resubmit(receive)
    os._exit(7)
"""


@pytest.mark.parametrize("turns", [0, 1, 300])
def test_a_trace_opens_although_the_program_has_died(
    target: Target, tmp_path: Path, turns: int
) -> None:
    """The format may lack the last bracket, and nothing else."""
    path = tmp_path / "trace.json"
    ran = subprocess.run(
        [sys.executable, "-c", dedent(DIES), target.backend, os.fspath(path), str(turns)],
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE,
    )
    assert (ran.returncode, ran.stderr) == (7, "")
    events = json.loads(path.read_text(encoding="utf-8") + "]")
    phases = [event["ph"] for event in events]
    # to the last thing that has happened: the start whose end nobody sees
    assert (phases.count("b"), phases.count("e")) == (turns + 1, turns)
    assert phases[-1] in "bM" if turns == 0 else phases[-1] == "b"
    last = max(index for index, phase in enumerate(phases) if phase == "b")
    balance([event for index, event in enumerate(events) if index != last])
