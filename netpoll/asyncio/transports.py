"""The transports' common part, and which transport is for what."""

from __future__ import annotations

import warnings
import weakref
from asyncio import constants, sslproto, trsock
from asyncio.log import logger
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from netpoll.asyncio.standard import SERVER_KNOWS_TRANSPORTS, FlowControl, LoopPart
from netpoll.backends.addresses import KNOWN
from netpoll.handles import port_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from netpoll.port import CompletionPort


class SocketTransport(FlowControl):
    """What stream and datagram transports share: the protocol, closing, and the end.

    At the end what is pending is cancelled. `connection_lost` comes in the next turn, as with the
    standard loops; the packets of the cancelled may come later, and buffers are kept for them.
    """

    # With more than 30 attributes CPython gives each object a dict of its own, a kilobyte that a
    # message touches. Programs may still set attributes of theirs.
    __slots__ = (
        "__dict__",
        "__weakref__",
        "_closing",
        "_conn_lost",
        "_context",
        "_lost_for",
        "_paused",
        "_port",
        "_protocol",
        "_protocol_connected",
        "_receiving",
        "_server",
        "_sock",
        "_sock_fd",
    )

    def __init__(
        self,
        loop: Any,
        sock: socket.socket,
        protocol: Any,
        extra: dict[str, Any] | None,
        server: Any,
        context: Any,
    ) -> None:
        self._sock: Any = None  # for __del__, if the rest fails
        super().__init__(extra, loop)
        self._extra["socket"] = trsock.TransportSocket(sock)
        try:
            self._extra["sockname"] = sock.getsockname()
        except OSError:
            self._extra["sockname"] = None
        if "peername" not in self._extra:
            try:
                self._extra["peername"] = sock.getpeername()
            except OSError:
                self._extra["peername"] = None
        self._port: CompletionPort = loop.port
        if port_of(sock) is not self._port:
            self._port.associate(sock, skip_on_success=True)
        self._sock = sock
        self._sock_fd: int = sock.fileno()
        # one for the life of the transport, as in uvloop: what the protocol sets in one callback it
        # finds in the next
        self._context: Context = copy_context() if context is None else context
        self._receiving = False
        """Whether a receive is pending."""
        self._protocol_connected = False
        self._protocol: Any = None
        self.set_protocol(protocol)
        self._server: Any = server
        self._paused = False
        self._closing = False
        self._conn_lost: int = 0
        """Set once the connection counts as lost; counts the writes since."""
        self._lost_for: BaseException | None = None
        if server is not None:
            _attach(server, self)
        loop._transports[self._sock_fd] = self

    def __repr__(self) -> str:
        info = [type(self).__name__]
        if self._sock is None:
            info.append("closed")
        elif self._closing:
            info.append("closing")
        info.append(f"fd={self._sock_fd}")
        if self._loop is not None and not self._loop.is_closed():
            state = "polling" if self._receiving else "idle"
            info.append(f"read={state}")
            size = self.get_write_buffer_size()
            info.append(f"write=<{'polling' if size else 'idle'}, bufsize={size}>")
        return f"<{' '.join(info)}>"

    def _call_soon(self, callback: Callable[..., object], *arguments: Any) -> None:
        self._loop.call_soon(callback, *arguments, context=self._context)

    # -- what the two kinds do in their own way ----------------------------------------------------

    def _receive(self) -> None:
        """Start a receive, unless there is one."""
        raise NotImplementedError

    def _stop_receiving(self) -> None:
        """Cancel the receive that is pending."""
        raise NotImplementedError

    def _redirect(self) -> None:
        """Something has changed that received data depends on."""

    def _is_busy(self) -> bool:
        """Whether an operation is pending."""
        raise NotImplementedError

    def _give_back(self) -> None:
        """Let go of the buffers: nothing works on them any more."""
        raise NotImplementedError

    def _ended(self) -> None:
        """An operation has ended after all, although the connection is lost, or being closed."""
        if self._sock is None and not self._is_busy():
            self._give_back()

    def _drop_unsent(self) -> None:
        raise NotImplementedError

    # -- the interface -----------------------------------------------------------------------------

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol
        self._protocol_connected = True

    def get_protocol(self) -> Any:
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return not self._closing and not self._paused

    def pause_reading(self) -> None:
        if not self.is_reading():
            return
        # The pending receive stays: what it brings waits for resume_reading().
        self._paused = True
        self._redirect()
        if self._loop.get_debug():
            logger.debug("%r pauses reading", self)

    def resume_reading(self) -> None:
        if self._closing or not self._paused:
            return
        self._paused = False
        self._redirect()
        self._receive()
        if self._loop.get_debug():
            logger.debug("%r resumes reading", self)

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self._stop_receiving()
        self._lose_if_done()

    def abort(self) -> None:
        self._force_close(None)

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if getattr(self, "_sock", None) is not None:
            _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            self._sock.close()
            if self._server is not None:
                _detach(self._server, self)

    # -- the end -----------------------------------------------------------------------------------

    def _fatal_error(self, error: BaseException, message: str = "Fatal error on transport") -> None:
        if isinstance(error, OSError):
            if self._loop.get_debug():
                logger.debug("%r: %s", self, message, exc_info=True)
        else:
            self._loop.call_exception_handler(
                {
                    "message": message,
                    "exception": error,
                    "transport": self,
                    "protocol": self._protocol,
                }
            )
        self._force_close(error)

    def _force_close(self, error: BaseException | None) -> None:
        if self._conn_lost:
            return
        self._drop_unsent()
        self._closing = True
        self._stop_receiving()
        self._lost_for = error
        self._lose()

    def _lose_if_done(self) -> None:
        """Lose the connection if it is closing and everything has been sent."""
        if self._closing and not self._conn_lost and not self.get_write_buffer_size():
            self._lose()

    def _lose(self) -> None:
        self._conn_lost += 1
        self._call_soon(self._call_connection_lost, self._lost_for)

    def _call_connection_lost(self, error: BaseException | None) -> None:
        try:
            if self._protocol_connected:
                self._protocol.connection_lost(error)
        finally:
            if self._is_busy():
                self._port.close_handle(self._sock)  # ends what a cancel has not ended yet
            else:
                self._sock.close()
                self._give_back()
            self._sock = None
            self._protocol = None
            self._lost_for = None
            self._loop = None
            server, self._server = self._server, None
            if server is not None:
                _detach(server, self)


def _attach(server: Any, transport: Any) -> None:
    if SERVER_KNOWS_TRANSPORTS:
        server._attach(transport)
    else:
        server._attach()


def _detach(server: Any, transport: Any) -> None:
    if SERVER_KNOWS_TRANSPORTS:
        server._detach(transport)
    else:
        server._detach()


class ByDescriptor(dict[int, Any]):
    """The transports, held weakly. Not a `WeakValueDictionary`, which takes two microseconds to
    enter one: here the entry of a transport that is gone stays until its number comes again."""

    def __setitem__(self, fd: int, transport: Any) -> None:
        super().__setitem__(fd, weakref.ref(transport))

    def __getitem__(self, fd: int) -> Any:
        transport = super().__getitem__(fd)()
        if transport is None:
            raise KeyError(fd)
        return transport

    def get(self, fd: int, default: Any = None) -> Any:
        """What asyncio asks with from 3.13 on."""
        reference = super().get(fd)
        transport = None if reference is None else reference()
        return default if transport is None else transport


class Transports(LoopPart):
    """Part of `EventLoop`: makes the transports."""

    def _make_socket_transport(
        self,
        sock: socket.socket,
        protocol: Any,
        waiter: Any = None,
        *,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        context: Any = None,
    ) -> Any:
        from netpoll.asyncio.streams import StreamTransport

        self._ensure_fd_no_transport(sock)
        return StreamTransport(self, sock, protocol, waiter, extra, server, context)

    def _make_ssl_transport(
        self,
        rawsock: socket.socket,
        protocol: Any,
        sslcontext: Any,
        waiter: Any = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        ssl_handshake_timeout: Any = constants.SSL_HANDSHAKE_TIMEOUT,
        ssl_shutdown_timeout: Any = constants.SSL_SHUTDOWN_TIMEOUT,
        context: Any = None,
    ) -> Any:
        from netpoll.asyncio.streams import StreamTransport

        self._ensure_fd_no_transport(rawsock)
        ssl_protocol = sslproto.SSLProtocol(
            self,
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        StreamTransport(self, rawsock, ssl_protocol, None, extra, server, context)
        return ssl_protocol._app_transport

    def _make_datagram_transport(
        self,
        sock: socket.socket,
        protocol: Any,
        address: Any = None,
        waiter: Any = None,
        extra: dict[str, Any] | None = None,
    ) -> Any:
        from netpoll.asyncio.datagrams import DatagramTransport

        if sock.family not in KNOWN:
            # of Bluetooth and the like: not every backend reads the addresses, Python does
            return super()._make_datagram_transport(sock, protocol, address, waiter, extra)
        self._ensure_fd_no_transport(sock)
        return DatagramTransport(self, sock, protocol, address, waiter, extra)
