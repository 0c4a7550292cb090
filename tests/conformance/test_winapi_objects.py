"""`netpoll.winapi`: waits for one or several events, sockets and threads, and for a result."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

import netpoll.winapi as w
from netpoll.testing.waiting import DEADLINE, at_least, run

if TYPE_CHECKING:
    import socket

    from netpoll import CompletionPort
    from netpoll.testing.pairs import Loopback

pytestmark = pytest.mark.usefixtures("winapi")

MILLISECONDS = int(1000 * DEADLINE)


def receive(
    sock: socket.socket, record: w.OVERLAPPED | None = None, routine: Any = w.NULL
) -> w.OVERLAPPED:
    """Start a receive that pends."""
    record = record or w.OVERLAPPED()
    assert w.WSARecv(sock, w.WSABUF(4, bytearray(4)), 1, 0, record, routine)[0] == -1
    assert w.WSAGetLastError() == w.WSA_IO_PENDING
    return record


def with_event() -> w.OVERLAPPED:
    record = w.OVERLAPPED()
    record.hEvent = w.CreateEventW(w.NULL, w.TRUE, w.FALSE, w.NULL)
    return record


# -- several ---------------------------------------------------------------------------------------


@pytest.mark.statement("OVL-18")
def test_a_wait_for_handles_of_each_kind(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    receive(near)
    event, stop = w.CreateEventA(w.NULL, w.FALSE, w.FALSE, w.NULL), threading.Event()
    thread = threading.Thread(target=stop.wait)
    handles: list[Any] = [near, event, thread]
    assert w.WaitForMultipleObjects(3, handles, w.FALSE, 0) == w.WAIT_TIMEOUT
    thread.start()
    assert w.WaitForMultipleObjects(3, handles, w.FALSE, 20) == w.WAIT_TIMEOUT
    w.SetEvent(event)
    assert w.WaitForMultipleObjects(3, handles, w.FALSE, w.INFINITE) == w.WAIT_OBJECT_0 + 1
    far.sendall(b"x")
    assert w.WaitForMultipleObjects(3, handles, w.FALSE, w.INFINITE) == w.WAIT_OBJECT_0
    waiter = run(w.WaitForMultipleObjects, 3, handles, w.TRUE, w.INFINITE)
    w.SetEvent(event)
    stop.set()
    assert waiter.result() == w.WAIT_OBJECT_0
    # it has taken the event's signal, and the others stay as they are
    assert w.WaitForMultipleObjects(1, [event], w.FALSE, 0) == w.WAIT_TIMEOUT
    assert w.WaitForSingleObject(thread, w.INFINITE) == w.WAIT_OBJECT_0
    assert w.WaitForSingleObject(near, 0) == w.WAIT_OBJECT_0


def test_a_wait_for_the_workers(port: CompletionPort) -> None:
    def work() -> None:
        while w.GetQueuedCompletionStatus(port, w.INFINITE)[2] != "stop":
            pass

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for _ in threads:
        w.PostQueuedCompletionStatus(port, 0, "stop", w.NULL)
    assert w.WaitForMultipleObjects(5, threads, w.TRUE, MILLISECONDS) == w.WAIT_OBJECT_0
    assert not any(thread.is_alive() for thread in threads)


def test_what_cannot_be_waited_for(port: CompletionPort) -> None:
    event = w.WSACreateEvent()
    for handle in (w.INVALID_SOCKET, w.NULL, port, 5):
        w.SetLastError(0)
        assert w.WaitForMultipleObjects(2, [event, handle], w.FALSE, 0) == w.WAIT_FAILED
        assert w.GetLastError() == w.ERROR_INVALID_HANDLE
        w.SetLastError(0)
        assert w.WaitForSingleObject(handle, 0) == w.WAIT_FAILED
        assert w.GetLastError() == w.ERROR_INVALID_HANDLE
    many = [event] * (w.MAXIMUM_WAIT_OBJECTS + 1)
    for count in (0, len(many)):
        assert w.WaitForMultipleObjects(count, many, w.FALSE, 0) == w.WAIT_FAILED
        assert w.GetLastError() == w.ERROR_INVALID_PARAMETER


# -- alertable -------------------------------------------------------------------------------------


@pytest.mark.statement("APC-01")
@pytest.mark.parametrize("kind", ["event", "socket", "thread", "several", "result"])
def test_routines_end_an_alertable_wait(port: CompletionPort, net: Loopback, kind: str) -> None:
    near, far = net.tcp_pair()
    lonely, _ = net.tcp_pair()
    ran: list[Any] = []

    def routine(*told: Any) -> None:
        ran.append(told)

    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    event = w.WSACreateEvent()
    pending = receive(lonely, with_event() if kind == "result" else None)

    def wait(alertable: int, milliseconds: int) -> int:
        if kind == "several":
            handles = [event, lonely, thread]
            return w.WaitForMultipleObjectsEx(3, handles, w.FALSE, milliseconds, alertable)
        if kind == "result":
            assert w.GetOverlappedResultEx(lonely, pending, milliseconds, alertable) == (0, 0)
            return w.GetLastError()
        handle = {"event": event, "socket": lonely, "thread": thread}[kind]
        return w.WaitForSingleObjectEx(handle, milliseconds, alertable)

    record = receive(near, routine=routine)
    far.sendall(b"data")
    assert wait(w.FALSE, 20) == w.WAIT_TIMEOUT
    assert ran == []
    assert wait(w.TRUE, MILLISECONDS) == w.WAIT_IO_COMPLETION
    assert ran == [(0, 4, record, 0)]
    assert wait(w.TRUE, 20) == w.WAIT_TIMEOUT
    stop.set()
    thread.join()


# -- for a result, and for time --------------------------------------------------------------------


@pytest.mark.statement("OVL-08", "OVL-10")
@pytest.mark.parametrize("alertable", [w.FALSE, w.TRUE], ids=["plain", "alertable"])
def test_a_result_is_waited_for_so_long_and_no_longer(
    port: CompletionPort, net: Loopback, alertable: int
) -> None:
    near, far = net.tcp_pair()
    for record in (with_event(), w.OVERLAPPED()):
        receive(near, record)
        for milliseconds, code in ((0, w.ERROR_IO_INCOMPLETE), (20, w.WAIT_TIMEOUT)):
            with at_least(milliseconds / 1000):
                asked = w.GetOverlappedResultEx(near, record, milliseconds, alertable)
            assert (asked, w.GetLastError()) == ((w.FALSE, 0), code)
        waiter = run(w.GetOverlappedResultEx, near, record, w.INFINITE, alertable)
        far.sendall(b"data")
        assert waiter.result() == (w.TRUE, 4)
        assert w.GetOverlappedResultEx(near, record, 0, alertable) == (w.TRUE, 4)


def test_a_sleep_is_not_alertable(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    ran: list[Any] = []

    def routine(*told: Any) -> None:
        ran.append(told)

    receive(near, routine=routine)
    far.sendall(b"x")
    with at_least(0.02):
        w.Sleep(20)
    assert ran == []
    assert w.SleepEx(MILLISECONDS, w.TRUE) == w.WAIT_IO_COMPLETION
