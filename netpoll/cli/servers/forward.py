"""The relay: for each client a connection to somewhere else, and a pump each way."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import netpoll
from netpoll.cli.servers.connection import ENDED, UNREACHED, Connection
from netpoll.cli.servers.pump import Pump

if TYPE_CHECKING:
    from netpoll import Completion, Overlapped
    from netpoll.cli.options import Address
    from netpoll.cli.servers.server import Server


class Forward:
    """Relays TCP both ways.

    :param addresses: of the other server, in the order in which to try them
    :param size: bytes of each of the two buffers of a connection: the relay never holds more of its
        data
    :param timeout: seconds for each try to connect
    """

    def __init__(self, addresses: list[Address], size: int, timeout: float) -> None:
        self.addresses = addresses
        self.size = size
        self.timeout = timeout

    def prepare(self) -> socket.socket:
        """The socket that will be connected."""
        return self.make_socket(self.addresses[0][0])

    def make_socket(self, family: int) -> socket.socket:
        """A socket to connect to an address of that family."""
        return socket.socket(family, socket.SOCK_STREAM)

    def connection(
        self, server: Server, client: socket.socket, prepared: socket.socket | None
    ) -> Connection:
        assert prepared is not None
        return Relay(server, client, prepared, self)


class Relay(Connection):
    """A client, and what it is connected to."""

    def __init__(
        self, server: Server, client: socket.socket, upstream: socket.socket, service: Forward
    ) -> None:
        super().__init__(server, client, upstream)
        self._service = service
        self._untried = iter(service.addresses[1:])
        self._connecting: Overlapped[None] | None = netpoll.Overlapped()

    def begin(self) -> None:
        self._connect(self._service.addresses[0][1])

    def _connect(self, address: object) -> None:
        self.enter()
        try:
            self.port.connect(
                self.sockets[1],
                address,
                overlapped=self._connecting,
                timeout=self._service.timeout,
            )
        except OSError:
            self.leave()
            raise

    def completed(self, completion: Completion) -> None:
        if completion.overlapped is not self._connecting:
            super().completed(completion)
            return
        try:
            self._connected(completion)
        except OSError as error:
            self.fail(error)
        self.leave()

    def _connected(self, completion: Completion) -> None:
        """
        :raises OSError: not connected, and there is no other address to try
        """
        error = completion.exception()
        if error is None:
            # nothing but the pumps needs the socket's operation any more
            self._connecting = None
            self.run(*self.make_pumps())
            return
        following = next(self._untried, None)
        if following is None:
            raise error
        family, address = following
        self.port.close_handle(self.sockets[1])  # a socket that failed to connect is of no use
        if not self._replace_upstream(self._service.make_socket(family)):
            raise error
        self.adopt(self.sockets[1])
        self._connect(address)

    def _replace_upstream(self, sock: socket.socket) -> bool:
        """Go on with `sock`, unless the connection is to end: that closes the sockets it has at
        that moment, and would miss one that came later."""
        with self.server.lock:
            goes_on = self.outcome == ENDED and not self._finishing
            if goes_on:
                self.sockets[1] = sock
        if not goes_on:
            sock.close()
        return goes_on

    def make_pumps(self) -> tuple[Pump, ...]:
        client, upstream = self.sockets
        size = self._service.size
        return Pump(self.port, client, upstream, size), Pump(self.port, upstream, client, size)

    def describe(self, error: OSError) -> str:
        return UNREACHED if self._connecting is not None else super().describe(error)

    def finish(self) -> None:
        super().finish()
        connecting = self._connecting
        if connecting is not None:
            self.port.cancel(connecting)
