"""The program of `netpoll demo`: one of each thing that OVERLAPPED code does, on whatever port it
is given.

Nothing in it depends on time: each step waits for its completion, and what is compared is what the
contract decides. The peer is an ordinary blocking socket, which knows nothing of netpoll.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll import Completion, CompletionPort

PATIENCE: Final = 20.0
"""Seconds within which each step has to be over; only a broken backend ever needs them."""
# BSD and Linux have two ints there, Winsock two shorts
ABORT: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)

RESET: Final = "the client resets"


@dataclass(frozen=True)
class Outcome:
    """One completion, as far as two backends have to agree on it."""

    step: str
    """What the program did."""
    operation: str
    key: str
    error: int
    """The Win32 number, 0 for success."""
    meaning: str
    """The exception that the error is in Python; empty for success."""
    transferred: int
    data: str
    """What was received, or anything else that the program can tell now."""


class Program:
    """Runs on `port`, which the caller closes."""

    def __init__(self, port: CompletionPort) -> None:
        self.port = port
        self.outcomes: list[Outcome] = []
        self._sockets = contextlib.ExitStack()

    def run(self) -> list[Outcome]:
        """Do everything; what happened, in order.

        :raises OSError: a step failed that nothing should go wrong with
        :raises TimeoutError: a completion did not come
        """
        with self._sockets:
            listener = self._keep(socket.create_server(("127.0.0.1", 0)))
            self.port.associate(listener, "listener")
            here, peer = self.accept(listener)
            self.port.associate(here, "client")
            self.scatter(here, peer)
            self.gather(here, peer)
            self.cancel(here, peer)
            self.post()
            self.time_limit(here)
            self.end_of_stream(here, peer)
            self.reset(listener)
            self.refused()
        return self.outcomes

    # -- the steps -------------------------------------------------------------------------------

    def accept(self, listener: socket.socket) -> tuple[socket.socket, socket.socket]:
        operation = self.port.accept(listener)
        peer = self._connect_to(listener)

        def says_who(_: int) -> str:
            return f"knows its address: {operation.result()[1] == peer.getsockname()}"

        completion = self._take("accept a client", "accept", says_who)
        here, _ = completion.result()
        return self._keep(here), peer

    def scatter(self, here: socket.socket, peer: socket.socket) -> None:
        head, body = bytearray(4), bytearray(16)
        self.port.recv_into(here, [head, body])
        peer.sendall(b"HEADa body")
        self._take("receive into two buffers", "recv_into", lambda n: _show(head, body[: n - 4]))

    def gather(self, here: socket.socket, peer: socket.socket) -> None:
        self.port.send(here, [b"one, ", b"two, ", b"three"])
        self._take("send three buffers", "send", lambda n: _show(_read(peer, n)))

    def cancel(self, here: socket.socket, peer: socket.socket) -> None:
        operation = self.port.recv(here, 100)
        asked = self.port.cancel(operation)
        self._take("receive, and cancel it", "recv", lambda _: f"asked to stop: {asked}")
        peer.sendall(b"still here")
        operation = self.port.recv(here, 100)
        self._take("receive what comes after", "recv", lambda _: _show(operation.result()))

    def post(self) -> None:
        anything = object()
        self.port.post(4711, key="posted", overlapped=anything)
        completion = self._take("post a packet", "post")
        if completion.overlapped is not anything:
            raise ValueError("the posted object did not arrive")

    def time_limit(self, here: socket.socket) -> None:
        self.port.recv(here, 100, timeout=0.05)
        self._take("receive for 0.05 s", "recv")

    def end_of_stream(self, here: socket.socket, peer: socket.socket) -> None:
        operation = self.port.recv(here, 100)
        peer.shutdown(socket.SHUT_WR)
        self._take("the client ends its stream", "recv", lambda _: _show(operation.result()))
        self.port.send(here, b"bye")
        self._take("which is one way only", "send", lambda n: _show(_read(peer, n)))

    def reset(self, listener: socket.socket) -> None:
        buffer = bytearray(16)
        self.port.accept(listener, receive=buffer)
        peer = self._connect_to(listener)
        peer.sendall(b"first")
        completion = self._take("accept with the first data", "accept", lambda n: _show(buffer[:n]))
        here, _ = completion.result()
        self.port.associate(self._keep(here), "second")
        self.port.recv(here, 100)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        peer.close()
        self._take(RESET, "recv")

    def refused(self) -> None:
        here = self._keep(socket.socket())
        nobody = self._keep(socket.socket())
        nobody.bind(("127.0.0.1", 0))  # taken, and not listening
        self.port.associate(here, "outgoing")
        self.port.connect(here, nobody.getsockname())
        self._take("connect to nobody", "connect")

    # -- what the steps share --------------------------------------------------------------------

    def _keep(self, sock: socket.socket) -> socket.socket:
        """Have it closed at the end."""
        return self._sockets.enter_context(sock)

    def _connect_to(self, listener: socket.socket) -> socket.socket:
        return self._keep(socket.create_connection(listener.getsockname(), timeout=PATIENCE))

    def _take(
        self, step: str, operation: str, data: Callable[[int], str] = lambda _: ""
    ) -> Completion:
        """Take the next completion, and record it."""
        completion = self.port.get(PATIENCE)
        if completion is None:
            raise TimeoutError(f"{step}: no completion within {PATIENCE:g} s")
        error = completion.exception()
        self.outcomes.append(
            Outcome(
                step=step,
                operation=operation,
                key=str(completion.key),
                error=completion.error,
                meaning=type(error).__name__ if error is not None else "",
                transferred=completion.transferred,
                data=data(completion.transferred),
            )
        )
        return completion


def _read(sock: socket.socket, size: int) -> bytes:
    """Exactly `size` bytes, from a blocking socket."""
    received = b""
    while len(received) < size:
        part = sock.recv(size - len(received))
        if not part:
            break
        received += part
    return received


def _show(*parts: bytes | bytearray) -> str:
    if not any(parts):
        return "end of stream"
    return " | ".join(repr(bytes(part).decode("ascii")) for part in parts)
