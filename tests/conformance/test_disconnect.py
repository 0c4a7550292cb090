"""Disconnecting (DIS): this side's stream ends, in order and by a packet."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

import pytest

from netpoll import Opcode, UnsupportedOperation
from netpoll.testing.accepted import RESET
from netpoll.testing.attempts import (
    NO_SOCKET,
    NOT_CONNECTED,
    SHUT_DOWN,
    attempt,
    clog,
    pattern,
    read_to_end,
)
from netpoll.testing.drain import collect, nothing_more, take
from netpoll.testing.outcome import unsupported
from netpoll.testing.pairs import reset, wait_readable
from netpoll.testing.waiting import run

if TYPE_CHECKING:
    from netpoll import CompletionPort
    from netpoll.testing.backends import Target
    from netpoll.testing.pairs import Loopback


@pytest.mark.statement("DIS-02", "DIS-03")
def test_the_peer_reads_the_end_and_this_side_goes_on_receiving(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "near")
    receiving = port.recv(near, 4)
    operation = port.disconnect(near)
    completion = take(port)
    assert completion.overlapped is operation
    assert (completion.key, completion.error, completion.transferred) == ("near", 0, 0)
    assert completion.result() is None
    assert read_to_end(far) == b""
    assert near.getpeername() == far.getsockname()
    far.sendall(b"data")
    completion = take(port)
    assert (completion.overlapped, completion.result()) == (receiving, b"data")
    assert attempt(port, lambda: port.send(near, b"x")).number in SHUT_DOWN


@pytest.mark.statement("DIS-02")
@pytest.mark.parametrize("first", ["shutdown", "disconnect"])
def test_ending_again_after_both_ends_is_harmless(
    port: CompletionPort, net: Loopback, first: str
) -> None:
    """POSIX says that the socket has no peer any more (found by the differential test)."""
    near, far = net.tcp_pair()
    port.associate(near)
    if first == "shutdown":
        port.shutdown(near, socket.SHUT_WR)
    else:
        port.disconnect(near)
        take(port)
    far.close()
    assert attempt(port, lambda: port.recv(near, 1)).value == b""
    again = port.disconnect(near)
    assert take(port).result() is None
    port.resubmit(again)
    assert take(port).result() is None
    assert attempt(port, lambda: port.send(near, b"x")).number in SHUT_DOWN


@pytest.mark.statement("DIS-03", "CON-01")
def test_a_half_closed_socket_does_not_connect_again(port: CompletionPort, net: Loopback) -> None:
    near, _ = net.tcp_pair()
    port.associate(near)
    port.disconnect(near)
    take(port)
    listener = net.listener()
    ended = attempt(port, lambda: port.connect(near, listener.getsockname()))
    assert ended.number in {10056, 1230}


@pytest.mark.statement("DIS-02")
def test_it_can_be_repeated(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    operation = port.disconnect(near)
    assert take(port).error == 0
    port.resubmit(operation)
    assert take(port).error == 0
    port.disconnect(near)
    assert take(port).error == 0
    assert attempt(port, lambda: port.send(near, b"x")).number in SHUT_DOWN
    assert read_to_end(far) == b""


@pytest.mark.statement("DIS-02", "SEND-05")
def test_the_end_goes_out_behind_the_sends_that_are_pending(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair(buffer=16384)
    port.associate(near)
    data = pattern(1 << 20)
    operations = [port.send(near, data), port.send(near, b"last"), port.disconnect(near)]
    reading = run(read_to_end, far)
    ended = collect(port, 3)
    assert {each.overlapped for each in ended} == set(operations)
    assert [each.error for each in ended] == [0, 0, 0]
    assert reading.result() == data + b"last"


@pytest.mark.statement("DIS-01")
@pytest.mark.parametrize("state", ["new", "bound", "listening"])
def test_a_socket_without_a_connection_cannot(
    port: CompletionPort, net: Loopback, state: str
) -> None:
    sock = {"new": net.new_socket, "bound": net.bound, "listening": net.listener}[state]()
    port.associate(sock)
    assert attempt(port, lambda: port.disconnect(sock)).number in NOT_CONNECTED


@pytest.mark.statement("DIS-01")
def test_a_closed_socket_cannot(port: CompletionPort, net: Loopback) -> None:
    near, _ = net.tcp_pair()
    port.associate(near)
    port.close_handle(near)
    assert attempt(port, lambda: port.disconnect(near)).number in NO_SOCKET


def test_datagrams_have_no_stream_to_end(port: CompletionPort, net: Loopback) -> None:
    near, _ = net.udp_pair()
    port.associate(near)
    with pytest.raises(UnsupportedOperation, match="datagram"):
        port.disconnect(near)
    nothing_more(port)


@pytest.mark.statement("DIS-02")
def test_a_reset_that_nobody_has_seen_ends_it_with_that(
    port: CompletionPort, net: Loopback, target: Target
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    reset(far)
    wait_readable(near)
    ended = attempt(port, lambda: port.disconnect(near))
    if target.emulated:  # Windows does not say what it makes of a reset connection
        assert ended.number in RESET | NOT_CONNECTED


@pytest.mark.statement("DIS-02", "CAN-05")
def test_one_that_waits_behind_a_send_can_be_cancelled(
    port: CompletionPort, net: Loopback, target: Target
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    filled = clog(near)
    data = bytes(1 << 20)  # and not what a little room would be enough for
    sending = port.send(near, data)
    operation = port.disconnect(near)
    asked = port.cancel(operation)
    if not target.emulated:  # Windows does not say whether that is too late
        reading = run(read_to_end, far)
        assert {each.overlapped for each in collect(port, 2)} == {sending, operation}
        port.close_handle(near)
        assert reading.result() == bytes(filled) + data
        return
    assert asked
    completion = take(port)
    assert (completion.overlapped, completion.error) == (operation, 995)
    reading = run(read_to_end, far)
    assert take(port).overlapped is sending
    port.send(near, b"y")
    port.disconnect(near)
    assert [each.error for each in collect(port, 2)] == [0, 0]
    assert reading.result() == bytes(filled) + data + b"y"


@pytest.mark.statement("DIS-02")
def test_a_connection_that_is_closed_ends_it(
    port: CompletionPort, net: Loopback, target: Target
) -> None:
    near, _ = net.tcp_pair()
    port.associate(near)
    clog(near)
    operations = {port.send(near, b"x"), port.disconnect(near)}
    port.close_handle(near)
    ended = collect(port, 2)
    assert {each.overlapped for each in ended} == operations
    if target.emulated:
        assert {each.error for each in ended} == {1236}


@pytest.mark.statement("DIS-04")
def test_a_socket_that_is_to_be_used_again_connects_again(
    port: CompletionPort, net: Loopback
) -> None:
    listener = net.listener()
    near = net.new_socket()
    port.associate(near)
    port.connect(near, listener.getsockname())
    take(port)
    far = net.track(listener.accept()[0])
    if port.backend != "iocp":
        with pytest.raises(UnsupportedOperation, match="TF_REUSE_SOCKET"):
            port.disconnect(near, reuse=True)
        nothing_more(port)
        unsupported(f"disconnect: {port.capability(Opcode.DISCONNECT).reason}")
    assert sys.platform == "win32"
    port.disconnect(near, reuse=True)
    assert far.recv(1) == b""
    far.close()
    assert take(port, timeout=60).error == 0
    port.connect(near, listener.getsockname())
    assert take(port).error == 0


def test_a_program_s_own_shutdown_does_not_stand_in_the_way(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    port.shutdown(near, socket.SHUT_WR)
    port.disconnect(near)
    assert take(port).error == 0
    assert read_to_end(far) == b""
