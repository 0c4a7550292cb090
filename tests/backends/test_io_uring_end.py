"""However a port, a process or the program's interest in an operation ends, the kernel never writes
to memory that is somebody else's by then."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
import traceback
import warnings
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from backends.uring import needs_io_uring

from netpoll import CompletionPort, Overlapped, PortClosed
from netpoll.backends.io_uring import engine as engine_module
from netpoll.testing.drain import take
from netpoll.testing.fixtures import open_descriptors
from netpoll.testing.pairs import receive_exactly
from netpoll.testing.waiting import DEADLINE, run, wait_for_waiters, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll.testing.pairs import Loopback

pytestmark = [
    needs_io_uring,
    # of a fork in a process with threads; the child here does next to nothing
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]
MODES = pytest.mark.parametrize("single_issuer", [False, True], ids=["shared", "single-issuer"])


def open_port(*, single_issuer: bool = False) -> CompletionPort:
    return CompletionPort("io_uring", single_issuer=single_issuer)


def engine_of(port: CompletionPort) -> Any:
    return vars(port)["_backend"]._engine


def start_all(port: CompletionPort, net: Loopback) -> list[Overlapped[Any]]:
    """One operation of each kind, which the kernel has."""
    near, _ = net.tcp_pair(buffer=4096)
    listener = net.listener()
    udp = net.bound(kind=socket.SOCK_DGRAM)
    other, _ = net.tcp_pair()
    for sock in (near, listener, udp, other):
        port.associate(sock)
    return [
        port.recv_into(near, [bytearray(4), bytearray(4)]),
        port.send(near, bytes(1 << 22)),
        port.accept(listener, receive=bytearray(4)),
        port.recv(udp, 4),
        port.recv(other, 0),
    ]


# -- close -----------------------------------------------------------------------------------------


@MODES
def test_closing_ends_what_the_kernel_has_and_gives_its_memory_back(
    net: Loopback, single_issuer: bool
) -> None:
    port = open_port(single_issuer=single_issuer)
    operations = start_all(port, net)
    near, far = net.tcp_pair()
    port.associate(near)
    buffer = bytearray(16)
    receive = port.recv_into(near, buffer)
    with pytest.raises(BufferError):
        buffer.append(0)
    port.close()
    assert {each.status for each in (*operations, receive)} == {0xC0000120}
    receive.release()
    buffer.append(0)
    far.sendall(b"for the program")
    assert receive_exactly(near, 15) == b"for the program"
    assert buffer == bytes(17)


@MODES
def test_a_port_leaves_no_descriptor(net: Loopback, single_issuer: bool) -> None:
    before = open_descriptors()
    for _ in range(3):
        port = open_port(single_issuer=single_issuer)
        assert len(open_descriptors()) - len(before) in (2, 4)  # mmap duplicates the ring's twice
        port.close()
        port.close()
    assert open_descriptors() == before


@MODES
@pytest.mark.parametrize("pending", [True, False], ids=["pending", "idle"])
def test_another_thread_closes_the_port_that_one_waits_on(
    net: Loopback, single_issuer: bool, pending: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "netpoll")
    before = open_descriptors()
    port = open_port(single_issuer=single_issuer)
    operations: list[Overlapped[Any]] = []
    near, far = net.tcp_pair()
    port.associate(near)
    buffer = bytearray(4)
    if pending:
        operations.append(port.recv_into(near, buffer))
        operations += start_all(port, net)

    def close() -> None:
        wait_until(lambda: engine_of(port)._blocked, "the wait in the kernel")
        port.close()

    closing = run(close)
    while True:
        try:
            completion = port.get(DEADLINE)
        except PortClosed:
            break
        # an end may still reach a thread that waits for it
        assert completion is not None
        assert completion.error == 995
    closing.result()
    assert caplog.records == []  # nothing was left with the kernel
    assert {each.status for each in operations} <= {0xC0000120}
    far.sendall(b"data")
    assert receive_exactly(near, 4) == b"data"
    assert buffer == bytes(4)
    net.close()
    assert open_descriptors() == before


def test_a_thread_other_than_the_owner_closes_a_port_that_nobody_waits_on(net: Loopback) -> None:
    """Nobody else may ask the kernel, so that closing the ring has to do."""
    before = open_descriptors()
    port = open_port(single_issuer=True)
    near, far = net.tcp_pair()
    port.associate(near)
    buffer = bytearray(4)
    receive = port.recv_into(near, buffer)
    run(port.close).result()
    assert receive.status == 0xC0000120
    receive.release()
    with pytest.raises(BufferError):
        buffer.append(0)  # nobody tells when the kernel has ended
    near.close()
    far.close()
    net.close()
    assert open_descriptors() == before


def test_a_port_whose_owner_is_gone_can_be_closed(net: Loopback) -> None:
    before = open_descriptors()

    def make() -> tuple[CompletionPort, Overlapped[Any]]:
        port = open_port(single_issuer=True)
        near, _ = net.tcp_pair()
        port.associate(near)
        return port, port.recv(near, 4)

    port, receive = run(make).result()
    port.close()
    assert receive.status == 0xC0000120
    net.close()
    assert open_descriptors() == before


# -- dropped ---------------------------------------------------------------------------------------


def test_what_the_program_drops_lives_until_its_end_is_taken(net: Loopback) -> None:
    class Watched(Overlapped[int]):
        __slots__ = ()

    class Buffer(bytearray):
        pass

    with CompletionPort("io_uring") as port:
        near, far = net.tcp_pair()
        port.associate(near)
        watched: list[weakref.ref[Any]] = []

        def start() -> None:
            operation, buffer = Watched(), Buffer(4)
            port.recv_into(near, buffer, overlapped=operation)
            watched.extend((weakref.ref(operation), weakref.ref(buffer)))

        for _ in range(200):
            start()
        for count in range(200):
            gc.collect(0)
            assert all(each() is not None for each in watched[2 * count :])
            far.sendall(b"data")
            completion = take(port)
            assert completion.overlapped.buffers == b"data"
            del completion
            assert [each() for each in watched[2 * count : 2 * count + 2]] == [None, None]


def test_a_socket_dropped_with_its_operation_is_closed_after_its_end(net: Loopback) -> None:
    with CompletionPort("io_uring") as port:
        near, far = socket.socketpair()
        net.track(far)
        port.associate(near)
        port.recv(near, 4)
        watched = weakref.ref(near)
        del near
        gc.collect()
        assert watched() is not None
        far.sendall(b"data")
        with pytest.warns(ResourceWarning, match="unclosed"):  # noqa: PT031
            assert take(port).result() == b"data"
            gc.collect()
        assert watched() is None


@MODES
def test_a_port_dropped_with_operations_pending(net: Loopback, single_issuer: bool) -> None:
    before = open_descriptors()
    near, far = net.tcp_pair()
    buffer = bytearray(4)

    def drop() -> weakref.ref[Any]:
        port = open_port(single_issuer=single_issuer)
        port.associate(near)
        port.recv_into(near, buffer)
        start_all(port, net)
        return weakref.ref(engine_of(port))

    with pytest.warns(ResourceWarning, match="unclosed <Compl") as caught:  # noqa: PT031
        engine = drop()
        gc.collect()
    caught.clear()  # each warning knows its port
    gc.collect()
    assert engine() is None
    far.sendall(b"data")
    assert receive_exactly(near, 4) == b"data"
    assert buffer == bytes(4)
    net.close()
    assert open_descriptors() == before


# -- fork ------------------------------------------------------------------------------------------


def in_child(check: Callable[[], object]) -> None:
    """Run `check` in a child process, and fail if it fails there."""
    if sys.platform == "win32":
        pytest.skip("Windows has no fork")
    child = os.fork()
    if not child:
        code = 1
        try:
            check()
            code = 0
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)
    try:
        _, status = os.waitpid(child, 0)
    except BaseException:  # it hangs, and the test's time is over
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    assert os.waitstatus_to_exitcode(status) == 0


@MODES
def test_after_a_fork_the_port_is_the_parents(net: Loopback, single_issuer: bool) -> None:
    with open_port(single_issuer=single_issuer) as port:
        near, far = net.tcp_pair()
        port.associate(near)
        ended = port.send(near, b"ended")
        take(port)
        pending = port.recv(near, 4)
        fresh, _ = net.tcp_pair()

        def child() -> None:
            uses: dict[str, Callable[[], object]] = {
                "get": lambda: port.get(timeout=0),
                "get_many": lambda: port.get_many(10, timeout=None),
                "start": lambda: port.recv(fresh, 4),
                "resubmit": lambda: port.resubmit(ended),
                "cancel": pending.cancel,
                "flush": port.flush,
                "wait": lambda: pending.wait(0),
            }
            for name, use in uses.items():
                with pytest.raises(RuntimeError, match=r"after fork\(\)"):
                    raise AssertionError(f"{name} returns {use()}")
            port.close()
            port.close()
            # and netpoll goes on working in the child
            with open_port(single_issuer=single_issuer) as own:
                own.associate(fresh)
                operation = own.recv(fresh, 4, timeout=3600)
                assert operation.cancel()
                assert take(own).error == 995

        in_child(child)
        far.sendall(b"data")
        completion = take(port)
        assert completion.overlapped is pending
        assert completion.result() == b"data"


def test_a_fork_while_other_threads_use_the_port(net: Loopback) -> None:
    """Their locks are copied as they are: the child must not wait for them."""
    with open_port() as port:
        waiting = run(port.get, DEADLINE)
        wait_for_waiters(port, 1)

        def child() -> None:
            with pytest.raises(RuntimeError, match="after fork"):
                port.get(timeout=0)
            port.close()

        in_child(child)
        with vars(port)["_backend"]._lock:
            run(in_child, child).result()
        port.post(key="posted")
        completion = waiting.result()
        assert completion is not None
        assert completion.key == "posted"


def test_a_child_that_ends_in_order_says_nothing(
    net: Loopback, capfd: pytest.CaptureFixture[str]
) -> None:
    """It drops its copy of the port, and netpoll's exit handler runs there too."""
    with open_port() as port:
        near, far = net.tcp_pair()
        port.associate(near)
        pending = port.recv(near, 4)

        def child() -> None:
            engine_module._at_exit()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                port.__del__()

        in_child(child)
        assert capfd.readouterr().err == ""
        far.sendall(b"data")
        assert take(port).overlapped is pending
