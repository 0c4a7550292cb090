"""`netpoll.winapi`: datagrams with addresses, messages, files and the end of a stream."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING, Any

import pytest

import netpoll.winapi as w
from netpoll.testing.outcome import require, unsupported
from netpoll.testing.pairs import receive_exactly
from netpoll.testing.waiting import DEADLINE, run

if TYPE_CHECKING:
    from pathlib import Path

    from netpoll import CompletionPort
    from netpoll.testing.backends import Target
    from netpoll.testing.pairs import Loopback

pytestmark = pytest.mark.usefixtures("winapi")

MILLISECONDS = int(1000 * DEADLINE)
UDP = socket.AF_INET, socket.SOCK_DGRAM


def take(port: CompletionPort) -> tuple[int, int, Any, Any]:
    return w.GetQueuedCompletionStatus(port, MILLISECONDS)


def started(result: int | tuple[int, ...]) -> None:
    """A start that pends, or has ended at once and queues its packet all the same."""
    failed = result[0] != 0 if isinstance(result, tuple) else not result
    assert not failed or w.WSAGetLastError() == w.WSA_IO_PENDING


# -- datagrams -------------------------------------------------------------------------------------


@pytest.mark.statement("UDP-01", "UDP-04")
def test_datagrams_have_their_senders_address(
    port: CompletionPort, net: Loopback, target: Target
) -> None:
    near, far = net.bound(*UDP), net.bound(*UDP)
    w.CreateIoCompletionPort(near, port, "near", 0)
    w.CreateIoCompletionPort(far, port, "far", 0)
    name, length = near.getsockname(), 16
    receiver, sender = w.OVERLAPPED(), w.OVERLAPPED()
    for sent, ok, error in ((b"1234", w.TRUE, 0), (b"", w.TRUE, 0), (b"12345678", w.FALSE, 234)):
        where, buffer = w.SOCKADDR(), bytearray(4)
        started(w.WSARecvFrom(near, w.WSABUF(4, buffer), 1, 0, where, receiver))
        assert where.address is w.NULL
        data = w.WSABUF(len(sent), sent)
        started(w.WSASendTo(far, data, 1, 0, name, length, sender))
        ends = {end[2]: end for end in (take(port), take(port))}
        assert ends["far"] == (w.TRUE, len(sent), "far", sender)
        assert ends["near"] == (ok, min(4, len(sent)), "near", receiver)
        assert buffer[: len(sent)] == sent[:4]
        if ok or target.backend != "selectors" or sys.platform != "win32":
            # there Python raises for a truncated datagram, and tells no address
            assert where.address == far.getsockname()
        w.WSAGetOverlappedResult(near, receiver, w.FALSE)
        assert w.WSAGetLastError() == (w.WSAEMSGSIZE if error else 0)


@pytest.mark.statement("UDP-08", "OVL-17")
def test_datagrams_without_an_overlapped(port: CompletionPort, net: Loopback) -> None:
    near, far = net.bound(*UDP), net.new_socket(*UDP)
    where, buffer = w.SOCKADDR(), bytearray(4)
    waiter = run(w.WSARecvFrom, near, w.WSABUF(4, buffer), 1, 0, where)
    assert w.WSASendTo(far, w.WSABUF(4, b"data"), 1, 0, near.getsockname(), 16) == (0, 4)
    assert waiter.result() == (0, 4, 0)
    assert (buffer, where.address[1]) == (b"data", far.getsockname()[1])


@pytest.mark.statement("UDP-08")
def test_a_send_without_a_peer_is_not_connected(port: CompletionPort, net: Loopback) -> None:
    sock = net.bound(*UDP)
    assert w.WSASendTo(sock, w.WSABUF(1, b"x"), 1, 0, w.NULL, 0)[0] == w.SOCKET_ERROR
    assert w.WSAGetLastError() == w.WSAENOTCONN


@pytest.mark.statement("RECV-20")
def test_on_a_stream_the_address_is_left_alone(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    w.CreateIoCompletionPort(near, port, "key", 0)
    where = w.SOCKADDR()
    where.address = "as it was"
    record, buffer = w.OVERLAPPED(), bytearray(4)
    started(w.WSARecvFrom(near, w.WSABUF(4, buffer), 1, 0, where, record))
    far.sendall(b"x")
    assert take(port) == (w.TRUE, 1, "key", record)
    assert where.address == "as it was"


def test_messages_carry_addresses_and_flags(port: CompletionPort, net: Loopback) -> None:
    require(port, "recvmsg_into")
    near, far = net.bound(*UDP), net.bound(*UDP)
    w.CreateIoCompletionPort(near, port, "near", 0)
    record, buffer = w.OVERLAPPED(), bytearray(4)
    incoming = w.WSAMSG(w.WSABUF(4, buffer), ControlLength=64)
    started(w.WSARecvMsg(near, incoming, record))
    outgoing = w.WSAMSG(w.WSABUF(4, b"data"), name=near.getsockname())
    assert w.WSASendMsg(far, outgoing) == (0, 4)
    assert take(port) == (w.TRUE, 4, "near", record)
    assert (buffer, incoming.name, incoming.Control) == (b"data", far.getsockname(), [])
    assert incoming.dwFlags == 0


def test_what_is_wrong_with_a_datagram_call(port: CompletionPort, net: Loopback) -> None:
    closed = w.INVALID_SOCKET
    buffer, message = w.WSABUF(1, bytearray(1)), w.WSAMSG(w.WSABUF(1, bytearray(1)))
    for result in (
        w.WSARecvFrom(closed, buffer, 1)[0],
        w.WSASendTo(closed, buffer, 1, 0, ("127.0.0.1", 9), 16)[0],
        w.WSARecvMsg(closed, message)[0],
        w.WSASendMsg(closed, message)[0],
        w.WSAIoctl(closed, w.SIO_UDP_CONNRESET, w.FALSE)[0],
    ):
        assert (result, w.WSAGetLastError()) == (w.SOCKET_ERROR, w.WSAENOTSOCK)
    near = net.bound(*UDP)
    assert w.WSARecvFrom(near, w.NULL, 1)[0] == w.SOCKET_ERROR
    assert w.WSAGetLastError() == w.WSAEINVAL
    assert w.WSARecvMsg(near, w.WSAMSG(w.NULL))[0] == w.SOCKET_ERROR
    assert w.WSAGetLastError() == w.WSAEINVAL


@pytest.mark.statement("UDP-06")
def test_reports_can_be_turned_off(port: CompletionPort, net: Loopback) -> None:
    near, far = net.udp_pair()
    w.CreateIoCompletionPort(near, port, "key", 0)
    assert w.WSAIoctl(near, w.SIO_UDP_CONNRESET, w.FALSE) == (0, w.NULL, 0)
    name = far.getsockname()
    far.close()
    record = w.OVERLAPPED()
    for _ in range(3):
        started(w.WSASend(near, w.WSABUF(1, b"x"), 1, 0, record))
        assert take(port) == (w.TRUE, 1, "key", record)
    started(w.WSARecv(near, w.WSABUF(4, bytearray(4)), 1, 0, record))
    assert w.GetQueuedCompletionStatus(port, 20)[3] is w.NULL
    other = net.new_socket(*UDP)
    other.bind(name)
    other.sendto(b"data", near.getsockname())
    assert take(port) == (w.TRUE, 4, "key", record)


@pytest.mark.statement("UDP-05", "UDP-06")
def test_reports_are_on_by_default(port: CompletionPort, net: Loopback) -> None:
    if sys.platform not in ("linux", "win32"):
        unsupported("this system tells connected sockets only of unreachable ports", "UDP-05")
    gone = net.bound(*UDP)
    nobody = gone.getsockname()
    gone.close()
    with_port, alone = net.bound(*UDP), net.bound(*UDP)
    w.CreateIoCompletionPort(with_port, port, "key", 0)
    record, sending = w.OVERLAPPED(), w.OVERLAPPED()
    record.hEvent, sending.hEvent = w.WSACreateEvent(), w.WSACreateEvent()
    for near in (with_port, alone):
        started(w.WSARecvFrom(near, w.WSABUF(4, bytearray(4)), 1, 0, w.SOCKADDR(), record))
        started(w.WSASendTo(near, w.WSABUF(1, b"x"), 1, 0, nobody, 16, sending))
        for each in (record, sending):
            assert w.WaitForSingleObject(each.hEvent, MILLISECONDS) == w.WAIT_OBJECT_0
        assert w.GetOverlappedResult(near, sending, w.FALSE) == (w.TRUE, 1)
        assert w.GetOverlappedResult(near, record, w.FALSE) == (w.FALSE, 0)
        assert w.GetLastError() == w.ERROR_PORT_UNREACHABLE == 1234
    assert {take(port)[3] for _ in range(2)} == {record, sending}


@pytest.mark.statement("UDP-06")
@pytest.mark.parametrize("when", ["early", "late"])
def test_reports_that_were_turned_off_stay_off(
    port: CompletionPort, net: Loopback, when: str
) -> None:
    near, gone = net.bound(*UDP), net.bound(*UDP)
    nobody = gone.getsockname()
    gone.close()
    if when == "late":
        w.CreateIoCompletionPort(near, port, "key", 0)
    assert w.WSAIoctl(near, w.SIO_UDP_CONNRESET, w.FALSE) == (0, w.NULL, 0)
    if when == "early":
        w.CreateIoCompletionPort(near, port, "key", 0)
    record, buffer = w.OVERLAPPED(), bytearray(4)
    started(w.WSARecvFrom(near, w.WSABUF(4, buffer), 1, 0, w.SOCKADDR(), record))
    for _ in range(3):
        assert w.WSASendTo(near, w.WSABUF(1, b"x"), 1, 0, nobody, 16) == (0, 1)
    net.bound(*UDP).sendto(b"data", near.getsockname())
    assert take(port) == (w.TRUE, 4, "key", record)
    assert buffer == b"data"


# -- DisconnectEx ----------------------------------------------------------------------------------


@pytest.mark.statement("DIS-01")
def test_what_disconnectex_refuses(port: CompletionPort, net: Loopback) -> None:
    near, _ = net.tcp_pair()
    for sock, flags, reserved, code in (
        (w.INVALID_SOCKET, 0, 0, w.WSAENOTSOCK),
        (net.new_socket(), 0, 0, w.WSAENOTCONN),
        (near, 0, 1, w.WSAEINVAL),
        (near, 4, 0, w.WSAEINVAL),
    ):
        assert w.DisconnectEx(sock, w.OVERLAPPED(), flags, reserved) == w.FALSE
        assert w.WSAGetLastError() == code


@pytest.mark.statement("DIS-02", "DIS-03")
@pytest.mark.parametrize("overlapped", [True, False], ids=["overlapped", "plain"])
def test_disconnectex_ends_one_direction(
    port: CompletionPort, net: Loopback, overlapped: bool
) -> None:
    near, far = net.tcp_pair()
    w.CreateIoCompletionPort(near, port, "key", 0)
    record = w.OVERLAPPED()
    if overlapped:
        started(w.DisconnectEx(near, record, 0, 0))
        assert take(port) == (w.TRUE, 0, "key", record)
    else:
        assert [w.DisconnectEx(near, w.NULL, 0, 0) for _ in range(2)] == [w.TRUE] * 2
    assert w.GetQueuedCompletionStatus(port, 0)[3] is w.NULL
    assert far.recv(1) == b""
    assert w.WSASend(near, w.WSABUF(1, b"x"), 1, 0, record)[0] == w.SOCKET_ERROR
    assert w.WSAGetLastError() == w.WSAESHUTDOWN
    far.sendall(b"data")
    started(w.WSARecv(near, w.WSABUF(4, bytearray(4)), 1, 0, record))
    assert take(port) == (w.TRUE, 4, "key", record)
    assert w.getpeername(near) == (0, far.getsockname())


# -- TransmitFile ----------------------------------------------------------------------------------


@pytest.mark.statement("TXF-01", "TXF-04")
def test_what_transmitfile_refuses(port: CompletionPort, net: Loopback, tmp_path: Path) -> None:
    near, _ = net.tcp_pair()
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    beyond = w.OVERLAPPED()
    beyond.Offset = 11
    with path.open("rb") as file:
        for sock, record, flags, code in (
            (w.INVALID_SOCKET, w.OVERLAPPED(), 0, w.WSAENOTSOCK),
            (net.new_socket(), w.OVERLAPPED(), 0, w.WSAENOTCONN),
            (net.bound(*UDP), w.OVERLAPPED(), 0, w.WSAENOTCONN),
            (near, beyond, 0, w.WSAEINVAL),
            (near, w.OVERLAPPED(), w.TF_REUSE_SOCKET, w.WSAEINVAL),
            (near, w.OVERLAPPED(), 0x100, w.WSAEINVAL),
        ):
            assert w.TransmitFile(sock, file, 0, 0, record, w.NULL, flags) == w.FALSE
            assert w.WSAGetLastError() == code
    assert w.TransmitFile(near, w.NULL, 0, 0, w.NULL, w.NULL, 0) == w.TRUE


@pytest.mark.statement("TXF-05")
def test_transmitfile_does_not_make_the_socket_new(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    flags = w.TF_DISCONNECT | w.TF_REUSE_SOCKET
    head = w.TRANSMIT_FILE_BUFFERS(b"x", 1)
    assert w.TransmitFile(near, w.NULL, 0, 0, w.OVERLAPPED(), head, flags) == w.FALSE
    assert w.WSAGetLastError() == w.WSAEOPNOTSUPP
    assert w.TransmitFile(near, w.NULL, 0, 0, w.NULL, head, w.TF_DISCONNECT) == w.TRUE
    assert receive_exactly(far, 1) == b"x"
    unsupported("TransmitFile refuses TF_REUSE_SOCKET (10045): DisconnectEx may follow it")


@pytest.mark.statement("TXF-02")
def test_a_file_is_sent_from_its_offset_with_head_and_tail(
    port: CompletionPort, net: Loopback, tmp_path: Path
) -> None:
    near, far = net.tcp_pair()
    w.CreateIoCompletionPort(near, port, "key", 0)
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    record = w.OVERLAPPED()
    record.Offset = 3
    around = w.TRANSMIT_FILE_BUFFERS(b"<<-", 2, b">>", 2)
    with path.open("rb") as file:
        started(w.TransmitFile(near, file, 4, 0, record, around, 0))
        assert take(port) == (w.TRUE, 8, "key", record)
        assert receive_exactly(far, 8) == b"<<3456>>"
        file.seek(8)
        assert w.TransmitFile(near, file, 0, 0, w.NULL, w.NULL, w.TF_DISCONNECT) == w.TRUE
    assert receive_exactly(far, 2) == b"89"
    assert far.recv(1) == b""
    with pytest.raises(ValueError, match="shorter"):
        w.TransmitFile(near, w.NULL, 0, 0, w.NULL, w.TRANSMIT_FILE_BUFFERS(b"x", 2), 0)
