"""The transport of datagram sockets. An error belongs to its datagram: the socket goes on."""

from __future__ import annotations

from asyncio import transports
from asyncio.log import logger
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from netpoll import status as nt
from netpoll.asyncio.operations import Operation, within
from netpoll.asyncio.sockets import bind_datagrams
from netpoll.asyncio.standard import BYTES, WRITES_BEFORE_WARNING, set_result_unless_cancelled
from netpoll.asyncio.transports import SocketTransport
from netpoll.pools import anonymous

if TYPE_CHECKING:
    import socket

    from netpoll.overlapped import Completion

LARGEST: Final = 256 << 10
"""Bytes. UDP has less than 64 KiB, Unix sockets may have more."""


class DatagramTransport(SocketTransport, transports.DatagramTransport):
    """A datagram endpoint."""

    __slots__ = (
        "_address",
        "_buffer",
        "_receive_operation",
        "_send_operation",
        "_sending",
        "_unsent",
        "_unsent_size",
    )
    _header_size = 8
    """Counted with each datagram that waits, as the standard loops do from 3.14 on: datagrams of
    no bytes are memory too."""

    def __init__(
        self,
        loop: Any,
        sock: socket.socket,
        protocol: Any,
        address: Any = None,
        waiter: Any = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        bind_datagrams(sock)
        super().__init__(loop, sock, protocol, extra, None, None)
        self._address = address
        self._buffer: memoryview | None = None
        self._receive_operation: Operation[Any] = Operation(within(self._context, self._received))
        self._send_operation: Operation[Any] = Operation(within(self._context, self._sent))
        self._sending = False
        self._unsent: deque[tuple[bytes, Any]] = deque()
        self._unsent_size = 0
        self._call_soon(self._protocol.connection_made, self)
        if waiter is not None:
            self._call_soon(set_result_unless_cancelled, waiter, None)
        # who waits for the endpoint goes on before there is any data
        self._call_soon(self._receive)

    # -- receiving ---------------------------------------------------------------------------------

    def _receive(self) -> None:
        if self._receiving or self._paused or self._closing:
            return
        operation = self._receive_operation
        try:
            if self._buffer is None:
                self._buffer = memoryview(anonymous(LARGEST))
                self._port.recvfrom_into(self._sock, self._buffer, overlapped=operation)
            else:
                self._port.resubmit(operation)
        except OSError as error:
            # found at once; the next receive is another one
            self._error(error)
            self._call_soon(self._receive)
            return
        self._receiving = True
        if operation.done:
            self._call_soon(self._received, None)

    def _received(self, completion: Completion | None) -> None:
        self._receiving = False
        if self._conn_lost or self._closing:
            self._ended()
            return
        operation = self._receive_operation
        if completion is not None and completion.status and operation.value is None:
            error = completion.exception()
            assert error is not None
            self._error(error)
        else:
            received: Any = operation.value  # of a truncated one too
            size, address = received
            assert self._buffer is not None
            data = self._buffer[:size].tobytes()
            self._protocol.datagram_received(data, address)
        self._receive()

    def _error(self, error: OSError) -> None:
        if getattr(error, "status", 0) in (nt.STATUS_CANCELLED, nt.STATUS_INVALID_HANDLE):
            self._fatal_error(error, "Fatal read error on datagram transport")
        else:
            self._protocol.error_received(error)

    def _stop_receiving(self) -> None:
        if self._receiving:
            self._receive_operation.cancel()

    # -- sending -----------------------------------------------------------------------------------

    def sendto(self, data: bytes | bytearray | memoryview, addr: Any = None) -> None:
        if not isinstance(data, BYTES):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"data argument must be a bytes-like object, not {type(data).__name__!r}"
            )
        if self._address:
            if addr not in (None, self._address):
                raise ValueError(f"Invalid address: must be None or {self._address}")
            addr = self._address
        if self._conn_lost and self._address:
            if self._conn_lost >= WRITES_BEFORE_WARNING:
                logger.warning("socket.send() raised exception.")
            self._conn_lost += 1
            return
        if not self._unsent and not self._sending:
            try:
                if self._extra["peername"]:
                    self._sock.send(data)
                else:
                    self._sock.sendto(data, addr)
                return
            except (BlockingIOError, InterruptedError):
                pass  # no room just now: it waits, below
            except OSError as error:
                self._protocol.error_received(error)
                return
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self._fatal_error(error, "Fatal write error on datagram transport")
                return
        # a copy: the caller may change what it has sent
        self._unsent.append((bytes(data), addr))
        self._unsent_size += len(data) + self._header_size
        if not self._sending:
            self._send()
        self._maybe_pause_protocol()

    def _send(self) -> None:
        """The next of those that wait; one that fails is told of, and left out."""
        while self._unsent and not self._sending:
            data, address = self._unsent[0]
            operation = self._send_operation
            try:
                if self._extra["peername"]:
                    self._port.send(self._sock, data, overlapped=operation)
                else:
                    self._port.sendto(self._sock, data, address, overlapped=operation)
            except OSError as error:
                self._drop_first()
                self._protocol.error_received(error)
            else:
                if operation.done:
                    self._drop_first()
                else:
                    self._sending = True

    def _drop_first(self) -> None:
        data, _ = self._unsent.popleft()
        self._unsent_size -= len(data) + self._header_size

    def _sent(self, completion: Completion) -> None:
        self._sending = False
        if self._conn_lost:
            self._ended()
            return
        self._drop_first()
        if completion.status:
            self._protocol.error_received(completion.exception())
        self._send()
        self._maybe_resume_protocol()
        self._lose_if_done()

    def get_write_buffer_size(self) -> int:
        return self._unsent_size

    # -- the end -----------------------------------------------------------------------------------

    def _is_busy(self) -> bool:
        return self._receiving or self._sending

    def _give_back(self) -> None:
        self._buffer = None
        for operation in (self._receive_operation, self._send_operation):
            operation.release()
            operation.context = None  # which leads back to here: a cycle for the collector

    def _drop_unsent(self) -> None:
        self._unsent.clear()
        self._unsent_size = 0
        if self._sending:
            self._send_operation.cancel()
