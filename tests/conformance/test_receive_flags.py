"""The flags of receives (RECV-14, RECV-15, RECV-17): what they do, and where they are refused."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

import pytest

from netpoll import UnsupportedOperation
from netpoll.operations.flags import MSG_PARTIAL
from netpoll.testing.attempts import attempt, pattern, winerror
from netpoll.testing.drain import collect, nothing_more, take
from netpoll.testing.outcome import unsupported
from netpoll.testing.pairs import reset, wait_readable

if TYPE_CHECKING:
    from netpoll import CompletionPort, Overlapped
    from netpoll.testing.backends import Target
    from netpoll.testing.pairs import Loopback

WAITALL: Final = socket.MSG_WAITALL
RESET: Final = frozenset({64, 10054})
RECEIVES: Final = ("recv", "recv_into", "recvfrom_into", "recvmsg_into")
shapes = pytest.mark.parametrize("listed", [False, True], ids=["one-buffer", "several"])


def start(port: CompletionPort, how: str, sock: socket.socket, flags: int) -> Overlapped[Any]:
    argument: Any = 10 if how == "recv" else bytearray(10)
    started: Overlapped[Any] = getattr(port, how)(sock, argument, flags=flags)
    return started


@pytest.mark.statement("RECV-14")
@shapes
def test_all_is_waited_for(port: CompletionPort, net: Loopback, listed: bool) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    buffers = [bytearray(3), bytearray(2), bytearray(3)] if listed else [bytearray(8)]
    far.sendall(b"ab")
    wait_readable(near)
    operation = port.recv_into(near, buffers, flags=WAITALL)
    for part in (b"c", b"de", b"fg"):
        nothing_more(port)
        far.sendall(part)
    nothing_more(port)
    far.sendall(b"h, and more")
    assert take(port).result() == 8
    assert b"".join(buffers) == b"abcdefgh"
    port.resubmit(operation, size=4)
    assert take(port).result() == 4
    assert b"".join(buffers) == b", anefgh"
    port.resubmit(operation, size=8)
    nothing_more(port)
    far.sendall(b"12")
    assert take(port).result() == 8
    assert b"".join(buffers) == b"d more12"


@pytest.mark.statement("RECV-14")
def test_all_of_much_is_waited_for(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair(buffer=8192)
    port.associate(near)
    data = pattern(1 << 20)
    operation = port.recv(near, len(data), flags=WAITALL)
    port.associate(far)
    port.send(far, data, timeout=10)  # nobody takes all of it, where the flag is ignored
    collect(port, 2)
    assert operation.result() == data


@pytest.mark.statement("RECV-14", "RECV-04")
@shapes
def test_the_end_is_waited_for_no_longer(port: CompletionPort, net: Loopback, listed: bool) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    buffers = [bytearray(3), bytearray(5)] if listed else [bytearray(8)]
    operation = port.recvfrom_into(near, buffers, flags=WAITALL)
    far.sendall(b"abcd")
    nothing_more(port)
    far.shutdown(socket.SHUT_WR)
    assert take(port).result() == (4, None)
    assert b"".join(buffers) == b"abcd\0\0\0\0"
    port.resubmit(operation)
    assert take(port).result() == (0, None)


@pytest.mark.statement("RECV-14", "RECV-05")
def test_a_reset_is_told_although_some_has_come(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    port.recv(near, 8, flags=WAITALL)
    far.sendall(b"abcd")
    nothing_more(port)
    reset(far)
    completion = take(port)
    assert completion.error in RESET
    assert completion.transferred == 0
    assert attempt(port, lambda: port.recv(near, 8)).number in RESET


@pytest.mark.statement("RECV-14", "CAN-10")
@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_what_has_come_survives_a_cancel(
    port: CompletionPort, net: Loopback, target: Target, how: str
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    buffer = bytearray(8)
    timeout = 1.0 if how == "timeout" else None
    operation = port.recv_into(near, buffer, flags=WAITALL, timeout=timeout)
    far.sendall(b"abcd")
    if timeout is None:
        if target.readiness:
            wait_readable(near)  # loopback may take its time, under Wine
        while _is_there(near):
            nothing_more(port)
        assert operation.cancel()
    assert take(port).result() == 4
    assert buffer.startswith(b"abcd")
    port.recv(near, 8, flags=WAITALL)
    nothing_more(port)
    assert port.cancel(near)
    assert take(port).error == 995  # nothing had come


def _is_there(sock: socket.socket) -> bool:
    """Whether data waits that no receive has taken."""
    try:
        sock.setblocking(False)
        return bool(sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


@pytest.mark.statement("RECV-14", "CAN-10")
@pytest.mark.parametrize("how", ["close_handle", "close"])
def test_what_has_come_survives_a_close(
    port: CompletionPort, net: Loopback, target: Target, how: str
) -> None:
    if not target.emulated:
        pytest.skip("what Windows tells of it is not known (CLOSE-02)")
    near, far = net.tcp_pair()
    port.associate(near)
    far.sendall(b"abcd")
    wait_readable(near)
    buffer = bytearray(8)
    port.recv_into(near, buffer, flags=WAITALL)
    nothing_more(port)
    if how == "close":
        near.close()  # which a backend may find out by the next try
    else:
        port.close_handle(near)
    assert take(port).result() == 4
    assert buffer.startswith(b"abcd")


@pytest.mark.statement("RECV-14", "RECV-01")
def test_all_of_nothing_is_a_probe(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    port.recv(near, 0, flags=WAITALL)
    nothing_more(port)
    far.sendall(b"data")
    assert take(port).result() == b""
    port.recv(near, 4, flags=WAITALL)
    assert take(port).result() == b"data"


@pytest.mark.statement("RECV-14")
@pytest.mark.parametrize("how", RECEIVES)
@pytest.mark.parametrize(
    "other", [socket.MSG_PEEK, socket.MSG_OOB, MSG_PARTIAL], ids=["peek", "urgent", "partial"]
)
def test_all_is_refused_with_other_flags(
    port: CompletionPort, net: Loopback, how: str, other: int
) -> None:
    near, _ = net.tcp_pair()
    port.associate(near)
    with pytest.raises(UnsupportedOperation, match="MSG_WAITALL") as caught:
        start(port, how, near, WAITALL | other)
    assert winerror(caught.value) == 10045
    assert port.inflight() == []


@pytest.mark.statement("RECV-14")
def test_all_is_refused_of_a_non_blocking_socket(
    port: CompletionPort, net: Loopback, target: Target
) -> None:
    if target.emulated:
        unsupported("every associated socket is non-blocking, and waits for all the same")
    near, _ = net.tcp_pair()
    port.associate(near)
    near.setblocking(False)
    assert attempt(port, lambda: port.recv(near, 8, flags=WAITALL)).number in {50, 10045}


@pytest.mark.statement("RECV-14")
@pytest.mark.parametrize("how", RECEIVES)
def test_all_is_refused_of_datagrams(port: CompletionPort, net: Loopback, how: str) -> None:
    near, far = net.udp_pair()
    port.associate(near)
    with pytest.raises(UnsupportedOperation, match="stream") as caught:
        start(port, how, near, WAITALL)
    assert winerror(caught.value) == 10045
    assert port.inflight() == []
    port.recv(near, 10)
    far.send(b"ok")
    assert take(port).result() == b"ok"


@pytest.mark.statement("RECV-17", "UDP-01")
def test_partial_changes_nothing_on_udp(port: CompletionPort, net: Loopback) -> None:
    near, far = net.udp_pair()
    port.associate(near)
    for data, error in ((b"data", 0), (b"too long", 234)):
        operation = port.recvfrom_into(near, bytearray(5), flags=MSG_PARTIAL)
        far.send(data)
        completion = take(port)
        assert (completion.error, completion.transferred) == (error, min(len(data), 5))
        assert operation.flags == MSG_PARTIAL
    far.send(b"next")
    port.recv(near, 5)
    assert take(port).result() == b"next"


@pytest.mark.parametrize("flags", ["MSG_PEEK", None, 1.5], ids=repr)
@pytest.mark.parametrize("how", RECEIVES)
def test_flags_are_a_number(port: CompletionPort, net: Loopback, how: str, flags: Any) -> None:
    near, _ = net.tcp_pair()
    port.associate(near)
    with pytest.raises(TypeError, match="flags"):
        start(port, how, near, flags)
    assert port.inflight() == []


@pytest.mark.parametrize("name", ["MSG_TRUNC", "MSG_ERRQUEUE", "MSG_CMSG_CLOEXEC"])
@pytest.mark.parametrize("stream", [True, False], ids=["tcp", "udp"])
def test_flags_that_change_what_the_count_means_are_refused(
    port: CompletionPort, net: Loopback, name: str, stream: bool
) -> None:
    number = getattr(socket, name, 0)
    if not number:
        pytest.skip(f"there is no {name} here")
    near, far = net.tcp_pair() if stream else net.udp_pair()
    port.associate(near)
    with pytest.raises(UnsupportedOperation, match=name):
        port.recv(near, 1, flags=number)
    far.send(b"still there")
    port.recv(near, 20)
    assert take(port).result() == b"still there"
