"""`netpoll.winapi`: WSAIoctl, and the options that are kept for every system."""

from __future__ import annotations

import socket
import struct
import sys
from typing import TYPE_CHECKING, Any

import pytest

import netpoll.winapi as w
from netpoll.testing.outcome import unsupported
from netpoll.testing.waiting import DEADLINE

if TYPE_CHECKING:
    from netpoll import CompletionPort
    from netpoll.testing.pairs import Loopback

pytestmark = pytest.mark.usefixtures("winapi")

MILLISECONDS = int(1000 * DEADLINE)
UDP = socket.AF_INET, socket.SOCK_DGRAM
EXTENSIONS = {
    "AcceptEx": w.WSAID_ACCEPTEX,
    "ConnectEx": w.WSAID_CONNECTEX,
    "DisconnectEx": w.WSAID_DISCONNECTEX,
    "GetAcceptExSockaddrs": w.WSAID_GETACCEPTEXSOCKADDRS,
    "TransmitFile": w.WSAID_TRANSMITFILE,
    "WSARecvMsg": w.WSAID_WSARECVMSG,
    "WSASendMsg": w.WSAID_WSASENDMSG,
}
POINTER = struct.calcsize("P")


@pytest.mark.parametrize("name", EXTENSIONS)
def test_the_extension_functions(net: Loopback, name: str) -> None:
    sock, guid = net.new_socket(), EXTENSIONS[name]
    asked = w.WSAIoctl(
        sock, w.SIO_GET_EXTENSION_FUNCTION_POINTER, guid, 16, POINTER, w.NULL, w.NULL
    )
    assert asked == (0, getattr(w, name), POINTER)
    assert w.WSAIoctl(sock, w.SIO_GET_EXTENSION_FUNCTION_POINTER, guid) == asked


def test_what_wsaioctl_refuses(net: Loopback) -> None:
    stream, datagrams = net.new_socket(), net.new_socket(*UDP)
    nobody = (0, 0, 0, (0, 0, 0, 0, 0, 0, 0, 0))
    calls: list[tuple[Any, int, Any, int]] = [
        (w.INVALID_SOCKET, w.FIONBIO, 1, w.WSAENOTSOCK),
        (stream, 0x4004667F, 1, w.WSAEOPNOTSUPP),
        (stream, w.FIONBIO, w.NULL, w.WSAEFAULT),
        (stream, w.SIO_GET_EXTENSION_FUNCTION_POINTER, nobody, w.WSAEINVAL),
        (stream, w.SIO_UDP_CONNRESET, w.FALSE, w.WSAEOPNOTSUPP),
        (datagrams, w.SIO_KEEPALIVE_VALS, (1, 2, 3), w.WSAEOPNOTSUPP),
        (stream, w.SIO_KEEPALIVE_VALS, b"short", w.WSAEFAULT),
    ]
    for sock, control, value, code in calls:
        assert w.WSAIoctl(sock, control, value) == (w.SOCKET_ERROR, w.NULL, 0)
        assert w.WSAGetLastError() == code, (control, value)


def test_fionbio(net: Loopback) -> None:
    near, far = net.tcp_pair()
    assert w.WSAIoctl(near, w.FIONBIO, struct.pack("=I", 1), 4, 0, w.NULL, w.NULL)[0] == 0
    assert (w.recv(near, bytearray(1), 1), w.WSAGetLastError()) == (-1, w.WSAEWOULDBLOCK)
    assert w.WSAIoctl(near, w.FIONBIO, 0)[0] == 0
    far.sendall(b"x")
    assert w.recv(near, bytearray(1), 1) == 1


def set_keepalive(sock: socket.socket, value: object) -> None:
    if w.WSAIoctl(sock, w.SIO_KEEPALIVE_VALS, value, 12) != (0, w.NULL, 0):
        assert w.WSAGetLastError() == w.WSAEOPNOTSUPP
        unsupported("SIO_KEEPALIVE_VALS")


def keepalive(sock: socket.socket, value: object) -> tuple[int, int, int]:
    set_keepalive(sock, value)
    options: Any = socket
    if not hasattr(options, "TCP_KEEPIDLE"):
        unsupported("TCP_KEEPIDLE")
    return (
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        sock.getsockopt(socket.IPPROTO_TCP, options.TCP_KEEPIDLE),
        sock.getsockopt(socket.IPPROTO_TCP, options.TCP_KEEPINTVL),
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell what it was given")
def test_keepalive_values_are_rounded_up_to_seconds(net: Loopback) -> None:
    sock = net.new_socket()
    assert keepalive(sock, (1, 10_001, 1)) == (1, 11, 1)
    assert keepalive(sock, struct.pack("=3I", 1, 7_200_000, 0)) == (1, 7200, 1)
    assert keepalive(sock, (0, 1, 1)) == (0, 7200, 1), "what is off leaves the times alone"


def test_keepalive_values_are_taken(net: Loopback) -> None:
    near, _ = net.tcp_pair()
    set_keepalive(near, (1, 10_000, 1_000))
    set_keepalive(near, struct.pack("=3I", 0, 10_000, 1_000))


@pytest.mark.parametrize("how", ["packet", "no packet", "skip", "event", "routine"])
def test_an_overlapped_is_told_although_it_ends_at_once(
    port: CompletionPort, net: Loopback, how: str
) -> None:
    sock, record = net.new_socket(), w.OVERLAPPED()
    ran: list[tuple[Any, ...]] = []
    if how in ("packet", "no packet", "skip"):
        w.CreateIoCompletionPort(sock, port, "key", 0)
    event = w.WSACreateEvent()
    if how in ("event", "no packet"):
        record.hEvent = event if how == "event" else event | 1
    if how == "skip":
        mode = w.FILE_SKIP_COMPLETION_PORT_ON_SUCCESS
        assert w.SetFileCompletionNotificationModes(sock, mode)

    def routine(*told: Any) -> None:
        ran.append(told)

    code, found, size = w.WSAIoctl(
        *(sock, w.SIO_GET_EXTENSION_FUNCTION_POINTER, w.WSAID_ACCEPTEX, 16, POINTER),
        record,
        routine if how == "routine" else w.NULL,
    )
    assert (code, found, size) == (0, w.AcceptEx, POINTER)
    if how == "routine":
        assert ran == []
        assert w.SleepEx(MILLISECONDS, w.TRUE) == w.WAIT_IO_COMPLETION
        assert ran == [(0, POINTER, record, 0)]
    assert (record.Internal, record.InternalHigh) == (0, POINTER)
    assert w.GetOverlappedResult(sock, record, w.FALSE) == (w.TRUE, POINTER)
    told = w.WaitForSingleObject(event, 0) == w.WAIT_OBJECT_0
    assert told == (how in ("event", "no packet"))
    packet = w.GetQueuedCompletionStatus(port, 0)
    expected = (w.TRUE, POINTER, "key", record) if how == "packet" else (w.FALSE, 0, 0, w.NULL)
    assert packet == expected


def test_options_that_are_for_every_system(net: Loopback) -> None:
    sock = net.new_socket()
    for option, value in (
        (w.SO_EXCLUSIVEADDRUSE, 1),
        (w.SO_RCVTIMEO, struct.pack("=I", 250)),
        (w.SO_SNDTIMEO, 250),
    ):
        assert w.setsockopt(sock, w.SOL_SOCKET, option, value, 4) == 0
        code, found = w.getsockopt(sock, w.SOL_SOCKET, option)
        assert (code, bool(found)) == (0, True)
    assert w.bind(sock, (w.INADDR_LOOPBACK, 0), 16) == 0
    assert w.getsockopt(sock, w.SOL_SOCKET, w.SO_TYPE) == (0, w.SOCK_STREAM)
    assert w.getsockopt(sock, w.SOL_SOCKET, w.SO_ERROR) == (0, 0)
    assert w.setsockopt(sock, w.SOL_SOCKET, w.SO_BROADCAST, 1, 4) in (0, w.SOCKET_ERROR)
