"""Datagrams that share system calls on the io_uring backend: none is lost, taken early, sent twice
or out of order, and what fails fails for its own."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any, Final, cast

import pytest
from backends.uring import needs_io_uring

from netpoll import CompletionPort, Overlapped
from netpoll import status as nt
from netpoll.testing.drain import collect, nothing_more, take
from netpoll.testing.pairs import has_ipv6, wait_readable
from netpoll.testing.waiting import DEADLINE, run, wait_for_waiters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from netpoll.backends.io_uring.engine import IoUringEngine
    from netpoll.testing.pairs import Loopback

    Receive = Overlapped[tuple[int, Any]]

pytestmark = needs_io_uring

UDP: Final = socket.SOCK_DGRAM
PENDING: Final = 8


@pytest.fixture
def port(net: Loopback) -> Iterator[CompletionPort]:
    with CompletionPort("io_uring") as port:
        yield port


def engine_of(port: CompletionPort) -> IoUringEngine:
    return cast("IoUringEngine", cast("Any", port)._backend._engine)


class Server:
    """A socket with some receives pending, and a send beside each."""

    def __init__(
        self,
        port: CompletionPort,
        net: Loopback,
        pending: int = PENDING,
        family: socket.AddressFamily = socket.AF_INET,
        size: int = 100,
    ) -> None:
        self.port = port
        self.sock = net.bound(family, UDP)
        self.peer = net.bound(family, UDP)
        self.address = self.sock.getsockname()
        port.associate(self.sock)
        self.receives: list[Receive] = []
        self.sends: list[Overlapped[int]] = []
        for _ in range(pending):
            receive = port.recvfrom_into(self.sock, bytearray(size), overlapped=Overlapped())
            receive.context = Overlapped[int](context=receive)
            self.receives.append(receive)

    def feed(self, *datagrams: bytes) -> None:
        for each in datagrams:
            self.peer.sendto(each, self.address)
        wait_readable(self.sock)

    def received(self, count: int) -> list[bytes]:
        """The next datagrams; their receives are done, and not started again."""
        found: list[bytes] = []
        for completion in collect(self.port, count):
            size, address = completion.result()
            assert address == self.peer.getsockname()
            found.append(bytes(completion.overlapped.buffers[:size]))
        return found

    def start_burst(self) -> None:
        """From here on, what is started waits for what is started next. Nothing is pending."""
        self.feed(*[b"warm"] * len(self.receives))
        self.received(len(self.receives))
        for receive in self.receives:
            self.answer(receive, b"warm")  # the first one prepares the operation
        collect(self.port, len(self.receives))
        assert self.sent() == [b"warm"] * len(self.receives)
        assert all(each._queue.burst for each in (self.receives[0], self.receives[0].context))

    def answer(self, receive: Receive, data: bytes) -> Overlapped[int]:
        receive.buffers[: len(data)] = data
        send: Overlapped[int] = receive.context
        address = self.peer.getsockname()
        if send.opcode is None:
            buffer = receive.buffers
            return self.port.sendto(self.sock, buffer, address, size=len(data), overlapped=send)
        return self.port.resubmit(send, size=len(data), address=address)

    def sent(self) -> list[bytes]:
        """What the peer has got."""
        found: list[bytes] = []
        self.peer.setblocking(False)
        while True:
            try:
                found.append(self.peer.recv(100_000))
            except BlockingIOError:
                return found


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
def test_what_is_there_is_received_by_one_call_in_order(
    port: CompletionPort, net: Loopback, family: socket.AddressFamily
) -> None:
    if family == socket.AF_INET6 and not has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")
    server = Server(port, net, 40, family)
    expected = [b"%d" % number for number in range(40)]
    before = engine_of(port)._bursts.calls
    server.feed(*expected)
    completions = collect(port, 40)
    assert [each.overlapped for each in completions] == server.receives
    assert [bytes(each.overlapped.buffers[: each.result()[0]]) for each in completions] == expected
    assert {each.result()[1] for each in completions} == {server.peer.getsockname()}
    assert engine_of(port)._bursts.calls - before <= 3


def test_nothing_is_taken_that_no_receive_was_started_for(
    port: CompletionPort, net: Loopback
) -> None:
    server = Server(port, net)
    server.start_burst()
    for receive in server.receives[:3]:
        port.resubmit(receive)
    server.feed(b"1", b"2", b"3", b"4", b"5")
    assert server.received(3) == [b"1", b"2", b"3"]
    nothing_more(port)
    server.sock.setblocking(False)
    assert [server.sock.recv(10), server.sock.recv(10)] == [b"4", b"5"]


def test_answers_wait_for_each_other_and_go_in_order_by_one_call(
    port: CompletionPort, net: Loopback
) -> None:
    server = Server(port, net)
    server.start_burst()
    before = engine_of(port)._bursts.calls
    sends = [server.answer(each, b"%d" % n) for n, each in enumerate(server.receives)]
    assert not any(each.done for each in sends)
    assert server.sent() == []
    assert [each.overlapped for each in collect(port, PENDING)] == sends
    assert server.sent() == [b"%d" % n for n in range(PENDING)]
    assert engine_of(port)._bursts.calls - before == 1


def test_flush_sends_them_without_a_wait(port: CompletionPort, net: Loopback) -> None:
    server = Server(port, net)
    server.start_burst()
    server.answer(server.receives[0], b"a")
    server.answer(server.receives[1], b"b")
    port.flush()
    assert server.sent() == [b"a", b"b"]
    collect(port, 2)


def test_another_thread_that_waits_is_not_waited_for(port: CompletionPort, net: Loopback) -> None:
    server = Server(port, net)
    server.start_burst()
    waiting = run(port.get_many)
    wait_for_waiters(port, 1)
    server.answer(server.receives[0], b"a")
    assert [each.overlapped for each in waiting.result()] == [server.receives[0].context]
    assert server.sent() == [b"a"]


@pytest.mark.parametrize("which", [0, 1], ids=["head", "behind-it"])
def test_a_cancel_loses_no_datagram(port: CompletionPort, net: Loopback, which: int) -> None:
    server = Server(port, net)
    server.start_burst()
    server.feed(b"1", b"2")
    for receive in server.receives[:3]:
        port.resubmit(receive)
    stopped = server.receives[which]
    assert stopped.cancel()
    found: list[bytes] = []
    while len(found) < 2:
        completion = port.get(timeout=5)
        assert completion is not None
        if completion.status:
            assert completion.overlapped is stopped
            assert completion.status == nt.STATUS_CANCELLED
        else:
            size, _ = completion.result()
            found.append(bytes(completion.overlapped.buffers[:size]))
    assert found == [b"1", b"2"]


def test_a_cancelled_send_is_not_sent_or_was_sent_once(port: CompletionPort, net: Loopback) -> None:
    server = Server(port, net)
    server.start_burst()
    sends = [server.answer(each, b"%d" % n) for n, each in enumerate(server.receives[:3])]
    sends[1].cancel()
    ends = {id(each.overlapped): each.status for each in collect(port, 3)}
    gone = [b"%d" % n for n, each in enumerate(sends) if ends[id(each)] == 0]
    assert server.sent() == gone


def test_a_truncated_datagram_among_others(port: CompletionPort, net: Loopback) -> None:
    server = Server(port, net, size=4)
    server.start_burst()
    for receive in server.receives[:3]:
        port.resubmit(receive)
    server.feed(b"1234", b"12345", b"")
    completions = collect(port, 3)
    assert [each.status for each in completions] == [0, nt.STATUS_BUFFER_OVERFLOW, 0]
    values = [each.overlapped.value for each in completions]
    assert values == [(size, server.peer.getsockname()) for size in (4, 4, 0)]


def test_what_needs_a_call_of_its_own_keeps_its_place(port: CompletionPort, net: Loopback) -> None:
    server = Server(port, net)
    server.start_burst()
    parts = [bytearray(1), bytearray(9)]
    first, last = server.receives[:2]
    port.resubmit(first)
    middle = port.recvfrom_into(server.sock, parts)
    peeking = port.recvfrom_into(server.sock, bytearray(10), flags=socket.MSG_PEEK)
    port.resubmit(last)
    server.feed(b"1", b"22", b"333")
    completions = collect(port, 4)
    assert [each.overlapped for each in completions] == [first, middle, peeking, last]
    assert [each.result()[0] for each in completions] == [1, 2, 3, 3]
    assert parts[0] + parts[1][:1] == b"22"


def test_a_send_that_fails_is_the_only_one(port: CompletionPort, net: Loopback) -> None:
    server = Server(port, net, size=70_000)
    server.start_burst()
    sizes = [1, 66_000, 3]
    sends = [
        server.answer(each, bytes(size)) for each, size in zip(server.receives, sizes, strict=False)
    ]
    ends = {id(each.overlapped): each for each in collect(port, 3)}
    assert [ends[id(each)].error for each in sends] == [0, 1784, 0]
    assert [len(each) for each in server.sent()] == [1, 3]


def test_a_connected_socket_loses_no_report(port: CompletionPort, net: Loopback) -> None:
    """Linux tells the send of what the one before it has met; a receive is to hear of that."""
    server = Server(port, net)
    server.start_burst()
    server.sock.connect(server.peer.getsockname())
    server.peer.close()
    for receive in server.receives[3:5]:
        port.resubmit(receive)
    for receive in server.receives[:3]:
        port.resubmit(receive.context)
    ends = {id(each.overlapped): each.error for each in collect(port, 5)}
    assert [ends[id(each.context)] for each in server.receives[:3]] == [0, 0, 0]
    assert [ends[id(each)] for each in server.receives[3:5]] == [1234, 1234]


def test_a_socket_that_was_closed_gives_its_number_to_another(
    port: CompletionPort, net: Loopback
) -> None:
    server = Server(port, net)
    server.start_burst()
    other = net.bound(socket.AF_INET, UDP)
    for receive in server.receives[:2]:
        port.resubmit(receive)
    server.answer(server.receives[2], b"not sent")
    number = server.sock.fileno()
    server.sock.close()
    os.dup2(other.fileno(), number)
    heir = net.track(socket.socket(fileno=number))
    server.peer.sendto(b"the heir's", other.getsockname())
    wait_readable(heir)
    assert {each.status for each in collect(port, 3)} == {nt.STATUS_CANCELLED}
    assert heir.recv(20) == b"the heir's"
    assert server.sent() == []


def test_many_are_started_again_together(port: CompletionPort, net: Loopback) -> None:
    server = Server(port, net)
    server.start_burst()
    for _ in range(2):
        before = engine_of(port)._bursts.calls
        port.resubmit_many(server.receives)
        server.feed(*[b"%d" % number for number in range(PENDING)])
        assert server.received(PENDING) == [b"%d" % number for number in range(PENDING)]
        assert engine_of(port)._bursts.calls - before <= 2
        for receive in server.receives:
            server.answer(receive, b"data")
        collect(port, PENDING)
        sends = [receive.context for receive in server.receives]
        port.resubmit_many(sends)
        assert [each.overlapped for each in collect(port, PENDING)] == sends
        assert server.sent() == [b"data"] * (2 * PENDING)


def test_many_started_again_where_one_cannot_be(port: CompletionPort, net: Loopback) -> None:
    server, other = Server(port, net), Server(port, net)
    server.start_burst()
    other.start_burst()
    receives = server.receives
    port.resubmit(receives[2])
    with pytest.raises(RuntimeError, match="in use"):
        port.resubmit_many(receives)
    assert [each.done for each in receives] == [False] * 3 + [True] * 5
    port.close_handle(other.sock)
    ((failed, error),) = port.resubmit_many([receives[3], other.receives[0], receives[4]])
    assert failed is other.receives[0]
    assert "closed" in str(error)
    server.feed(*[b"data"] * 5)
    assert server.received(5) == [b"data"] * 5
    nothing_more(port)


def test_many_started_again_while_another_thread_waits(port: CompletionPort, net: Loopback) -> None:
    server = Server(port, net)
    server.start_burst()
    waiter = run(lambda: collect(port, 2))
    wait_for_waiters(port, 1)
    port.resubmit_many(server.receives[:2])
    for data in (b"0", b"1"):
        server.peer.sendto(data, server.address)
    assert [each.overlapped for each in waiter.result(DEADLINE)] == server.receives[:2]


@pytest.mark.parametrize("together", [False, True], ids=["alone", "together"])
def test_what_has_to_wait_in_the_kernel_goes_to_the_latest_address(
    port: CompletionPort, net: Loopback, monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    server = Server(port, net)
    server.start_burst()
    last = net.bound(socket.AF_INET, UDP)
    last.sendto(b"warm", server.address)
    port.resubmit(server.receives[0])
    address = take(port).result()[1]
    send: Any = server.receives[0].context

    def no_room(*_: object) -> int:
        return 0

    send._perform = no_room
    monkeypatch.setattr(engine_of(port)._bursts, "_send", no_room)
    send._queue.burst = together
    for again in (address, tuple(address)):
        port.resubmit(send, 4, address=server.peer.getsockname())
        assert take(port).result() == 4
        port.resubmit(send, 4, address=again)
        assert take(port).result() == 4
        assert server.sent() == [b"warm"]
        assert last.recv(10) == b"warm"


@pytest.mark.parametrize("call", ["_receive", "_send"])
@pytest.mark.parametrize("late", [False, True], ids=["behind-the-call", "among-the-results"])
def test_ctrl_c_loses_nothing(
    port: CompletionPort, net: Loopback, monkeypatch: pytest.MonkeyPatch, call: str, late: bool
) -> None:
    server = Server(port, net)
    server.start_burst()
    bursts = engine_of(port)._bursts
    if call == "_receive":
        started: list[Any] = server.receives[:4]
        for each in started:
            port.resubmit(each)
        server.feed(b"0", b"1", b"2", b"3")
    else:
        started = [server.answer(each, b"%d" % n) for n, each in enumerate(server.receives[:4])]
    with monkeypatch.context() as patch:
        if late:
            patch.setattr(bursts, "_finished", Interrupted(bursts._finished, 2))
        else:
            patch.setattr(bursts, call, interrupted(getattr(bursts, call)))
        with pytest.raises(KeyboardInterrupt):
            port.get_many()
    completions = collect(port, 4)
    assert [each.overlapped for each in completions] == started
    if call == "_receive":
        assert [bytes(each.buffers[:1]) for each in started] == [b"0", b"1", b"2", b"3"]
    else:
        assert server.sent() == [b"0", b"1", b"2", b"3"]


def interrupted(call: Callable[..., int]) -> Callable[..., int]:
    """Ctrl-C comes when the system call has done its work."""

    def wrapper(*arguments: Any) -> int:
        call(*arguments)
        raise KeyboardInterrupt

    return wrapper


class Interrupted:
    """Ctrl-C comes when some results are in the list."""

    def __init__(self, finished: list[Any], after: int) -> None:
        self._finished = finished
        self._left = after

    def append(self, operation: Any) -> None:
        self._finished.append(operation)
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt


def test_threads_that_wait_together_answer_everything_once(net: Loopback) -> None:
    total, threads = 600, 3
    with CompletionPort("io_uring") as port:
        server = Server(port, net, 24)
        receives = {id(each) for each in server.receives}

        def serve() -> None:
            while True:
                for completion in port.get_many(8):
                    operation: Any = completion.overlapped
                    if operation is None:
                        port.post()  # for the next thread
                        return
                    if id(operation) in receives:
                        size, _ = completion.result()
                        server.answer(operation, bytes(operation.buffers[:size]))
                    else:
                        port.resubmit(operation.context)

        running = [run(serve) for _ in range(threads)]
        found: list[bytes] = []
        server.peer.settimeout(DEADLINE)
        for start in range(0, total, 20):
            for number in range(start, start + 20):
                server.peer.sendto(b"%d" % number, server.address)
            found += [server.peer.recv(100) for _ in range(20)]
        assert sorted(found) == sorted(b"%d" % number for number in range(total))
        port.post()
        for each in running:
            each.result()
