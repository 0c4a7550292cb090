"""Listeners in scripts: accepts, and clients that come, talk, end and reset."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

from backends.script_lines import Again, Waiting
from backends.script_sockets import BRIEF, Handle

from netpoll.testing.attempts import pattern
from netpoll.testing.pairs import reset

if TYPE_CHECKING:
    from collections.abc import Callable

    from backends.scripts import World

    from netpoll import Overlapped

    Operation = Overlapped[Any]

PATIENT = 4
"""Accepts until the client behind one that was gone has to be there."""


class Client:
    """The far end of a connection that is to be accepted."""

    def __init__(self, world: World, listener: socket.socket, name: str) -> None:
        self.sock = world.net.new_socket()
        self.sock.connect(listener.getsockname())
        self.address = self.sock.getsockname()
        world.names[self.address] = name
        self.said = False
        """Whether it has sent something, or its end."""
        self.accept: Operation | None = None
        """Who has it."""

    def speak(self, act: Callable[[socket.socket], object]) -> None:
        self.said = True
        with contextlib.suppress(OSError):  # its accept was cancelled or closed
            act(self.sock)


class Listener(Handle):
    """A listening socket, its accepts, and clients."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self.near = world.net.listener()
        self._join(self.near)
        self.accepts = Waiting(world)
        self.lines = [self.accepts]
        self.clients: list[Client] = []
        """Those whose accept has not completed."""
        self.accepted = Again()

    @property
    def is_open(self) -> bool:
        return self.near.fileno() >= 0

    # -- accepts -----------------------------------------------------------------------------------

    def accept(self, size: int, /) -> None:
        buffer = bytearray(size) if size % 3 else None
        how = self._how(size, context=buffer)
        self.accepted.add(
            self.accepts.add(lambda: self.port.accept(self.near, receive=buffer, **how))
        )

    def accept_many(self, number: int, /) -> None:
        how = self._how(number)
        self.accepted.add(
            self.accepts.add(lambda: self.port.accept_many(self.near, limit=1 + number % 3, **how))
        )

    def accept_again(self, _: int, /) -> None:
        operation = self.accepted.finished()
        if operation is None or self.lost:
            return
        if self.accepts.add(lambda: self.port.resubmit(operation)) is None:
            self.accepted.drop(operation)

    def accept_briefly(self, number: int, /) -> None:
        """One whose time runs out."""
        if self.accepts.operations or self.clients:
            return
        begin = self.port.accept_many if number % 2 else self.port.accept
        self.world.at_once(lambda: begin(self.near, timeout=BRIEF))

    # -- clients -----------------------------------------------------------------------------------

    def client_comes(self, _: int, /) -> None:
        if self.is_open:
            self.clients.append(self._client())

    def _client(self) -> Client:
        return Client(self.world, self.near, f"{self.name} client {len(self.world.names)}")

    def client_sends(self, size: int, /) -> None:
        self._speak(lambda sock: sock.send(pattern(size)))

    def client_ends(self, _: int, /) -> None:
        self._speak(lambda sock: sock.shutdown(socket.SHUT_WR))

    def _speak(self, act: Callable[[socket.socket], object]) -> None:
        silent = [client for client in self.clients if not client.said]
        if silent:
            silent[0].speak(act)

    def client_resets(self, number: int, /) -> None:
        """One is gone before its accept: it may be passed over, or accepted and fail (ACC-12). The
        next one has to be there in the end, and nothing else is told."""
        if not self.is_open or self.clients or self.accepts.operations:
            return
        gone = self._client()
        reset(gone.sock)
        client = self._client()
        client.sock.send(b"hello")
        for _ in range(PATIENT):
            operation = self._start_quietly(number % 3)
            if operation is None:
                continue
            self.world.take(operation)
            if operation.status:
                assert operation.buffers, f"{operation!r} has waited for no data"
                continue
            value: Any = operation.value
            accepted = {each[1]: each[0] for each in _listed(value)}
            for sock in accepted.values():
                sock.close()
            if client.address in accepted:
                self.world.tell("came", accepted.keys() <= {gone.address, client.address})
                return
        raise AssertionError("a client that was gone kept the next from being accepted")

    def _start_quietly(self, kind: int) -> Operation | None:
        if kind == 0:
            return self.port.accept(self.near)
        if kind == 1:
            return self.port.accept_many(self.near)
        try:
            return self.port.accept(self.near, receive=bytearray(10))
        except ConnectionResetError:
            return None

    # -- what is due, and the end ------------------------------------------------------------------

    def count_due(self) -> None:
        pending = self.accepts.operations
        for client in list(self.clients):
            if client.accept is not None and client.accept not in pending:
                self.clients.remove(client)  # the accept was cancelled, and its client with it
        for client in list(self.clients):
            if client not in self.clients:
                continue  # somebody has taken it with another
            taken = [each.accept for each in self.clients]
            free = [operation for operation in pending if operation not in taken]
            if client.accept is None and free:
                client.accept = free[0]
            operation = client.accept
            if operation is not None and (operation.context is None or client.said):
                self._complete(operation, client)

    def _complete(self, operation: Operation, client: Client) -> None:
        count = operation._address if operation.opcode == "accept_many" else 1
        self.accepts.operations.remove(operation)
        self.world.is_due(operation)
        mine = [each for each in self.clients if each is client or each.accept is None]
        for each in mine[:count]:
            self.clients.remove(each)

    def cancel_all(self, _: int, /) -> None:
        if self.is_open:
            self.world.tell("cancel_all", self.port.cancel(self.near))
            self.accepts.end(closing=False)

    def close_handle(self, _: int, /) -> None:
        self.close()

    def close_bare(self, _: int, /) -> None:
        if self.is_open:
            self._before_close()
            self.near.close()
            self.lost = True

    def close(self) -> None:
        if self.is_open:
            self._before_close()
            self.port.close_handle(self.near)

    def _before_close(self) -> None:
        self.accepts.end(closing=True)
        self.clients.clear()


class SkippingListener(Listener):
    """One whose accepts queue no packet where they are seen within their start (MODE-03)."""

    skips = True


def _listed(value: Any) -> Any:
    """Pairs of socket and address, of either accept."""
    return value if type(value) is list else [value]  # pyright: ignore[reportUnknownVariableType]
