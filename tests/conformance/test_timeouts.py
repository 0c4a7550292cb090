"""`timeout=` on operations: each ends once, never early, and loses no data."""

from __future__ import annotations

import errno
import math
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest

from netpoll import Overlapped
from netpoll import status as nt
from netpoll.testing.accepted import CLOSED_HERE
from netpoll.testing.attempts import TIMED_OUT, clog, pattern, silent_address, winerror
from netpoll.testing.drain import collect, nothing_more, take
from netpoll.testing.pairs import receive_exactly
from netpoll.testing.waiting import at_least, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll import CompletionPort
    from netpoll.testing.pairs import Loopback

    Start = Callable[[CompletionPort, Loopback, float], Overlapped[Any]]


def recv(port: CompletionPort, net: Loopback, timeout: float) -> Overlapped[bytes]:
    near, _ = net.tcp_pair()
    port.associate(near)
    return port.recv(near, 10, timeout=timeout)


def probe(port: CompletionPort, net: Loopback, timeout: float) -> Overlapped[bytes]:
    near, _ = net.tcp_pair()
    port.associate(near)
    return port.recv(near, 0, timeout=timeout)


def recv_into(port: CompletionPort, net: Loopback, timeout: float) -> Overlapped[int]:
    near, _ = net.tcp_pair()
    port.associate(near)
    return port.recv_into(near, [bytearray(5), bytearray(5)], timeout=timeout)


def send(port: CompletionPort, net: Loopback, timeout: float) -> Overlapped[int]:
    near, _ = net.tcp_pair(buffer=16384)
    port.associate(near)
    clog(near)
    return port.send(near, b"x" * 100_000, timeout=timeout)


def accept(port: CompletionPort, net: Loopback, timeout: float) -> Overlapped[Any]:
    listener = net.listener()
    port.associate(listener)
    return port.accept(listener, timeout=timeout)


def accept_with_data(port: CompletionPort, net: Loopback, timeout: float) -> Overlapped[Any]:
    listener = net.listener()
    port.associate(listener)
    net.new_socket().connect(listener.getsockname())  # and says nothing
    return port.accept(listener, receive=bytearray(10), timeout=timeout)


def connect(port: CompletionPort, net: Loopback, timeout: float) -> Overlapped[None]:
    sock = net.new_socket()
    port.associate(sock)
    return port.connect(sock, silent_address(net), timeout=timeout)


STARTS = [recv, probe, recv_into, send, accept, accept_with_data, connect]


@pytest.mark.parametrize("start", STARTS, ids=[start.__name__ for start in STARTS])
def test_an_operation_ends_once_when_its_time_is_over(
    port: CompletionPort, net: Loopback, start: Start
) -> None:
    with at_least(0.05):
        operation = start(port, net, 0.05)
        completion = take(port)
    assert completion.overlapped is operation
    assert completion.error in TIMED_OUT
    assert completion.status == operation.status == nt.STATUS_IO_TIMEOUT
    assert completion.transferred == 0
    error = completion.exception()
    assert isinstance(error, TimeoutError)
    assert error.errno == errno.ETIMEDOUT
    assert (winerror(error), vars(error)["wsaerror"]) == (121, 10060)


@pytest.mark.parametrize("start", STARTS, ids=[start.__name__ for start in STARTS])
def test_no_time_at_all_is_over_at_once(port: CompletionPort, net: Loopback, start: Start) -> None:
    operation = start(port, net, 0)
    completion = take(port)
    assert completion.overlapped is operation
    assert completion.error in TIMED_OUT


@pytest.mark.parametrize("start", STARTS, ids=[start.__name__ for start in STARTS])
def test_a_cancel_before_the_time_is_over_wins(
    port: CompletionPort, net: Loopback, start: Start
) -> None:
    operation = start(port, net, 30.0)
    nothing_more(port)
    assert operation.cancel()
    assert take(port).error == 995


def test_what_ends_in_time_does_not_time_out(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    first = port.recv(near, 10, timeout=0.2)
    far.sendall(b"in time")
    assert take(port).result() == b"in time"
    assert port.get(timeout=0.3) is None
    assert first.result() == b"in time"


def test_data_after_the_time_is_over_goes_to_the_next_receive(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    for _ in range(3):
        port.recv(near, 10, timeout=0.01)
        assert take(port).error in TIMED_OUT
    port.recv(near, 10, timeout=30.0)
    far.sendall(b"late")
    assert take(port).result() == b"late"


def test_the_time_of_one_operation_is_not_that_of_its_neighbours(
    port: CompletionPort, net: Loopback
) -> None:
    pairs = [net.tcp_pair() for _ in range(3)]
    for index, (near, _) in enumerate(pairs):
        port.associate(near, index)
    port.recv(pairs[0][0], 10, timeout=0.15)
    port.recv(pairs[1][0], 10)
    port.recv(pairs[2][0], 10, timeout=0.05)
    assert [completion.key for completion in (port.get(30.0), port.get(30.0)) if completion] == [
        2,
        0,
    ]
    nothing_more(port)
    pairs[1][1].sendall(b"no limit")
    assert take(port).result() == b"no limit"


def test_times_end_in_their_order_however_they_were_started(
    port: CompletionPort, net: Loopback
) -> None:
    limits = [0.6, 0.2, 0.8, 0.4]  # far enough apart for a machine that has other things to do
    pairs = [net.tcp_pair() for _ in limits]
    for limit, (near, _) in zip(limits, pairs, strict=True):
        port.associate(near, limit)
        port.recv(near, 10, timeout=limit)
    ended = collect(port, 4)
    assert [completion.key for completion in ended] == sorted(limits)


def test_a_send_that_ends_in_time_is_whole(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair(buffer=16384)
    port.associate(near)
    data = pattern(1 << 20)
    port.send(near, data, timeout=30.0)
    reading = run(receive_exactly, far, len(data))
    assert take(port).result() == len(data)
    assert reading.result() == data


def test_an_accept_after_one_that_timed_out_is_served(port: CompletionPort, net: Loopback) -> None:
    listener = net.listener()
    port.associate(listener)
    port.accept(listener, timeout=0.01)
    assert take(port).error in TIMED_OUT
    port.accept(listener, timeout=30.0)
    net.new_socket().connect(listener.getsockname())
    net.track(take(port).result()[0])


def test_closing_before_the_time_is_over_wins(port: CompletionPort, net: Loopback) -> None:
    near, _ = net.tcp_pair()
    port.associate(near)
    port.recv(near, 10, timeout=0.1)
    nothing_more(port)
    port.close_handle(near)
    assert take(port).error in CLOSED_HERE
    assert port.get(timeout=0.15) is None


def test_an_operation_started_again_has_its_time_again(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    operation = port.recv(near, 10, timeout=0.05)
    assert take(port).error in TIMED_OUT
    with at_least(0.05):
        port.resubmit(operation)
        assert take(port).error in TIMED_OUT
    port.recv(near, 10, overlapped=operation)  # none this time
    assert port.get(timeout=0.1) is None
    far.sendall(b"data")
    assert take(port).result() == b"data"


def test_the_time_is_over_while_another_thread_waits(port: CompletionPort, net: Loopback) -> None:
    """A limit set while a thread already waits is kept by that thread."""
    near, _ = net.tcp_pair()
    port.associate(near)
    waiting = run(lambda: port.get(timeout=30.0))
    port.recv(near, 10, timeout=0.05)
    completion = waiting.result()
    assert completion is not None
    assert completion.error in TIMED_OUT


def test_an_operation_without_a_port_times_out_as_well(port: CompletionPort, net: Loopback) -> None:
    near, _ = net.tcp_pair()
    operation = port.recv(near, 10, timeout=0.05)
    assert operation.wait(30.0)
    assert operation.status == nt.STATUS_IO_TIMEOUT
    with pytest.raises(TimeoutError):
        operation.result()


@pytest.mark.parametrize(
    "timeout", [-1, math.nan, "1", b"1", [], 1j, Decimal("nan"), -(10**400)], ids=repr
)
def test_a_time_that_makes_no_sense_is_refused(
    port: CompletionPort, net: Loopback, timeout: Any
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    with pytest.raises(ValueError, match="timeout"):
        port.recv(near, 10, timeout=timeout)
    with pytest.raises(ValueError, match="timeout"):
        port.get(timeout)
    with pytest.raises(ValueError, match="timeout"):
        port.timer(timeout)
    nothing_more(port)
    far.sendall(b"fine")
    port.recv(near, 10, timeout=math.inf)
    assert take(port).result() == b"fine"


@pytest.mark.parametrize("number", [Decimal, Fraction], ids=lambda kind: kind.__name__)
def test_a_time_may_be_any_number(port: CompletionPort, net: Loopback, number: Any) -> None:
    near, _ = net.tcp_pair()
    port.associate(near)
    port.recv(near, 10, timeout=number("0.05"))
    assert take(port).error in TIMED_OUT
    assert port.get(number("0.01")) is None
    port.timer(number("0.01"))
    assert take(port).error == 0
    port.post(1)
    assert port.get(number(1)) is not None
    assert port.stats()["waiting"] == 0
