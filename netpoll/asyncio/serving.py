"""Servers: an accept that is always armed, and survives what happens to single connections."""

from __future__ import annotations

from asyncio import constants, trsock
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from netpoll import status as nt
from netpoll.asyncio.operations import Operation, within
from netpoll.asyncio.standard import LoopPart
from netpoll.asyncio.streams import StreamTransport
from netpoll.backends.addresses import KNOWN
from netpoll.handles import port_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from netpoll.overlapped import Completion


class Acceptor:
    """Takes the connections of one listening socket."""

    def __init__(
        self, loop: Serving, listener: socket.socket, serve: Callable[..., None], limit: int
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._serve = serve
        # connections inherit the context that the server was started in
        self._context = copy_context()
        self._operation: Operation[Any] = Operation(within(self._context, self._accepted))
        self._limit = limit
        self._stopped = False

    def start(self) -> None:
        if self._stopped or self._loop.is_closed():
            return
        try:
            self._loop.port.accept_many(
                self._listener, limit=self._limit, overlapped=self._operation
            )
        except OSError as error:
            self._failed(error)
        else:
            if self._operation.done:
                self._loop.call_soon(self._finished, context=self._context)

    def stop(self) -> None:
        self._stopped = True
        self._loop.port.close_handle(self._listener)

    def _finished(self) -> None:
        """Done within its start."""
        self._take(self._operation.result())

    def _accepted(self, completion: Completion) -> None:
        if not completion.status:
            self._take(completion.result())
        elif not self._stopped:
            self._failed(completion.exception())

    def _take(self, connections: list[tuple[socket.socket, Any]]) -> None:
        # armed again first: the callbacks below may take long
        self.start()
        for connection, address in connections:
            if self._stopped:
                connection.close()
            else:
                self._serve(connection, {"peername": address})

    def _failed(self, error: OSError | None) -> None:
        """It was this accept's failure: the listener goes on, after a moment."""
        status = getattr(error, "status", 0)
        if status in (nt.STATUS_CANCELLED, nt.STATUS_INVALID_HANDLE):
            return  # closed behind our back
        self._loop.call_exception_handler(
            {
                "message": "socket.accept() out of system resource"
                if status in _RESOURCES
                else "Accept failed on a socket",
                "exception": error,
                "socket": trsock.TransportSocket(self._listener),
            }
        )
        self._loop.call_later(constants.ACCEPT_RETRY_DELAY, self.start, context=self._context)


_RESOURCES = frozenset(
    (
        nt.STATUS_TOO_MANY_OPENED_FILES,
        nt.STATUS_INSUFFICIENT_RESOURCES,
        nt.STATUS_NO_MEMORY,
    )
)


class Serving(LoopPart):
    """Part of `EventLoop`: listening sockets."""

    _acceptors: dict[int, Acceptor]

    def _start_serving(
        self,
        protocol_factory: Callable[[], Any],
        sock: socket.socket,
        sslcontext: Any = None,
        server: Any = None,
        backlog: int = 100,
        *timeouts: float,
        context: Any = None,
        **more: Any,
    ) -> None:
        if sock.family not in KNOWN:
            # of Bluetooth and the like: not every backend reads the addresses, Python does
            if context is not None:
                more["context"] = context
            super()._start_serving(
                protocol_factory, sock, sslcontext, server, backlog, *timeouts, **more
            )
            return
        if len(timeouts) > 2:  # from 3.15 on the context may come behind them
            *timeouts, context = timeouts  # type: ignore[assignment]
        names = ("ssl_handshake_timeout", "ssl_shutdown_timeout")
        options: dict[str, Any] = {**dict(zip(names, timeouts, strict=False)), **more}

        def serve(connection: socket.socket, extra: dict[str, Any]) -> None:
            # what a protocol sets is its connection's, and not the next one's
            own = copy_context() if context is None else context.copy()
            if sslcontext is None:
                own.run(self._serve_plain, protocol_factory, connection, extra, server, own)
            else:
                if context is not None:
                    options["context"] = own
                accept = self._accept_connection2(
                    protocol_factory, connection, extra, sslcontext, server, **options
                )
                self.create_task(accept, context=own)

        if port_of(sock) is not self.port:
            self.port.associate(sock, skip_on_success=True)
        acceptor = self._acceptors[sock.fileno()] = Acceptor(self, sock, serve, max(backlog, 1))
        acceptor.start()

    def _serve_plain(
        self,
        protocol_factory: Callable[[], Any],
        connection: socket.socket,
        extra: dict[str, Any],
        server: Any,
        context: Any,
    ) -> None:
        """What asyncio makes a task of: without TLS there is nothing to wait for."""
        protocol = None
        try:
            protocol = protocol_factory()
            # the number of its descriptor is new: nothing to check
            StreamTransport(self, connection, protocol, None, extra, server, context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            connection.close()
            told: dict[str, Any] = {
                "message": "Error on transport creation for incoming connection",
                "exception": error,
            }
            if protocol is not None:
                told["protocol"] = protocol
            self.call_exception_handler(told)

    def _stop_serving(self, sock: socket.socket) -> None:
        self._remove_path(sock)
        acceptor = self._acceptors.pop(sock.fileno(), None)
        if acceptor is not None:
            acceptor.stop()
        elif sock.fileno() >= 0:
            self._remove_reader(sock)
        sock.close()
