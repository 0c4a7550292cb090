"""The transport of stream sockets."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import warnings
from asyncio import protocols, transports
from asyncio.log import logger
from collections import deque
from typing import TYPE_CHECKING, Any

from netpoll import status as nt
from netpoll.asyncio.operations import Operation, within
from netpoll.asyncio.standard import (
    BYTES,
    TRY_NATIVE_SENDFILE,
    WRITES_BEFORE_WARNING,
    feed_buffered,
    set_result_unless_cancelled,
)
from netpoll.asyncio.transports import SocketTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from netpoll.asyncio.slots import Slots
    from netpoll.backends.base import MultishotReceives, Staging
    from netpoll.overlapped import Completion

STAGED = 16 << 10
"""Bytes of the largest write that waits for those of other connections."""
CHUNK = 256 << 10
"""Bytes given to one send at most: a send completes when all of it is out, and only then may a
protocol that waits for room go on."""
PARTS = 64
"""Buffers in one send at most."""
ONE_BY_ONE = 16
"""Receives of a connection's own after one that stays has found no room, and before the next that
stays: to find none costs about three of them."""
INTERRUPTED = frozenset((errno.ECANCELED, errno.EINTR, errno.EAGAIN))
"""How a receive ends that the connection has not ended."""


class StreamTransport(SocketTransport, transports.Transport):
    """A connection. A write is tried at once, and what does not fit is a send operation."""

    __slots__ = (
        "_at_end",
        "_buffer",
        "_buffered",
        "_empty_waiter",
        "_eof",
        "_failure",
        "_foreign",
        "_held",
        "_multishot",
        "_one_by_one",
        "_quick",
        "_receive_operation",
        "_receives",
        "_send_operation",
        "_sending",
        "_slot",
        "_slots",
        "_stage",
        "_staging",
        "_unsent",
        "_unsent_size",
    )
    _start_tls_compatible = True
    _sendfile_compatible = TRY_NATIVE_SENDFILE

    def __init__(
        self,
        loop: Any,
        sock: socket.socket,
        protocol: Any,
        waiter: Any = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        context: Any = None,
    ) -> None:
        self._buffered = False
        self._receives: Any = None
        """The receive that stays, on a backend that has such; made for the first one."""
        super().__init__(loop, sock, protocol, extra, server, context)
        self._receive_operation: Operation[int] | None = None
        self._multishot: MultishotReceives | None = loop._multishot
        self._one_by_one = 0
        """Receives to be made without one that stays, which has found no room."""
        self._slots: Slots = loop._slots
        self._slot: Any = None
        """What receives are for, unless the protocol has a buffer of its own."""
        self._buffer: Any = None
        """What the receive operation was last started with."""
        self._foreign: Any = None
        """That, if it is not a buffer of the protocol, although the protocol has some."""
        self._held = b""
        """Data that came while reading was paused."""
        self._failure: OSError | None = None
        """What has ended the receive behind that."""
        self._at_end = False
        """Whether the end of the stream, or `eof_received`, has been told."""
        self._send_operation: Operation[int] | None = None
        """Made when a write does not fit: most connections never need it."""
        self._sending = 0
        """Bytes in the send that is pending."""
        self._unsent: deque[bytes | memoryview] = deque()
        self._unsent_size = 0
        """With what is being sent."""
        self._staging: Staging | None = loop._staging
        self._stage: Any = None
        """Writes of this turn, on a backend where they go out together; made for the first one."""
        self._quick: Callable[[Any, Any], bool] | None = None
        """What stages a write, as long as nothing speaks against it."""
        self._eof = False
        self._empty_waiter: Any = None
        send_at_once(sock)
        if waiter is None:
            self._call_soon(self._connected)
        else:
            self._call_soon(self._protocol.connection_made, self)
            # only wake up the waiter when connection_made() has been called
            self._call_soon(set_result_unless_cancelled, waiter, None)
            # only start reading when connection_made() has been called; and who waits for the
            # connection goes on before there is any data
            self._call_soon(self._receive)

    def _connected(self) -> None:
        """Nobody waits for the connection: one callback instead of two."""
        try:
            self._protocol.connection_made(self)
        finally:
            self._receive()

    def set_protocol(self, protocol: Any) -> None:
        if self._receiving and self._buffer is not None:
            # What the receive brings is for the new protocol, in a buffer that it does not know.
            self._foreign = self._buffer = memoryview(self._buffer).cast("B")
        self._buffered = isinstance(protocol, protocols.BufferedProtocol)
        super().set_protocol(protocol)
        self._redirect()

    # -- receiving ---------------------------------------------------------------------------------

    def _receive(self) -> None:
        if self._paused or self._closing or self._at_end:
            return
        if self._held:
            self._call_soon(self._deliver_held)
        elif self._failure is not None:
            self._tell_failure()
        elif self._receiving:
            return
        elif self._multishot is None or self._buffered or self._one_by_one:
            self._receive_once()
        else:
            self._receive_on()

    def _receive_once(self) -> None:
        """Start an operation."""
        if self._one_by_one:
            self._one_by_one -= 1
        try:
            buffer: Any
            if self._buffered:
                buffer = self._protocol.get_buffer(-1)
                if not len(buffer):
                    raise RuntimeError("get_buffer() returned an empty buffer")
            else:
                buffer = self._slot
                if buffer is None:
                    buffer = self._slot = self._slots.take()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fatal_error(error, "Fatal error: protocol.get_buffer() call failed.")
            return
        operation: Any = self._receive_operation
        try:
            if buffer is self._buffer:
                self._port.resubmit(operation)
            else:
                if operation is None:
                    operation = self._receive_operation = self._make_receive()
                self._buffer, self._foreign = buffer, None
                self._port.recv_into(self._sock, buffer, overlapped=operation)
        except OSError as error:
            self._fatal_error(error, "Fatal read error on socket transport")
            return
        self._receiving = True
        if operation.done:
            # never within the call: the protocol would see data overtake what it is being told
            self._call_soon(self._received, None)

    def _make_receive(self) -> Operation[int]:
        return Operation(within(self._context, self._received))

    def _received(self, completion: Completion | None) -> None:
        """The receive is over; `None` if it was so at its start, by a success."""
        operation: Any = self._receive_operation
        size = operation.transferred
        if (
            not size
            or self._closing
            or self._paused
            or self._buffered
            or (completion is not None and completion.status)
        ):
            self._received_otherwise(completion, size)
            return
        # the usual case of what follows, and of _receive(): 250 of 1,500 ns less a message
        self._receiving = False
        buffer = self._buffer
        try:
            self._protocol.data_received(buffer[:size].tobytes())
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fatal_error(error, "Fatal error: protocol.data_received() call failed.")
            return
        changed: Any = self  # by the protocol, which mypy does not expect
        if (
            changed._receiving
            or changed._paused
            or changed._closing
            or changed._buffered
            or (self._multishot is not None and not self._one_by_one)
            or buffer is not self._slot
        ):
            self._receive()
            return
        if self._one_by_one:
            self._one_by_one -= 1
        try:
            self._port.resubmit(operation)
        except OSError as error:
            self._fatal_error(error, "Fatal read error on socket transport")
            return
        self._receiving = True
        if operation.done:
            self._call_soon(self._received, None)

    def _received_otherwise(self, completion: Completion | None, size: int) -> None:
        """Not the usual case: an end, a failure, nobody reads just now, or the protocol has the
        buffer."""
        self._receiving = False
        if self._closing:
            self._ended()
            return
        if completion is not None and completion.status:
            error = completion.exception()
            assert error is not None
            self._fatal_error(error, "Fatal read error on socket transport")
            return
        if self._paused:
            # an end of stream is told by the next receive once more
            self._held = bytes(memoryview(self._buffer)[:size])
            return
        if not size:
            self._end_of_stream()
            return
        try:
            if self._buffer is not self._foreign:
                self._protocol.buffer_updated(size)
            else:
                feed_buffered(self._protocol, self._buffer[:size].tobytes())
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fatal_error(error, "Fatal error: protocol.buffer_updated() call failed.")
            return
        self._receive()

    def _deliver_held(self) -> None:
        if self._paused or self._closing:
            return
        data, self._held = self._held, b""
        if data:
            try:
                self._tell(data)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self.receiver_failed(error)
                return
        self._redirect()
        self._receive()

    def _tell(self, data: bytes) -> None:
        if self._buffered:
            feed_buffered(self._protocol, data)
        else:
            self._protocol.data_received(data)

    def receiver_failed(self, error: BaseException) -> None:
        callback = "buffer_updated" if self._buffered else "data_received"
        self._fatal_error(error, f"Fatal error: protocol.{callback}() call failed.")

    def _end_of_stream(self) -> None:
        if self._loop.get_debug():
            logger.debug("%r received EOF", self)
        self._at_end = True
        try:
            keep_open = self._protocol.eof_received()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fatal_error(error, "Fatal error: protocol.eof_received() call failed.")
            return
        if not keep_open:
            self.close()

    def _stop_receiving(self) -> None:
        self._held = b""
        self._redirect()
        if self._receiving:
            if self._buffer is None:
                assert self._multishot is not None
                self._multishot.stop(self._receives)
            else:
                assert self._receive_operation is not None
                self._receive_operation.cancel()

    # -- a receive that stays ----------------------------------------------------------------------

    def _receive_on(self) -> None:
        """Start one, or start it again."""
        assert self._multishot is not None
        if self._receives is None:
            self._receives = self._multishot.open(self._sock_fd, self, self._context.run)
            self._redirect()
        self._buffer = None
        self._multishot.start(self._receives)
        self._receiving = True

    def _redirect(self) -> None:
        receives = self._receives
        if receives is not None:
            receives.deliver = self.arrived
            if not (self._closing or self._paused or self._buffered or self._held):
                # past arrived(): 150 ns less a message
                receives.deliver = getattr(self._protocol, "data_received", self.arrived)

    def arrived(self, data: bytes) -> None:
        if self._closing:
            return
        if self._paused or self._held:
            # no more of it: what the kernel has is the peer's to wait for
            self._held += data
            assert self._multishot is not None
            self._multishot.stop(self._receives)
        else:
            self._tell(data)

    def receive_over(self, result: int) -> None:
        self._receiving = False
        if self._closing:
            self._ended()
        elif result == -errno.ENOBUFS:
            # into memory of its own: so it goes on in any case, and the others have more room
            self._one_by_one = ONE_BY_ONE
            self._receive()
        elif -result in INTERRUPTED:
            self._receive()
        elif result:
            self._failure = nt.make_exception(nt.from_errno(-result))
            if not self._held:
                self._tell_failure()
        elif not (self._paused or self._held):
            # otherwise the next receive tells it once more
            self._end_of_stream()

    def _tell_failure(self) -> None:
        error, self._failure = self._failure, None
        if error is not None:
            self._fatal_error(error, "Fatal read error on socket transport")

    # -- sending -----------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        quick = self._quick
        if (
            quick is None
            or data.__class__ is not bytes
            or not 0 < len(data) <= STAGED
            or not quick(self._stage, data)
        ):
            self._write(data)

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        if not isinstance(data, BYTES):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"data argument must be a bytes, bytearray, or memoryview object, "
                f"not {type(data).__name__!r}"
            )
        if self._eof:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._empty_waiter is not None:
            raise RuntimeError("unable to write; sendfile is in progress")
        if not data:
            return
        if self._conn_lost:
            if self._conn_lost >= WRITES_BEFORE_WARNING:
                logger.warning("socket.send() raised exception.")
            self._conn_lost += 1
            return
        staging = self._staging
        if staging is not None and not self._unsent_size:
            small = memoryview(data).nbytes <= STAGED
            if small and staging.write(self._staged(), bytes(data)):
                self._quick = staging.write
                return
            # something before it may be staged
            if not self._hand_staged_over():
                return
        if not self._unsent_size:
            # A plain call: an operation that succeeds at once costs four times the Python.
            try:
                sent = self._sock.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self._fatal_error(error, "Fatal write error on socket transport")
                return
            if sent == len(data) and data.__class__ is not memoryview:
                return
            # a copy: the caller may change what it has written
            rest = bytes(memoryview(data).cast("B")[sent:])
            if not rest:
                return
        else:
            rest = bytes(data)
        self._wait_with(rest)

    def _wait_with(self, rest: bytes) -> None:
        """What does not fit now."""
        self._quick = None
        self._unsent.append(rest)
        self._unsent_size += len(rest)
        if not self._sending:
            self._send()
        self._maybe_pause_protocol()

    # -- writes that go out together ---------------------------------------------------------------

    def _staged(self) -> Any:
        """What the connection's writes are staged in."""
        if self._stage is None:
            assert self._staging is not None
            self._stage = self._staging.open(self._sock_fd, self)
        return self._stage

    def _hand_staged_over(self) -> bool:
        """Have what was staged sent now; what does not fit is unsent then. `False`: it failed, and
        the connection is lost."""
        if self._stage is not None:
            assert self._staging is not None
            self._staging.flush(self._stage)
            self._take_back()
        return not self._conn_lost

    def staged_send_failed(self) -> None:
        self._loop.call_soon_threadsafe(self._take_back)

    def _take_back(self) -> None:
        """If not all of it went out: send the rest, unless there is no connection any more."""
        stage = self._stage
        if stage is None or stage.error is None:
            return
        error, rest = stage.error, stage.take_back()
        if self._conn_lost:
            return
        if error:
            self._fatal_error(
                OSError(error, os.strerror(error)), "Fatal write error on socket transport"
            )
            return
        self._wait_with(rest)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def _send(self) -> None:
        parts: list[bytes | memoryview] = []
        size = 0
        unsent = self._unsent
        while unsent and size < CHUNK and len(parts) < PARTS:
            part = unsent.popleft()
            room = CHUNK - size
            if len(part) > room:
                whole = memoryview(part)
                unsent.appendleft(whole[room:])
                part = whole[:room]
            parts.append(part)
            size += len(part)
        operation = self._send_operation
        if operation is None:
            operation = self._send_operation = Operation(within(self._context, self._sent))
        self._sending = size
        try:
            self._port.send(self._sock, parts if len(parts) > 1 else parts[0], overlapped=operation)
        except OSError as error:
            self._sending = 0
            self._send_failed(error)
            return
        if operation.done:
            self._call_soon(self._sent, None)

    def _sent(self, completion: Completion | None) -> None:
        size, self._sending = self._sending, 0
        assert self._send_operation is not None
        self._send_operation.release()
        if self._conn_lost:
            self._ended()
            return
        if completion is not None and completion.status:
            self._send_failed(completion.exception())
            return
        self._unsent_size -= size
        self._maybe_resume_protocol()  # which may write more
        if self._sending or self._conn_lost:
            return
        if self._unsent:
            self._send()
        elif not self._unsent_size:
            if self._empty_waiter is not None and not self._empty_waiter.done():
                self._empty_waiter.set_result(None)
            if self._closing:
                self._lose_if_done()
            elif self._eof:
                self._shut_down()

    def _send_failed(self, error: OSError | None) -> None:
        assert error is not None
        if self._empty_waiter is not None and not self._empty_waiter.done():
            self._empty_waiter.set_exception(error)
        self._fatal_error(error, "Fatal write error on socket transport")

    def write_eof(self) -> None:
        if self._closing or self._eof:
            return
        self._eof = True
        self._quick = None
        if self._hand_staged_over() and not self._unsent_size:
            self._shut_down()

    def _shut_down(self) -> None:
        # a peer that is gone already (ENOTCONN) will not miss it
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return self._unsent_size

    # -- the end -----------------------------------------------------------------------------------

    def _is_busy(self) -> bool:
        return self._receiving or bool(self._sending)

    def _lose_if_done(self) -> None:
        if self._closing and not self._conn_lost:
            self._hand_staged_over()
            super()._lose_if_done()

    def _lose(self) -> None:
        self._quick = None
        super()._lose()

    def _drop_unsent(self) -> None:
        if self._stage is not None:
            # what was written without waiting counts as sent, as with the standard loops
            assert self._staging is not None
            self._staging.flush(self._stage)
            self._stage.take_back()
        self._unsent.clear()
        self._unsent_size = 0
        if self._sending and self._send_operation is not None:
            self._send_operation.cancel()

    def _give_back(self) -> None:
        self._buffer = self._foreign = None
        self._close_stage()
        receives, self._receives = self._receives, None
        if receives is not None:
            receives.receiver = receives.deliver = None  # a cycle
        for operation in (self._receive_operation, self._send_operation):
            if operation is not None:
                operation.release()
                operation.context = None  # which leads back to here: a cycle
        slot, self._slot = self._slot, None
        if slot is not None:
            self._slots.give(slot)

    def _close_stage(self) -> None:
        stage, self._stage = self._stage, None
        if stage is not None:
            assert self._staging is not None
            self._staging.close(stage)

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if hasattr(self, "_stage"):
            self._close_stage()
        super().__del__(_warn)

    def _call_connection_lost(self, error: BaseException | None) -> None:
        try:
            super()._call_connection_lost(error)
        finally:
            if self._empty_waiter is not None and not self._empty_waiter.done():
                self._empty_waiter.set_exception(ConnectionError("Connection is closed by peer"))

    # -- sendfile ----------------------------------------------------------------------------------

    def _make_empty_waiter(self) -> Any:
        if self._empty_waiter is not None:
            raise RuntimeError("Empty waiter is already set")
        self._quick = None
        self._hand_staged_over()
        self._empty_waiter = self._loop.create_future()
        if not self._unsent_size:
            self._empty_waiter.set_result(None)
        return self._empty_waiter

    def _reset_empty_waiter(self) -> None:
        self._empty_waiter = None


def send_at_once(sock: socket.socket) -> None:
    """No Nagle algorithm, as in every asyncio loop. Tried and not asked for: `sock.family` and
    `sock.type` make an enum each, for a microsecond."""
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        return  # a Unix socket, or one that is closed already
