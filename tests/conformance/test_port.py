"""The port itself: packets, waiters, the concurrency limit, closing (PORT-*, routines apart)."""

from __future__ import annotations

import os
import queue
import threading
from typing import TYPE_CHECKING, Any

import pytest

from netpoll import CompletionPort, OperationAborted, Overlapped, PortClosed
from netpoll.testing import accepted
from netpoll.testing.accepted import winerror_of
from netpoll.testing.drain import collect, nothing_more, take
from netpoll.testing.outcome import unsupported
from netpoll.testing.pairs import reset, wait_readable
from netpoll.testing.waiting import DEADLINE, at_least, run, wait_for_waiters, wait_until

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from netpoll import Completion
    from netpoll.testing.backends import Target
    from netpoll.testing.fixtures import MakePort
    from netpoll.testing.pairs import Loopback
    from netpoll.testing.waiting import Running

NOT_ON_THE_KERNELS_PORT = (
    "the order in which a kernel's own port releases waiters, and its limit, are not the same on "
    "Windows and Wine"
)
WAITS: dict[str, Callable[[CompletionPort], Any]] = {
    "get": lambda port: port.get(),
    "get_alertable": lambda port: port.get(alertable=True),
    "get_many": lambda port: port.get_many(),
    "get_many_alertable": lambda port: port.get_many(alertable=True),
}


def keys(completions: list[Completion]) -> list[Any]:
    return [completion.key for completion in completions]


def take_next(port: CompletionPort) -> Completion:
    completion = port.get(DEADLINE)
    assert completion is not None
    return completion


# -- making one ------------------------------------------------------------------------------------


@pytest.mark.statement("PORT-01")
def test_a_port_needs_no_handle(port: CompletionPort) -> None:
    port.post(3, "key")
    completion = take(port)
    assert (completion.key, completion.transferred, completion.error) == ("key", 3, 0)


@pytest.mark.statement("PORT-03")
def test_one_port_serves_many_handles(port: CompletionPort, net: Loopback) -> None:
    pairs = [net.tcp_pair() for _ in range(3)]
    for key, (near, far) in enumerate(pairs):
        port.associate(near, key)
        port.recv(near, 10)
        far.sendall(b"%d" % key)
    completions = collect(port, 3)
    assert sorted((done.key, done.result()) for done in completions) == [
        (0, b"0"),
        (1, b"1"),
        (2, b"2"),
    ]


# -- concurrency -----------------------------------------------------------------------------------


@pytest.mark.statement("PORT-04")
def test_without_a_limit_every_processor_may_have_a_packet_at_once(
    make_port: MakePort, target: Target
) -> None:
    port = make_port(concurrency=0)
    count = (os.cpu_count() or 1) + target.emulated
    all_have_one = threading.Barrier(count)

    def worker() -> Any:
        completion = port.get(DEADLINE)
        all_have_one.wait(DEADLINE)  # broken, and an error here, if one is held back
        assert completion is not None
        return completion.key

    workers = [run(worker) for _ in range(count)]
    wait_for_waiters(port, count)
    for number in range(count):
        port.post(key=number)
    assert sorted(worker.result() for worker in workers) == list(range(count))
    if target.emulated:
        unsupported("a concurrency of 0 sets no limit: Python's threads share the interpreter")


def test_a_negative_concurrency_is_refused(make_port: MakePort) -> None:
    with pytest.raises(ValueError, match="concurrency"):
        make_port(concurrency=-1)


@pytest.mark.statement("PORT-05")
def test_the_limit_does_not_cap_the_number_of_waiters(make_port: MakePort) -> None:
    port = make_port(concurrency=1)
    waiters = [run(port.get, DEADLINE) for _ in range(4)]
    wait_for_waiters(port, 4)
    for number in range(4):  # each ends after its packet, which frees its place
        port.post(key=number)
    completions = [waiter.result() for waiter in waiters]
    assert sorted(done.key for done in completions if done) == [0, 1, 2, 3]


@pytest.mark.statement("EMU-12", "PORT-05")
def test_at_the_limit_the_next_packet_stays_for_whoever_comes_back(
    make_port: MakePort, target: Target
) -> None:
    if not target.emulated:
        unsupported(NOT_ON_THE_KERNELS_PORT)
    port = make_port(concurrency=1)
    port.post(key="first")
    assert take_next(port).key == "first"  # from here on this thread counts as running
    waiter = run(port.get, None)
    wait_for_waiters(port, 1)
    port.post(key="second")
    # The waiter must not have it, because this thread has the only place.
    second = port.get(timeout=0)
    assert second is not None
    assert second.key == "second"
    assert waiter.running
    port.close()
    with pytest.raises(PortClosed):
        waiter.result()


@pytest.mark.statement("PORT-05")
def test_a_thread_that_ends_gives_its_place_up(make_port: MakePort) -> None:
    port = make_port(concurrency=1)
    for number in range(3):
        port.post(key=number)
    taken = [run(port.get, DEADLINE).result() for _ in range(3)]
    assert [done.key for done in taken if done] == [0, 1, 2]


@pytest.mark.statement("PORT-05", "PORT-30")
def test_a_thread_that_waits_on_another_port_gives_its_place_up(make_port: MakePort) -> None:
    one, other = make_port(concurrency=1), make_port(concurrency=1)
    one.post(key="mine")
    assert one.get(DEADLINE) is not None  # the only place on `one` is now this thread's
    waiter = run(one.get, DEADLINE)
    wait_for_waiters(one, 1)
    one.post(key="theirs")
    other.post(key="other")
    assert other.get(DEADLINE) is not None
    theirs = waiter.result()
    assert theirs is not None
    assert theirs.key == "theirs"


@pytest.mark.statement("PORT-06")
def test_never_many_more_threads_run_than_the_limit_says(
    make_port: MakePort, target: Target
) -> None:
    if not target.emulated:
        unsupported(NOT_ON_THE_KERNELS_PORT)
    limit, threads, packets = 2, 8, 400
    port = make_port(concurrency=limit)
    lock = threading.Lock()
    running = peak = 0
    seen: list[int] = []

    def worker() -> None:
        nonlocal running, peak
        while (completion := port.get(DEADLINE)) is not None and completion.key >= 0:
            with lock:
                running += 1
                peak = max(peak, running)
                seen.append(completion.key)
            port.stats()  # some work that lets other threads have the interpreter
            with lock:
                running -= 1

    workers = [run(worker) for _ in range(threads)]
    wait_for_waiters(port, threads)
    for number in range(packets):
        port.post(key=number)
    for _ in workers:
        port.post(key=-1)
    for each in workers:
        each.result()
    assert sorted(seen) == list(range(packets))
    assert 1 <= peak <= limit + 1  # going over it briefly is allowed


# -- who gets which packet -------------------------------------------------------------------------


@pytest.mark.statement("EMU-10", "PORT-07")
def test_the_last_waiter_gets_the_oldest_packet(make_port: MakePort, target: Target) -> None:
    if not target.emulated:
        unsupported(NOT_ON_THE_KERNELS_PORT)
    port = make_port(concurrency=8)
    waiters: list[Running[Completion | None]] = []
    for count in range(1, 4):
        waiters.append(run(port.get, DEADLINE))
        wait_for_waiters(port, count)
    for key in ("oldest", "middle", "youngest"):
        port.post(key=key)
    got = [waiter.result() for waiter in waiters]
    assert [done.key for done in got if done] == ["youngest", "middle", "oldest"]


@pytest.mark.statement("PORT-07", "PORT-09")
def test_an_operations_packet_goes_to_the_last_waiter_too(
    make_port: MakePort, target: Target, net: Loopback
) -> None:
    if not target.emulated:
        unsupported(NOT_ON_THE_KERNELS_PORT, "PORT-07")
    port = make_port(concurrency=8)
    near, far = net.tcp_pair()
    port.associate(near, "socket")
    port.recv(near, 10)
    first = run(port.get, DEADLINE)
    wait_for_waiters(port, 1)
    last = run(port.get, DEADLINE)
    wait_for_waiters(port, 2)
    far.sendall(b"x")
    got = last.result()
    assert got is not None
    assert got.key == "socket"
    assert first.running
    port.post(key="end")
    assert getattr(first.result(), "key", None) == "end"


@pytest.mark.statement("PORT-08")
def test_one_consumer_takes_packets_first_in_first_out(port: CompletionPort) -> None:
    for number in range(100):
        port.post(key=number)
    assert keys([take_next(port) for _ in range(100)]) == list(range(100))
    nothing_more(port)


@pytest.mark.statement("PORT-09")
def test_a_packet_is_handed_to_the_thread_that_waits(port: CompletionPort) -> None:
    for number in range(50):
        waiter = run(port.get, DEADLINE)
        wait_for_waiters(port, 1)
        port.post(key=number)
        assert port.get(timeout=0) is None, "a thread that came later took the waiter's packet"
        got = waiter.result()
        assert got is not None
        assert got.key == number


# -- timeouts --------------------------------------------------------------------------------------


@pytest.mark.statement("PORT-10")
def test_an_empty_port_gives_nothing_at_once(port: CompletionPort) -> None:
    assert port.get(timeout=0) is None
    assert port.get_many(timeout=0) == []


@pytest.mark.statement("PORT-13")
@pytest.mark.parametrize("timeout", [0.0001, 0.0015, 0.0123, 0.0999])
def test_a_timeout_is_never_early(port: CompletionPort, timeout: float) -> None:
    with at_least(timeout):
        assert port.get(timeout) is None
    with at_least(timeout):
        assert port.get_many(timeout=timeout) == []


@pytest.mark.statement("PORT-13")
def test_a_waiter_that_does_not_run_the_engine_is_not_early_either(port: CompletionPort) -> None:
    long = run(port.get, DEADLINE)
    wait_for_waiters(port, 1)
    with at_least(0.03):
        assert port.get(0.03) is None
    port.post(key="end")
    assert long.result() is not None


@pytest.mark.statement("PORT-14")
@pytest.mark.parametrize("timeout", [None, 3.2e9], ids=["forever", "a_century"])
def test_a_wait_may_be_endless(port: CompletionPort, timeout: float | None) -> None:
    waiters = [run(port.get, timeout) for _ in range(2)]
    port.post(key="end")
    wait_until(lambda: sum(waiter.running for waiter in waiters) < 2, "one of them back")
    port.post(key="end")
    assert [done.key for waiter in waiters if (done := waiter.result())] == ["end", "end"]


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_timeout_that_is_no_length_of_time_is_refused(
    port: CompletionPort, timeout: float
) -> None:
    with pytest.raises(ValueError, match="timeout"):
        port.get(timeout)
    with pytest.raises(ValueError, match="timeout"):
        port.get_many(timeout=timeout)


# -- the five outcomes of a wait -------------------------------------------------------------------


@pytest.mark.statement("PORT-15")
def test_outcome_a_an_operation_succeeded(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "key")
    operation = port.recv(near, 10)
    far.sendall(b"data")
    completion = take(port)
    assert completion.overlapped is operation
    assert (completion.key, completion.error, completion.status) == ("key", 0, 0)
    assert completion.result() == b"data"
    assert completion.exception() is None


@pytest.mark.statement("PORT-15")
def test_outcome_b_a_packet_without_an_operation(port: CompletionPort) -> None:
    port.post(7, "key", None)
    completion = take(port)
    assert completion.overlapped is None
    assert (completion.key, completion.transferred, completion.error) == ("key", 7, 0)
    assert completion.exception() is None


@pytest.mark.statement("PORT-15")
def test_outcome_c_a_timeout_is_not_an_error_and_takes_nothing(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "key")
    port.recv(near, 10)
    assert port.get(0.01) is None
    far.sendall(b"x")
    assert take(port).result() == b"x"


@pytest.mark.statement("PORT-15", "PORT-16")
def test_outcome_e_a_failed_operation_has_its_key_and_its_error(
    port: CompletionPort, net: Loopback
) -> None:
    near, _far = net.tcp_pair()
    port.associate(near, "key")
    operation = port.recv(near, 10)
    assert port.cancel(operation)
    completion = take(port)
    assert completion.overlapped is operation
    assert (completion.key, completion.error, completion.transferred) == ("key", 995, 0)
    with pytest.raises(OSError, match=r"995|ERROR_OPERATION_ABORTED") as caught:
        completion.result()
    assert winerror_of(caught.value) == 995


@pytest.mark.statement("PORT-16")
def test_a_reset_operation_moved_nothing(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "key")
    port.recv(near, 10)
    reset(far)
    completion = take(port)
    assert completion.error in accepted.RESET
    assert (completion.key, completion.transferred) == ("key", 0)


@pytest.mark.statement("PORT-16")
def test_a_refused_operation_moved_nothing(port: CompletionPort, net: Loopback) -> None:
    nobody = net.bound()
    client = net.bound()
    port.associate(client, "key")
    port.connect(client, nobody.getsockname())
    completion = take(port)
    assert completion.error in accepted.REFUSED
    assert (completion.key, completion.transferred) == ("key", 0)


@pytest.mark.statement("PORT-17", "PORT-23")
def test_a_warning_is_an_error_with_bytes(port: CompletionPort, net: Loopback) -> None:
    near, far = net.udp_pair()
    port.associate(near, "key")
    buffer = bytearray(4)
    port.recv_into(near, buffer)
    far.send(b"too long for it")
    completion = take(port)
    assert (completion.error, completion.transferred) == (234, 4)
    assert completion.status == 0x80000005
    assert buffer == b"too "


# -- closing ---------------------------------------------------------------------------------------


@pytest.mark.statement("PORT-15", "PORT-18")
@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
def test_outcome_d_closing_the_port_ends_every_wait_with_735(
    make_port: MakePort, wait: Callable[[CompletionPort], Any]
) -> None:
    port = make_port()
    waiters = [run(wait, port) for _ in range(3)]
    wait_for_waiters(port, 3)
    port.close()
    for waiter in waiters:
        with pytest.raises(PortClosed) as caught:
            waiter.result()
        assert winerror_of(caught.value) == 735


@pytest.mark.statement("PORT-19")
def test_a_closed_port_refuses_every_call_with_6(make_port: MakePort, net: Loopback) -> None:
    port = make_port()
    near, _far = net.tcp_pair()
    port.post(key="still there, but nobody can have it")
    port.close()
    calls: list[Callable[[], Any]] = [
        lambda: port.get(timeout=0),
        lambda: port.get_many(timeout=0),
        lambda: port.get(timeout=0, alertable=True),
        lambda: port.post(),
        lambda: port.associate(near, "key"),
        lambda: port.recv(near, 10),
        lambda: port.send(near, b"x"),
    ]
    for call in calls:
        with pytest.raises(PortClosed) as caught:
            call()
        assert winerror_of(caught.value) == 6
    port.close()  # once more does nothing


@pytest.mark.statement("PORT-18", "PORT-19")
def test_closing_in_a_race_with_waiting_gives_735_or_6(make_port: MakePort) -> None:
    for _ in range(50):
        port = make_port()
        waiters = [run(port.get, DEADLINE) for _ in range(2)]
        port.close()
        for waiter in waiters:
            with pytest.raises(PortClosed) as caught:
                waiter.result()
            assert winerror_of(caught.value) in (735, 6)


@pytest.mark.statement("PORT-20")
def test_an_associated_handle_does_not_keep_waiters_and_outlives_the_port(
    make_port: MakePort, net: Loopback
) -> None:
    port = make_port()
    near, far = net.tcp_pair()
    port.associate(near, "key")
    waiter = run(port.get, DEADLINE)
    wait_for_waiters(port, 1)
    port.close()
    with pytest.raises(PortClosed) as caught:
        waiter.result()
    assert winerror_of(caught.value) == 735
    far.sendall(b"still open")
    wait_readable(near)
    assert near.recv(20) == b"still open"


@pytest.mark.statement("PORT-20")
def test_what_is_pending_on_a_handle_ends_with_its_port(make_port: MakePort, net: Loopback) -> None:
    port = make_port()
    near, far = net.tcp_pair()
    port.associate(near, "key")
    operation: Overlapped[bytes] = Overlapped(event=threading.Event())
    port.recv(near, 10, overlapped=operation)
    port.close()
    far.sendall(b"too late")
    assert operation.wait(DEADLINE)
    with pytest.raises(OperationAborted):
        operation.result()
    unsupported("closing a port ends what is pending on its handles: no port object outlives it")


# -- batches ---------------------------------------------------------------------------------------


@pytest.mark.statement("PORT-21")
def test_a_batch_is_in_queue_order_and_no_larger_than_asked(port: CompletionPort) -> None:
    for number in range(10):
        port.post(key=number)
    assert keys(port.get_many(4, DEADLINE)) == [0, 1, 2, 3]
    assert keys(port.get_many(4, DEADLINE)) == [4, 5, 6, 7]
    assert keys(port.get_many(4, DEADLINE)) == [8, 9]
    nothing_more(port)


@pytest.mark.statement("PORT-21")
def test_a_batch_may_be_as_large_as_a_number(port: CompletionPort) -> None:
    port.post(key="queued")
    assert keys(port.get_many(1 << 31)) == ["queued"]


@pytest.mark.statement("PORT-21")
def test_a_batch_does_not_wait_to_fill(port: CompletionPort) -> None:
    port.post(key="queued")
    assert keys(port.get_many(64)) == ["queued"]  # would never return if it waited to fill
    waiter = run(port.get_many, 64)
    wait_for_waiters(port, 1)
    port.post(key="handed over")
    assert keys(waiter.result()) == ["handed over"]


@pytest.mark.statement("PORT-22")
def test_a_batch_that_times_out_is_empty(port: CompletionPort) -> None:
    with at_least(0.02):
        assert port.get_many(8, 0.02) == []


@pytest.mark.statement("PORT-23")
def test_a_batch_of_failures_is_not_a_failure(port: CompletionPort, net: Loopback) -> None:
    operations: list[Overlapped[bytes]] = []
    for number in range(3):
        near, _far = net.tcp_pair()
        port.associate(near, number)
        operations.append(port.recv(near, 10))
    assert all(port.cancel(operation) for operation in operations)
    completions = collect(port, 3)
    assert [done.status for done in completions] == [0xC0000120] * 3
    assert [done.overlapped.status for done in completions] == [0xC0000120] * 3
    assert sorted(keys(completions)) == [0, 1, 2]


# -- packets of the caller's own -------------------------------------------------------------------


@pytest.mark.statement("PORT-26")
@pytest.mark.parametrize("transferred", [0, 1, 0xFFFFFFFF])
def test_a_posted_packet_passes_through_unchanged(port: CompletionPort, transferred: int) -> None:
    key: dict[str, Any] = {"any": "object"}  # not even hashable
    operation: Overlapped[Any] = Overlapped("context")
    port.post(transferred, key, operation)
    completion = take(port)
    assert completion.key is key
    assert completion.overlapped is operation
    assert (completion.transferred, completion.status, completion.error) == (transferred, 0, 0)
    assert completion.result() == transferred


@pytest.mark.statement("PORT-26")
def test_a_packet_may_be_posted_from_any_thread(port: CompletionPort) -> None:
    def poster(name: int) -> None:
        for number in range(100):
            port.post(number, name)

    posters = [run(poster, name) for name in range(4)]
    completions = collect(port, 400)
    for each in posters:
        each.result()
    for name in range(4):
        assert [done.transferred for done in completions if done.key == name] == list(range(100))


@pytest.mark.statement("PORT-28")
def test_a_posted_packet_leaves_a_pending_operation_alone(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "socket")
    operation = port.recv(near, 10)
    port.post(3, "posted", operation)
    posted = take(port)
    assert (posted.key, posted.transferred, posted.error) == ("posted", 3, 0)
    assert posted.overlapped is operation
    assert operation.status == 0x103
    assert not operation.done
    far.sendall(b"real")
    real = take(port)
    assert (real.key, real.overlapped, real.result()) == ("socket", operation, b"real")


# -- threads ---------------------------------------------------------------------------------------


@pytest.mark.statement("PORT-29")
def test_a_packet_may_come_before_the_start_has_returned(
    port: CompletionPort, net: Loopback
) -> None:
    rounds = 300
    near, far = net.tcp_pair()
    port.associate(near, "key")
    far.sendall(bytes(rounds))
    wait_readable(near)
    arrived: queue.SimpleQueue[tuple[Any, Any, Any]] = queue.SimpleQueue()

    def consumer() -> None:
        for _ in range(rounds):
            completion = take_next(port)
            operation = completion.overlapped
            arrived.put((operation, operation.context, completion.result()))

    consuming = run(consumer)
    started: list[Overlapped[Any]] = []
    for number in range(rounds):
        operation: Overlapped[Any] = Overlapped(number)
        assert port.recv(near, 1, overlapped=operation) is operation
        started.append(operation)
    consuming.result()
    seen = [arrived.get() for _ in range(rounds)]
    assert sorted(context for _, context, _ in seen) == list(range(rounds))
    assert all(started[context] is operation for operation, context, _ in seen)
    assert {data for _, _, data in seen} == {b"\0"}


@pytest.mark.statement("PORT-30")
def test_one_thread_may_poll_several_ports_in_turn(make_port: MakePort, net: Loopback) -> None:
    ports = [make_port() for _ in range(3)]
    peers: list[socket.socket] = []
    for number, port in enumerate(ports):
        near, far = net.tcp_pair()
        port.associate(near, number)
        port.recv(near, 10)
        peers.append(far)
    for _ in range(3):
        assert [port.get(timeout=0) for port in ports] == [None] * 3
    for number, far in reversed(list(enumerate(peers))):
        far.sendall(b"%d" % number)
    assert [take(port).result() for port in ports] == [b"0", b"1", b"2"]


@pytest.mark.statement("PORT-18")
def test_a_port_may_be_closed_by_a_thread_that_never_waited(make_port: MakePort) -> None:
    port = make_port()
    waiter = run(port.get, None)
    wait_for_waiters(port, 1)
    run(port.close).result()
    with pytest.raises(PortClosed):
        waiter.result()
