"""`netpoll.winapi`: ports, packets, modes and cancellation, as raw Win32 has them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import netpoll.winapi as w
from netpoll import CompletionPort
from netpoll.testing.accepted import CLOSED_HERE, RESET
from netpoll.testing.outcome import unsupported
from netpoll.testing.pairs import reset, wait_readable
from netpoll.testing.waiting import DEADLINE, at_least, run, wait_for_waiters, wait_until

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from netpoll.testing.backends import Target
    from netpoll.testing.pairs import Loopback

pytestmark = pytest.mark.usefixtures("winapi")

SENTINEL = 0xDEADBEEF
MILLISECONDS = int(1000 * DEADLINE)
EMPTY = (w.FALSE, 0, 0, w.NULL)


class OVERLAPPEDPLUS(w.OVERLAPPED):
    """As every book has it; C runs no constructor, so neither does it call the base's."""

    def __init__(self, code: str = "") -> None:
        self.OpCode = code
        self.wbuf = w.WSABUF(0, b"")


def receive(
    sock: socket.socket, size: int = 10, overlapped: OVERLAPPEDPLUS | None = None
) -> OVERLAPPEDPLUS:
    """Start a receive, which must pend, or finish and queue its packet."""
    record = overlapped or OVERLAPPEDPLUS()
    record.wbuf = w.WSABUF(size, bytearray(size))
    result, _, _ = w.WSARecv(sock, record.wbuf, 1, 0, record, w.NULL)
    assert result == 0 or w.WSAGetLastError() == w.WSA_IO_PENDING
    return record


def take(port: CompletionPort) -> tuple[int, int, Any, Any]:
    return w.GetQueuedCompletionStatus(port, MILLISECONDS)


# -- making ports ----------------------------------------------------------------------------------


@pytest.mark.statement("PORT-01")
def test_a_bare_port_is_made_of_an_invalid_handle() -> None:
    port = w.CreateIoCompletionPort(w.INVALID_HANDLE_VALUE, w.NULL, 999, 0)
    assert port
    assert w.GetQueuedCompletionStatus(port, 0) == EMPTY
    assert w.CloseHandle(port)
    assert (w.CloseHandle(port), w.GetLastError()) == (w.FALSE, w.ERROR_INVALID_HANDLE)


@pytest.mark.statement("PORT-02")
def test_an_invalid_handle_with_a_port_is_refused(port: CompletionPort) -> None:
    assert w.CreateIoCompletionPort(w.INVALID_HANDLE_VALUE, port, 0, 0) is w.NULL
    assert w.GetLastError() == 87
    assert w.PostQueuedCompletionStatus(port, 0, "unharmed", w.NULL)
    assert take(port)[2] == "unharmed"


@pytest.mark.statement("PORT-03")
def test_associating_returns_the_port_that_was_given(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    assert w.CreateIoCompletionPort(near, port, "key", 7) is port
    record = receive(near)
    far.sendall(b"x")
    assert take(port) == (w.TRUE, 1, "key", record)


@pytest.mark.statement("PORT-03")
def test_one_call_makes_a_port_and_associates(net: Loopback) -> None:
    near, far = net.tcp_pair()
    port = w.CreateIoCompletionPort(near, w.NULL, "key", 0)
    assert port
    record = receive(near)
    far.sendall(b"x")
    assert take(port) == (w.TRUE, 1, "key", record)
    w.CloseHandle(port)


@pytest.mark.statement("ASSOC-01")
def test_a_second_association_is_87(port: CompletionPort, net: Loopback) -> None:
    near, _ = net.tcp_pair()
    assert w.CreateIoCompletionPort(near, port, "first", 0)
    for other in (port, w.NULL):
        w.SetLastError(SENTINEL)
        assert w.CreateIoCompletionPort(near, other, "second", 0) is w.NULL
        assert w.GetLastError() == 87


@pytest.mark.statement("ASSOC-02", "MODE-02")
def test_what_is_not_overlapped_has_no_port_and_no_modes(port: CompletionPort) -> None:
    plain = w.WSASocket(w.AF_INET, w.SOCK_STREAM, 0, w.NULL, 0, 0)
    with open(os.devnull, "rb") as file:
        for handle in (plain, file):
            w.SetLastError(SENTINEL)
            assert w.CreateIoCompletionPort(handle, port, 0, 0) is w.NULL  # type: ignore[arg-type]
            assert w.GetLastError() == 87
            w.SetLastError(SENTINEL)
            assert not w.SetFileCompletionNotificationModes(handle, 1)
            assert w.GetLastError() == 87
    w.closesocket(plain)


@pytest.mark.statement("ASSOC-03")
def test_a_closed_handle_has_no_port_and_no_modes(port: CompletionPort) -> None:
    closed = w.socket(w.AF_INET, w.SOCK_STREAM, 0)
    w.closesocket(closed)
    assert w.CreateIoCompletionPort(closed, port, 0, 0) is w.NULL
    assert w.GetLastError() == 6
    assert not w.SetFileCompletionNotificationModes(closed, 1)
    assert w.GetLastError() == 6


# -- packets ---------------------------------------------------------------------------------------


@pytest.mark.statement("PORT-10", "PORT-11")
def test_a_timeout_brings_nothing_of_the_packet_before(port: CompletionPort) -> None:
    w.PostQueuedCompletionStatus(port, 5, "key", "overlapped")
    assert take(port) == (w.TRUE, 5, "key", "overlapped")
    assert w.GetQueuedCompletionStatus(port, 0) == EMPTY
    assert w.GetLastError() == w.WAIT_TIMEOUT == 258


@pytest.mark.statement("PORT-12")
def test_a_success_leaves_the_last_error_alone(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    w.CreateIoCompletionPort(near, port, "key", 0)
    far.sendall(b"x")
    receive(near)
    w.PostQueuedCompletionStatus(port, 0, 0, w.NULL)
    for _ in range(2):
        w.SetLastError(SENTINEL)
        assert take(port)[0]
        assert w.GetLastError() == SENTINEL
    w.PostQueuedCompletionStatus(port, 0, 0, w.NULL)
    assert w.GetQueuedCompletionStatusEx(port, 5, 0, w.FALSE)[0]
    assert w.GetLastError() == SENTINEL


def test_each_thread_has_its_own_last_error(port: CompletionPort) -> None:
    w.SetLastError(SENTINEL)

    def elsewhere() -> tuple[int, int]:
        before = w.GetLastError()
        w.GetQueuedCompletionStatus(port, 0)
        return before, w.WSAGetLastError()

    assert run(elsewhere).result() == (0, 258)
    assert w.GetLastError() == SENTINEL


@pytest.mark.statement("PORT-15", "PORT-16")
def test_a_failed_operation_is_false_with_its_record(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    w.CreateIoCompletionPort(near, port, "key", 0)
    record = receive(near)
    reset(far)
    assert take(port) == (w.FALSE, 0, "key", record)
    assert w.GetLastError() in RESET
    assert record.Internal >= 0xC0000000


@pytest.mark.statement("PORT-18", "PORT-15")
@pytest.mark.parametrize("extended", [False, True], ids=["plain", "ex"])
def test_a_waiter_is_told_of_the_end_of_its_port(port: CompletionPort, extended: bool) -> None:
    def wait() -> tuple[Any, int]:
        if extended:
            taken: Any = w.GetQueuedCompletionStatusEx(port, 4, w.INFINITE, w.FALSE)
        else:
            taken = w.GetQueuedCompletionStatus(port, w.INFINITE)
        return taken, w.GetLastError()

    waiter = run(wait)
    wait_for_waiters(port, 1)
    assert w.CloseHandle(port)
    assert waiter.result() == ((w.FALSE, []) if extended else EMPTY, 735)


@pytest.mark.statement("PORT-19")
def test_a_closed_port_is_6(port: CompletionPort, net: Loopback) -> None:
    w.CloseHandle(port)
    for not_a_port in (port, w.NULL, w.INVALID_HANDLE_VALUE):
        handle: Any = not_a_port
        w.SetLastError(SENTINEL)
        assert w.GetQueuedCompletionStatus(handle, 0) == EMPTY
        assert w.GetLastError() == 6
        w.SetLastError(SENTINEL)
        assert not w.PostQueuedCompletionStatus(handle, 0, 0, w.NULL)
        assert w.GetLastError() == 6
    assert w.CreateIoCompletionPort(net.new_socket(), port, 0, 0) is w.NULL
    assert w.GetLastError() == 6


@pytest.mark.statement("PORT-21")
def test_the_packets_that_are_there_come_together(port: CompletionPort) -> None:
    for number in range(5):
        w.PostQueuedCompletionStatus(port, number, number, w.NULL)
    ok, entries = w.GetQueuedCompletionStatusEx(port, 3, MILLISECONDS, w.FALSE)
    assert ok
    assert [entry.lpCompletionKey for entry in entries] == [0, 1, 2]
    ok, entries = w.GetQueuedCompletionStatusEx(port, 3, MILLISECONDS, w.FALSE)
    assert [entry.dwNumberOfBytesTransferred for entry in entries] == [3, 4]
    assert w.GetQueuedCompletionStatusEx(port, 3, 0, w.FALSE) == (w.FALSE, [])
    assert w.GetLastError() == w.WAIT_TIMEOUT
    assert w.GetQueuedCompletionStatusEx(port, 0, 0, w.FALSE) == (w.FALSE, [])
    assert w.GetLastError() == w.ERROR_INVALID_PARAMETER


@pytest.mark.statement("PORT-23")
def test_many_at_once_succeeds_although_all_of_them_failed(
    port: CompletionPort, net: Loopback
) -> None:
    near, _ = net.tcp_pair()
    w.CreateIoCompletionPort(near, port, "key", 0)
    record = receive(near)
    assert w.CancelIoEx(near, record)
    w.SetLastError(SENTINEL)
    ok, entries = w.GetQueuedCompletionStatusEx(port, 3, MILLISECONDS, w.FALSE)
    assert ok
    assert entries == [w.OVERLAPPED_ENTRY("key", record, w.STATUS_CANCELLED, 0)]
    assert (record.Internal, w.GetLastError()) == (w.STATUS_CANCELLED, SENTINEL)


@pytest.mark.statement("PORT-24", "PORT-25")
def test_an_alertable_wait_that_ran_routines_is_192(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    ran: list[tuple[int, int, int]] = []

    def routine(error: int, moved: int, overlapped: Any, flags: int) -> None:
        ran.append((error, moved, overlapped.Internal))

    record = OVERLAPPEDPLUS()
    buffer = bytearray(4)
    w.WSARecv(near, w.WSABUF(4, buffer), 1, 0, record, routine)
    far.sendall(b"x")
    assert w.GetQueuedCompletionStatusEx(port, 4, 50, w.FALSE) == (w.FALSE, [])
    assert (w.GetLastError(), ran) == (w.WAIT_TIMEOUT, [])
    w.PostQueuedCompletionStatus(port, 0, "first", w.NULL)
    ok, entries = w.GetQueuedCompletionStatusEx(port, 4, MILLISECONDS, w.TRUE)
    assert (ok, [entry.lpCompletionKey for entry in entries], ran) == (w.TRUE, ["first"], [])
    assert w.GetQueuedCompletionStatusEx(port, 4, MILLISECONDS, w.TRUE) == (w.FALSE, [])
    assert (w.GetLastError(), ran) == (w.WAIT_IO_COMPLETION, [(0, 1, 0)])
    assert w.GetQueuedCompletionStatusEx(port, 4, 0, w.TRUE) == (w.FALSE, [])
    assert w.GetLastError() == w.WAIT_TIMEOUT


@pytest.mark.statement("PORT-26")
def test_a_posted_packet_is_passed_on_as_it_is(port: CompletionPort) -> None:
    record = OVERLAPPEDPLUS()
    record.Internal = w.STATUS_CANCELLED
    for overlapped in (w.NULL, 0xDEADBEEF, record):
        assert w.PostQueuedCompletionStatus(port, 123, 456, overlapped)
        assert take(port) == (w.TRUE, 123, 456, overlapped)
    assert record.Internal == w.STATUS_CANCELLED


@pytest.mark.statement("PORT-27")
def test_a_posted_packet_is_a_success_and_its_bytes_a_dword(port: CompletionPort) -> None:
    w.PostQueuedCompletionStatus(port, 2**32 + 7, "key", w.NULL)
    w.PostQueuedCompletionStatus(port, -1, "key", w.NULL)
    _, entries = w.GetQueuedCompletionStatusEx(port, 2, MILLISECONDS, w.FALSE)
    assert entries == [
        w.OVERLAPPED_ENTRY("key", w.NULL, 0, 7),
        w.OVERLAPPED_ENTRY("key", w.NULL, 0, 0xFFFFFFFF),
    ]


@pytest.mark.statement("PORT-14")
def test_times_are_whole_milliseconds_and_the_largest_of_them_is_for_ever(
    port: CompletionPort,
) -> None:
    for wait in (
        lambda: w.GetQueuedCompletionStatus(port, 40),
        lambda: w.GetQueuedCompletionStatusEx(port, 4, 40, w.FALSE),
    ):
        # a clock that ticks in milliseconds may be one early (PORT-13)
        with at_least(0.038):
            assert not wait()[0]
        assert w.GetLastError() == w.WAIT_TIMEOUT
    assert w.INFINITE == 0xFFFFFFFF
    waiter = run(w.GetQueuedCompletionStatus, port, w.INFINITE)
    wait_for_waiters(port, 1)
    assert w.PostQueuedCompletionStatus(port, 1, "end", w.NULL)
    assert waiter.result() == (w.TRUE, 1, "end", w.NULL)


# -- modes -----------------------------------------------------------------------------------------


@pytest.mark.statement("MODE-01")
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_modes_are_added_and_never_taken_away(
    port: CompletionPort, net: Loopback, first: bool, target: Target
) -> None:
    near, far = net.tcp_pair()
    if not first:
        w.CreateIoCompletionPort(near, port, "key", 0)
    for flags in (0, 0x80, w.FILE_SKIP_COMPLETION_PORT_ON_SUCCESS, 0, 0x80):
        assert w.SetFileCompletionNotificationModes(near, flags)
    if first:
        w.CreateIoCompletionPort(near, port, "key", 0)
    far.sendall(b"x")
    wait_readable(near)
    record = OVERLAPPEDPLUS()
    result, moved, _ = w.WSARecv(near, w.WSABUF(4, bytearray(4)), 1, 0, record, w.NULL)
    if result == 0:  # MODE-03
        assert (moved, record.Internal, record.InternalHigh) == (1, 0, 1)
        assert w.GetQueuedCompletionStatus(port, 0) == EMPTY
    else:
        assert target.backend != "selectors"  # which has looked, and the data was there
        assert take(port) == (w.TRUE, 1, "key", record)
    receive(near, 4, record)  # and one that pends has its packet (MODE-04)
    far.sendall(b"y")
    assert take(port) == (w.TRUE, 1, "key", record)


def test_with_the_mode_a_packet_taken_by_another_thread_is_not_told_twice(
    port: CompletionPort, net: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = net.tcp_pair()
    w.SetFileCompletionNotificationModes(near, w.FILE_SKIP_COMPLETION_PORT_ON_SUCCESS)
    w.CreateIoCompletionPort(near, port, "key", 0)
    start = port.recv_into
    taken: list[Any] = []

    def slow(*arguments: Any, **options: Any) -> Any:
        assert not w.HasOverlappedIoCompleted(record)
        operation = start(*arguments, **options)
        far.sendall(b"x")  # the operation pends, and ends before its start is back (PORT-29)
        taken.append(run(take, port).result())
        return operation

    monkeypatch.setattr(port, "recv_into", slow)
    record = OVERLAPPEDPLUS()
    result, _, _ = w.WSARecv(near, w.WSABUF(4, bytearray(4)), 1, 0, record, w.NULL)
    assert (result, w.WSAGetLastError()) == (w.SOCKET_ERROR, w.WSA_IO_PENDING)
    assert taken == [(w.TRUE, 1, "key", record)]
    assert record.Internal == 0


@pytest.mark.statement("MODE-05")
def test_a_datagram_cut_off_with_the_mode_is_told_once(port: CompletionPort, net: Loopback) -> None:
    near, far = net.udp_pair()
    w.SetFileCompletionNotificationModes(near, w.FILE_SKIP_COMPLETION_PORT_ON_SUCCESS)
    w.CreateIoCompletionPort(near, port, "key", 0)
    far.send(b"0123456789")
    wait_readable(near)
    record, buffer = OVERLAPPEDPLUS(), bytearray(4)
    result, moved, _ = w.WSARecv(near, w.WSABUF(4, buffer), 1, 0, record, w.NULL)
    assert result == w.SOCKET_ERROR
    if w.WSAGetLastError() == w.WSA_IO_PENDING:
        assert take(port) == (w.FALSE, 4, "key", record)
        assert w.GetLastError() == w.ERROR_MORE_DATA
    else:
        assert (w.WSAGetLastError(), moved) == (w.WSAEMSGSIZE, 4)
    assert (record.Internal, buffer) == (w.STATUS_BUFFER_OVERFLOW, b"0123")
    assert w.GetQueuedCompletionStatus(port, 0) == EMPTY


@pytest.mark.statement("PORT-17")
def test_a_warning_is_false_with_the_bytes_it_moved(port: CompletionPort, net: Loopback) -> None:
    near, far = net.udp_pair()
    w.CreateIoCompletionPort(near, port, "key", 0)
    record = receive(near, 4)
    far.send(b"0123456789")
    assert take(port) == (w.FALSE, 4, "key", record)
    assert w.GetLastError() == w.ERROR_MORE_DATA == 234


# -- cancellation ----------------------------------------------------------------------------------


@pytest.mark.statement("CAN-01", "CAN-04")
def test_cancel_io_is_for_the_operations_of_the_calling_thread(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    w.CreateIoCompletionPort(near, port, "key", 0)
    assert w.CancelIo(near), "nothing to cancel is no failure"
    record = receive(near)
    assert run(w.CancelIo, near).result()
    assert w.GetQueuedCompletionStatus(port, 0) == EMPTY
    assert w.CancelIo(near)
    assert take(port) == (w.FALSE, 0, "key", record)
    assert w.GetLastError() == w.ERROR_OPERATION_ABORTED
    receive(near, 10, record)
    far.sendall(b"alive")
    assert take(port) == (w.TRUE, 5, "key", record)


@pytest.mark.statement("CAN-01", "CAN-02", "CAN-03")
def test_cancel_io_ex_from_another_thread(port: CompletionPort, net: Loopback) -> None:
    def cancel(record: Any) -> tuple[int, int]:
        w.SetLastError(SENTINEL)
        return w.CancelIoEx(near, record), w.GetLastError()

    near, _ = net.tcp_pair()
    other, other_far = net.tcp_pair()
    w.CreateIoCompletionPort(near, port, "key", 0)
    w.CreateIoCompletionPort(other, port, "other", 0)
    record, bystander = receive(near), receive(other)
    assert run(cancel, bystander).result() == (w.FALSE, 1168), "an operation on another handle"
    assert run(cancel, record).result() == (w.TRUE, SENTINEL)
    assert cancel(record) == (w.FALSE, 1168)
    assert take(port) == (w.FALSE, 0, "key", record)
    for nothing in (record, OVERLAPPEDPLUS(), w.NULL):
        assert cancel(nothing) == (w.FALSE, 1168)
    record = receive(near, 10, record)
    assert run(cancel, w.NULL).result() == (w.TRUE, SENTINEL)
    assert take(port) == (w.FALSE, 0, "key", record)
    other_far.sendall(b"x")
    assert take(port) == (w.TRUE, 1, "other", bystander)


@pytest.mark.statement("CAN-14")
def test_cancelling_what_a_call_without_overlapped_waits_for_queues_nothing(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    w.CreateIoCompletionPort(near, port, "key", 0)

    def receive_in_the_call() -> tuple[int, int]:
        result, _, _ = w.WSARecv(near, w.WSABUF(10, bytearray(10)), 1)
        return result, w.WSAGetLastError()

    waiter = run(receive_in_the_call)
    wait_until(port.inflight, "the receive")
    assert w.CancelIoEx(near, w.NULL)
    assert waiter.result() == (w.SOCKET_ERROR, w.WSA_OPERATION_ABORTED)
    assert w.GetQueuedCompletionStatus(port, 0) == EMPTY
    record = receive(near)
    far.sendall(b"x")
    assert take(port) == (w.TRUE, 1, "key", record)


def test_cancelling_on_a_closed_handle_is_6() -> None:
    closed = w.INVALID_SOCKET
    w.SetLastError(SENTINEL)
    assert (w.CancelIo(closed), w.GetLastError()) == (w.FALSE, 6)
    w.SetLastError(SENTINEL)
    assert (w.CancelIoEx(closed, w.NULL), w.GetLastError()) == (w.FALSE, 6)


# -- closing ---------------------------------------------------------------------------------------


CLOSES = [w.closesocket, w.CloseHandle]
if sys.platform == "win32":
    import ctypes

    def nt_close(sock: socket.socket) -> int:
        """Close it without the knowledge of Winsock, and of netpoll."""
        return int(ctypes.WinDLL("ntdll").NtClose(ctypes.c_void_p(sock.detach())))

    CLOSES.append(nt_close)


@pytest.mark.statement("CLOSE-05")
@pytest.mark.parametrize("close", CLOSES, ids=lambda close: close.__name__)
def test_every_way_to_close_a_socket_ends_what_is_pending(
    port: CompletionPort, net: Loopback, close: Callable[[socket.socket], int]
) -> None:
    near, _ = net.tcp_pair()
    listener = net.listener()
    w.CreateIoCompletionPort(near, port, "near", 0)
    w.CreateIoCompletionPort(listener, port, "listener", 0)
    record, accept = receive(near), w.OVERLAPPED()
    accepting = net.track(w.socket(w.AF_INET, w.SOCK_STREAM, 0))
    w.AcceptEx(listener, accepting, bytearray(64), 0, 32, 32, accept)
    assert w.GetQueuedCompletionStatus(port, 0) == EMPTY
    close(near)
    assert take(port) == (w.FALSE, 0, "near", record)
    assert w.GetLastError() in CLOSED_HERE
    close(listener)
    assert take(port) == (w.FALSE, 0, "listener", accept)
    assert w.GetLastError() == w.ERROR_OPERATION_ABORTED
    assert w.GetQueuedCompletionStatus(port, 0) == EMPTY


@pytest.mark.statement("EMU-31")
def test_what_is_closed_or_foreign_is_6_to_the_calls_of_win32(
    port: CompletionPort, net: Loopback
) -> None:
    closed, other = net.new_socket(), w.CreateIoCompletionPort(w.INVALID_HANDLE_VALUE, w.NULL, 0, 0)
    w.closesocket(closed)
    w.CloseHandle(other)
    calls: list[Callable[[Any], object]] = [
        lambda handle: w.CreateIoCompletionPort(handle, port, 0, 0),
        lambda handle: w.SetFileCompletionNotificationModes(handle, 1),
        lambda handle: w.CancelIo(handle),
        lambda handle: w.CancelIoEx(handle, w.NULL),
        lambda handle: w.CloseHandle(handle),
        lambda handle: w.PostQueuedCompletionStatus(handle, 0, 0, w.NULL),
        lambda handle: w.GetQueuedCompletionStatus(handle, 0)[0],
        lambda handle: w.GetQueuedCompletionStatusEx(handle, 1, 0, w.FALSE)[0],
    ]
    for handle in (closed, other, w.NULL, object()):
        for call in calls:
            w.SetLastError(SENTINEL)
            assert not call(handle)
            assert w.GetLastError() == w.ERROR_INVALID_HANDLE


@pytest.mark.statement("ASSOC-10")
@pytest.mark.parametrize("event", [False, True], ids=["port", "event"])
def test_closing_ends_what_is_pending_although_a_child_has_the_socket(
    port: CompletionPort, net: Loopback, target: Target, event: bool
) -> None:
    near, far = net.tcp_pair()
    near.set_inheritable(True)
    windows = sys.platform == "win32"
    child = subprocess.Popen(
        [sys.executable, "-c", "input('ready')"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        close_fds=not windows,
        pass_fds=() if windows else (near.fileno(),),
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.read(5) == b"ready"
        w.CreateIoCompletionPort(near, port, "key", 0)
        record = OVERLAPPEDPLUS()
        if event:
            record.hEvent = w.WSACreateEvent()
        receive(near, 10, record)
        assert w.closesocket(near) == 0
        try:
            if event and not target.emulated:
                assert w.GetQueuedCompletionStatus(port, 0) == EMPTY
                far.sendall(b"alive")
                assert take(port) == (w.TRUE, 5, "key", record)
                return
            # not take(): Wine would wait for all of its time
            ended = w.GetQueuedCompletionStatus(port, 5000)
            assert ended == (w.FALSE, 0, "key", record)
            assert w.GetLastError() in CLOSED_HERE
        finally:
            child.communicate(b"\n", timeout=DEADLINE)
    if event:
        unsupported("closing ends operations with an event too: nothing tells of the duplicate")
