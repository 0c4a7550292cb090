"""What an echo costs on the iocp backend in calls of Windows, and in memory of cffi's: counted,
because a time measured under Wine says nothing about Windows.

Each message needs one WSARecv and one WSASend; GetQueuedCompletionStatusEx is shared by a batch.
GetLastError is counted by itself: it is no system call but reads a number of the thread, and is
asked for after a start that did not finish at once and at no other time.
"""

from __future__ import annotations

import socket
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pytest

from netpoll import CompletionPort, Overlapped
from netpoll.backends.iocp import port as port_module
from netpoll.backends.iocp.library import Library, ffi
from netpoll.testing.drain import take
from netpoll.testing.pairs import receive_exactly
from netpoll.testing.waiting import run

if TYPE_CHECKING:
    from types import FrameType

    from netpoll.testing.pairs import Loopback

T = TypeVar("T")

pytestmark = pytest.mark.skipif(
    sys.platform != "win32", reason="needs Windows, or Wine (tox -e wine)"
)

CONNECTIONS = 5
ROUNDS = 20
SIZE = 64
MESSAGE = b"m" * SIZE
AHEAD = 2
"""Messages that a peer sends at once: the second can be received without waiting."""
MESSAGES = CONNECTIONS * ROUNDS * AHEAD
STARTS = ("WSARecv", "WSASend")


class Calls:
    """What was called in Windows, by name; of the starts, how many pend or have finished."""

    def __init__(self) -> None:
        self.made: Counter[str] = Counter()
        self.pending: Counter[str] = Counter()
        self.finished: Counter[str] = Counter()

    def wrap(self, functions: T, /) -> T:
        """For `Library`: the same functions, counted."""
        return cast("T", _Counted(functions, self))

    def clear(self) -> None:
        for counter in (self.made, self.pending, self.finished):
            counter.clear()


class _Counted:
    def __init__(self, functions: object, calls: Calls) -> None:
        self._functions = functions
        self._calls = calls

    def __getattr__(self, name: str) -> object:
        function = getattr(self._functions, name)
        calls = self._calls

        def counted(*arguments: object) -> object:
            calls.made[name] += 1
            result = function(*arguments)
            if name in STARTS:
                (calls.pending if result else calls.finished)[name] += 1
            return result

        return counted


@dataclass
class Served:
    """What a server has seen of its port, and what it called of C's meanwhile."""

    batches: int = 0
    packets: int = 0
    of_ffi: Counter[str] = field(default_factory=Counter[str])
    of_sockets: Counter[str] = field(default_factory=Counter[str])

    def profile(self, frame: FrameType, event: str, what: Any) -> None:
        """For `sys.setprofile`. Windows' functions are no functions of Python's, and do not come
        here."""
        if event == "c_call":
            owner = getattr(what, "__self__", None)
            if owner is ffi:
                self.of_ffi[what.__name__] += 1
            elif isinstance(owner, socket.SocketType):
                self.of_sockets[what.__name__] += 1


class Echo:
    """A connection of the server: its two operations are prepared once, and resubmitted."""

    def __init__(self, port: CompletionPort, sock: socket.socket) -> None:
        buffer = bytearray(SIZE)
        self.send = port.send(sock, buffer, overlapped=Overlapped(self))
        if not self.send.done:
            take(port)
        self.receive = port.recv_into(sock, buffer, overlapped=Overlapped(self))


def serve(port: CompletionPort, messages: int) -> Served:
    """Answer that many messages. In a thread that is not the main one: that one's waits are cut
    into slices, for Ctrl-C, and count differently on a machine that is slow."""
    served = Served()
    sys.setprofile(served.profile)
    try:
        while messages:
            batch = port.get_many()
            served.batches += 1
            served.packets += len(batch)
            for completion in batch:
                messages -= go_on(port, completion.overlapped)
    finally:
        sys.setprofile(None)
    return served


def go_on(port: CompletionPort, operation: Overlapped[int]) -> int:
    """Start what follows on an operation that has ended, until something pends; the number of
    messages that were answered."""
    answered = 0
    while operation.done:
        echo: Echo = operation.context
        if operation is echo.receive:
            operation = port.resubmit(echo.send, size=operation.transferred)
        else:
            operation = port.resubmit(echo.receive, size=SIZE)
            answered += 1
    return answered


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Counts what ports call from now on."""
    calls = Calls()
    monkeypatch.setattr(port_module, "load", lambda: Library(calls.wrap))
    return calls


def echo(net: Loopback, calls: Calls, *, skip_on_success: bool) -> Served:
    """Have a server answer `MESSAGES`, and count what that takes."""
    peers: list[socket.socket] = []
    with CompletionPort("iocp") as port:
        for _ in range(CONNECTIONS):
            near, far = net.tcp_pair()
            port.associate(near, skip_on_success=skip_on_success)
            Echo(port, near)
            receive_exactly(far, SIZE)
            peers.append(far)
        calls.clear()
        server = run(serve, port, MESSAGES)
        for _ in range(ROUNDS):
            for peer in peers:
                peer.sendall(MESSAGE * AHEAD)
            for peer in peers:
                assert receive_exactly(peer, SIZE * AHEAD) == MESSAGE * AHEAD
        served = server.result()
        starts = calls.pending + calls.finished
        assert starts == {"WSARecv": MESSAGES, "WSASend": MESSAGES}
        assert calls.made.pop("GetLastError") == calls.pending.total()
        assert calls.made == {**starts, "GetQueuedCompletionStatusEx": served.batches}
    # of the thread: its array of packets, and where the number of them goes
    assert served.of_ffi == {"new": 2}
    assert set(served.of_sockets) == {"fileno"}  # which looks at the object, and nowhere else
    return served


def test_an_echo_is_two_calls_and_a_share_of_one(net: Loopback, calls: Calls) -> None:
    served = echo(net, calls, skip_on_success=False)
    assert served.packets == 2 * MESSAGES


def test_what_finishes_within_its_start_has_no_packet_where_that_was_asked_for(
    net: Loopback, calls: Calls
) -> None:
    served = echo(net, calls, skip_on_success=True)
    # as many receives were pending when the counting began as are pending now
    assert served.packets == calls.pending.total()
    assert calls.finished["WSASend"]
    assert calls.finished["WSARecv"]  # of a second message, sent along with the first
