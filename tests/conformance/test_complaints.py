"""What users of completion libraries complained of; the docstrings name who taught each test."""

from __future__ import annotations

import errno
import gc
import os
import random
import signal
import socket
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from netpoll import Overlapped, PortClosed
from netpoll.testing import accepted
from netpoll.testing.drain import collect, nothing_more, take
from netpoll.testing.pairs import fill, receive_exactly, wait_readable
from netpoll.testing.waiting import DEADLINE, run, wait_for_waiters, wait_until

if TYPE_CHECKING:
    from netpoll import Completion, CompletionPort
    from netpoll.testing.backends import Target
    from netpoll.testing.fixtures import MakePort
    from netpoll.testing.pairs import Loopback


# -- order -----------------------------------------------------------------------------------------


@pytest.mark.statement("RECV-12")
def test_a_third_receive_does_not_overtake_two_that_wait(
    port: CompletionPort, net: Loopback, target: Target
) -> None:
    """compio's poll driver: a new receive was tried before it looked at those that waited."""
    near, far = net.tcp_pair()
    port.associate(near, "key")
    operations = [port.recv(near, 4), port.recv(near, 4)]
    far.sendall(b"11112222")
    if target.readiness:  # a kernel's completion port has handed the data over already
        wait_readable(near)
    operations.append(port.recv(near, 4))  # there is data, but it belongs to the first two
    completions = collect(port, 2)
    assert [done.overlapped for done in completions] == operations[:2]
    far.sendall(b"3333")
    assert take(port).overlapped is operations[2]
    assert [operation.result() for operation in operations] == [b"1111", b"2222", b"3333"]


@pytest.mark.statement("SEND-05")
def test_a_second_send_does_not_overtake_one_that_waits(
    port: CompletionPort, net: Loopback
) -> None:
    """The same, for the other direction."""
    near, far = net.tcp_pair(buffer=4096)
    filled = fill(near)
    port.associate(near, "key")
    first = b"1" * 300_000
    operations = [port.send(near, first)]
    receive_exactly(far, filled)  # there is room now, but the first send has not gone on yet
    operations.append(port.send(near, b"2"))
    reader = run(receive_exactly, far, len(first) + 1)
    completions = collect(port, 2)
    assert {done.overlapped for done in completions} == set(operations)
    assert [done.error for done in completions] == [0, 0]
    assert reader.result() == first + b"2"


# -- exactly one completion ------------------------------------------------------------------------


@pytest.mark.statement("CAN-05", "CAN-06", "CAN-10", "EMU-03")
def test_a_thousand_random_cancels_leave_exactly_one_completion_each(
    port: CompletionPort, net: Loopback
) -> None:
    """libxev #105, zig-aio #52: a cancel that raced with the end gave none, or two."""
    chance = random.Random(1)
    pairs = [net.tcp_pair() for _ in range(8)]
    for near, _ in pairs:
        port.associate(near, "key")
    sent = dict.fromkeys((near for near, _ in pairs), 0)
    received = dict.fromkeys(sent, 0)
    started: list[Overlapped[Any]] = []
    seen: list[Completion] = []
    for _ in range(1000):
        near, far = chance.choice(pairs)
        started.append(port.recv(near, 3))
        if chance.random() < 0.6:
            far.send(b"data")
            sent[near] += 4
        victim: Any = chance.choice([started[-1], chance.choice(started), near])
        if chance.random() < 0.5:
            run(port.cancel, victim).result()
        else:
            port.cancel(victim)
        if chance.random() < 0.3:
            seen += port.get_many(chance.randrange(1, 20), timeout=0)
    for near, _ in pairs:
        port.cancel(near)
    seen += collect(port, 1000 - len(seen))
    assert len({id(done.overlapped) for done in seen}) == 1000
    assert {id(done.overlapped) for done in seen} == set(map(id, started))
    for done in seen:
        assert done.error in (0, 995)
        received[done.overlapped.handle] += done.transferred
    for near, far in pairs:  # what no completion has is still in the socket
        far.shutdown(socket.SHUT_WR)
        port.recv(near, 1 << 16)
        while part := take(port).transferred:
            received[near] += part
            port.recv(near, 1 << 16)
    assert received == sent


def test_packets_taken_one_at_a_time_are_all_there(
    port: CompletionPort, net: Loopback, target: Target
) -> None:
    """helio #611: with a limit of one, what else was ready got lost."""
    pairs = [net.tcp_pair() for _ in range(20)]
    for key, (near, far) in enumerate(pairs):
        port.associate(near, key)
        port.recv(near, 10)
        far.sendall(b"%d" % key)
    if target.readiness:
        wait_readable(*(near for near, _ in pairs))
    port.post(key=20)
    completions = collect(port, 21, batch=1)
    assert sorted(done.key for done in completions) == list(range(21))


# -- memory ----------------------------------------------------------------------------------------


@pytest.mark.statement("OVL-07", "CLOSE-06")
def test_dropping_everything_in_flight_is_harmless(port: CompletionPort, net: Loopback) -> None:
    """cpython#116773, zio #558: the buffer of an operation nobody referred to was freed."""
    near, far = net.tcp_pair()
    port.associate(near, "key")

    class Tracked(bytearray):
        """Can be referred to weakly."""

    def start() -> weakref.ref[Tracked]:
        buffer = Tracked(16)
        port.recv_into(near, buffer)
        return weakref.ref(buffer)

    reference = start()
    gc.collect()
    assert reference() is not None, "the buffer of a pending operation was freed"
    far.sendall(b"x" * 16)
    completion = take(port)
    assert bytes(completion.overlapped.buffers) == b"x" * 16
    del completion
    gc.collect()
    assert reference() is None, "the buffer of a finished operation is kept for ever"


def test_a_socket_dropped_with_an_operation_pending_lives_until_it_ends(
    port: CompletionPort, net: Loopback
) -> None:
    """The handle belongs to the operation, as its buffers do: dropping it must not close it."""
    listener = net.listener()
    client = net.new_socket()
    client.connect(listener.getsockname())

    def start() -> None:
        server, _ = listener.accept()
        port.associate(server, "dropped")
        port.recv(server, 10)

    start()
    gc.collect()
    client.sendall(b"x")
    completion = take(port)
    assert (completion.key, completion.result()) == ("dropped", b"x")
    completion.overlapped.handle.close()


def test_closing_a_port_with_operations_pending_returns_and_frees_them(
    make_port: MakePort, net: Loopback
) -> None:
    """compio #943, #1018: dropping the port with operations in flight hung, or freed too early."""
    port = make_port()
    near, _far = net.tcp_pair(buffer=4096)
    fill(near)
    listener = net.listener()
    port.associate(near, "stream")
    port.associate(listener, "listener")
    outside, _ = net.tcp_pair()
    buffer = bytearray(10)
    operations: list[Overlapped[Any]] = [
        port.recv_into(near, buffer),
        port.send(near, bytes(1 << 20)),
        port.accept(listener),
        port.recv(outside, 10),
        port.send(net.tcp_pair()[0], b"finished, but not taken"),
    ]
    waiter = run(operations[3].wait, None)
    wait_until(lambda: port.inflight(), "something pending")
    port.close()
    assert waiter.result()
    for operation in operations[:4]:
        assert operation.done
        assert isinstance(operation.exception(), OSError)
        operation.release()
    buffer.clear()  # nothing holds it any more
    with pytest.raises(PortClosed):
        port.get(timeout=0)


# -- descriptors -----------------------------------------------------------------------------------


@pytest.mark.statement("EMU-07")
def test_a_descriptor_number_used_again_gets_no_stale_completion(
    port: CompletionPort, net: Loopback
) -> None:
    """libxev #234, #239: the number's new owner got the end of the old one's operation."""
    listener = net.listener()
    for closed_by in ("port", "program"):
        old, _old_far = net.tcp_pair()
        client = net.new_socket()
        client.connect(listener.getsockname())
        port.associate(old, "old")
        pending = port.recv(old, 10)
        number = old.fileno()
        if closed_by == "port":
            port.close_handle(old)
        else:
            old.close()
        new = net.track(listener.accept()[0])
        if os.name == "posix":
            assert new.fileno() == number, "the lowest free number is the one given out"
        port.associate(new, "new")
        fresh = port.recv(new, 10)
        client.sendall(b"for new")
        completions = {done.overlapped: done for done in collect(port, 2)}
        assert completions[pending].key == "old"
        assert completions[pending].error in accepted.CLOSED_HERE
        assert completions[fresh].key == "new"
        assert completions[fresh].result() == b"for new"
        port.close_handle(new)


def test_a_socket_closed_behind_the_ports_back_ends_its_operations(
    port: CompletionPort, net: Loopback
) -> None:
    """TigerBeetle #2430: an operation on a descriptor that was closed never ended."""
    near, _far = net.tcp_pair()
    port.associate(near, "key")
    operation = port.recv(near, 10)
    near.close()
    completion = take(port)
    assert completion.overlapped is operation
    assert completion.error in accepted.CLOSED_HERE


def test_a_socket_closed_while_a_thread_waits_ends_its_operations(
    port: CompletionPort, net: Loopback
) -> None:
    """The same, when nothing else ever wakes the thread that waits."""
    near, _far = net.tcp_pair()
    port.associate(near, "key")
    operation = port.recv(near, 10)
    waiter = run(port.get, DEADLINE)
    wait_for_waiters(port, 1)
    near.close()
    completion = waiter.result()
    assert completion is not None
    assert completion.overlapped is operation
    assert completion.error in accepted.CLOSED_HERE


# -- fairness and limits ---------------------------------------------------------------------------


def test_a_socket_that_is_always_ready_starves_no_other(
    port: CompletionPort, net: Loopback, target: Target
) -> None:
    """Curio #106, corosio #130: a busy socket was served until it ran dry, and it never did."""
    busy, busy_far = net.tcp_pair()
    quiet, quiet_far = net.tcp_pair()
    port.associate(busy, "busy")
    port.associate(quiet, "quiet")
    plenty = 20_000
    busy_far.sendall(bytes(plenty))
    operation = port.recv(busy, 1)
    port.recv(quiet, 1)
    quiet_far.sendall(b"x")
    if target.readiness:
        wait_readable(busy, quiet)
    turns = 0
    while (completion := port.get(DEADLINE)) is not None and completion.key == "busy":
        turns += 1
        assert turns < plenty / 10, "the quiet socket is starved"
        port.recv(busy, 1, overlapped=operation)
    assert completion is not None
    assert completion.result() == b"x"
    assert take(port).overlapped is operation


def test_many_operations_of_one_socket_do_not_hold_up_a_time_limit(
    port: CompletionPort, net: Loopback
) -> None:
    """The same, for timers: they are looked at even under load."""
    busy, busy_far = net.tcp_pair()
    silent, _silent_far = net.tcp_pair()
    port.associate(busy, "busy")
    port.associate(silent, "silent")
    operation: Overlapped[Any] = port.send(busy, b"x")
    port.recv(silent, 1, timeout=0.01)
    sent = 1
    while (completion := port.get(DEADLINE)) is not None and completion.key == "busy":
        receive_exactly(busy_far, 1)
        port.send(busy, b"x", overlapped=operation)
        sent += 1
        assert sent < 200_000, "the time limit is starved"
    assert completion is not None
    assert completion.status == 0xC00000B5
    assert take(port).overlapped is operation


def test_more_operations_than_allowed_raise_and_room_comes_back(
    make_port: MakePort, net: Loopback
) -> None:
    """TigerBeetle, openvmm: a full queue must say so, lose nothing, and recover."""
    port = make_port(max_inflight=3)
    pairs = [net.tcp_pair() for _ in range(5)]
    for key, (near, _) in enumerate(pairs):
        port.associate(near, key)
    for near, _ in pairs[:3]:
        port.recv(near, 10)
    for _ in range(3):
        with pytest.raises(OSError, match="max_inflight") as caught:
            port.recv(pairs[3][0], 10)
        assert caught.value.errno == errno.ENOBUFS
    pairs[0][1].sendall(b"0")
    assert take(port).key == 0
    port.recv(pairs[3][0], 10)
    with pytest.raises(OSError, match="max_inflight"):
        port.recv(pairs[4][0], 10)
    for number in (1, 2, 3):
        pairs[number][1].sendall(b"%d" % number)
    assert sorted(done.result() for done in collect(port, 3)) == [b"1", b"2", b"3"]
    port.post(key="posted packets are not operations")
    take(port)


# -- waking ----------------------------------------------------------------------------------------


def test_ten_thousand_wakes_are_ten_thousand_packets(port: CompletionPort) -> None:
    """compio's three-state wake flag: a storm of wakes must neither pile up nor get lost."""
    posters, each = 4, 2500

    def post(name: int) -> None:
        for number in range(each):
            port.post(number, name)

    running = [run(post, name) for name in range(posters)]
    seen: dict[int, list[int]] = {name: [] for name in range(posters)}
    for _ in range(posters * each):
        completion = port.get(DEADLINE)
        assert completion is not None
        seen[completion.key].append(completion.transferred)
    for thread in running:
        thread.result()
    assert seen == {name: list(range(each)) for name in range(posters)}
    nothing_more(port)


@pytest.mark.parametrize("waiters", [1, 3])
def test_a_wake_before_or_during_the_wait_is_not_lost(port: CompletionPort, waiters: int) -> None:
    """compio's wake flag again: one that came between looking and sleeping was lost."""
    port.post(key="before")
    assert take(port).key == "before"
    for number in range(100):
        threads = [run(port.get, DEADLINE) for _ in range(waiters)]
        if number % 2:
            wait_for_waiters(port, waiters)
        for _ in threads:
            port.post(key=number)
        for thread in threads:
            completion = thread.result()
            assert completion is not None
            assert completion.key == number


@pytest.mark.parametrize("waiters", [1, 3])
def test_a_start_from_another_thread_reaches_a_wait_already_begun(
    port: CompletionPort, net: Loopback, waiters: int
) -> None:
    """A handle added while somebody waits must be watched by that very wait."""
    threads = [run(port.get, DEADLINE) for _ in range(waiters)]
    for number in range(waiters):
        wait_for_waiters(port, waiters - number)
        near, far = net.tcp_pair()
        port.associate(near, number)
        port.recv(near, 10)
        far.sendall(b"x")
        wait_until(lambda: any(not thread.running for thread in threads), "one of them woken")
        done = next(thread for thread in threads if not thread.running)
        threads.remove(done)
        completion = done.result()
        assert completion is not None
        assert completion.key == number


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals to send on this system")
@pytest.mark.parametrize("others", [0, 1], ids=["alone", "behind_another_waiter"])
def test_ctrl_c_ends_a_wait_and_the_port_goes_on(
    port: CompletionPort, net: Loopback, others: int
) -> None:
    """A signal handler that raises, as Ctrl-C's does, left the port locked or the waiter in it."""
    near, far = net.tcp_pair()
    port.associate(near, "socket")

    class Interrupted(Exception):
        pass

    def interrupted(*_: object) -> None:
        raise Interrupted

    main = threading.get_ident()

    def disturb() -> None:
        wait_for_waiters(port, 1 + others)
        signal.pthread_kill(main, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupted)
    try:
        for _ in range(20):
            first = [run(port.get, None) for _ in range(others)]
            wait_for_waiters(port, others)
            disturber = run(disturb)
            with pytest.raises(Interrupted):
                port.get(DEADLINE)
            disturber.result()
            port.recv(near, 1)
            far.sendall(b"x")
            completion = first[0].result() if first else take(port)
            assert completion is not None
            assert completion.result() == b"x"
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.statement("EMU-11")
def test_when_the_thread_that_runs_the_engine_leaves_another_takes_over(
    port: CompletionPort, net: Loopback
) -> None:
    """Leader and followers: the leader went, and the followers slept on."""
    near, far = net.tcp_pair()
    port.associate(near, "key")
    leader = run(port.get, 0.05)
    wait_for_waiters(port, 1)
    followers = [run(port.get, None) for _ in range(2)]
    wait_for_waiters(port, 3)
    assert leader.result() is None
    for left in (2, 1):
        wait_for_waiters(port, left)
        port.recv(near, 1)
        far.sendall(b"x")
        wait_until(lambda: not all(each.running for each in followers), "a follower served")
        served = next(each for each in followers if not each.running)
        followers.remove(served)
        completion = served.result()
        assert completion is not None
        assert completion.result() == b"x"


def test_when_the_thread_that_runs_the_engine_has_its_packet_a_bystander_takes_over(
    port: CompletionPort, net: Loopback
) -> None:
    """The same, for a thread that waits for one operation and takes no packets."""
    near, far = net.tcp_pair()
    operation = port.recv(near, 10)  # no association: only wait() tells of its end
    leader = run(port.get, None)
    wait_for_waiters(port, 1)
    bystander = run(operation.wait, None)
    port.post(key="for the leader")
    assert leader.result() is not None
    far.sendall(b"x")
    assert bystander.result() is True
    assert operation.result() == b"x"


# -- no work for nothing ---------------------------------------------------------------------------


def test_an_operation_whose_time_is_already_up_ends_once(
    port: CompletionPort, net: Loopback
) -> None:
    """corosio's precancel: it hung, or ended twice."""
    near, far = net.tcp_pair()
    port.associate(near, "key")
    port.recv(near, 10, timeout=0)
    assert take(port).status == 0xC00000B5
    far.sendall(b"kept")
    port.recv(near, 10)
    assert take(port).result() == b"kept"


def test_a_half_closed_connection_still_sends(port: CompletionPort, net: Loopback) -> None:
    """An end of stream on one side must not end a send that waits on the other."""
    near, far = net.tcp_pair(buffer=4096)
    filled = fill(near)
    port.associate(near, "key")
    data = bytes(500_000)
    sent = port.send(near, data)
    received = port.recv(near, 10)
    far.shutdown(socket.SHUT_WR)
    completion = take(port)
    assert (completion.overlapped, completion.result()) == (received, b"")
    reader = run(receive_exactly, far, filled + len(data))
    completion = take(port)
    assert (completion.overlapped, completion.transferred) == (sent, len(data))
    reader.result()
