"""Readiness as an operation: what it tells, that it takes nothing, and what it stands beside."""

from __future__ import annotations

import os
import selectors
import socket
from typing import TYPE_CHECKING, Any

import pytest

import netpoll
from netpoll import OperationAborted, Overlapped
from netpoll.testing.accepted import RESET
from netpoll.testing.attempts import NO_SOCKET, attempt, clog, winerror
from netpoll.testing.drain import collect, nothing_more, take
from netpoll.testing.outcome import require
from netpoll.testing.pairs import receive_exactly, reset, wait_readable
from netpoll.testing.waiting import DEADLINE, run, wait_for_waiters

if TYPE_CHECKING:
    from pathlib import Path

    from netpoll import CompletionPort
    from netpoll.testing.fixtures import MakePort
    from netpoll.testing.pairs import Loopback

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
BOTH = READ | WRITE

pytestmark = pytest.mark.statement("EMU-33")


@pytest.fixture(autouse=True)
def needs_poll(port: CompletionPort) -> None:
    require(port, "poll")


@pytest.mark.parametrize("early", [True, False], ids=["data-waits", "data-comes-later"])
def test_a_poll_for_reading_ends_with_data_and_takes_none(
    port: CompletionPort, net: Loopback, early: bool
) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "key")
    if early:
        far.sendall(b"data")
        wait_readable(near)
    operation = port.poll(near, READ)
    if not early:
        nothing_more(port)
        far.sendall(b"data")
    completion = take(port)
    assert completion.overlapped is operation
    assert (completion.key, completion.error, completion.transferred) == ("key", 0, 0)
    assert completion.result() == READ
    port.recv(near, 100)
    assert take(port).result() == b"data"


def test_a_poll_tells_once_and_again_when_started_again(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    operation = port.poll(near, READ)
    far.sendall(b"x")
    for _ in range(3):
        assert take(port).result() == READ
        port.resubmit(operation)
    assert take(port).result() == READ
    port.recv(near, 1)
    assert take(port).result() == b"x"
    port.resubmit(operation)
    nothing_more(port)
    far.sendall(b"y")
    assert take(port).overlapped is operation


@pytest.mark.parametrize("events", [WRITE, BOTH])
def test_a_poll_for_writing_ends_when_there_is_room(
    port: CompletionPort, net: Loopback, events: int
) -> None:
    near, far = net.tcp_pair(buffer=16384)
    port.associate(near)
    port.poll(near, events)
    assert take(port).result() == WRITE
    sent = clog(near)
    port.poll(near, events)
    nothing_more(port)
    receive_exactly(far, sent)
    assert take(port).result() == WRITE


def test_a_poll_for_both_tells_what_holds(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    far.sendall(b"x")
    wait_readable(near)
    port.poll(near, BOTH)
    assert take(port).result() == BOTH


def test_polls_of_one_socket_stand_beside_each_other(port: CompletionPort, net: Loopback) -> None:
    # of two that the AFD driver works on, Windows lets one end with the other's answer
    near, far = net.tcp_pair(buffer=16384)
    port.associate(near)
    sent = clog(near)
    writable = port.poll(near, WRITE)
    nothing_more(port)
    readable = [port.poll(near, READ), port.poll(near, READ)]
    either = port.poll(near, BOTH)
    nothing_more(port)
    far.sendall(b"x")
    ended = collect(port, 3)
    assert {each.overlapped for each in ended} == {*readable, either}
    assert {each.result() for each in ended} == {READ}
    receive_exactly(far, sent)
    completion = take(port)
    assert (completion.overlapped, completion.result()) == (writable, WRITE)


def test_a_poll_and_a_receive_wait_side_by_side(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    receive = port.recv(near, 10)
    poll = port.poll(near, READ)
    nothing_more(port)
    far.sendall(b"first")
    completion = next(each for each in iter_completions(port) if each.overlapped is receive)
    assert completion.result() == b"first"
    if not poll.done:  # the receive may have been served first, and then nothing is readable
        far.sendall(b"second")
        assert take(port).overlapped is poll
        port.recv(near, 10)
        assert take(port).result() == b"second"
    # and the transfers go on as before
    for data in (b"third", b"fourth"):
        port.recv(near, 10, overlapped=receive)
        nothing_more(port)
        far.sendall(data)
        assert take(port).result() == data


def iter_completions(port: CompletionPort) -> Any:
    while completion := port.get(timeout=DEADLINE):
        yield completion


def test_receives_and_sends_go_on_while_a_poll_stays(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair(buffer=16384)
    port.associate(near)
    poll = port.poll(near, READ)
    for _ in range(3):
        port.send(near, b"x" * 100)
        assert take(port).result() == 100
        receive_exactly(far, 100)
    send = port.send(near, bytes(1 << 20))
    nothing_more(port)
    reader = run(receive_exactly, far, 1 << 20)
    assert take(port).overlapped is send
    reader.result()
    far.sendall(b"y")
    assert take(port).overlapped is poll
    port.recv(near, 10)
    assert take(port).result() == b"y"


@pytest.mark.parametrize("end", ["close", "reset", "shutdown"])
def test_the_end_of_the_connection_is_readable(
    port: CompletionPort, net: Loopback, end: str
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    port.poll(near, READ)
    nothing_more(port)
    if end == "reset":
        reset(far)
    elif end == "close":
        far.close()
    else:
        far.shutdown(socket.SHUT_WR)
    assert take(port).result() == READ
    ended = attempt(port, lambda: port.recv(near, 10))
    assert ended.number in ({0, *RESET} if end == "reset" else {0})


def test_a_listener_is_readable_when_a_client_waits(port: CompletionPort, net: Loopback) -> None:
    listener = net.listener()
    port.associate(listener)
    port.poll(listener, READ)
    nothing_more(port)
    client = net.new_socket()
    client.connect(listener.getsockname())
    assert take(port).result() == READ
    port.accept(listener)
    net.track(take(port).result()[0])


def test_a_datagram_socket_is_polled_too(port: CompletionPort, net: Loopback) -> None:
    near, far = net.udp_pair()
    port.associate(near)
    port.poll(near, WRITE)
    assert take(port).result() == WRITE
    port.poll(near, READ)
    nothing_more(port)
    far.send(b"data")
    assert take(port).result() == READ
    # it has looked, and taken nothing (zio#733)
    port.poll(near, READ)
    assert take(port).result() == READ
    port.recvfrom_into(near, bytearray(10))
    assert take(port).result()[0] == 4


@pytest.mark.statement("CAN-02", "CAN-03", "CAN-05")
def test_a_poll_is_cancelled_and_nothing_else(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    receive = port.recv(near, 10)
    polls = [port.poll(near, READ), port.poll(near, READ)]
    assert {each.overlapped for each in port.inflight()} == {receive, *polls}
    assert polls[0].cancel()
    completion = take(port)
    assert (completion.overlapped, completion.error) == (polls[0], 995)
    assert not polls[0].cancel()
    assert port.cancel(near)
    assert {each.overlapped for each in collect(port, 2)} == {receive, polls[1]}
    port.resubmit(polls[0])
    far.sendall(b"x")
    assert take(port).result() == READ


def test_a_poll_runs_out_of_time(port: CompletionPort, net: Loopback) -> None:
    near, _ = net.tcp_pair()
    port.associate(near)
    port.poll(near, READ, timeout=0.01)
    assert isinstance(take(port).exception(), TimeoutError)


@pytest.mark.parametrize("closed_by", ["port", "program"])
def test_closing_the_socket_ends_its_polls(
    port: CompletionPort, net: Loopback, closed_by: str
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    polls = {port.poll(near, READ), port.poll(near, READ)}
    nothing_more(port)
    if closed_by == "port":
        port.close_handle(near)
    else:
        near.close()
    ended = collect(port, 2)
    assert {each.overlapped for each in ended} == polls
    assert {each.error for each in ended} == {995}
    assert far.recv(1) == b""
    with pytest.raises(OSError, match=r"6|10038") as caught:
        port.resubmit(polls.pop())
    assert winerror(caught.value) in NO_SOCKET


@pytest.mark.statement("PORT-18")
def test_closing_the_port_ends_polls(make_port: MakePort, net: Loopback) -> None:
    port = make_port()
    near, _ = net.tcp_pair()
    port.associate(near)
    poll = port.poll(near, READ)
    port.close()
    with pytest.raises(OperationAborted):
        poll.result()
    with pytest.raises(netpoll.PortClosed):
        port.resubmit(poll)


@pytest.mark.statement("OVL-17")
def test_without_an_association_there_is_no_packet(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    poll = port.poll(near, READ)
    assert not poll.wait(0)
    far.sendall(b"x")
    assert poll.wait(DEADLINE)
    assert poll.result() == READ
    nothing_more(port)


@pytest.mark.statement("ASSOC-12")
def test_a_routine_is_for_sockets_without_a_port(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    calls: list[Any] = []

    def routine(error: int, transferred: int, overlapped: Overlapped[Any], flags: int) -> None:
        calls.append((error, transferred, overlapped))

    poll = port.poll(near, READ, routine=routine)
    far.sendall(b"x")
    while not calls:
        assert port.get(timeout=DEADLINE, alertable=True) is None
    assert calls == [(0, 0, poll)]
    port.associate(near)
    with pytest.raises(OSError, match="10022"):
        port.poll(near, READ, routine=routine)


def test_a_poll_that_comes_during_a_wait_is_served(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    port.recv(near, 10)
    waiter = run(port.get, DEADLINE)
    wait_for_waiters(port, 1)
    poll = port.poll(near, WRITE)
    completion = waiter.result(DEADLINE / 2)
    assert completion is not None
    assert completion.overlapped is poll
    far.sendall(b"x")
    assert take(port).result() == b"x"


def test_a_number_in_use_again_is_another_socket(port: CompletionPort, net: Loopback) -> None:
    first, _ = net.tcp_pair()
    port.associate(first)
    abandoned = port.poll(first, READ)
    first.close()
    second, far = net.tcp_pair()
    port.associate(second)
    poll = port.poll(second, READ)
    far.sendall(b"x")
    ended = {each.overlapped: each for each in collect(port, 2)}
    assert ended[abandoned].error == 995
    assert ended[poll].result() == READ


@pytest.mark.parametrize("events", [0, 4, 8, -1, "read", None])
def test_events_that_are_none_are_refused(port: CompletionPort, net: Loopback, events: Any) -> None:
    near, _ = net.tcp_pair()
    with pytest.raises(ValueError, match="EVENT_READ"):
        port.poll(near, events)


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no readiness of pipes")
def test_a_pipe_is_polled_too(port: CompletionPort) -> None:
    near, far = netpoll.pipe()
    with near, far:
        port.associate(near, key="near")
        port.associate(far, key="far")
        reading = port.poll(near, READ)
        nothing_more(port)
        port.poll(far, WRITE)
        assert take(port).key == "far"
        os.write(far.fileno(), b"data")
        assert take(port).overlapped is reading
        assert reading.result() == READ
        assert os.read(near.fileno(), 10) == b"data"
        port.resubmit(reading)
        nothing_more(port)
        far.close()
        assert take(port).overlapped is reading  # the end is readable


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no readiness of devices")
def test_a_device_that_is_always_ready_is_ready(port: CompletionPort) -> None:
    with netpoll.open_file(os.devnull, "r+") as device:
        port.associate(device, key="device")
        for events in (READ, WRITE, READ | WRITE):
            operation = port.poll(device, events)
            completion = take(port)
            assert (completion.overlapped, completion.key) == (operation, "device")
            assert completion.result() == events
    nothing_more(port)


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no readiness of files")
def test_a_file_is_always_ready_and_is_refused(port: CompletionPort, tmp_path: Path) -> None:
    with netpoll.open_file(tmp_path / "file", "w+") as file:
        port.associate(file)
        with pytest.raises(OSError, match="always ready") as caught:
            port.poll(file, READ)
        assert winerror(caught.value) == 87


def test_what_is_no_socket_is_refused(port: CompletionPort, net: Loopback) -> None:
    closed = net.new_socket()
    closed.close()
    with pytest.raises(OSError, match="closed"):
        port.poll(closed, READ)
    with pytest.raises(TypeError, match="socket"):
        port.poll(7, READ)  # type: ignore[arg-type]


def test_polls_of_many_sockets(port: CompletionPort, net: Loopback) -> None:
    pairs = [net.tcp_pair() for _ in range(20)]
    for index, (near, _) in enumerate(pairs):
        port.associate(near, index)
        port.poll(near, READ)
    nothing_more(port)
    for _, far in pairs:
        far.sendall(b"x")
    assert {each.key for each in collect(port, 20)} == set(range(20))
