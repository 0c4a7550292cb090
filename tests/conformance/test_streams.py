"""Any interleaving of scattered receives and gathered sends delivers the stream, byte for byte."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from netpoll.testing.attempts import pattern
from netpoll.testing.waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netpoll import CompletionPort, Overlapped
    from netpoll.testing.pairs import Loopback

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, Phase, given, settings, strategies

sizes = strategies.lists(strategies.integers(0, 5000), min_size=1, max_size=6)
steps = strategies.lists(
    strategies.tuples(strategies.sampled_from(["send", "receive", "take"]), sizes), max_size=20
)


@pytest.mark.statement("RECV-11", "RECV-12", "SEND-04", "SEND-05")
@settings(
    deadline=None,
    max_examples=60,
    # a failure here is mostly a wait that lasts to its deadline: shrinking would take an hour
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(script=steps)
def test_a_stream_arrives_as_it_was_sent(
    port: CompletionPort, net: Loopback, script: list[tuple[str, list[int]]]
) -> None:
    near, far = net.tcp_pair(buffer=4096)
    port.associate(near, "near")
    port.associate(far, "far")
    stream = Stream(port, near, far)
    for step, lengths in script:
        getattr(stream, step)(lengths)
    stream.finish()
    port.close_handle(near)
    port.close_handle(far)


class Stream:
    """One direction of a connection, both of whose ends are on the port."""

    def __init__(self, port: CompletionPort, near: socket.socket, far: socket.socket) -> None:
        self.port = port
        self.near = near
        self.far = far
        self.sent = 0
        self.sends: dict[Overlapped[int], int] = {}
        self.receives: list[tuple[Overlapped[int], list[bytearray]]] = []
        self.due: set[Overlapped[Any]] = set()

    def send(self, lengths: Sequence[int]) -> None:
        data = pattern(self.sent + sum(lengths))
        pieces: list[bytes] = []
        for length in lengths:
            pieces.append(data[self.sent : self.sent + length])
            self.sent += length
        operation = self.port.send(self.near, pieces)
        self.sends[operation] = sum(lengths)
        self.due.add(operation)

    def receive(self, lengths: Sequence[int]) -> Overlapped[int]:
        buffers = [bytearray(length) for length in lengths]
        operation = self.port.recv_into(self.far, buffers)
        self.receives.append((operation, buffers))
        self.due.add(operation)
        return operation

    def take(self, lengths: Sequence[int], timeout: float = 0) -> None:
        for completion in self.port.get_many(len(lengths), timeout=timeout):
            assert completion.error == 0
            self.due.remove(completion.overlapped)

    def finish(self) -> None:
        """End the stream behind the sends, and read until that end."""
        self.port.shutdown(self.near, socket.SHUT_WR)
        last = self.receive([65536])
        while self.due:
            before = len(self.due)
            self.take(range(64), timeout=DEADLINE)
            assert len(self.due) < before, f"nothing came; pending: {self.port.inflight()}"
            if last not in self.due and last.result():
                last = self.receive([65536])
        received = b"".join(
            b"".join(buffers)[: operation.result()] for operation, buffers in self.receives
        )
        assert received == pattern(self.sent)
        assert all(send.result() == length for send, length in self.sends.items())
