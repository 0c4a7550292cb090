"""Descriptors: numbers that are used again, or too high, or open in another process as well."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from backends.watching import (
    STATES,
    check_alive,
    check_quiet,
    leave_a_reset,
    leave_both_ends,
    pair,
)

from netpoll import CompletionPort
from netpoll.backends.selectors.readiness import available
from netpoll.testing.attempts import winerror
from netpoll.testing.drain import nothing_more, take
from netpoll.testing.fixtures import check_idle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netpoll.testing.pairs import Loopback

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no descriptors to share")


@pytest.fixture(params=available())
def selector(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def port(selector: str, net: Loopback) -> Iterator[CompletionPort]:
    with CompletionPort("selectors", selector=selector) as port:
        yield port
        check_idle(port)


# -- descriptors -----------------------------------------------------------------------------------


@pytest.fixture
def high_descriptor(net: Loopback) -> tuple[socket.socket, socket.socket]:
    """A connected pair, the near one with a number that select() cannot take."""
    if sys.platform == "win32":
        pytest.skip("Windows counts sockets instead")
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard <= 1500:
        pytest.skip(f"no more than {hard} open files are allowed here")
    near, far = socket.socketpair()
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1501), hard))
    try:
        high = socket.socket(fileno=os.dup2(near.fileno(), 1500, inheritable=False))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    near.close()
    return net.track(high), net.track(far)


def test_only_select_has_a_highest_descriptor(
    port: CompletionPort,
    net: Loopback,
    selector: str,
    high_descriptor: tuple[socket.socket, socket.socket],
) -> None:
    near, far = high_descriptor
    port.associate(near)
    if selector == "select":
        with pytest.raises(OSError, match="fd 1500") as caught:
            port.recv(near, 4)
        assert winerror(caught.value) == 10055
        for cure in ("epoll", "poll", "kqueue", "iocp"):
            assert cure in str(caught.value)
        # a start that fails leaves nothing (XFER-03), however often it is tried
        assert port.inflight() == []
        with pytest.raises(OSError, match="fd 1500"):
            port.recv(near, 4)
        far.sendall(b"data")
        check_quiet(port)
    else:
        port.recv(near, 4)
        far.sendall(b"data")
        assert take(port).result() == b"data"
    check_alive(port, net)


@posix
def test_the_connection_of_a_cancelled_accept_leaves_its_number_to_others(
    port: CompletionPort, net: Loopback
) -> None:
    """The connection was watched under its number, and is closed with the accept."""
    listener = net.listener()
    port.associate(listener)
    operation = port.accept(listener, receive=bytearray(10))
    client = net.new_socket()
    client.connect(listener.getsockname())
    nothing_more(port)
    number = operation._value[0].fileno()
    assert port.cancel(operation)
    assert take(port).error == 995
    near, far = net.tcp_pair()
    if near.fileno() != number:
        # socketpair-like helpers take several numbers: give this one the right one
        near = net.track(socket.socket(fileno=os.dup2(near.fileno(), number, inheritable=False)))
    port.associate(near, "new")
    port.recv(near, 100)
    nothing_more(port)
    far.sendall(b"data")
    completion = take(port)
    assert (completion.key, completion.result()) == ("new", b"data")


# -- other processes -------------------------------------------------------------------------------


@pytest.fixture
def keeper() -> Iterator[Any]:
    """Gives a descriptor to another process, which keeps it open until the test ends."""
    processes: list[subprocess.Popen[bytes]] = []

    def keep(number: int) -> None:
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", "print(flush=True); input()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[number],
        )
        processes.append(process)
        assert process.stdout is not None
        process.stdout.readline()

    yield keep
    for process in processes:
        process.communicate(b"\n")


@posix
@pytest.mark.parametrize("pending", [True, False], ids=["pending", "idle"])
@pytest.mark.parametrize("leave", STATES, ids=lambda leave: leave.__name__)
def test_a_closed_socket_that_lives_elsewhere_is_a_ghost_that_does_not_spin(
    port: CompletionPort, net: Loopback, keeper: Any, leave: Any, pending: bool
) -> None:
    """EMU-08: epoll goes on reporting it, under a number that means nothing here."""
    near, far = socket.socketpair()
    net.track(far)
    keeper(near.fileno())
    port.associate(near)
    port.recv(near, 4)
    far.sendall(b"data")
    assert take(port).result() == b"data"
    if pending:
        port.recv(near, 4)
    if leave is leave_both_ends:
        near.shutdown(socket.SHUT_WR)
    near.close()
    if leave in (leave_both_ends, leave_a_reset):  # which a Unix socket does not know
        far.close()
    else:
        leave(near, far)
    if pending:
        assert take(port).error in (995, 1236)
    check_quiet(port)
    check_quiet(port)
    check_alive(port, net)


@posix
def test_a_ghost_does_not_haunt_the_next_owner_of_its_number(
    port: CompletionPort, net: Loopback, keeper: Any
) -> None:
    near, far = socket.socketpair()
    net.track(far)
    keeper(near.fileno())
    port.associate(near)
    port.recv(near, 4)
    far.sendall(b"data")
    assert take(port).result() == b"data"
    number = near.fileno()
    other_near, other_far = net.tcp_pair()
    near.close()
    new = net.track(socket.socket(fileno=os.dup2(other_near.fileno(), number, inheritable=False)))
    far.sendall(b"for the ghost")
    port.associate(new, "new")
    port.recv(new, 100)
    check_quiet(port)
    check_quiet(port)
    other_far.sendall(b"for the living")
    completion = take(port)
    assert (completion.key, completion.result()) == ("new", b"for the living")
    check_quiet(port)


@posix
def test_a_socket_closed_through_the_port_leaves_no_ghost(
    port: CompletionPort, net: Loopback, keeper: Any
) -> None:
    near, far = socket.socketpair()
    net.track(far)
    keeper(near.fileno())
    port.associate(near)
    port.recv(near, 4)
    port.close_handle(near)
    assert take(port).error == 1236
    far.sendall(b"data")
    check_quiet(port)


@posix
def test_two_numbers_of_one_connection_are_two_handles(port: CompletionPort, net: Loopback) -> None:
    near, far = pair(port, net)
    twin = net.track(near.dup())
    port.associate(twin, "twin")
    port.recv(near, 4)
    port.recv(twin, 4)
    port.close_handle(near)
    assert take(port).error == 1236
    assert len(port.inflight()) == 1
    if not port.get(timeout=0):
        # CLOSE-07 resets the connection, which the twin is told of
        far.close()
    completion = take(port)
    assert completion.key == "twin"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_in_the_middle_does_not_disturb_the_parent(
    port: CompletionPort, net: Loopback
) -> None:
    """The child has copies of all descriptors, and does what a child does with them: ends."""
    if sys.platform == "win32":
        pytest.skip("Windows has no fork")
    near, far = pair(port, net)
    operation = port.recv(near, 100)
    port.post(key="posted")
    nobody_yet = port.stats()
    child = os.fork()
    if not child:
        try:
            port.close()
            near.close()
            far.close()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert port.stats() == nobody_yet
    assert take(port).key == "posted"
    far.sendall(b"data")
    completion = take(port)
    assert completion.overlapped is operation
    assert completion.result() == b"data"
    check_quiet(port)
    check_alive(port, net)
