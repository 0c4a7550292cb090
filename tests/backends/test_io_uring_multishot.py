"""Multishot receives: what a turn brings, how they end, and that no byte goes astray."""

from __future__ import annotations

import errno
import os
import random
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
from backends.uring import grown, needs_multishot

from netpoll import CompletionPort, Overlapped, debugging
from netpoll.backends.io_uring import constants as uring
from netpoll.backends.io_uring import engine as engine_module
from netpoll.backends.io_uring import multishot as multishot_module
from netpoll.backends.io_uring.multishot import MultishotReceives
from netpoll.testing.pairs import fill, reset
from netpoll.testing.waiting import DEADLINE, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netpoll.testing.pairs import Loopback

pytestmark = needs_multishot


class Reader:
    """Is told."""

    def __init__(self, receives: MultishotReceives, sock: socket.socket) -> None:
        self.data: list[bytes] = []
        self.over: list[int] = []
        self.failed: list[BaseException] = []
        self.raises: BaseException | None = None
        self.receives = receives
        self.sock = sock
        self.receive = receives.open(sock.fileno(), self, call)
        receives.start(self.receive)

    def arrived(self, data: bytes) -> None:
        self.data.append(data)
        if self.raises is not None:
            error, self.raises = self.raises, None
            raise error

    def receive_over(self, result: int) -> None:
        self.over.append(result)

    def receiver_failed(self, error: BaseException) -> None:
        self.failed.append(error)

    @property
    def ended(self) -> bool:
        return bool(self.over)

    @property
    def all(self) -> bytes:
        return b"".join(self.data)


class Steady(Reader):
    """Goes on until the connection ends, as a transport does."""

    def receive_over(self, result: int) -> None:
        super().receive_over(result)
        if result and result != -errno.ECONNRESET:
            self.receives.start(self.receive)

    @property
    def ended(self) -> bool:
        return self.over[-1:] in ([0], [-errno.ECONNRESET])


def call(function: Any, *arguments: Any) -> object:
    """A `Context.run` that does nothing of its own."""
    return function(*arguments)


class Mailbox:
    """A port with multishot receives."""

    def __init__(self) -> None:
        self.port = CompletionPort("io_uring")
        self.mail: Overlapped[Any] = Overlapped()
        receives = self.port._backend.multishot(self.mail)
        assert isinstance(receives, MultishotReceives)
        self.receives = receives
        self.engine: Any = self.port._backend._engine  # type: ignore[attr-defined]

    def turn(self, timeout: float = 0) -> bool:
        """Whether there was anything to deliver."""
        batch = self.port.get_many(timeout=timeout)
        for completion in batch:
            assert completion.overlapped is self.mail
            self.receives.deliver()
        return bool(batch)

    def turns(self) -> None:
        """As many as there are."""
        while self.turn():
            pass

    def turns_until(self, readers: list[Reader], size: int) -> None:
        """Until each has got so much, or its end."""
        while any(len(each.all) < size and not each.ended for each in readers):
            assert self.turn(DEADLINE)


@pytest.fixture
def box() -> Iterator[Mailbox]:
    box = Mailbox()
    with box.port:
        yield box


def connect(box: Mailbox, net: Loopback, kind: type[Reader] = Reader) -> tuple[Reader, Any]:
    near, far = net.tcp_pair()
    near.setblocking(False)
    reader = kind(box.receives, near)
    box.turns()
    return reader, far


# -- what comes ------------------------------------------------------------------------------------


def test_a_turn_is_one_system_call_and_one_packet_for_all(box: Mailbox, net: Loopback) -> None:
    connections = [connect(box, net, Steady) for _ in range(50)]
    for round in range(5):
        data = b"%d" % round
        for _, far in connections:
            far.sendall(data)
        before = box.port.stats()
        if debugging.enabled(debugging.LIMITS):
            box.turns_until([reader for reader, _ in connections], 1)
        else:
            assert box.turn(DEADLINE)
            assert grown(box.port, before)["enters"] <= 1
            assert grown(box.port, before)["taken"] == 1
        assert [reader.data.pop() for reader, _ in connections] == [data] * 50
    assert box.port.inflight() == []


def test_what_lies_between_two_waits_comes_in_order(box: Mailbox, net: Loopback) -> None:
    one, one_far = connect(box, net)
    other, other_far = connect(box, net)
    for data in (b"a", b"bc", b"d"):
        one_far.sendall(data)
        other_far.sendall(data.upper())
    box.turns_until([one, other], 4)
    assert (one.all, other.all) == (b"abcd", b"ABCD")


def test_no_byte_goes_astray(box: Mailbox, net: Loopback) -> None:
    """Several times round the ring of buffers, with all that ends and begins on the way."""
    size = 100_000 if debugging.enabled(debugging.LIMITS) else 3_000_000
    connections = [connect(box, net, Steady) for _ in range(8)]
    sent = [random.Random(seed).randbytes(size) for seed in range(8)]

    def send(index: int) -> None:
        rng = random.Random(index)
        far = connections[index][1]
        far.setblocking(True)
        at = 0
        while at < size:
            step = rng.choice((1, 7, 64, 1000, 20_000, 100_000))
            far.sendall(sent[index][at : at + step])
            at += step

    senders = [run(send, index) for index in range(8)]
    while any(len(reader.all) < size for reader, _ in connections):
        assert box.turn(DEADLINE)
    for sender in senders:
        sender.result()
    assert [reader.all for reader, _ in connections] == sent
    assert not any(reader.failed for reader, _ in connections)


def test_a_connection_takes_so_much_and_no_more_at_a_time(box: Mailbox, net: Loopback) -> None:
    near, far = net.tcp_pair()
    near.setblocking(False)
    far.setblocking(False)
    filled = fill(far)
    assert filled > multishot_module.MOST
    reader = Reader(box.receives, near)
    while not reader.over:
        assert box.turn(DEADLINE)
    if debugging.enabled(debugging.LIMITS):
        assert reader.over == [-errno.ENOBUFS]
        return
    assert reader.over == [-errno.EAGAIN]
    assert len(reader.all) == multishot_module.MOST
    box.receives.start(reader.receive)
    assert box.turn(DEADLINE)
    assert multishot_module.MOST < len(reader.all) <= 2 * multishot_module.MOST


def test_without_room_for_all_some_are_told(box: Mailbox, net: Loopback) -> None:
    """And there is room again once the others' data was delivered."""
    size = 120_000
    pairs = [net.tcp_pair() for _ in range(12)]
    for _, far in pairs:
        far.sendall(bytes(size))
    readers: list[Reader] = [Steady(box.receives, near) for near, _ in pairs]
    while any(len(reader.all) < size for reader in readers):
        assert box.turn(DEADLINE)
    overs = {over for reader in readers for over in reader.over}
    assert -errno.ENOBUFS in overs
    assert overs <= {-errno.ENOBUFS, -errno.EAGAIN}


# -- how they end ----------------------------------------------------------------------------------


def test_the_end_of_the_stream(box: Mailbox, net: Loopback) -> None:
    reader, far = connect(box, net)
    far.sendall(b"last")
    far.shutdown(socket.SHUT_WR)
    while not reader.over:
        assert box.turn(DEADLINE)
    assert (reader.all, reader.over) == (b"last", [0])
    # it can be told once more
    box.receives.start(reader.receive)
    assert box.turn(DEADLINE)
    assert reader.over == [0, 0]


def test_ends_use_up_no_memory(box: Mailbox, net: Loopback) -> None:
    """Some kernels say of an end that it had the last byte of its buffer."""
    watched, far = connect(box, net)
    for _ in range(100):
        reader, peer = connect(box, net)
        peer.close()
        assert box.turn(DEADLINE)
        assert reader.over == [0]
    received = random.Random(1).randbytes(200_000)
    sender = run(far.sendall, received)
    while len(watched.all) < len(received):
        assert box.turn(DEADLINE)
        if watched.over:
            watched.over.clear()
            box.receives.start(watched.receive)
    sender.result()
    assert watched.all == received


def test_a_reset(box: Mailbox, net: Loopback) -> None:
    reader, far = connect(box, net)
    reset(far)
    assert box.turn(DEADLINE)
    assert reader.over == [-errno.ECONNRESET]


def test_stopped_it_leaves_the_data_alone(box: Mailbox, net: Loopback) -> None:
    reader, far = connect(box, net)
    box.receives.stop(reader.receive)
    box.receives.stop(reader.receive)  # which changes nothing
    assert box.turn(DEADLINE)
    assert reader.over == [-errno.ECANCELED]
    box.receives.stop(reader.receive)
    box.turns()
    far.sendall(b"data")
    assert not box.turn(0.01)
    assert reader.data == []
    reader.over.clear()
    box.receives.start(reader.receive)
    box.turns_until([reader], 4)
    assert reader.all == b"data"


def test_stopped_before_it_went_out_it_reads_from_nobody(box: Mailbox, net: Loopback) -> None:
    """Its entry names a number, which is another socket's by the time it would go out."""
    near, _ = net.tcp_pair()
    other, other_far = net.tcp_pair()
    other_far.sendall(b"for somebody else")
    reader = Reader(box.receives, near)
    box.receives.stop(reader.receive)
    number = near.detach()
    os.close(number)
    with socket.socket(fileno=os.dup2(other.fileno(), number)) as taken:
        while not reader.over:
            assert box.turn(DEADLINE)
        assert reader.data == []
        assert reader.over != [0]
        assert taken.recv(100) == b"for somebody else"


def test_the_places_in_the_table_are_given_back(box: Mailbox, net: Loopback) -> None:
    near, _ = net.tcp_pair()
    places: set[int] = set()
    reader = Reader(box.receives, near)
    for _ in range(50):
        places.add(len(box.engine._table))
        box.receives.stop(reader.receive)
        while not reader.over:
            assert box.turn(DEADLINE)
        reader.over.clear()
        box.receives.start(reader.receive)
        box.turns()
    assert len(places) == 1


def test_the_thread_that_handed_it_over_exits(box: Mailbox, net: Loopback) -> None:
    near, far = net.tcp_pair()
    readers: list[Reader] = []

    def begin() -> None:
        readers.append(Steady(box.receives, near))
        box.receives.flush()

    run(begin).result()
    far.sendall(b"data")
    box.turns_until([], 4)
    while readers[0].all != b"data":
        assert box.turn(DEADLINE)


def test_a_port_closes_with_receives_pending(net: Loopback) -> None:
    before = len(engine_module._left_over)
    box = Mailbox()
    connections = [connect(box, net) for _ in range(20)]
    unsent, far = net.tcp_pair()
    Reader(box.receives, unsent)  # which has not gone out yet
    box.port.close()
    assert len(engine_module._left_over) == before
    for reader, peer in [*connections, (Reader, far)]:
        peer.sendall(b"data")
        sock = reader.sock if isinstance(reader, Reader) else unsent
        sock.setblocking(True)
        assert sock.recv(10) == b"data"


# -- errors of others ------------------------------------------------------------------------------


def test_one_that_raises_does_not_keep_the_others_from_theirs(box: Mailbox, net: Loopback) -> None:
    connections = [connect(box, net) for _ in range(5)]
    failure = RuntimeError("mine")
    connections[2][0].raises = failure
    for _, far in connections:
        far.sendall(b"data")
    box.turns_until([reader for reader, _ in connections], 4)
    assert [reader.all for reader, _ in connections] == [b"data"] * 5
    assert [reader.failed for reader, _ in connections] == [[], [], [failure], [], []]


def test_one_that_raises_at_the_edge_of_a_buffer(box: Mailbox, net: Loopback) -> None:
    reader, far = connect(box, net)
    far.setblocking(True)
    sender = run(far.sendall, bytes(300_000))
    while len(reader.all) < 300_000:
        reader.raises = reader.raises or RuntimeError("mine")
        assert box.turn(DEADLINE)
        if reader.over:
            reader.over.clear()
            box.receives.start(reader.receive)
    sender.result()
    assert len(reader.failed) > 1


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_one_that_raises_is_told_of_the_end_all_the_same(
    box: Mailbox, net: Loopback, kind: type[BaseException]
) -> None:
    """What comes last is data."""

    class Raises(Reader):
        def arrived(self, data: bytes) -> None:
            super().arrived(data)
            raise kind

    near, far = net.tcp_pair()
    far.sendall(bytes(multishot_module.MOST + 1))
    reader = Raises(box.receives, near)
    raised = 0
    while not reader.over:
        try:
            assert box.turn(DEADLINE)
        except KeyboardInterrupt:
            raised += 1
    assert reader.over in ([-errno.EAGAIN], [-errno.ENOBUFS])
    assert raised + len(reader.failed) == len(reader.data)


def test_ctrl_c_in_one_leaves_the_others_for_the_next_turn(box: Mailbox, net: Loopback) -> None:
    connections = [connect(box, net) for _ in range(5)]
    connections[1][0].raises = KeyboardInterrupt()
    for _, far in connections:
        far.sendall(b"data")
    with pytest.raises(KeyboardInterrupt):
        box.turns_until([reader for reader, _ in connections], 4)
    # nothing more has to come for that
    box.turns_until([reader for reader, _ in connections], 4)
    assert [reader.all for reader, _ in connections] == [b"data"] * 5


def test_mail_that_ctrl_c_lost_comes_again(box: Mailbox, net: Loopback) -> None:
    reader, far = connect(box, net)
    far.sendall(b"data")
    assert box.port.get_many(timeout=DEADLINE)  # and nobody looks at it
    box.receives.flush()
    assert box.turn()
    assert reader.all == b"data"


class _Trap:
    """Ctrl-C, while completions are looked at."""

    @property
    def _least(self) -> int:
        raise KeyboardInterrupt


def test_ctrl_c_while_completions_are_looked_at_tells_nothing_twice(
    box: Mailbox, net: Loopback
) -> None:
    reader, _ = connect(box, net)
    token, trap = reader.receive.token, box.engine._new_token()
    box.engine._table[trap] = _Trap()
    data = uring.IORING_CQE_F_MORE | uring.IORING_CQE_F_BUFFER | uring.IORING_CQE_F_BUF_MORE
    box.engine._batch += [(token, 3, data), (trap, 0, 0), (token, 3, data)]
    with box.engine._lock, pytest.raises(KeyboardInterrupt):
        box.engine._look_at_batch()
    assert [each[0] for each in box.engine._batch] == [trap, token]
    assert [each[1] for each in box.engine._inbox] == [3]
    box.engine._table[trap] = None
    box.turns()
    assert [len(each) for each in reader.data] == [3, 3]


# -- threads, and where there are none -------------------------------------------------------------


def test_a_wait_of_another_thread_takes_it_along(box: Mailbox, net: Loopback) -> None:
    near, far = net.tcp_pair()
    waiting = threading.Event()

    def wait() -> bool:
        waiting.set()
        return box.turn(DEADLINE)

    waiter = run(wait)
    waiting.wait(DEADLINE)
    reader = Reader(box.receives, near)
    far.sendall(b"data")
    assert waiter.result()
    assert reader.all == b"data"


def test_no_receives_that_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    def offers(port: CompletionPort) -> bool:
        with port:
            return port._backend.multishot(Overlapped()) is not None

    assert offers(CompletionPort("io_uring"))
    assert not offers(CompletionPort("io_uring", max_inflight=10))
    assert not offers(CompletionPort("selectors"))
    monkeypatch.setattr(multishot_module, "_kernel_has_limits", lambda: False)
    assert not offers(CompletionPort("io_uring"))
