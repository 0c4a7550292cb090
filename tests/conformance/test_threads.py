"""What becomes of the operations of a thread that ends."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from netpoll import Overlapped
from netpoll.testing.drain import nothing_more, take
from netpoll.testing.waiting import DEADLINE, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll import CompletionPort
    from netpoll.testing.pairs import Loopback

CANCELLED = 0xC0000120


def start_in_a_thread(start: Callable[[], Overlapped[Any]]) -> Overlapped[Any]:
    """Start an operation in a thread that has ended when this returns."""
    started: list[Overlapped[Any]] = []
    thread = threading.Thread(target=lambda: started.append(start()))
    thread.start()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    return started[0]


@pytest.mark.statement("EMU-14", "THR-01")
def test_an_operation_without_a_port_ends_with_its_thread(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    event = threading.Event()
    receive = start_in_a_thread(lambda: port.recv(near, 4, overlapped=Overlapped(event=event)))
    assert receive.wait(DEADLINE)
    assert event.wait(DEADLINE)
    assert (receive.status, receive.transferred) == (CANCELLED, 0)
    far.send(b"here")
    again = port.recv(near, 4)
    assert again.wait(DEADLINE)
    assert again.result() == b"here"  # it took nothing along


@pytest.mark.statement("THR-01")
def test_a_routine_of_a_thread_that_ended_is_never_called(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    called: list[int] = []

    def routine(error: int, *_: object) -> None:
        called.append(error)

    receive = start_in_a_thread(lambda: port.recv(near, 4, routine=routine))
    assert receive.wait(DEADLINE)
    assert receive.status == CANCELLED
    far.send(b"here")
    # the record can be used again
    port.recv(near, 4, overlapped=receive)
    assert receive.wait(DEADLINE)
    assert receive.result() == b"here"
    assert called == []


@pytest.mark.statement("THR-02")
def test_an_operation_of_a_port_outlives_its_thread(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    receive = start_in_a_thread(lambda: port.recv(near, 4))
    nothing_more(port)
    far.send(b"here")
    completion = take(port)
    assert (completion.overlapped, completion.result()) == (receive, b"here")


@pytest.mark.statement("THR-03")
def test_with_port_and_event_it_ends_with_its_thread_and_a_packet_says_so(
    port: CompletionPort, net: Loopback
) -> None:
    near, _ = net.tcp_pair()
    port.associate(near)
    event = threading.Event()
    receive = start_in_a_thread(lambda: port.recv(near, 4, overlapped=Overlapped(event=event)))
    completion = take(port)
    assert (completion.overlapped, completion.error) == (receive, 995)
    assert event.is_set()


@pytest.mark.statement("THR-03")
def test_with_its_packet_suppressed_it_is_cancelled_silently(
    port: CompletionPort, net: Loopback
) -> None:
    near, _ = net.tcp_pair()
    port.associate(near)
    event = threading.Event()
    receive = start_in_a_thread(
        lambda: port.recv(near, 4, overlapped=Overlapped(event=event, packet=False))
    )
    assert receive.wait(DEADLINE)
    assert event.wait(DEADLINE)
    assert receive.status == CANCELLED
    nothing_more(port)


@pytest.mark.statement("THR-01")
def test_what_another_thread_has_started_again_is_not_the_first_one_s(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    started = threading.Event()
    leave = threading.Event()
    record: Overlapped[bytes] = Overlapped()

    def first() -> None:
        port.recv(near, 4, overlapped=record)
        started.set()
        leave.wait(DEADLINE)

    thread = run(first)
    assert started.wait(DEADLINE)
    far.send(b"one.")
    assert record.wait(DEADLINE)
    port.recv(near, 4, overlapped=record)
    leave.set()
    thread.result()
    far.send(b"two.")
    assert record.wait(DEADLINE)
    assert record.result() == b"two."
