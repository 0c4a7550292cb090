"""`netpoll.winapi`: OVERLAPPED, its results, events, and the transfers, as raw Winsock has them."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

import netpoll
import netpoll.winapi as w
from netpoll.testing.outcome import unsupported
from netpoll.testing.pairs import fill, reset, wait_readable
from netpoll.testing.waiting import DEADLINE, run

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from netpoll import CompletionPort
    from netpoll.testing.pairs import Loopback

pytestmark = pytest.mark.usefixtures("winapi")

SENTINEL = 0xDEADBEEF
MILLISECONDS = int(1000 * DEADLINE)


def receive(
    sock: socket.socket, record: w.OVERLAPPED, size: int = 10, routine: Any = w.NULL
) -> bytearray:
    """Start a receive that pends; its buffer."""
    buffer = bytearray(size)
    w.WSASetLastError(SENTINEL)
    assert w.WSARecv(sock, w.WSABUF(size, buffer), 1, 0, record, routine) == (-1, 0, 0)
    assert w.WSAGetLastError() == w.WSA_IO_PENDING == 997
    return buffer


def with_event() -> w.OVERLAPPED:
    record = w.OVERLAPPED()
    record.hEvent = w.WSACreateEvent()
    return record


def result(sock: socket.socket, record: w.OVERLAPPED, wait: bool) -> tuple[int, int, int]:
    """WSAGetOverlappedResult with the last error; the flags are nought."""
    w.WSASetLastError(SENTINEL)
    ok, moved, flags = w.WSAGetOverlappedResult(sock, record, wait)
    assert flags == 0
    return ok, moved, w.WSAGetLastError()


# -- OVERLAPPED ------------------------------------------------------------------------------------


@pytest.mark.statement("OVL-01", "OVL-04", "XFER-02")
def test_a_pending_record_changes_when_its_packet_is_taken(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    w.CreateIoCompletionPort(near, port, "key", 0)
    record = w.OVERLAPPED()
    record.InternalHigh = SENTINEL
    receive(near, record)
    assert (record.Internal, record.InternalHigh) == (w.STATUS_PENDING, SENTINEL)
    far.sendall(b"x")
    assert not w.HasOverlappedIoCompleted(record)
    assert w.GetQueuedCompletionStatus(port, MILLISECONDS) == (w.TRUE, 1, "key", record)
    assert (record.Internal, record.InternalHigh) == (0, 1)
    assert w.HasOverlappedIoCompleted(record)


@pytest.mark.statement("OVL-06")
def test_a_record_in_use_is_refused(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    w.CreateIoCompletionPort(near, port, "key", 0)
    record = w.OVERLAPPED()
    receive(near, record)
    with pytest.raises(RuntimeError, match="in use"):
        w.WSASend(near, w.WSABUF(1, b"x"), 1, 0, record, w.NULL)
    far.sendall(b"x")
    assert w.GetQueuedCompletionStatus(port, MILLISECONDS)[3] is record
    w.WSASend(near, w.WSABUF(1, b"x"), 1, 0, record, w.NULL)
    assert w.GetQueuedCompletionStatus(port, MILLISECONDS)[3] is record
    unsupported("netpoll notices it, and raises RuntimeError")


def test_a_buffer_is_free_when_its_completion_has_been_seen(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    w.CreateIoCompletionPort(near, port, "key", 0)
    record = w.OVERLAPPED()
    buffer = receive(near, record)
    with pytest.raises(BufferError):
        buffer.clear()
    far.sendall(b"x")
    w.GetQueuedCompletionStatus(port, MILLISECONDS)
    buffer.clear()


@pytest.mark.statement("OVL-08")
def test_the_result_of_what_is_pending_is_996(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    w.CreateIoCompletionPort(near, port, "key", 0)
    record = w.OVERLAPPED()
    receive(near, record)
    assert w.GetOverlappedResult(near, record, w.FALSE) == (w.FALSE, 0)
    assert w.GetLastError() == w.WSA_IO_INCOMPLETE == 996
    assert result(near, record, False) == (w.FALSE, 0, 996)
    far.sendall(b"x")
    w.GetQueuedCompletionStatus(port, MILLISECONDS)
    assert result(near, record, False) == (w.TRUE, 1, 0)


@pytest.mark.statement("OVL-09")
def test_a_zeroed_record_is_a_success_of_no_bytes(port: CompletionPort, net: Loopback) -> None:
    for handle in (net.new_socket(), w.NULL, w.INVALID_HANDLE_VALUE):
        for wait in (w.FALSE, w.TRUE):
            assert w.GetOverlappedResult(handle, w.OVERLAPPED(), wait) == (w.TRUE, 0)
    record = w.OVERLAPPED()
    record.Internal, record.InternalHigh = w.STATUS_CANCELLED, 7
    assert w.GetOverlappedResult(w.NULL, record, w.FALSE) == (w.FALSE, 7)
    assert w.GetLastError() == w.ERROR_OPERATION_ABORTED


@pytest.mark.statement("OVL-10")
@pytest.mark.parametrize("event", [True, False], ids=["event", "handle"])
def test_get_overlapped_result_waits(port: CompletionPort, net: Loopback, event: bool) -> None:
    near, far = net.tcp_pair()
    record = with_event() if event else w.OVERLAPPED()
    buffer = receive(near, record)
    waiter = run(w.GetOverlappedResult, near, record, w.TRUE)
    assert not w.HasOverlappedIoCompleted(record)
    far.sendall(b"data")
    assert waiter.result() == (w.TRUE, 4)
    assert buffer[:4] == b"data"


if sys.platform == "win32":
    import _winapi

    def plain_copy(sock: socket.socket) -> int:
        """A handle of the same socket that Winsock has not made."""
        this = _winapi.GetCurrentProcess()
        same = _winapi.DUPLICATE_SAME_ACCESS
        return _winapi.DuplicateHandle(this, sock.fileno(), this, 0, False, same)

    close_copy = _winapi.CloseHandle
else:

    def plain_copy(sock: socket.socket) -> int:
        """A descriptor of the same socket, and no socket object."""
        return os.dup(sock.fileno())

    close_copy = os.close


@pytest.mark.statement("OVL-11")
def test_winsocks_result_wants_a_socket(port: CompletionPort, net: Loopback) -> None:
    near, _ = net.tcp_pair()
    copy = plain_copy(near)
    for handle in (w.INVALID_SOCKET, w.NULL, 0xDEADBEEF, copy):
        garbage: Any = handle
        assert result(garbage, w.OVERLAPPED(), False) == (w.FALSE, 0, w.WSAENOTSOCK)
    close_copy(copy)
    assert result(net.new_socket(), w.OVERLAPPED(), False) == (w.TRUE, 0, 0)


@pytest.mark.statement("OVL-12")
def test_each_of_the_two_results_has_its_own_number(port: CompletionPort, net: Loopback) -> None:
    sock = net.new_socket()
    record = w.OVERLAPPED()
    for status, ok, win32, winsock in (
        (0x00000000, w.TRUE, SENTINEL, 0),
        (0x4000000F, w.TRUE, SENTINEL, 0),
        (0x80000005, w.FALSE, 234, 10040),
        (0xC0000120, w.FALSE, 995, 995),
        (0xC000013B, w.FALSE, 64, 10053),
        (0xC000020D, w.FALSE, 64, 10054),
        (0xC0000236, w.FALSE, 1225, 10061),
        (0xC000023F, w.FALSE, 1234, 10054),
        (0xC0000241, w.FALSE, 1236, 10053),
        (0xC00000B0, w.FALSE, 233, 10058),
        (0xC00000B5, w.FALSE, 121, 10060),
        (0xC00002FF, w.FALSE, 317, 10022),
    ):
        record.Internal, record.InternalHigh = status, 3
        assert result(sock, record, False) == (ok, 3, winsock)
        w.SetLastError(SENTINEL)
        assert w.GetOverlappedResult(sock, record, w.FALSE) == (ok, 3)
        assert w.GetLastError() == win32


@pytest.mark.statement("OVL-12", "RECV-05")
def test_a_reset_has_two_numbers(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    w.CreateIoCompletionPort(near, port, "key", 0)
    record = w.OVERLAPPED()
    receive(near, record)
    reset(far)
    assert w.GetQueuedCompletionStatus(port, MILLISECONDS) == (w.FALSE, 0, "key", record)
    assert w.GetLastError() == w.ERROR_NETNAME_DELETED == 64
    assert result(near, record, False) == (w.FALSE, 0, w.WSAECONNRESET)
    assert w.GetOverlappedResult(near, record, w.FALSE) == (w.FALSE, 0)
    assert w.GetLastError() == w.ERROR_NETNAME_DELETED


@pytest.mark.statement("OVL-14")
def test_winsocks_result_waits_with_an_event_only(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    record = w.OVERLAPPED()
    receive(near, record)
    assert result(near, record, True) == (w.FALSE, 0, w.WSA_INVALID_HANDLE)
    far.sendall(b"x")
    assert w.GetOverlappedResult(near, record, w.TRUE) == (w.TRUE, 1)
    record.hEvent = w.WSACreateEvent()
    receive(near, record)
    far.sendall(b"yz")
    assert result(near, record, True) == (w.TRUE, 2, 0)


@pytest.mark.statement("OVL-15")
def test_the_flags_of_a_deferred_receive_are_those_of_its_result(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    record = with_event()
    code, _, flags = w.WSARecv(near, w.WSABUF(4, bytearray(4)), 1, w.MSG_PEEK, record, w.NULL)
    assert (code, flags) == (w.SOCKET_ERROR, w.MSG_PEEK), "the caller's variable stays as it was"
    far.sendall(b"x")
    assert result(near, record, True) == (w.TRUE, 1, 0)  # result() looks at the flags as well
    assert near.recv(10) == b"x"
    unsupported("the flags of a result are 0, whatever came: the core does not pass them on")


# -- events ----------------------------------------------------------------------------------------


@pytest.mark.statement("OVL-16", "OVL-17")
def test_an_event_is_reset_by_the_start_and_set_by_the_end(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    event = w.CreateEvent(w.NULL, w.TRUE, w.TRUE, w.NULL)
    record = w.OVERLAPPED()
    record.hEvent = event
    assert w.WaitForSingleObject(event, 0) == w.WAIT_OBJECT_0
    receive(near, record)
    assert w.WaitForSingleObject(event, 0) == w.WAIT_TIMEOUT
    far.sendall(b"x")
    assert w.WaitForSingleObject(event, MILLISECONDS) == w.WAIT_OBJECT_0
    assert w.HasOverlappedIoCompleted(record)
    assert w.CloseHandle(event)
    assert (w.CloseHandle(event), w.GetLastError()) == (w.FALSE, 6)
    assert (w.WaitForSingleObject(event, 0), w.GetLastError()) == (w.WAIT_FAILED, 6)


@pytest.mark.statement("ASSOC-16", "OVL-05")
def test_event_and_port_are_both_told(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    w.CreateIoCompletionPort(near, port, "key", 0)
    record = with_event()
    receive(near, record)
    far.sendall(b"x")
    assert w.WaitForSingleObject(record.hEvent, MILLISECONDS) == w.WAIT_OBJECT_0
    assert result(near, record, False) == (w.TRUE, 1, 0)
    assert w.GetQueuedCompletionStatus(port, MILLISECONDS) == (w.TRUE, 1, "key", record)


@pytest.mark.statement("ASSOC-15")
def test_the_low_bit_of_an_event_keeps_the_packet_away(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    w.CreateIoCompletionPort(near, port, "key", 0)
    event, record = w.WSACreateEvent(), w.OVERLAPPED()
    record.hEvent = event | 1
    receive(near, record)
    far.sendall(b"x")
    assert w.WaitForSingleObject(event, MILLISECONDS) == w.WAIT_OBJECT_0
    assert w.GetOverlappedResult(near, record, w.FALSE) == (w.TRUE, 1)
    assert w.GetQueuedCompletionStatus(port, 0) == (w.FALSE, 0, 0, w.NULL)
    with pytest.raises(ValueError, match="lowest bit"):
        _ = event | 2


def test_a_wait_for_several_events(port: CompletionPort, net: Loopback) -> None:
    pairs = [net.tcp_pair() for _ in range(3)]
    records = [with_event() for _ in pairs]
    events: list[Any] = [record.hEvent for record in records]
    for (near, _), record in zip(pairs, records, strict=True):
        receive(near, record)
    assert w.WSAWaitForMultipleEvents(3, events, w.FALSE, 0, w.FALSE) == w.WSA_WAIT_TIMEOUT
    pairs[1][1].sendall(b"x")
    assert w.WSAWaitForMultipleEvents(3, events, w.FALSE, w.INFINITE, w.FALSE) == 1
    assert w.WSAWaitForMultipleEvents(3, events, w.TRUE, 20, w.FALSE) == w.WSA_WAIT_TIMEOUT
    waiter = run(w.WSAWaitForMultipleEvents, 3, events, w.TRUE, MILLISECONDS, w.FALSE)
    for _, far in (pairs[0], pairs[2]):
        far.sendall(b"x")
    assert waiter.result() == w.WSA_WAIT_EVENT_0
    assert [
        result(near, record, False)[:2] for (near, _), record in zip(pairs, records, strict=True)
    ]
    for count in (0, 65):
        failed = w.WSAWaitForMultipleEvents(count, events, w.FALSE, 0, w.FALSE)
        assert (failed, w.WSAGetLastError()) == (w.WSA_WAIT_FAILED, w.WSA_INVALID_PARAMETER)


def test_events_are_reset_by_hand_or_by_the_wait() -> None:
    automatic = w.CreateEvent(w.NULL, w.FALSE, w.FALSE, w.NULL)
    waiter = run(w.WaitForSingleObject, automatic, w.INFINITE)
    assert w.SetEvent(automatic)
    assert waiter.result() == w.WAIT_OBJECT_0
    assert w.WaitForSingleObject(automatic, 0) == w.WAIT_TIMEOUT
    manual = w.WSACreateEvent()
    assert w.WSASetEvent(manual)
    assert [w.WaitForSingleObject(manual, 0) for _ in range(2)] == [w.WAIT_OBJECT_0] * 2
    assert w.WSAResetEvent(manual)
    assert w.WaitForSingleObject(manual, 0) == w.WAIT_TIMEOUT
    assert w.WSACloseEvent(manual)
    assert (w.SetEvent(manual), w.GetLastError()) == (w.FALSE, 6)


@pytest.mark.statement("OVL-18", "MODE-07")
def test_without_an_event_the_handle_is_signalled(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    for _ in range(2):
        record = w.OVERLAPPED()
        receive(near, record)
        assert w.WaitForSingleObject(near, 0) == w.WAIT_TIMEOUT
        far.sendall(b"x")
        assert w.WaitForSingleObject(near, MILLISECONDS) == w.WAIT_OBJECT_0
        assert w.GetOverlappedResult(near, record, w.FALSE) == (w.TRUE, 1)
        assert w.WaitForSingleObject(near, 0) == w.WAIT_OBJECT_0
    assert w.SetFileCompletionNotificationModes(near, w.FILE_SKIP_SET_EVENT_ON_HANDLE)
    assert w.WaitForSingleObject(near, 0) == w.WAIT_TIMEOUT
    record = with_event()
    receive(near, record)
    far.sendall(b"x")
    assert w.WaitForSingleObject(record.hEvent, MILLISECONDS) == w.WAIT_OBJECT_0
    assert w.WaitForSingleObject(near, 0) == w.WAIT_TIMEOUT


# -- transfers -------------------------------------------------------------------------------------


@pytest.mark.statement("XFER-08", "EMU-31")
def test_what_is_no_socket_is_10038(port: CompletionPort, net: Loopback) -> None:
    closed = net.new_socket()
    assert w.closesocket(closed) == 0
    record = w.OVERLAPPED()
    buffer = w.WSABUF(1, bytearray(1))
    for handle in (closed, w.INVALID_SOCKET, w.NULL, 77, port):
        garbage: Any = handle
        calls: list[Callable[[Any], int]] = [
            lambda sock: w.WSARecv(sock, buffer, 1, 0, record, w.NULL)[0],
            lambda sock: w.WSASend(sock, buffer, 1, 0, record, w.NULL)[0],
            lambda sock: w.shutdown(sock, w.SD_SEND),
            lambda sock: w.closesocket(sock),
            lambda sock: w.getsockname(sock)[0],
            lambda sock: w.listen(sock, 1),
        ]
        for call in calls:
            w.WSASetLastError(SENTINEL)
            assert (call(garbage), w.WSAGetLastError()) == (w.SOCKET_ERROR, w.WSAENOTSOCK)
    assert w.HasOverlappedIoCompleted(record)


@pytest.mark.statement("XFER-09")
def test_a_receive_without_buffers_is_10022(port: CompletionPort, net: Loopback) -> None:
    near, _ = net.tcp_pair()
    for buffers, count in ((w.WSABUF(1, bytearray(1)), 0), (w.NULL, 1), (w.NULL, 0)):
        w.WSASetLastError(SENTINEL)
        assert w.WSARecv(near, buffers, count, 0, w.OVERLAPPED(), w.NULL) == (-1, 0, 0)
        assert w.WSAGetLastError() == w.WSAEINVAL


def test_what_is_no_overlapped_is_refused(net: Loopback) -> None:
    near, _ = net.tcp_pair()
    wrong: Any = netpoll.Overlapped[Any]()
    with pytest.raises(TypeError, match="lpOverlapped is an OVERLAPPED or NULL, not Overlapped"):
        w.WSARecv(near, w.WSABUF(1, bytearray(1)), 1, 0, wrong, w.NULL)


def test_a_buffer_that_is_shorter_than_it_says_is_refused(net: Loopback) -> None:
    near, _ = net.tcp_pair()
    with pytest.raises(ValueError, match="has 5"):
        w.WSARecv(near, w.WSABUF(6, bytearray(5)), 1, 0, w.OVERLAPPED(), w.NULL)
    with pytest.raises(ValueError, match="dwBufferCount"):
        w.WSASend(near, [w.WSABUF(1, b"x")], 2, 0, w.OVERLAPPED(), w.NULL)


@pytest.mark.statement("RECV-11", "XFER-02")
def test_buffers_are_gathered_and_scattered(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    w.CreateIoCompletionPort(near, port, "near", 0)
    w.CreateIoCompletionPort(far, port, "far", 0)
    receiver, sender = w.OVERLAPPED(), w.OVERLAPPED()
    first, second = bytearray(3), bytearray(9)
    w.WSARecv(near, [w.WSABUF(2, first), w.WSABUF(3, second), w.WSABUF(9, b"")], 2, 0, receiver)
    w.WSASend(far, [w.WSABUF(1, b"a-"), w.WSABUF(4, b"bcde")], 2, 0, sender)
    ends = {w.GetQueuedCompletionStatus(port, MILLISECONDS) for _ in range(2)}
    assert ends == {(w.TRUE, 5, "near", receiver), (w.TRUE, 5, "far", sender)}
    assert (first, second[:4]) == (b"ab\0", b"cde\0")


@pytest.mark.statement("XFER-03", "OVL-02")
def test_a_start_that_fails_leaves_record_and_port_alone(
    port: CompletionPort, net: Loopback
) -> None:
    sock = net.new_socket()
    w.CreateIoCompletionPort(sock, port, "key", 0)
    record = with_event()
    assert w.WSARecv(sock, w.WSABUF(1, bytearray(1)), 1, 0, record, w.NULL) == (-1, 0, 0)
    assert w.WSAGetLastError() == w.WSAENOTCONN
    assert w.HasOverlappedIoCompleted(record)
    assert isinstance(record.hEvent, w.Event)
    assert record.hEvent.pending() == [], "a wait for the event would spin"
    assert w.GetQueuedCompletionStatus(port, 0) == (w.FALSE, 0, 0, w.NULL)
    assert w.WaitForSingleObject(record.hEvent, 0) == w.WAIT_TIMEOUT


@pytest.mark.statement("OVL-17")
def test_without_an_overlapped_a_call_waits(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    w.CreateIoCompletionPort(near, port, "key", 0)
    buffer = bytearray(10)
    waiter = run(w.WSARecv, near, w.WSABUF(10, buffer), 1)
    assert w.WSASend(far, w.WSABUF(4, b"data"), 1) == (0, 4)
    assert waiter.result() == (0, 4, 0)
    assert buffer[:4] == b"data"
    assert w.GetQueuedCompletionStatus(port, 0) == (w.FALSE, 0, 0, w.NULL)
    waiter = run(w.WSARecv, near, w.WSABUF(10, buffer), 1)
    w.closesocket(far)
    assert waiter.result() == (0, 0, 0)


@pytest.mark.statement("XFER-06")
def test_a_socket_that_is_not_overlapped_blocks(port: CompletionPort, net: Loopback) -> None:
    listener = net.listener()
    sock = w.WSASocket(w.AF_INET, w.SOCK_STREAM, w.IPPROTO_TCP, w.NULL, 0, 0)
    net.track(sock).connect(listener.getsockname())
    peer = net.track(listener.accept()[0])
    record, buffer = w.OVERLAPPED(), bytearray(10)
    waiter = run(w.WSARecv, sock, w.WSABUF(10, buffer), 1, 0, record, w.NULL)
    assert not w.HasOverlappedIoCompleted(record) or waiter.running
    peer.sendall(b"data")
    assert waiter.result() == (0, 4, 0)
    assert (record.Internal, record.InternalHigh) == (0, 4)


@pytest.mark.statement("APC-05")
def test_a_call_that_blocks_runs_routines_but_not_if_it_has_data(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    other, other_far = net.tcp_pair()
    ran: list[str] = []

    def routine(*_: Any) -> None:
        ran.append("routine")
        other_far.sendall(b"now")

    receive(near, w.OVERLAPPED(), routine=routine)
    far.sendall(b"x")
    other_far.sendall(b"early")
    wait_readable(other)
    buffer = bytearray(10)
    assert w.WSARecv(other, w.WSABUF(10, buffer), 1) == (0, 5, 0)
    assert ran == []
    assert w.WSARecv(other, w.WSABUF(10, buffer), 1) == (0, 3, 0)
    assert ran == ["routine"]


@pytest.mark.statement("APC-01", "APC-04")
def test_a_routine_is_given_the_record(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    seen: list[Any] = []

    def routine(error: int, moved: int, overlapped: Any, flags: int) -> None:
        seen.append((error, moved, overlapped, flags, overlapped.InternalHigh))

    record = with_event()
    receive(near, record, routine=routine)
    assert w.SleepEx(0, w.TRUE) == 0
    far.sendall(b"abc")
    # a sleep that is not alertable, long enough for the receive to end in it: no routine runs
    assert w.SleepEx(20, w.FALSE) == 0
    assert seen == []
    assert w.SleepEx(w.INFINITE, w.TRUE) == w.WAIT_IO_COMPLETION
    assert seen == [(0, 3, record, 0, 3)]
    assert w.WaitForSingleObject(record.hEvent, 0) == w.WAIT_TIMEOUT  # OVL-17
    unsupported("the flags are 0, whatever came: the core does not pass them on", "APC-04")


@pytest.mark.statement("APC-04")
def test_a_routine_is_told_the_winsock_number(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    seen: list[Any] = []

    def routine(*arguments: Any) -> None:
        seen.append(arguments)

    receive(near, w.OVERLAPPED(), routine=routine)
    reset(far)
    never = [w.WSACreateEvent()]
    ended = w.WSAWaitForMultipleEvents(1, never, w.FALSE, w.INFINITE, w.TRUE)
    assert ended == w.WSA_WAIT_IO_COMPLETION
    assert seen[-1][:2] == (w.WSAECONNRESET, 0)


@pytest.mark.statement("ASSOC-12")
def test_a_socket_with_a_port_takes_no_routine(port: CompletionPort, net: Loopback) -> None:
    near, _ = net.tcp_pair()
    w.CreateIoCompletionPort(near, port, "key", 0)
    record = w.OVERLAPPED()
    assert w.WSARecv(near, w.WSABUF(4, bytearray(4)), 1, 0, record, print)[0] == w.SOCKET_ERROR
    assert w.WSAGetLastError() == w.WSAEINVAL
    assert w.WSASend(near, w.WSABUF(1, b"x"), 1, 0, record, print)[0] == w.SOCKET_ERROR
    assert w.WSAGetLastError() == w.WSAEINVAL


@pytest.mark.statement("SEND-04")
def test_a_send_is_whole(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair(buffer=8192)
    w.CreateIoCompletionPort(near, port, "key", 0)
    fill(near)
    record = w.OVERLAPPED()
    size = 1 << 20
    w.WSASend(near, w.WSABUF(size, bytes(size)), 1, 0, record, w.NULL)
    reader = run(lambda: sum(iter(lambda: len(far.recv(1 << 16)), 0)))
    assert w.GetQueuedCompletionStatus(port, MILLISECONDS) == (w.TRUE, size, "key", record)
    assert w.shutdown(near, w.SD_SEND) == 0
    assert reader.result() > size


def test_winsock_is_started_and_cleaned_up(port: CompletionPort, net: Loopback) -> None:
    near, _ = net.tcp_pair()
    assert w.WSAStartup(0x0202)[0] == 0
    record = with_event()
    receive(near, record)
    assert w.WSACleanup() == 0
    assert w.WaitForSingleObject(record.hEvent, MILLISECONDS) == w.WAIT_OBJECT_0
    assert record.Internal == w.STATUS_PENDING
    assert result(near, record, False) == (w.FALSE, 0, w.WSA_OPERATION_ABORTED)
    assert (w.WSACleanup(), w.WSAGetLastError()) == (w.SOCKET_ERROR, w.WSANOTINITIALISED)
