"""What only the io_uring backend can get wrong: operations that the kernel has, threads that it
knows them by, and rings that are full."""

from __future__ import annotations

import errno
import socket
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from backends.uring import grown, needs_io_uring

from netpoll import CompletionPort, Overlapped
from netpoll.backends import sockets
from netpoll.testing.attempts import pattern, silent_address
from netpoll.testing.drain import collect, nothing_more, take
from netpoll.testing.fixtures import check_idle
from netpoll.testing.pairs import receive_exactly
from netpoll.testing.waiting import DEADLINE, run, wait_for_waiters, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netpoll.testing.pairs import Loopback

pytestmark = needs_io_uring

SOCKETS = 2000
EACH = 5
"""Operations for each of them; the first is the kernel's, the others queue behind it."""
RACES = 2000


@pytest.fixture
def port(net: Loopback) -> Iterator[CompletionPort]:
    with CompletionPort("io_uring") as port:
        yield port
        check_idle(port)


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """As many open files as the system lets a process ask for."""
    if sys.platform == "win32":
        pytest.skip("Windows has no limit to raise")
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * SOCKETS + 100
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"no more than {hard} open files are allowed here, {needed} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def engine_of(port: CompletionPort) -> Any:
    return vars(port)["_backend"]._engine


# -- many ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("many_descriptors")
@pytest.mark.parametrize("end", ["data", "cancel", "close"])
def test_ten_thousand_operations_each_end_once(net: Loopback, end: str) -> None:
    """Far more than the submission ring has entries, and the completion ring too."""
    port = CompletionPort("io_uring")
    pairs: list[tuple[socket.socket, socket.socket]] = []
    operations: list[Overlapped[bytes]] = []
    for number in range(SOCKETS):
        near, far = socket.socketpair()
        pairs.append((net.track(near), net.track(far)))
        port.associate(near, number)
        operations += [port.recv(near, 4) for _ in range(EACH)]
    assert len(port.inflight()) == SOCKETS * EACH
    nothing_more(port)
    if end == "close":
        port.close()
        assert all(operation.status == 0xC0000120 for operation in operations)
        return
    if end == "data":
        for _, far in pairs:
            far.sendall(pattern(4 * EACH))
    else:
        for near, _ in pairs:
            assert port.cancel(near)
    ended = collect(port, SOCKETS * EACH, batch=1000)
    assert {completion.error for completion in ended} == {0 if end == "data" else 995}
    assert len({completion.overlapped for completion in ended}) == SOCKETS * EACH
    if end == "data":
        for number in range(SOCKETS):
            mine = operations[EACH * number : EACH * (number + 1)]
            assert b"".join(each.result() for each in mine) == pattern(4 * EACH)
    check_idle(port)
    port.close()


# -- threads ---------------------------------------------------------------------------------------


def test_a_thread_that_started_operations_may_exit(port: CompletionPort, net: Loopback) -> None:
    """The kernel ends what such a thread has pending. Nobody asked for that (CAN-01)."""
    near, far = net.tcp_pair(buffer=4096)
    listener = net.listener()
    port.associate(near, "near")
    port.associate(listener, "listener")
    much = pattern(1 << 20)

    def start() -> list[Overlapped[Any]]:
        accepting = port.accept(listener, receive=bytearray(4))
        return [port.recv(near, 4), port.send(near, much), accepting, port.recv(near, 0)]

    receive, send, accept, probe = run(start).result()
    for _ in range(2):
        nothing_more(port)
        assert len(port.inflight()) == 4
    client = net.new_socket()
    client.connect(listener.getsockname())
    client.sendall(b"here")
    completion = take(port)
    assert (completion.overlapped, completion.transferred) == (accept, 4)
    accept.result()[0].close()
    reading = run(receive_exactly, far, len(much))
    completion = take(port)
    assert (completion.overlapped, completion.transferred) == (send, len(much))
    assert reading.result() == much
    far.sendall(b"data")
    assert take(port).overlapped is receive
    assert receive.result() == b"data"
    far.sendall(b"more")
    assert take(port).overlapped is probe


def test_a_thread_that_started_a_connect_may_exit(port: CompletionPort, net: Loopback) -> None:
    """Its connect is handed over a second time when the connection is there already."""
    before = len(net._sockets)
    address = silent_address(net)
    [listener] = [each for each in net._sockets[before:] if sockets.is_listening(each)]
    sock = net.new_socket()
    port.associate(sock)
    operation = run(lambda: port.connect(sock, address, data=b"hello")).result()
    nothing_more(port)
    peers: dict[Any, socket.socket] = {}
    while sock.getsockname() not in peers:  # the system tries again after a second
        peer, name = listener.accept()
        peers[name] = net.track(peer)
    completion = take(port)
    assert (completion.overlapped, completion.result()) == (operation, None)
    assert receive_exactly(peers[sock.getsockname()], 5) == b"hello"


def test_a_thread_that_waited_may_exit(port: CompletionPort, net: Loopback) -> None:
    """What other threads had started went to the kernel in its name."""
    near, far = net.tcp_pair()
    port.associate(near)
    operation = port.recv(near, 4)
    far.sendall(b"once")
    take(port)

    def start_and_look() -> None:
        port.resubmit(operation)
        assert port.get(timeout=0) is None

    run(start_and_look).result()
    far.sendall(b"more")
    assert take(port).result() == b"more"


def test_starts_posts_and_cancels_wake_a_waiting_thread_once(
    port: CompletionPort, net: Loopback
) -> None:
    pairs = [net.tcp_pair() for _ in range(20)]
    operations: list[Overlapped[bytes]] = []
    for near, far in pairs:
        port.associate(near)
        operations.append(port.recv(near, 4))
        far.sendall(b"here")
    collect(port, 20)
    before = port.stats()
    waiting = run(port.get_many, 100, DEADLINE)
    wait_for_waiters(port, 1)
    wait_until(lambda: engine_of(port)._blocked, "the wait in the kernel")
    with vars(port)["_backend"]._lock:  # the waiting thread cannot get back before all are done
        for operation in operations:
            port.resubmit(operation)
        for number in range(20):
            port.post(key=number)
    assert {completion.key for completion in waiting.result()} >= {0}
    assert grown(port, before)["wakes"] == 1
    for operation in operations:
        assert operation.cancel()
    left = collect(port, 20 + 20 - len(waiting.result()))
    assert Counter(completion.error for completion in left)[995] == 20


def test_data_for_what_another_thread_started_ends_the_wait(
    port: CompletionPort, net: Loopback
) -> None:
    """The kernel finishes an operation in the thread that handed it over."""
    near, far = net.tcp_pair()
    port.associate(near)
    waiting = run(port.get, DEADLINE)
    wait_until(lambda: engine_of(port)._blocked, "the wait in the kernel")
    operation = port.recv(near, 4)
    far.sendall(b"data")
    completion = waiting.result()
    assert completion is not None
    assert completion.overlapped is operation


def test_a_cancel_that_races_with_the_data_loses_no_byte(
    port: CompletionPort, net: Loopback
) -> None:
    """Two ends are on their way, of which the program sees one (CAN-05)."""
    near, far = net.tcp_pair()
    port.associate(near)
    stream = pattern(4 * RACES)
    turn, done = threading.Semaphore(0), threading.Semaphore(0)

    def send() -> None:
        for number in range(RACES):
            assert turn.acquire(timeout=DEADLINE)
            far.sendall(stream[4 * number : 4 * number + 4])
            done.release()

    sending = run(send)
    received = bytearray()
    ends: Counter[int] = Counter()
    operation = Overlapped[bytes]()
    for number in range(RACES):
        port.recv(near, 4, overlapped=operation)
        turn.release()
        if number % 2:
            done.acquire()  # the data is there, and perhaps nobody has looked
        operation.cancel()
        completion = take(port)
        assert completion.overlapped is operation
        ends[completion.error] += 1
        if not completion.error:
            received += completion.result()
        if not number % 2:
            done.acquire()
    sending.result()
    assert set(ends) <= {0, 995}
    assert ends[0] > 0
    assert ends[995] > 0
    left = len(stream) - len(received)
    if left:
        near.settimeout(DEADLINE)
        received += receive_exactly(near, left)
    assert bytes(received) == stream


# -- one thread only -------------------------------------------------------------------------------


@pytest.fixture
def mine(net: Loopback) -> Iterator[CompletionPort]:
    """A port of this thread's."""
    with CompletionPort("io_uring", single_issuer=True) as port:
        yield port
        check_idle(port)


def test_only_the_owner_of_a_single_issuer_port_waits(mine: CompletionPort) -> None:
    mine.post(key="for the owner")
    mine.post(key="for the owner too")
    assert take_key(mine) == "for the owner"
    assert take_key(mine) == "for the owner too"
    for wait in (mine.get, lambda: mine.get(timeout=0)):
        with pytest.raises(RuntimeError, match="single_issuer=True"):
            run(wait).result()
    assert mine.stats()["waiting"] == 0


def take_key(port: CompletionPort) -> Any:
    completion = port.get(DEADLINE)
    assert completion is not None
    return completion.key


def test_other_threads_start_post_and_cancel(mine: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    mine.associate(near, "near")
    operation = run(mine.recv, near, 4).result()
    far.sendall(b"data")
    assert take(mine).result() == b"data"
    run(mine.resubmit, operation).result()
    nothing_more(mine)
    assert run(operation.cancel).result()
    assert take(mine).error == 995
    run(mine.resubmit, operation).result()
    assert run(operation.cancel).result()  # before the kernel has heard of it
    assert take(mine).error == 995
    run(mine.resubmit, operation).result()
    run(mine.flush).result()
    far.sendall(b"more")
    assert take(mine).result() == b"more"
    run(lambda: mine.post(key="posted")).result()
    assert take(mine).key == "posted"


@pytest.mark.parametrize("what", ["start", "post", "cancel", "close_handle"])
def test_other_threads_reach_an_owner_that_waits(
    mine: CompletionPort, net: Loopback, what: str
) -> None:
    near, _ = net.tcp_pair()
    mine.associate(near, "near")
    pending = mine.recv(near, 4)

    def act() -> None:
        wait_until(lambda: engine_of(mine)._blocked, "the owner's wait")
        if what == "start":
            mine.send(near, b"from another thread")
        elif what == "post":
            mine.post(key="posted")
        elif what == "cancel":
            assert pending.cancel()
        else:
            mine.close_handle(near)

    acting = run(act)
    completion = mine.get(DEADLINE)
    assert completion is not None
    acting.result()
    expected = {"start": ("near", 0), "post": ("posted", 0), "cancel": ("near", 995)}
    assert (completion.key, completion.error) == expected.get(what, ("near", 1236))
    if what in ("start", "post"):
        assert pending.cancel()
        assert take(mine).error == 995


# -- what the kernel has no room for ---------------------------------------------------------------


def test_a_start_that_the_kernel_has_no_memory_for_is_handed_over_later(
    port: CompletionPort, net: Loopback
) -> None:
    """A start has taken the operation, so that it cannot fail any more (XFER-03)."""
    near, far = net.tcp_pair()
    port.associate(near)
    ring = engine_of(port)._ring
    real = ring._enter, ring._last_error
    ring._enter, ring._last_error = refuse, lambda: errno.ENOMEM
    operation = port.recv(near, 4)
    port.flush()
    assert len(port.inflight()) == 1
    ring._enter, ring._last_error = real
    far.sendall(b"data")
    completion = take(port)
    assert completion.overlapped is operation
    assert completion.result() == b"data"


def refuse(*_: int) -> int:
    return -1


def test_libuv_4492_no_thread_of_the_kernel_polls_for_an_idle_port(
    port: CompletionPort, net: Loopback
) -> None:
    """With IORING_SETUP_SQPOLL one of the kernel's threads looks for work, on a processor of its
    own, in a process that does nothing."""
    near, _ = net.tcp_pair()
    port.associate(near)
    operation = port.recv(near, 10)
    nothing_more(port)
    tasks = Path("/proc/self/task")
    names = {(task / "comm").read_text().strip() for task in tasks.iterdir()}
    assert not {name for name in names if name.startswith("iou-sqp")}
    assert port.cancel(operation)
    take(port)
