"""`netpoll.winapi`: the calls that block, beside overlapped operations of the same socket."""

from __future__ import annotations

import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

import netpoll.winapi as w
from netpoll.testing.attempts import pattern, read_to_end
from netpoll.testing.pairs import fill, receive_exactly, reset, wait_readable
from netpoll.testing.waiting import DEADLINE, run, wait_until

if TYPE_CHECKING:
    from netpoll import CompletionPort
    from netpoll.testing.pairs import Loopback

pytestmark = pytest.mark.usefixtures("winapi")

MILLISECONDS = int(1000 * DEADLINE)
UDP = socket.AF_INET, socket.SOCK_DGRAM
FAILED = w.SOCKET_ERROR


def pending_receive(sock: socket.socket, size: int = 4) -> tuple[w.OVERLAPPED, bytearray]:
    record, buffer = w.OVERLAPPED(), bytearray(size)
    assert w.WSARecv(sock, w.WSABUF(size, buffer), 1, 0, record, w.NULL)[0] == FAILED
    assert w.WSAGetLastError() == w.WSA_IO_PENDING
    return record, buffer


def received(sock: socket.socket, size: int = 10, flags: int = 0) -> bytes | int:
    """What `recv` brings; the code where it fails."""
    buffer = bytearray(size)
    count = w.recv(sock, buffer, size, flags)
    return w.WSAGetLastError() if count == FAILED else bytes(buffer[:count])


def is_free(buffer: bytearray) -> bool:
    """Whether nobody uses it."""
    try:
        buffer.append(0)
    except BufferError:
        return False
    return True


def in_flight(port: CompletionPort, count: int) -> None:
    """Wait until so many operations are pending: calls that block are among them."""
    wait_until(lambda: len(port.inflight()) == count, f"{count} operations in flight")


def not_to_wait(sock: socket.socket, on: bool = True) -> None:
    assert w.ioctlsocket(sock, w.FIONBIO, int(on)) == (0, int(on))


# -- receives --------------------------------------------------------------------------------------


def test_a_receive_waits_also_after_an_overlapped_start(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    w.CreateIoCompletionPort(near, port, "key", 0)
    record, _ = pending_receive(near)
    far.sendall(b"x")
    assert w.GetQueuedCompletionStatus(port, MILLISECONDS)[3] is record
    receiver = run(received, near)
    in_flight(port, 1)
    far.sendall(b"data")
    assert receiver.result() == b"data"
    far.close()
    assert received(near) == b""
    assert w.GetQueuedCompletionStatus(port, 0)[3] is w.NULL, "it queues no packet"


def test_a_buffer_is_free_after_the_call(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    buffer = bytearray(4)
    receiver = run(w.recv, near, buffer, 4)
    far.sendall(b"data")
    assert receiver.result() == 4
    wait_until(lambda: is_free(buffer), "the end of the buffer's use")


@pytest.mark.statement("RECV-12")
def test_a_receive_queues_behind_those_that_are_pending(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    w.CreateIoCompletionPort(near, port, "key", 0)
    record, buffer = pending_receive(near)
    receiver = run(received, near, 4)
    in_flight(port, 2)
    far.sendall(b"firstly.")
    assert receiver.result() == b"tly."
    assert w.GetQueuedCompletionStatus(port, MILLISECONDS) == (w.TRUE, 4, "key", record)
    assert buffer == b"firs"


def test_how_a_receive_fails(port: CompletionPort, net: Loopback) -> None:
    assert received(net.new_socket()) == w.WSAENOTCONN
    assert received(w.INVALID_SOCKET) == w.WSAENOTSOCK
    near, _ = net.tcp_pair()
    with pytest.raises(ValueError, match="has 1"):
        w.recv(near, bytearray(1), 2)


@pytest.mark.statement("RECV-05")
def test_a_call_is_told_of_a_reset(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    w.CreateIoCompletionPort(near, port, "key", 0)
    receiver = run(received, near)
    in_flight(port, 1)
    reset(far)
    assert receiver.result() == w.WSAECONNRESET


@pytest.mark.statement("RECV-15")
def test_a_receive_may_peek(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    far.sendall(b"ab")
    for flags in (w.MSG_PEEK, 0):
        assert received(near, 10, flags) == b"ab"


@pytest.mark.statement("RECV-14")
def test_a_call_may_wait_for_all(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    far.sendall(b"ab")
    receiver = run(received, near, 4, w.MSG_WAITALL)
    far.sendall(b"c")
    far.sendall(b"d")
    assert receiver.result() == b"abcd"


@pytest.mark.statement("UDP-01", "UDP-12")
def test_datagrams_come_with_their_sender(port: CompletionPort, net: Loopback) -> None:
    near, far = net.bound(*UDP), net.bound(*UDP)
    name = near.getsockname()
    buffer = bytearray(4)
    receiver = run(w.recvfrom, near, buffer, 4)
    assert w.sendto(far, b"data", 4, 0, name, 16) == 4
    assert receiver.result() == (4, far.getsockname())
    assert buffer == b"data"
    assert w.sendto(far, b"", 0, 0, name, 16) == 0
    assert w.recvfrom(near, buffer, 4) == (0, far.getsockname())
    assert w.sendto(far, b"too long", 8, 0, name, 16) == 8
    assert w.recvfrom(near, buffer, 4)[0] == FAILED
    assert (w.WSAGetLastError(), buffer) == (w.WSAEMSGSIZE, b"too ")
    assert w.recvfrom(net.new_socket(*UDP), buffer, 4) == (FAILED, w.NULL)
    assert w.WSAGetLastError() == w.WSAEINVAL


@pytest.mark.statement("RECV-20")
def test_a_stream_has_no_sender(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    far.sendall(b"data")
    assert w.recvfrom(near, bytearray(9), 9) == (4, w.NULL)


# -- sends -----------------------------------------------------------------------------------------


@pytest.mark.statement("SEND-04", "SEND-05")
def test_a_send_goes_behind_those_that_are_pending_and_is_whole(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair(buffer=4096)
    w.CreateIoCompletionPort(near, port, "key", 0)
    sent = fill(near)
    data = pattern(1 << 20)
    record = w.OVERLAPPED()
    w.WSASend(near, w.WSABUF(3, b"one"), 1, 0, record, w.NULL)
    sender = run(w.send, near, data, len(data) - 1)
    in_flight(port, 2)
    got = receive_exactly(far, sent + 3 + len(data) - 1)
    assert got[sent:] == b"one" + data[:-1]
    assert sender.result() == len(data) - 1
    assert w.GetQueuedCompletionStatus(port, MILLISECONDS) == (w.TRUE, 3, "key", record)


@pytest.mark.statement("SEND-06")
def test_a_call_sends_nothing_without_a_connection(port: CompletionPort, net: Loopback) -> None:
    sock = net.new_socket()
    assert (w.send(sock, b"x", 1, 0), w.WSAGetLastError()) == (FAILED, w.WSAENOTCONN)


def test_how_a_send_fails(port: CompletionPort, net: Loopback) -> None:
    sock = w.INVALID_SOCKET
    assert (w.send(sock, b"x", 1, 0), w.WSAGetLastError()) == (FAILED, w.WSAENOTSOCK)
    near, _ = net.tcp_pair()
    assert w.shutdown(near, w.SD_SEND) == 0
    assert (w.send(near, b"x", 1, 0), w.WSAGetLastError()) == (FAILED, w.WSAESHUTDOWN)


# -- connections -----------------------------------------------------------------------------------


def test_accept_and_connect(port: CompletionPort, net: Loopback) -> None:
    listener = net.track(w.socket(w.AF_INET, w.SOCK_STREAM, w.IPPROTO_TCP))
    assert w.bind(listener, (w.INADDR_LOOPBACK, 0)) == w.listen(listener, w.SOMAXCONN) == 0
    accepter = run(w.accept, listener)
    client = net.track(w.socket(w.AF_INET, w.SOCK_STREAM, w.IPPROTO_TCP))
    assert w.connect(client, listener.getsockname(), 16) == 0
    server, address = accepter.result()
    net.track(server)
    assert address == client.getsockname()
    # both know their names: that is for AcceptEx and ConnectEx only
    assert w.getpeername(server) == w.getsockname(client) == (0, client.getsockname())
    assert w.getpeername(client) == w.getsockname(server) == (0, listener.getsockname())
    for sock in (client, server):
        assert w.getsockopt(sock, w.SOL_SOCKET, w.SO_CONNECT_TIME)[1] <= DEADLINE
    w.CreateIoCompletionPort(server, port, "key", 0)
    record, buffer = pending_receive(server)
    assert w.send(client, b"data", 4, 0) == 4
    assert w.GetQueuedCompletionStatus(port, MILLISECONDS) == (w.TRUE, 4, "key", record)
    assert buffer == b"data"
    assert w.connect(client, listener.getsockname(), 16) == FAILED
    assert w.WSAGetLastError() == w.WSAEISCONN


@pytest.mark.statement("ACC-13")
def test_an_accept_queues_behind_acceptex(port: CompletionPort, net: Loopback) -> None:
    listener, acceptor = net.listener(), net.track(w.socket(w.AF_INET, w.SOCK_STREAM, 0))
    w.CreateIoCompletionPort(listener, port, "listener", 0)
    record = w.OVERLAPPED()
    w.AcceptEx(listener, acceptor, bytearray(64), 0, 32, 32, record)
    accepter = run(w.WSAAccept, listener)
    in_flight(port, 2)
    first, second = net.new_socket(), net.new_socket()
    for client in (first, second):
        assert w.WSAConnect(client, listener.getsockname(), 16, w.NULL, w.NULL, w.NULL, w.NULL) == 0
    server, address = accepter.result()
    net.track(server)
    assert address == second.getsockname()
    assert w.GetQueuedCompletionStatus(port, MILLISECONDS)[3] is record
    assert acceptor.getpeername() == first.getsockname()


def test_how_connections_fail(port: CompletionPort, net: Loopback) -> None:
    nobody = net.bound().getsockname()
    client = net.new_socket()
    assert (w.connect(client, nobody, 16), w.WSAGetLastError()) == (FAILED, w.WSAECONNREFUSED)
    assert w.connect(w.INVALID_SOCKET, nobody, 16) == FAILED
    assert w.WSAGetLastError() == w.WSAENOTSOCK
    for sock, code in ((w.INVALID_SOCKET, w.WSAENOTSOCK), (net.bound(*UDP), w.WSAEOPNOTSUPP)):
        assert w.accept(sock) == (w.INVALID_SOCKET, w.NULL)
        assert w.WSAGetLastError() == code
    with pytest.raises(ValueError, match="pass NULL"):
        w.WSAAccept(net.listener(), id)
    with pytest.raises(ValueError, match="pass NULL"):
        w.WSAConnect(client, nobody, 16, b"data")


def test_datagrams_can_have_a_peer(port: CompletionPort, net: Loopback) -> None:
    near, far, other = net.new_socket(*UDP), net.bound(*UDP), net.bound(*UDP)
    assert w.connect(near, far.getsockname(), 16) == 0
    w.CreateIoCompletionPort(near, port, "key", 0)
    assert w.send(near, b"one", 3, 0) == 3
    assert far.recv(9) == b"one"
    assert w.connect(near, other.getsockname(), 16) == 0
    assert w.WSASend(near, w.WSABUF(3, b"two"), 1) == (0, 3)
    assert other.recv(9) == b"two"
    w.sendto(other, b"back", 4, 0, near.getsockname(), 16)
    assert received(near) == b"back"


# -- FIONBIO ---------------------------------------------------------------------------------------


@pytest.mark.statement("XFER-05")
def test_fionbio_is_for_calls_and_not_for_overlapped_operations(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    not_to_wait(near)
    assert received(near) == w.WSAEWOULDBLOCK == 10035
    assert w.WSARecv(near, w.WSABUF(4, bytearray(4)), 1)[0] == FAILED
    assert w.WSAGetLastError() == w.WSAEWOULDBLOCK
    record, buffer = pending_receive(near)
    assert received(near) == w.WSAEWOULDBLOCK
    far.sendall(b"data")
    assert w.GetOverlappedResult(near, record, w.TRUE) == (w.TRUE, 4)
    assert buffer == b"data", "the call in between has taken nothing"
    far.sendall(b"more")
    wait_readable(near)
    assert received(near) == b"more"
    not_to_wait(near, False)
    receiver = run(received, near)
    far.sendall(b"last")
    assert receiver.result() == b"last"


@pytest.mark.statement("RECV-14")
def test_waiting_for_all_is_not_for_a_socket_that_must_not_wait(
    port: CompletionPort, net: Loopback
) -> None:
    near, _ = net.tcp_pair()
    not_to_wait(near)
    assert received(near, 4, w.MSG_WAITALL) == w.WSAEOPNOTSUPP


def test_datagrams_that_must_not_wait(port: CompletionPort, net: Loopback) -> None:
    near, far = net.udp_pair()
    not_to_wait(near)
    not_to_wait(far)
    assert w.recvfrom(near, bytearray(4), 4) == (FAILED, w.NULL)
    assert w.WSAGetLastError() == w.WSAEWOULDBLOCK
    assert w.send(far, b"data", 4, 0) == 4
    wait_readable(near)
    assert w.recvfrom(near, bytearray(4), 4) == (4, far.getsockname())


@pytest.mark.parametrize("function", ["send", "WSASend", "WSASendTo"])
def test_a_send_that_must_not_wait_sends_what_there_is_room_for(
    port: CompletionPort, net: Loopback, function: str
) -> None:
    near, far = net.tcp_pair(buffer=4096)
    not_to_wait(near)
    data = pattern(4 << 20)

    def send_behind(start: int) -> int:
        part = memoryview(data)[start:]
        if function == "send":
            return w.send(near, part, len(part), 0)
        buffers = [w.WSABUF(1, part[:1]), w.WSABUF(len(part) - 1, part[1:])]
        if function == "WSASend":
            code, moved = w.WSASend(near, buffers, 2)
        else:
            code, moved = w.WSASendTo(near, buffers, 2, 0, w.NULL, 0)
        return FAILED if code else moved

    sent = 0
    while (count := send_behind(sent)) > 0:
        sent += count
        if sent == len(data):  # Windows takes what it is given, while it takes anything
            break
    else:
        assert (count, w.WSAGetLastError()) == (FAILED, w.WSAEWOULDBLOCK)
    reader = run(read_to_end, far)
    assert w.shutdown(near, w.SD_SEND) == 0
    assert reader.result() == data[:sent]


@pytest.mark.statement("SEND-05")
def test_a_send_that_must_not_wait_does_not_overtake(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair(buffer=4096)
    w.CreateIoCompletionPort(near, port, "key", 0)
    not_to_wait(near)
    sent = fill(near)
    data, record = pattern(1 << 20), w.OVERLAPPED()
    assert w.WSASend(near, w.WSABUF(len(data), data), 1, 0, record, w.NULL)[0] == FAILED
    assert (w.send(near, b"x", 1, 0), w.WSAGetLastError()) == (FAILED, w.WSAEWOULDBLOCK)
    reader = run(receive_exactly, far, sent + len(data))
    # without anybody at the port, who would take its packet
    wait_until(lambda: w.send(near, b"behind", 6, 0) == 6, "room behind the overlapped send")
    assert reader.result()[sent:] == data
    assert far.recv(9) == b"behind"
    assert w.GetQueuedCompletionStatus(port, MILLISECONDS)[3] is record


def test_connections_that_must_not_wait(port: CompletionPort, net: Loopback) -> None:
    listener, client = net.listener(), net.new_socket()
    for sock in (listener, client):
        not_to_wait(sock)
    assert w.accept(listener) == (w.INVALID_SOCKET, w.NULL)
    assert w.WSAGetLastError() == w.WSAEWOULDBLOCK
    code = w.connect(client, listener.getsockname(), 16)
    assert code == 0 or w.WSAGetLastError() == w.WSAEWOULDBLOCK
    wait_readable(listener)
    server, address = w.accept(listener)
    net.track(server)
    assert address == client.getsockname()
    assert received(server) == w.WSAEWOULDBLOCK, "as its listener is"
    wait_until(lambda: w.getpeername(client)[0] == 0, "the connection")
    assert w.connect(client, listener.getsockname(), 16) == FAILED
    assert w.WSAGetLastError() == w.WSAEISCONN
    assert w.send(client, b"data", 4, 0) == 4
    wait_readable(server)
    assert received(server) == b"data"


def test_what_ioctlsocket_refuses(net: Loopback) -> None:
    near = net.new_socket()
    for sock, command, value, code in (
        (w.INVALID_SOCKET, w.FIONBIO, 1, w.WSAENOTSOCK),
        (near, 0x4004667F, 0, w.WSAEOPNOTSUPP),
        (near, w.FIONBIO, w.NULL, w.WSAEFAULT),
    ):
        assert w.ioctlsocket(sock, command, value) == (FAILED, value)
        assert w.WSAGetLastError() == code


# -- the end of a wait -----------------------------------------------------------------------------


@pytest.mark.statement("XFER-07")
def test_time_limits_are_for_calls_and_not_for_overlapped_operations(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    for option in (w.SO_RCVTIMEO, w.SO_SNDTIMEO):
        assert w.getsockopt(near, w.SOL_SOCKET, option) == (0, 0)
        assert w.setsockopt(near, w.SOL_SOCKET, option, 20, 4) == 0
        assert w.getsockopt(near, w.SOL_SOCKET, option) == (0, 20)
    assert received(near) == w.WSAETIMEDOUT == 10060
    record, buffer = pending_receive(near)
    assert received(near) == w.WSAETIMEDOUT
    far.sendall(b"data")
    assert w.GetOverlappedResult(near, record, w.TRUE) == (w.TRUE, 4)
    assert buffer == b"data"
    fill(near)
    assert (w.send(near, bytes(1 << 24), 1 << 24), w.WSAGetLastError()) == (FAILED, 10060)


@pytest.mark.statement("APC-05")
def test_routines_run_in_a_call_that_waits(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    third, fourth = net.tcp_pair()
    ran: list[Any] = []

    def routine(error: int, count: int, record: Any, flags: int) -> None:
        ran.append((error, count, threading.get_ident()))
        far.sendall(b"data")

    w.WSARecv(third, w.WSABUF(4, bytearray(4)), 1, 0, w.OVERLAPPED(), routine)
    fourth.sendall(b"x")
    assert received(near) == b"data"
    assert ran == [(0, 1, threading.get_ident())]


def test_an_exception_in_a_wait_ends_its_operation(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    third, fourth = net.tcp_pair()
    w.CreateIoCompletionPort(near, port, "key", 0)

    def routine(error: int, count: int, record: Any, flags: int) -> None:
        raise KeyboardInterrupt

    w.WSARecv(third, w.WSABUF(4, bytearray(4)), 1, 0, w.OVERLAPPED(), routine)
    fourth.sendall(b"x")
    buffer = bytearray(4)
    with pytest.raises(KeyboardInterrupt):
        w.recv(near, buffer, 4)
    assert port.inflight() == []
    wait_until(lambda: is_free(buffer), "the end of the buffer's use")
    far.sendall(b"data")
    assert received(near) == b"data"


@pytest.mark.skipif(
    not hasattr(signal, "pthread_kill"), reason="Windows: tests/backends/test_iocp_interrupt.py"
)
def test_ctrl_c_ends_a_call_that_waits(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    w.CreateIoCompletionPort(near, port, "key", 0)
    main = threading.get_ident()

    def interrupt() -> None:
        in_flight(port, 1)
        signal.pthread_kill(main, signal.SIGINT)

    for _ in range(3):
        finger = run(interrupt)
        with pytest.raises(KeyboardInterrupt):
            w.recv(near, bytearray(4), 4)
        finger.result()
    far.sendall(b"data")
    assert received(near) == b"data"


def test_closing_the_socket_ends_a_call_that_waits(port: CompletionPort, net: Loopback) -> None:
    near, _ = net.tcp_pair()
    listener = net.listener()
    for sock, call in ((near, lambda: received(near)), (listener, lambda: w.accept(listener))):
        w.CreateIoCompletionPort(sock, port, "key", 0)
        waiter = run(call)
        in_flight(port, 1)
        assert w.closesocket(sock) == 0
        assert waiter.result() in {
            w.WSAECONNABORTED,
            w.WSA_OPERATION_ABORTED,
            (w.INVALID_SOCKET, w.NULL),
        }
