"""Waiting for processes and events: children that are gone before, reaped by others, killed."""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

import netpoll
from netpoll import OperationAborted, Overlapped
from netpoll.testing.attempts import winerror
from netpoll.testing.drain import collect, nothing_more, take
from netpoll.testing.outcome import require, unsupported
from netpoll.testing.waiting import DEADLINE, Running, run, wait_for_waiters, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from netpoll import CompletionPort
    from netpoll.testing.fixtures import MakePort
    from netpoll.testing.pairs import Loopback

    Spawn = Callable[[str], subprocess.Popen[bytes]]

WINDOWS = sys.platform == "win32"
LISTEN = "import sys; sys.exit(len(sys.stdin.buffer.read()))"
"""A child that ends with the number of bytes it is sent, once its standard input is closed."""

pytestmark = pytest.mark.statement("EMU-34")


@pytest.fixture(autouse=True)
def needs_wait(port: CompletionPort) -> None:
    require(port, "wait")


@pytest.fixture
def spawn(no_leak: None) -> Iterator[Spawn]:
    """Starts children in Python."""
    children: list[subprocess.Popen[bytes]] = []

    def start(code: str) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            [sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()
    children.clear()
    gc.collect()


def tell(child: subprocess.Popen[bytes], data: bytes = b"") -> None:
    assert child.stdin is not None
    child.stdin.write(data)
    child.stdin.close()


class Event:
    """What becomes readable, or is signalled, when it is set."""

    def __init__(self, manual: bool = True) -> None:
        if WINDOWS:
            from netpoll.backends.iocp.library import NULL, ffi, load

            kernel32 = load().kernel32
            event = kernel32.CreateEventW(NULL, int(manual), 0, NULL)
            self.handle = int(ffi.cast("ULONG_PTR", event))
            self.set: Callable[[], object] = lambda: kernel32.SetEvent(event)
            self.is_set: Callable[[], bool] = lambda: not kernel32.WaitForSingleObject(event, 0)
            self.close: Callable[[], object] = lambda: kernel32.CloseHandle(event)
        else:
            near, far = os.pipe()
            self.fileno: Callable[[], int] = lambda: near
            self.set = lambda: os.write(far, b"x")
            self.close = lambda: [os.close(each) for each in (near, far)]  # type: ignore[func-returns-value]


@pytest.fixture
def event(no_leak: None) -> Iterator[Event]:
    event = Event()
    yield event
    event.close()


# -- processes -------------------------------------------------------------------------------------


@pytest.mark.statement("WAIT-01")
def test_the_end_of_a_process_is_a_packet_with_its_return_code(
    port: CompletionPort, spawn: Spawn
) -> None:
    child = spawn(LISTEN)
    operation = port.wait(child)
    nothing_more(port)
    assert child.returncode is None
    tell(child, b"seven..")
    completion = take(port)
    assert completion.overlapped is operation
    assert (completion.key, completion.error, completion.transferred) == (None, 0, 0)
    assert completion.result() == operation.result() == 7
    assert child.returncode == 7
    assert operation.handle is child


def test_a_child_that_exits_before_it_is_waited_for(port: CompletionPort, spawn: Spawn) -> None:
    child = spawn(LISTEN)
    tell(child, b"x")
    assert child.stdin is not None
    end_of(child)
    port.wait(child)
    assert take(port).result() == 1
    assert child.returncode == 1


def end_of(child: subprocess.Popen[bytes]) -> None:
    """Return when it has exited, without collecting its return code where that can be."""
    if WINDOWS:
        child.wait(DEADLINE)
    else:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)


def test_a_child_whose_return_code_is_known_already(port: CompletionPort, spawn: Spawn) -> None:
    child = spawn(LISTEN)
    tell(child, b"four")
    assert child.wait(DEADLINE) == 4
    operation = port.wait(child)
    for _ in range(2):
        assert take(port).result() == 4
        port.resubmit(operation)
    assert take(port).overlapped is operation


def test_a_child_that_another_thread_waits_for_too(port: CompletionPort, spawn: Spawn) -> None:
    child = spawn(LISTEN)
    waiter = run(child.wait)
    port.wait(child)
    port.wait(child)
    tell(child, b"22")
    assert [each.result() for each in collect(port, 2)] == [2, 2]
    assert waiter.result() == 2


def test_a_killed_child_says_so(port: CompletionPort, spawn: Spawn) -> None:
    child = spawn(LISTEN)
    port.wait(child)
    child.kill()
    assert take(port).result() == (1 if WINDOWS else -signal.SIGKILL)


def test_many_children_end_in_their_own_order(port: CompletionPort, spawn: Spawn) -> None:
    children = [spawn(LISTEN) for _ in range(4)]
    waits = [port.wait(child) for child in children]
    for index in (2, 0, 3, 1):
        tell(children[index], bytes(index))
        completion = take(port)
        assert completion.overlapped is waits[index]
        assert completion.result() == index


# -- events ----------------------------------------------------------------------------------------


@pytest.mark.statement("WAIT-01")
@pytest.mark.parametrize("early", [True, False], ids=["set-before", "set-later"])
def test_an_event_is_a_packet(port: CompletionPort, event: Event, early: bool) -> None:
    if early:
        event.set()
    operation = port.wait(event)
    if not early:
        nothing_more(port)
        event.set()
    completion = take(port)
    assert (completion.overlapped, completion.key, completion.error) == (operation, None, 0)
    assert completion.result() is None
    port.resubmit(operation)  # it is set still
    assert take(port).overlapped is operation


@pytest.mark.statement("WAIT-02")
def test_a_wait_takes_the_signal_of_an_event_that_resets_itself(port: CompletionPort) -> None:
    if not WINDOWS:
        unsupported("a descriptor stays readable: nothing is consumed by a wait", "WAIT-02")
    event = Event(manual=False)
    port.wait(event)
    port.wait(event)
    event.set()
    take(port)
    assert not event.is_set()
    event.set()
    take(port)
    event.close()


def test_waits_for_one_event_all_end(port: CompletionPort, event: Event) -> None:
    waits = {port.wait(event) for _ in range(3)}
    nothing_more(port)
    event.set()
    assert {each.overlapped for each in collect(port, 3)} == waits


def test_more_waits_than_one_call_of_the_system_takes(port: CompletionPort) -> None:
    events = [Event() for _ in range(70)]
    for each in events:
        port.wait(each)
    nothing_more(port)
    for each in reversed(events):
        each.set()
    assert {each.overlapped.handle for each in collect(port, 70)} == set(events)
    for each in events:
        each.close()


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system has no pidfd")
def test_a_pidfd_of_the_programs_own(port: CompletionPort, spawn: Spawn) -> None:
    child = spawn(LISTEN)
    with open(os.pidfd_open(child.pid), "rb", buffering=0) as pidfd:
        port.wait(pidfd)
        nothing_more(port)
        tell(child)
        assert take(port).result() is None
    assert child.wait() == 0


# -- ends before the end ---------------------------------------------------------------------------


@pytest.mark.statement("CAN-02", "CAN-03", "CAN-05", "WAIT-01")
def test_a_cancelled_wait_leaves_the_process_alone(port: CompletionPort, spawn: Spawn) -> None:
    child = spawn(LISTEN)
    operation = port.wait(child)
    assert [each.handle for each in port.inflight()] == [child]
    assert operation.cancel()
    assert not operation.cancel()
    with pytest.raises(RuntimeError, match=r"pending|in use"):
        operation.release()  # the request is not the end of it
    assert take(port).error == 995
    assert child.poll() is None
    port.resubmit(operation)
    nothing_more(port)
    tell(child, b"x")
    assert take(port).result() == 1


def test_a_wait_runs_out_of_time(port: CompletionPort, event: Event) -> None:
    port.wait(event, timeout=0.01)
    assert isinstance(take(port).exception(), TimeoutError)
    event.set()
    nothing_more(port)


def test_what_is_waited_for_may_be_closed(port: CompletionPort) -> None:
    if WINDOWS:
        event = Event()
        operation = port.wait(event)
        event.close()
        nothing_more(port)
        assert operation.cancel()
        assert take(port).error == 995
        return
    near, far = os.pipe()
    with open(near, "rb", buffering=0) as reader:
        port.wait(reader)
    nothing_more(port)
    os.write(far, b"x")
    assert take(port).error == 0
    os.close(far)


@pytest.mark.statement("PORT-18")
def test_closing_the_port_ends_waits(make_port: MakePort, event: Event, spawn: Spawn) -> None:
    port = make_port()
    waits: list[Overlapped[Any]] = [port.wait(event), port.wait(spawn(LISTEN))]
    port.close()
    for operation in waits:
        with pytest.raises(OperationAborted):
            operation.result()
        with pytest.raises(netpoll.PortClosed):
            port.resubmit(operation)


@pytest.mark.statement("OVL-16", "ASSOC-15")
@pytest.mark.parametrize("packet", [True, False])
def test_a_wait_sets_its_event(port: CompletionPort, event: Event, packet: bool) -> None:
    told = threading.Event()
    operation: Overlapped[None] = Overlapped(event=told, packet=packet)
    port.wait(event, overlapped=operation)
    assert not operation.wait(0)
    event.set()
    assert operation.wait(DEADLINE)
    assert told.is_set()
    assert operation.done
    if packet:
        assert take(port).overlapped is operation
    nothing_more(port)


@pytest.mark.statement("OVL-16")
def test_who_waits_goes_on_when_the_event_is_set_and_not_before(
    port: CompletionPort, event: Event
) -> None:
    gone_on = threading.Event()
    waits: list[Running[None]] = []
    early: list[bool] = []

    def wait() -> None:
        assert operation.wait(DEADLINE)
        gone_on.set()

    class Watched(threading.Event):
        def set(self) -> None:
            waits.append(run(wait))
            early.append(gone_on.wait(0.05))
            super().set()

    operation: Overlapped[None] = Overlapped(event=Watched())
    port.wait(event, overlapped=operation)
    event.set()
    assert take(port).overlapped is operation
    for each in waits:
        each.result()
    assert early
    assert not any(early)


@pytest.mark.statement("APC-01")
def test_a_routine_runs_instead_of_a_packet(port: CompletionPort, event: Event) -> None:
    calls: list[tuple[int, int, Overlapped[Any]]] = []

    def routine(error: int, transferred: int, overlapped: Overlapped[Any], flags: int) -> None:
        calls.append((error, transferred, overlapped))

    operation = port.wait(event, routine=routine)
    event.set()
    assert netpoll.sleep(DEADLINE)
    assert calls == [(0, 0, operation)]


def test_a_wait_during_another_threads_wait(port: CompletionPort, event: Event) -> None:
    waiter = run(port.get, DEADLINE)
    wait_for_waiters(port, 1)
    operation = port.wait(event)
    event.set()
    completion = waiter.result(DEADLINE / 2)
    assert completion is not None
    assert completion.overlapped is operation


def test_without_pidfds_a_thread_waits(
    port: CompletionPort, spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    child, other = spawn(LISTEN), spawn(LISTEN)
    port.wait(child)
    cancelled = port.wait(other)
    nothing_more(port)
    cancelled.cancel()
    assert take(port).error == 995
    tell(child, b"1")
    assert take(port).result() == 1
    tell(other)
    wait_until(lambda: all(each.name != "netpoll wait" for each in threading.enumerate()))


# -- misuse ----------------------------------------------------------------------------------------


def test_what_cannot_be_waited_for_is_refused(port: CompletionPort, net: Loopback) -> None:
    nonsense: Any
    for nonsense in (None, 3, "pid", object()):
        with pytest.raises(TypeError, match=r"subprocess\.Popen"):
            port.wait(nonsense)
    with pytest.raises(TypeError, match=r"poll\(\)"):
        port.wait(net.new_socket())


@pytest.mark.skipif(WINDOWS, reason="on Windows a file is no handle to wait for")
def test_files_are_refused(port: CompletionPort) -> None:
    with open(__file__, "rb") as file:
        with pytest.raises(OSError, match="always readable") as caught:
            port.wait(file)
        assert winerror(caught.value) == 10022
    with pytest.raises(OSError, match="closed") as caught:
        port.wait(file)
    assert winerror(caught.value) == 6


@pytest.mark.skipif(WINDOWS, reason="Windows has no limit of handles to reach")
def test_without_descriptors_a_wait_is_refused_and_nothing_is_lost(
    port: CompletionPort, event: Event
) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    operation = port.wait(event)
    operation.cancel()
    take(port)
    resource.setrlimit(resource.RLIMIT_NOFILE, (event.fileno(), before[1]))
    try:
        with pytest.raises(OSError, match="too many") as caught:
            port.wait(event)
        assert caught.value.errno == errno.EMFILE
        with pytest.raises(OSError, match="too many"):
            port.resubmit(operation)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    nothing_more(port)
    assert not port.inflight()
    port.resubmit(operation)
    event.set()
    assert take(port).overlapped is operation
