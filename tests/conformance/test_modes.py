"""`skip_on_success`, which is FILE_SKIP_COMPLETION_PORT_ON_SUCCESS (MODE-03 to 06).

Whether a start finishes inline is the backend's business (XFER-04), so these tests look at what it
did (`done` as soon as it returns) and hold it to the packets that follow from that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netpoll.testing import accepted
from netpoll.testing.drain import collect, nothing_more, take
from netpoll.testing.pairs import receive_exactly, reset, wait_readable

if TYPE_CHECKING:
    from netpoll import CompletionPort, Overlapped
    from netpoll.testing.backends import Target
    from netpoll.testing.pairs import Loopback


@pytest.mark.statement("MODE-03")
def test_with_the_mode_an_inline_success_queues_nothing(
    port: CompletionPort, net: Loopback, target: Target
) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "key", skip_on_success=True)
    far.sendall(b"0123456789")
    wait_readable(near)
    operations: list[Overlapped[bytes]] = []
    pending = 0
    for _ in range(10):
        operation = port.recv(near, 1)
        pending += not operation.done
        operations.append(operation)
        pending += not port.send(near, b"x").done
    collect(port, pending)
    assert b"".join(operation.result() for operation in operations) == b"0123456789"
    assert receive_exactly(far, 10) == b"x" * 10
    if target.backend == "selectors":
        assert pending == 0  # data and room were there: an emulation by readiness sees them at once


@pytest.mark.statement("MODE-04")
def test_with_the_mode_a_pending_operation_queues_its_packet(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "key", skip_on_success=True)
    operation = port.recv(near, 10)
    assert not operation.done
    far.sendall(b"x")
    completion = take(port)
    assert completion.overlapped is operation
    assert completion.result() == b"x"


@pytest.mark.statement("MODE-04")
def test_with_the_mode_a_connect_queues_its_packet(port: CompletionPort, net: Loopback) -> None:
    listener = net.listener()
    client = net.bound()
    port.associate(client, "key", skip_on_success=True)
    operation = port.connect(client, listener.getsockname())
    assert not operation.done  # finishing at once is no reason to finish inside the start
    assert take(port).overlapped is operation
    net.track(listener.accept()[0])


@pytest.mark.statement("MODE-04")
def test_with_the_mode_a_failure_queues_its_packet(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "key", skip_on_success=True)
    port.recv(near, 10)
    reset(far)
    assert take(port).error in accepted.RESET


@pytest.mark.statement("MODE-05")
@pytest.mark.parametrize("skip", [True, False], ids=["skip", "packets"])
def test_an_inline_truncation_is_told_once_in_either_mode(
    port: CompletionPort, net: Loopback, skip: bool
) -> None:
    near, far = net.udp_pair()
    port.associate(near, "key", skip_on_success=skip)
    far.send(b"too long for it")
    wait_readable(near)
    buffer = bytearray(4)
    operation = port.recv_into(near, buffer)  # a truncation is no failed start: it does not raise
    if skip and operation.done:
        nothing_more(port)
    else:
        completion = take(port)
        assert completion.overlapped is operation
        assert (completion.error, completion.transferred) == (234, 4)
    assert (operation.status, operation.transferred) == (0x80000005, 4)
    assert buffer == b"too "
    # exactly once: the next datagram belongs to the next receive
    far.send(b"next")
    wait_readable(near)
    following = port.recv(near, 10)
    if not (skip and following.done):
        take(port)
    assert following.result() == b"next"


@pytest.mark.statement("MODE-06")
def test_without_the_mode_an_inline_success_queues_a_packet(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "key")
    far.sendall(b"x")
    wait_readable(near)
    received = port.recv(near, 10)
    sent = port.send(near, b"y")
    completions = collect(port, 2)
    assert {done.overlapped for done in completions} == {received, sent}
    assert (received.result(), sent.result()) == (b"x", 1)
    assert far.recv(1) == b"y"


@pytest.mark.statement("MODE-06")
def test_without_the_mode_an_inline_end_of_stream_queues_a_packet(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "key")
    far.close()
    wait_readable(near)
    port.recv(near, 10)
    completion = take(port)
    assert (completion.error, completion.transferred, completion.result()) == (0, 0, b"")
