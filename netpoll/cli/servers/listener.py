"""Accepts clients, with several accepts started at a time."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

import netpoll

if TYPE_CHECKING:
    import socket

    from netpoll import Completion, Overlapped
    from netpoll.cli.servers.server import Server
    from netpoll.cli.servers.services import Service

_logger = logging.getLogger("netpoll")

ACCEPTS: Final = 8
"""Accepts in flight: while one completion is on its way to a thread, others take the next
clients.
"""
SILENCE: Final = 60.0
"""Seconds without another warning of the same, as long as a server is at its limit."""


class Listener:
    """The key of the listening socket. Each accept brings along what its connection will need."""

    def __init__(self, server: Server, sock: socket.socket, service: Service) -> None:
        self._server = server
        self._port = server.port
        self._sock = sock
        self._service = service
        self._parked: list[Overlapped[Any]] = []
        """Accepts that are not in flight, because there was no descriptor for what they bring
        along.
        """
        self._next_warning = 0.0
        self._closed = False

    def start(self) -> None:
        """Start to accept."""
        self._port.associate(self._sock, self)
        for _ in range(ACCEPTS):
            operation: Overlapped[tuple[socket.socket, Any]] = netpoll.Overlapped()
            if self._prepare(operation):
                self._port.accept(self._sock, overlapped=operation)

    def completed(self, completion: Completion) -> None:
        """An accept has ended: accept the next client, and open the connection of this one."""
        operation = completion.overlapped
        prepared, operation.context = operation.context, None
        client: socket.socket | None = None
        if not completion.error:
            client, _ = completion.result()
        elif prepared is not None:
            # a failed accept is that one's failure, not the listener's
            prepared.close()
        self._go_on(operation)
        if client is not None:
            connection = self._service.connection(self._server, client, prepared)
            self._server.began(connection)
            connection.open()

    def _go_on(self, operation: Overlapped[Any]) -> None:
        if self._closed or not self._prepare(operation):
            return
        try:
            if operation.opcode is None:
                self._port.accept(self._sock, overlapped=operation)
            else:
                self._port.resubmit(operation)
        except OSError as error:
            self._drop_prepared(operation)
            if not self._closed:
                _logger.error("an accept cannot be started any more: %s", error.strerror)

    def _prepare(self, operation: Overlapped[Any]) -> bool:
        """Give the accept what its connection will need; without a descriptor for that, park it."""
        try:
            operation.context = self._service.prepare()
        except OSError as error:
            now = time.monotonic()
            with self._server.lock:
                self._parked.append(operation)
                warn = now >= self._next_warning
                if warn:
                    self._next_warning = now + SILENCE
            if warn:
                _logger.warning("accepting pauses until a descriptor is free: %s", error.strerror)
            return False
        return True

    def retry(self) -> None:
        """There may be a descriptor now, as a connection has ended: try with a parked accept."""
        with self._server.lock:
            operation = self._parked.pop() if self._parked else None
        if operation is not None:
            self._go_on(operation)

    def close(self) -> None:
        """Stop listening: the accepts in flight end, and no more are started."""
        self._closed = True
        self._port.close_handle(self._sock)

    def _drop_prepared(self, operation: Overlapped[Any]) -> None:
        if operation.context is not None:
            operation.context.close()
            operation.context = None
