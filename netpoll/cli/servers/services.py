"""What `netpoll serve` can be: what is done with a client that was accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from netpoll.cli.servers.connection import Connection
from netpoll.cli.servers.pump import Pump

if TYPE_CHECKING:
    import socket

    from netpoll.cli.servers.server import Server


class Service(Protocol):
    """Makes connections of clients."""

    def prepare(self) -> socket.socket | None:
        """What the next connection will need besides the client: made before the client is
        accepted, so that no client is accepted which cannot be served.

        :raises OSError: there is no descriptor for it
        """
        ...

    def connection(
        self, server: Server, client: socket.socket, prepared: socket.socket | None
    ) -> Connection:
        """A connection that is not open yet."""
        ...


class Echo:
    """Sends back what comes.

    :param size: bytes of the buffer that each connection has
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def prepare(self) -> None:
        return None

    def connection(
        self, server: Server, client: socket.socket, prepared: socket.socket | None
    ) -> Connection:
        return Simple(server, client, client, self.size)


class Discard(Echo):
    """Throws away what comes."""

    def connection(
        self, server: Server, client: socket.socket, prepared: socket.socket | None
    ) -> Connection:
        return Simple(server, client, None, self.size)


class Simple(Connection):
    """One socket and one pump."""

    def __init__(
        self, server: Server, client: socket.socket, sink: socket.socket | None, size: int
    ) -> None:
        super().__init__(server, client)
        self._pump = Pump(server.port, client, sink, size)

    def make_pumps(self) -> tuple[Pump, ...]:
        return (self._pump,)
