"""Staged sends: what goes out together with the next wait, and what comes back of it."""

from __future__ import annotations

import contextlib
import errno
import gc
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
from backends.uring import grown, needs_io_uring

from netpoll import CompletionPort, debugging
from netpoll.backends.io_uring.staging import LARGEST, Staging
from netpoll.testing.pairs import fill

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netpoll.testing.pairs import Loopback

pytestmark = needs_io_uring


class Owner:
    """Is told."""

    def __init__(self) -> None:
        self.told = 0

    def staged_send_failed(self) -> None:
        self.told += 1


class Sender(Owner):
    """A connection that sends, and its peer."""

    def __init__(self, staging: Any, pair: tuple[socket.socket, socket.socket]) -> None:
        super().__init__()
        self.near, self.far = pair
        self.near.setblocking(False)
        self.far.setblocking(False)
        self.staging = staging
        self.stage = staging.open(self.near.fileno(), self)

    def write(self, data: bytes) -> bool:
        return bool(self.staging.write(self.stage, data))

    def received(self) -> bytes:
        """What is there; nothing where there is nothing."""
        parts: list[bytes] = []
        try:
            while part := self.far.recv(1 << 20):
                parts.append(part)
        except BlockingIOError:
            pass
        return b"".join(parts)


@pytest.fixture
def port() -> Iterator[CompletionPort]:
    with CompletionPort("io_uring") as made:
        yield made


@pytest.fixture
def staging(port: CompletionPort) -> Staging:
    staging = port._backend.staging()
    assert isinstance(staging, Staging)
    staging.enable(True)
    return staging


@pytest.fixture
def sender(staging: Staging, net: Loopback) -> Sender:
    return Sender(staging, net.tcp_pair())


def turn(port: CompletionPort) -> None:
    """One, or as many as it takes where the limits are small."""
    staging = port._backend.staging()
    assert isinstance(staging, Staging)
    assert port.get_many(timeout=0) == []
    while staging.flying:
        assert port.get_many(timeout=0) == []


def stuff(sock: socket.socket) -> None:
    """Until not even a byte fits: a full socket has room for a little yet."""
    fill(sock)
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(b"\0")


def test_nothing_goes_out_before_the_wait(port: CompletionPort, sender: Sender) -> None:
    assert sender.write(b"data")
    assert sender.received() == b""
    turn(port)
    assert sender.received() == b"data"


def test_a_hundred_go_out_with_one_system_call_and_no_completion(
    port: CompletionPort, staging: Staging, net: Loopback
) -> None:
    senders = [Sender(staging, net.tcp_pair()) for _ in range(100)]
    turn(port)
    for round in range(5):
        before = port.stats()
        for sender in senders:
            assert sender.write(b"%d" % round)
        turn(port)
        if not debugging.enabled(debugging.LIMITS):
            assert grown(port, before)["enters"] == 1
        assert [sender.received() for sender in senders] == [b"%d" % round] * 100
    assert not staging.flying


def test_writes_of_a_turn_arrive_in_order(
    port: CompletionPort, staging: Staging, net: Loopback
) -> None:
    """Whether the other connection's data lies between them or not."""
    one, other = (Sender(staging, net.tcp_pair()) for _ in range(2))
    for round in range(3):
        for data in (b"a", b"bc", b"d"):
            assert one.write(data)
        assert other.write(b"xyz")
        assert one.write(b"ef")
        assert other.write(b"w")
        assert one.write(b"g")
        turn(port)
        assert one.received() == b"abcdefg", round
        assert other.received() == b"xyzw"


def test_what_does_not_fit_comes_back(port: CompletionPort, sender: Sender) -> None:
    stuff(sender.near)
    assert sender.write(b"more")
    turn(port)
    assert sender.told == 1
    assert (sender.stage.error, sender.stage.data) == (0, b"more")
    assert not sender.write(b"and more")  # not before the owner has looked at it
    assert not sender.received().strip(b"\0")
    assert sender.stage.take_back() == b"more"
    assert sender.write(b"again")
    turn(port)
    assert sender.received() == b"again"


def test_the_part_that_fits_is_counted(port: CompletionPort, staging: Staging) -> None:
    near, far = socket.socketpair()
    with near, far:
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        sender = Sender(staging, (near, far))
        data = bytes(range(256)) * (LARGEST // 256)
        sent = b""
        for _ in range(100):
            if not sender.write(data):
                break
            sent += data
            turn(port)
        rest = sender.stage.data
        assert rest
        assert sender.told == 1
        assert sender.received() == sent[: -len(rest)]
        assert sent.endswith(rest)


def test_an_error_is_told(port: CompletionPort, staging: Staging) -> None:
    near, far = socket.socketpair()
    with near, far:
        sender = Sender(staging, (near, far))
        far.close()
        assert sender.write(b"data")
        staging.flush(sender.stage)
        assert sender.told == 1
        assert sender.stage.error == errno.EPIPE


def test_a_failure_that_nobody_owns_any_more(
    port: CompletionPort, staging: Staging, net: Loopback
) -> None:
    sender = Sender(staging, net.tcp_pair())
    stuff(sender.near)
    assert sender.write(b"data")
    stage = sender.stage
    del sender
    gc.collect()
    turn(port)
    assert stage.error == 0


def test_a_failure_not_looked_at_yet_lets_nothing_overtake_it(
    port: CompletionPort, staging: Staging, net: Loopback
) -> None:
    """Its completion waits in the ring behind more than one batch of others."""
    sender = Sender(staging, net.tcp_pair())
    others = [net.tcp_pair() for _ in range(100)]
    for near, far in others:
        port.associate(near)
        port.recv_into(near, bytearray(1))
        far.send(b"x")
    stuff(sender.near)
    port.flush()
    for near, _ in others:
        near.setblocking(False)
    taken = len(port.get_many(1, timeout=0))
    assert sender.write(b"first")
    taken += len(port.get_many(1, timeout=0))
    sender.received()  # now there is room
    written = sender.write(b"second")
    while taken < len(others):
        taken += len(port.get_many(timeout=0))
    turn(port)
    assert not written or sender.stage.error is None
    assert (sender.stage.data + sender.received().strip(b"\0")).startswith(b"first")


def test_a_large_turn_is_refused_and_goes_out_in_parts(
    port: CompletionPort, sender: Sender
) -> None:
    data = b"d" * 1000
    written = 0
    while sender.write(data):
        written += len(data)
    assert written <= LARGEST
    sender.staging.flush(sender.stage)
    assert sender.write(data)
    turn(port)
    assert sender.received() == b"d" * (written + 1000)


def test_the_area_is_used_again(port: CompletionPort, staging: Staging, net: Loopback) -> None:
    senders = [Sender(staging, net.tcp_pair()) for _ in range(40)]
    data = b"d" * 10_000
    for _ in range(3):
        for sender in senders:
            if not sender.write(data):
                staging.flush(senders[0].stage)
                assert sender.write(data)
        turn(port)
        assert [len(sender.received()) for sender in senders] == [len(data)] * len(senders)


def test_nothing_is_staged_while_nobody_waits(
    port: CompletionPort, staging: Staging, sender: Sender
) -> None:
    assert sender.write(b"before")
    staging.enable(False)
    assert sender.received() == b"before"
    assert not sender.write(b"after")
    turn(port)
    assert sender.received() == b""


def test_what_a_closed_one_had_staged_goes_to_nobody(
    port: CompletionPort, staging: Staging, net: Loopback
) -> None:
    """Its number may be another socket's by then, and its token another operation's."""
    sender = Sender(staging, net.tcp_pair())
    token = sender.stage.token
    assert sender.write(b"lost")
    staging.close(sender.stage)
    number = sender.near.fileno()
    sender.near.close()
    near, far = net.tcp_pair()
    if near.fileno() != number:
        near, far = far, near
    assert near.fileno() == number
    another = Sender(staging, (near, far))
    assert another.stage.token != token
    turn(port)
    assert another.received() == b""
    assert Sender(staging, net.tcp_pair()).stage.token == token


def test_a_wait_of_another_thread_takes_them_along(port: CompletionPort, sender: Sender) -> None:
    waiting = threading.Thread(target=port.get_many)
    waiting.start()
    while port.stats()["waiting"] == 0:
        pass
    assert sender.write(b"data")
    sender.far.settimeout(10)
    assert sender.far.recv(10) == b"data"
    port.post()
    waiting.join()


def test_a_port_closes_with_sends_staged(sender: Sender, port: CompletionPort) -> None:
    assert sender.write(b"data")
    port.close()
