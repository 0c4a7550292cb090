"""Operations that are dropped unfinished: who is warned, when, and of what."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import warnings
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

import netpoll
from netpoll import CompletionPort, Overlapped
from netpoll.testing.waiting import DEADLINE, wait_until

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from netpoll.testing.backends import Target
    from netpoll.testing.fixtures import MakePort
    from netpoll.testing.pairs import Loopback

    Operation = Overlapped[Any]
    Start = Callable[[CompletionPort, socket.socket], Operation]

HERE = r"started at .*test_dropped\.py:\d+"


def plain(port: CompletionPort, near: socket.socket) -> Operation:
    port.associate(near)
    return port.recv(near, 16)


def with_time(port: CompletionPort, near: socket.socket) -> Operation:
    port.associate(near)
    return port.recv(near, 16, timeout=3600)


def with_event(port: CompletionPort, near: socket.socket) -> Operation:
    return port.recv(near, 16, overlapped=Overlapped(event=threading.Event()))


def without_packet(port: CompletionPort, near: socket.socket) -> Operation:
    port.associate(near)
    operation = Overlapped[bytes](event=threading.Event(), packet=False)
    return port.recv(near, 16, overlapped=operation)


def without_anything(port: CompletionPort, near: socket.socket) -> Operation:
    return port.recv(near, 16)


def timer(port: CompletionPort, near: socket.socket) -> Operation:
    return port.timer(3600, overlapped=Overlapped(event=threading.Event(), packet=False))


def nothing(error: int, transferred: int, overlapped: Operation, flags: int) -> None:
    """A completion routine."""


def with_routine(port: CompletionPort, near: socket.socket) -> Operation:
    return port.recv(near, 16, routine=nothing)


WITH_PACKET = [plain, with_time]
WITHOUT_PACKET = [with_event, without_packet, without_anything, timer]


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Debug mode."""
    monkeypatch.setenv("NETPOLL_DEBUG", "checks")


@pytest.fixture
def no_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its absence, whatever the run has."""
    monkeypatch.setenv("NETPOLL_DEBUG", "0")


def warned_of(action: Callable[[], object], *, surely: bool = False) -> list[str]:
    """What `ResourceWarning`s of netpoll's an action leads to.

    :param surely: wait for the first one, as a thread of the port's may just have it in its hands
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")

        def said() -> list[str]:
            gc.collect()
            said = [str(each.message) for each in caught if each.category is ResourceWarning]
            # the collector may come to a port's own sockets before it comes to the port
            return [each for each in said if not each.startswith("unclosed <socket.")]

        action()
        if surely:
            wait_until(said, "a warning")
        return said()


# -- the port is dropped ---------------------------------------------------------------------------


def drop_port(target: Target, near: socket.socket, start: Start) -> None:
    start(target.open(), near)


@pytest.mark.usefixtures("checks")
@pytest.mark.parametrize("start", [*WITH_PACKET, *WITHOUT_PACKET])
def test_a_port_that_is_dropped_names_what_it_takes_along(
    target: Target, net: Loopback, start: Start
) -> None:
    near, _ = net.tcp_pair()
    name = "timer" if start is timer else "recv"
    with pytest.warns(ResourceWarning, match=f"^unclosed <.*pending: <Overlapped {name}.*{HERE}$"):
        _collect(target, near, start)


def _collect(target: Target, near: socket.socket, start: Start) -> None:
    said = warned_of(lambda: drop_port(target, near, start), surely=True)
    assert len(said) == 1, said  # once, and not of the operation by itself as well
    warnings.warn(said[0], ResourceWarning, stacklevel=1)


@pytest.mark.usefixtures("no_checks")
def test_without_debug_mode_it_names_them_without_their_places(
    target: Target, net: Loopback
) -> None:
    near, _ = net.tcp_pair()

    def drop() -> None:
        port = target.open()
        port.associate(near)
        for _ in range(12):
            port.recv(near, 1)

    [said] = warned_of(drop, surely=True)
    assert said.startswith(f"unclosed <CompletionPort {target.backend}> with operations pending: <")
    assert "started at" not in said
    assert said.count("<Overlapped recv ") == 10
    assert said.endswith("; and 2 more")


# -- the operation is dropped ----------------------------------------------------------------------


@pytest.mark.usefixtures("checks")
@pytest.mark.parametrize("start", WITHOUT_PACKET)
def test_what_nobody_has_any_more_is_dropped_when_its_port_is_closed(
    make_port: MakePort, net: Loopback, start: Start
) -> None:
    near, _ = net.tcp_pair()
    port = make_port()
    start(port, near)
    assert warned_of(gc.collect) == []  # it may still end, and is kept until then (OVL-07)
    assert len(port.inflight()) == 1
    name = "timer" if start is timer else "recv"
    with pytest.warns(ResourceWarning, match=f"^dropped unfinished: <.* {name}.*{HERE}$") as caught:
        port.close()
    assert caught[0].filename == __file__


@pytest.mark.usefixtures("checks")
@pytest.mark.parametrize("start", [*WITH_PACKET, *WITHOUT_PACKET, with_routine])
def test_what_the_program_has_is_not_dropped(
    make_port: MakePort, net: Loopback, start: Start
) -> None:
    near, _ = net.tcp_pair()
    port = make_port()
    operation = start(port, near)
    assert warned_of(port.close) == []
    netpoll.sleep(0)
    assert isinstance(operation.exception(), netpoll.OperationAborted)


@pytest.mark.usefixtures("checks")
@pytest.mark.parametrize("start", [*WITH_PACKET, with_routine])
def test_of_what_somebody_is_told_of_nothing_is_dropped(
    make_port: MakePort, net: Loopback, start: Start
) -> None:
    """Whoever closes the port wants no more packets of it, and a routine is called all the same."""
    near, _ = net.tcp_pair()
    port = make_port()
    start(port, near)
    assert warned_of(port.close) == []
    assert netpoll.sleep(0) == (start is with_routine)


@pytest.mark.usefixtures("checks")
@pytest.mark.parametrize("start", WITHOUT_PACKET[:-1])
def test_what_has_finished_may_be_dropped(make_port: MakePort, net: Loopback, start: Start) -> None:
    near, far = net.tcp_pair()
    port = make_port()
    far.sendall(b"data")
    assert start(port, near).wait(DEADLINE)
    assert warned_of(port.close) == []


@pytest.mark.usefixtures("no_checks")
@pytest.mark.parametrize("start", WITHOUT_PACKET)
def test_only_debug_mode_looks(make_port: MakePort, net: Loopback, start: Start) -> None:
    near, _ = net.tcp_pair()
    port = make_port()
    start(port, near)
    assert warned_of(port.close) == []


# -- the program ends ------------------------------------------------------------------------------

BEGIN = """
    import socket, sys, threading
    import netpoll

    listener = socket.create_server(("127.0.0.1", 0))
    near = socket.create_connection(listener.getsockname())
    far, _ = listener.accept()
    port = netpoll.CompletionPort(sys.argv[1])
"""
LEFT = {
    "packet": "port.associate(near); port.recv(near, 1)",
    "event": "port.recv(near, 1, overlapped=netpoll.Overlapped(event=threading.Event()))",
    "routine": "port.recv(near, 1, routine=print)",
    "in-a-thread": """
        def wait():
            port.associate(near)
            port.recv(near, 1)
            try:
                port.get()
            except netpoll.PortClosed:
                pass

        threading.Thread(target=wait, daemon=True).start()
        while not port.stats()["waiting"]:
            pass
        """,
    "nowhere": """
        from netpoll import winapi
        port.close()
        overlapped = winapi.OVERLAPPED()
        overlapped.hEvent = winapi.WSACreateEvent()
        winapi.WSARecv(near, [winapi.WSABUF(1, bytearray(1))], 1, 0, overlapped)
        """,
}


def end(target: Target, program: str) -> str:
    """What a program says in debug mode that ends like this."""
    ran = subprocess.run(
        [
            *(sys.executable, "-W", "ignore:unclosed <socket:ResourceWarning"),
            *("-W", "always:the program ends:ResourceWarning", "-c"),
            dedent(BEGIN) + dedent(program),
            target.backend,
        ],
        env={**os.environ, "NETPOLL_DEBUG": "checks", "NETPOLL_BACKEND": target.backend},
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stderr


@pytest.mark.parametrize("left", LEFT)
def test_what_a_program_leaves_pending_is_named(target: Target, left: str) -> None:
    said = end(target, LEFT[left])
    expected = (
        f"ResourceWarning: the program ends, and leaves <CompletionPort {target.backend}> "
        "with operations pending: <"
    )
    assert said.count(expected) == 1, said
    assert said.count("started at <string>:") == 1
    assert "Traceback" not in said


def test_a_program_that_leaves_nothing_is_told_nothing(target: Target) -> None:
    assert end(target, "port.associate(near); port.recv(near, 1).cancel(); port.get(30)") == ""


def test_what_is_made_of_the_warning_keeps_nothing_from_being_closed(target: Target) -> None:
    program = """
        import warnings
        warnings.simplefilter("error", ResourceWarning)
        port.recv(near, 1, overlapped=netpoll.Overlapped(event=threading.Event()))
        """
    assert "ResourceWarning: the program ends" in end(target, program)


def test_the_program_s_own_exit_functions_come_first(target: Target) -> None:
    program = """
        import atexit
        port.recv(near, 1, overlapped=netpoll.Overlapped(event=threading.Event()))
        kept = port.inflight()
        atexit.register(port.close)
        """
    assert end(target, program) == ""
