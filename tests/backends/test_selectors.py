"""What only the backend over readiness can get wrong: interest, blocking, keeping alive."""

from __future__ import annotations

import gc
import socket
import warnings
import weakref
from typing import TYPE_CHECKING, Any, cast

import pytest
from backends.watching import STATES, check_alive, check_quiet, pair

from netpoll import CompletionPort
from netpoll.backends.selectors.readiness import available
from netpoll.testing.attempts import clog
from netpoll.testing.drain import collect, take
from netpoll.testing.fixtures import check_idle
from netpoll.testing.pairs import receive_exactly
from netpoll.testing.waiting import DEADLINE, run, wait_for_waiters, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netpoll.testing.pairs import Loopback


@pytest.fixture(params=available())
def selector(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def port(selector: str, net: Loopback) -> Iterator[CompletionPort]:
    with CompletionPort("selectors", selector=selector) as port:
        yield port
        check_idle(port)


# -- closed by others ------------------------------------------------------------------------------


@pytest.mark.parametrize("selector", [each for each in available() if each == "select"])
def test_sockets_that_are_closed_while_the_closed_ones_are_looked_for(
    port: CompletionPort, net: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread closes them, each just before a look of select()."""
    pairs = [pair(port, net) for _ in range(4)]
    receives = [port.recv_into(near, bytearray(10)) for near, _ in pairs]
    readiness = cast("Any", port._backend)._engine._readiness
    wait = readiness.wait
    closing = [near for near, _ in pairs[:3]]

    def wait_and_close(*arguments: Any) -> Any:
        if closing:
            closing.pop().close()
        return wait(*arguments)

    monkeypatch.setattr(readiness, "wait", wait_and_close)
    pairs[3][1].send(b"data")
    assert take(port).overlapped is receives[3]
    assert not closing
    ended = collect(port, 3)
    assert {done.overlapped for done in ended} == set(receives[:3])


# -- interest --------------------------------------------------------------------------------------


def test_a_request_response_loop_changes_nothing_in_the_selector(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = pair(port, net)
    buffer = bytearray(64)
    receive = port.recv_into(near, buffer)
    changes = port.stats()["changes"]
    assert changes == 1
    for _ in range(50):
        far.sendall(b"request")
        completion = take(port)
        assert completion.overlapped is receive
        port.send(near, memoryview(buffer)[: completion.transferred])
        assert take(port).transferred == len(b"request")
        assert receive_exactly(far, len(b"request")) == b"request"
        port.resubmit(receive)
    assert port.stats()["changes"] == changes
    assert port.cancel(receive)
    assert take(port).error == 995


@pytest.mark.parametrize("leave", STATES, ids=lambda leave: leave.__name__)
@pytest.mark.parametrize("watched", ["reading", "writing", "both"])
def test_readiness_that_nobody_waits_for_does_not_spin(
    port: CompletionPort, net: Loopback, leave: Any, watched: str
) -> None:
    """Errors and hang-ups are reported whether one asks for them or not."""
    near, far = pair(port, net)
    if watched in ("reading", "both"):
        port.recv(near, 5)
        far.sendall(b"first")
        assert take(port).result() == b"first"
    if watched in ("writing", "both"):
        clog(near)
        send = port.send(near, bytes(1_000_000))
        assert port.cancel(send)
        assert take(port).error == 995
    leave(near, far)
    check_quiet(port)
    check_quiet(port)
    check_alive(port, net)


def test_a_pending_send_does_not_spin_over_data_to_read(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = pair(port, net)
    port.recv(near, 1)
    far.sendall(b"12345")
    assert take(port).result() == b"1"
    clog(near)
    send = port.send(near, bytes(100_000))
    check_quiet(port)
    assert port.cancel(send)
    assert take(port).error == 995


def test_an_accept_with_data_does_not_spin_over_silence(
    port: CompletionPort, net: Loopback
) -> None:
    listener = net.listener()
    port.associate(listener)
    operation = port.accept(listener, receive=bytearray(10))
    client = net.new_socket()
    client.connect(listener.getsockname())
    check_quiet(port)
    client.sendall(b"data")
    completion = take(port)
    assert completion.overlapped is operation
    assert completion.transferred == 4
    net.track(completion.result()[0])
    check_quiet(port)


def test_wake_ups_coalesce(port: CompletionPort, net: Loopback) -> None:
    waiter = run(port.get_many, 1)
    wait_for_waiters(port, 1)
    wait_until(lambda: port.stats()["polls"] > 0, "the waiter polling")
    for number in range(100):
        port.post(number)
    assert len(waiter.result()) == 1
    assert port.stats()["wakes"] <= 2
    collect(port, 99)


# -- sockets that the program handles in its own ways ----------------------------------------------

MODES: list[Any] = [True, DEADLINE + 5]


def change_mode(sock: socket.socket, mode: Any) -> None:
    if mode is True:
        sock.setblocking(True)
    else:
        sock.settimeout(mode)


@pytest.mark.parametrize("mode", MODES, ids=["setblocking", "settimeout"])
def test_a_socket_made_blocking_does_not_block_the_port(
    port: CompletionPort, net: Loopback, mode: Any
) -> None:
    """XFER-05. Neither a start nor a try of what is pending waits in its system call."""
    near, far = pair(port, net)
    first, second = port.recv(near, 4), port.recv(near, 4)
    change_mode(near, mode)
    far.sendall(b"data")  # a full buffer: the second one is tried as well
    completion = run(take, port).result()
    assert completion.overlapped is first
    assert completion.result() == b"data"
    far.sendall(b"more")
    assert run(take, port).result().overlapped is second
    change_mode(near, mode)
    run(port.resubmit, first).result()
    assert port.cancel(first)
    assert take(port).error == 995


@pytest.mark.parametrize("mode", MODES, ids=["setblocking", "settimeout"])
def test_a_send_of_a_socket_made_blocking_does_not_block_the_port(
    port: CompletionPort, net: Loopback, mode: Any
) -> None:
    near, _ = pair(port, net)
    small = port.send(near, b"small")
    assert take(port).overlapped is small
    clog(near)
    change_mode(near, mode)
    run(port.resubmit, small).result()
    large = run(lambda: port.send(near, bytes(1_000_000))).result()
    port.cancel(near)
    ended = collect(port, 2)
    assert [each.overlapped for each in ended] == [small, large]
    assert ended[1].error == 995


@pytest.mark.parametrize("mode", MODES, ids=["setblocking", "settimeout"])
def test_an_accept_of_a_listener_made_blocking_does_not_block_the_port(
    port: CompletionPort, net: Loopback, mode: Any
) -> None:
    listener = net.listener()
    port.associate(listener)
    first = port.accept(listener)
    with socket.create_connection(listener.getsockname()):
        net.track(take(port).result()[0])
    change_mode(listener, mode)
    run(port.resubmit, first).result()
    second = run(lambda: port.accept(listener)).result()
    assert port.cancel(first)
    assert port.cancel(second)
    assert [each.error for each in collect(port, 2)] == [995, 995]


def test_a_socket_that_is_dropped_is_collected(port: CompletionPort, net: Loopback) -> None:
    """As it would be without netpoll, once nothing is pending on it."""
    near, far = socket.socketpair()
    net.track(far)
    port.associate(near)
    port.recv(near, 4)
    far.sendall(b"data")
    assert take(port).result() == b"data"
    gone = weakref.ref(near)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # dropped without close(): so it is
        del near
        gc.collect()
    assert gone() is None
    assert far.recv(1) == b""
    check_quiet(port)
    check_alive(port, net)


def test_a_socket_with_an_operation_pending_is_kept(port: CompletionPort, net: Loopback) -> None:
    near, far = socket.socketpair()
    net.track(far)
    port.associate(near)
    port.recv(near, 4)
    gone = weakref.ref(near)
    del near
    gc.collect()
    far.sendall(b"data")
    completion = take(port)
    assert completion.result() == b"data"
    net.track(completion.overlapped.handle)
    assert gone() is not None
