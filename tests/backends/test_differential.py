"""Each backend of this machine against selectors: one script, run on both, has the same outcomes,
operation by operation, up to the freedoms that the contract names.

Between two steps everything that is due is taken, or the two would differ rightly: a kernel that
has the receive takes the data at once, a readiness backend when somebody waits.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from netpoll import CompletionPort, Overlapped
from netpoll import status as nt
from netpoll.backends.software import FAILURES
from netpoll.testing.attempts import pattern
from netpoll.testing.backends import targets
from netpoll.testing.drain import collect
from netpoll.testing.pairs import Loopback, reset
from netpoll.testing.wine import wine_version

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll.testing.backends import Target

pytest.importorskip("hypothesis")
from hypothesis import Phase, given, settings, strategies

REFERENCE, *OTHERS = sorted(targets(), key=lambda target: not target.id.startswith("selectors"))
"""The first of selectors, and all other targets."""

CLOSING = frozenset((nt.STATUS_CANCELLED, nt.STATUS_CONNECTION_ABORTED, nt.STATUS_CONNECTION_RESET))
"""How an operation may end whose handle is closed under it (CLOSE-02): that is free."""

ALL_STEPS = (
    "receive",
    "receive_some",
    "receive_again",
    "probe",
    "send",
    "cancel",
    "cancel_all",
    "peer_sends",
    "peer_sends",
    "peer_shuts_down",
    "peer_resets",
    "stop_receiving",
    "stop_sending",
)
# through Wine's select(), the reference may see an end of stream after a reset (RECV-05)
STEPS = tuple(step for step in ALL_STEPS if step != "peer_resets" or wine_version() is None)
MOST = 3000
scripts = strategies.lists(
    strategies.tuples(strategies.sampled_from(STEPS), strategies.integers(1, MOST)), max_size=25
)


class Connection:
    """The near end of a TCP connection or a pair of UDP sockets on a port, and the far end; knows
    how many completions are due."""

    def __init__(self, port: CompletionPort, near: socket.socket, far: socket.socket) -> None:
        self.port = port
        self.near = near
        self.far = far
        self.stream = near.type == socket.SOCK_STREAM
        self.arrived: list[int] = []
        """Bytes that nobody has received, by datagram; of a stream in one number."""
        self.over = False
        """Nothing more will come: every receive ends."""
        self.receives: list[Overlapped[Any]] = []
        self.due = 0
        self.starts: list[Overlapped[Any] | None] = []
        """`None` where it failed at once, which is as good as a completion that says so."""
        self.outcomes: list[tuple[Any, ...]] = []

    def run(self, script: list[tuple[str, int]]) -> list[tuple[Any, ...]]:
        self.port.associate(self.near)
        self.far.send(b"first")
        self.again = self.port.recv(self.near, MOST)
        self.starts.append(self.again)
        self.receives.append(self.again)
        self.arrived.append(5)
        self.settle()
        for name, number in script:
            getattr(self, name)(number)
            self.settle()
        self.outcomes.append(("closing",))
        self.port.close_handle(self.near)
        self.due += len(self.receives)
        self.settle()
        return self.outcomes

    def settle(self) -> None:
        """Take what is due, no less and no more."""
        while self.receives and (self.arrived or self.over):
            operation = self.receives.pop(0)
            self.due += 1
            if not self.arrived:
                continue
            if not self.stream:
                self.arrived.pop(0)
            elif operation._size < self.arrived[0]:
                self.arrived[0] -= operation._size
            else:
                self.arrived.clear()
        for completion in collect(self.port, self.due):
            operation = completion.overlapped
            number = len(self.starts) - 1 - self.starts[::-1].index(operation)
            if completion.status >= FAILURES:
                self.outcomes.append(("failed", number, completion.status))
                continue
            value = completion.result() if not completion.status else None
            if operation.opcode == "recv_into":
                value = b"".join(operation.buffers)
            self.outcomes.append((number, completion.status, completion.transferred, value))
        self.due = 0

    def start(self, start: Callable[[], Overlapped[Any]]) -> Overlapped[Any] | None:
        operation = None
        try:
            operation = start()
        except OSError as error:
            self.outcomes.append(("failed", len(self.starts), vars(error)["status"]))
        self.starts.append(operation)
        return operation

    def start_receive(self, start: Callable[[], Overlapped[Any]]) -> None:
        operation = self.start(start)
        if operation is not None:
            self.receives.append(operation)

    # -- steps -------------------------------------------------------------------------------------

    def receive(self, size: int) -> None:
        self.start_receive(lambda: self.port.recv(self.near, size))

    def receive_some(self, size: int) -> None:
        buffers = [bytearray(size), bytearray(2), bytearray(size)]
        self.start_receive(lambda: self.port.recv_into(self.near, buffers))

    def receive_again(self, size: int) -> None:
        if self.again.done:
            self.start_receive(lambda: self.port.resubmit(self.again, size=size))

    def probe(self, _: int) -> None:
        if self.stream:  # of a datagram socket it takes a datagram (UDP-01)
            self.start_receive(lambda: self.port.recv(self.near, 0))

    def send(self, size: int) -> None:
        if self.start(lambda: self.port.send(self.near, [pattern(size), b"", b"end"])) is not None:
            self.due += 1

    def cancel(self, number: int) -> None:
        if self.starts:
            operation = self.starts[number % len(self.starts)]
            asked = operation is not None and operation.cancel()
            self.outcomes.append(("cancel", asked))
            if operation is not None and asked:
                self.receives.remove(operation)
                self.due += 1

    def cancel_all(self, _: int) -> None:
        self.outcomes.append(("cancel_all", self.port.cancel(self.near)))
        self.due += len(self.receives)
        self.receives.clear()

    def peer_sends(self, size: int) -> None:
        if self.far.fileno() < 0 or self.over:
            return
        try:
            self.far.send(pattern(size))
        except OSError:  # this end was reset by what it had not read
            return
        if self.stream:
            self.arrived = [sum(self.arrived) + size]
        else:
            self.arrived.append(size)

    def peer_shuts_down(self, _: int) -> None:
        if self.stream and self.far.fileno() >= 0 and not self.over:
            self.far.shutdown(socket.SHUT_WR)
            self.over = True

    def peer_resets(self, _: int) -> None:
        if self.stream and self.far.fileno() >= 0:
            reset(self.far)
            self.arrived.clear()
            self.over = True

    def stop_receiving(self, _: int) -> None:
        self.shut_down(socket.SHUT_RD)

    def stop_sending(self, _: int) -> None:
        self.shut_down(socket.SHUT_WR)

    def shut_down(self, how: int) -> None:
        if not self.stream:
            return
        try:
            self.port.shutdown(self.near, how)
        except OSError as error:
            self.outcomes.append(("shutdown", vars(error)["status"]))


def outcomes(target: Target, script: list[tuple[str, int]], stream: bool) -> list[tuple[Any, ...]]:
    net = Loopback()
    try:
        with target.open() as port:
            near, far = net.tcp_pair() if stream else net.udp_pair()
            return _freed(Connection(port, near, far).run(script))
    finally:
        net.close()


def _freed(outcomes: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The outcomes less what the platform is free to decide."""
    closing = outcomes.index(("closing",))
    ends = [
        (*end[:2], "closed") if end[0] == "failed" and end[2] in CLOSING else end
        for end in outcomes[closing:]
    ]
    return outcomes[:closing] + ends


@pytest.mark.parametrize("other", OTHERS, ids=str)
@pytest.mark.parametrize("stream", [True, False], ids=["tcp", "udp"])
@settings(
    deadline=None,
    max_examples=100,
    # a failure here is mostly a wait that lasts to its deadline: shrinking would take an hour
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(script=scripts)
def test_both_backends_agree(other: Target, stream: bool, script: list[tuple[str, int]]) -> None:
    assert outcomes(other, script, stream) == outcomes(REFERENCE, script, stream)
