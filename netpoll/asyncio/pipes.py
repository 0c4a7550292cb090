"""The transports of pipes on Windows."""

from __future__ import annotations

import warnings
from asyncio import transports
from asyncio.log import logger
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from netpoll import status as nt
from netpoll.asyncio.pipe_handles import Handle, open_handle
from netpoll.asyncio.standard import (
    BYTES,
    WRITES_BEFORE_WARNING,
    FlowControl,
    set_result_unless_cancelled,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE: Final = 64 << 10
"""Bytes of one read at most."""
GONE: Final = frozenset(
    (
        nt.STATUS_PIPE_BROKEN,
        nt.STATUS_END_OF_FILE,
        nt.STATUS_PIPE_DISCONNECTED,
        nt.STATUS_PIPE_CLOSING,
    )
)
"""How reading ends where the other end is closed."""


class PipeTransport(transports.BaseTransport):
    """What the two ends of a pipe share: how they begin and how they end."""

    _extra: dict[str, Any]
    _loop: Any
    _protocol: Any
    _handle: Handle | None = None
    _closing = False

    def _begin(self, loop: Any, pipe: Any, protocol: Any, waiter: Any) -> None:
        self._extra["pipe"] = pipe
        self._loop = loop
        self._protocol = protocol
        self._handle = open_handle(loop, pipe)
        loop.call_soon(protocol.connection_made, self)
        loop.call_soon(self._read)
        if waiter is not None:
            loop.call_soon(set_result_unless_cancelled, waiter, None)

    def _read(self) -> None:
        """Start to read: what comes, or that the other end is gone."""
        raise NotImplementedError

    def get_protocol(self) -> Any:
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def is_closing(self) -> bool:
        return self._closing

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if self._handle is not None:
            _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)

    def _close(self, error: BaseException | None) -> None:
        if not self._closing:
            self._closing = True
            self._loop.call_soon(self._call_connection_lost, error)

    def _call_connection_lost(self, error: BaseException | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            handle, self._handle = self._handle, None
            if handle is not None:
                handle.close()
            self._protocol = None


class ReadPipeTransport(PipeTransport, transports.ReadTransport):
    """The end of a pipe that is read from."""

    def __init__(
        self, loop: Any, pipe: Any, protocol: Any, waiter: Any = None, extra: Any = None
    ) -> None:
        transports.ReadTransport.__init__(self, extra)
        self._buffer = memoryview(bytearray(SIZE))
        self._paused = self._reading = self._ended = False
        self._held = b""
        self._begin(loop, pipe, protocol, waiter)

    def is_reading(self) -> bool:
        return not self._closing and not self._paused

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        if self._paused and not self._closing:
            self._paused = False
            self._loop.call_soon(self._deliver)

    def close(self) -> None:
        self._close(None)

    def _read(self) -> None:
        if self._reading or self._paused or self._closing or self._ended:
            return
        assert self._handle is not None
        self._reading = True
        self._handle.read(self._buffer, self._arrived)

    def _arrived(self, size: int, error: OSError | None) -> None:
        self._reading = False
        if self._closing:
            return
        if error is not None and getattr(error, "status", 0) not in GONE:
            if not isinstance(error, BrokenPipeError):
                self._loop.call_exception_handler(
                    {
                        "message": "Fatal read error on pipe transport",
                        "exception": error,
                        "transport": self,
                        "protocol": self._protocol,
                    }
                )
            self._close(error)
            return
        if error is not None or not size:
            self._ended = True
        else:
            self._held = bytes(self._buffer[:size])
        self._deliver()

    def _deliver(self) -> None:
        if self._paused or self._closing:
            return
        data, self._held = self._held, b""
        if data:
            self._protocol.data_received(data)
        if self._ended:
            self._protocol.eof_received()
            self._close(None)
        else:
            self._read()


class WritePipeTransport(PipeTransport, FlowControl):
    """The end of a pipe that is written to. That the other end is gone is noticed by a read."""

    def __init__(
        self, loop: Any, pipe: Any, protocol: Any, waiter: Any = None, extra: Any = None
    ) -> None:
        FlowControl.__init__(self, extra, loop)
        self._unsent: deque[bytes] = deque()
        self._unsent_size = 0
        self._writing = self._eof = False
        self._dropped = 0
        """Writes since it was closed."""
        self._begin(loop, pipe, protocol, waiter)

    def get_write_buffer_size(self) -> int:
        return self._unsent_size

    def can_write_eof(self) -> bool:
        return True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not isinstance(data, BYTES):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"data argument must be a bytes-like object, not {type(data).__name__!r}"
            )
        if not data:
            return
        if self._eof or self._closing:
            # no error, as with asyncio's pipes: a child may end at any time
            if self._dropped >= WRITES_BEFORE_WARNING:
                logger.warning("pipe closed by peer, or by this side")
            self._dropped += 1
            return
        self._unsent.append(bytes(data))
        self._unsent_size += len(data)
        self._write()
        self._maybe_pause_protocol()

    def write_eof(self) -> None:
        """Close once everything is out: the end of a pipe is its closing."""
        if not self._eof:
            self._eof = True
            if not self._unsent_size:
                self._close(None)

    def close(self) -> None:
        self.write_eof()

    def abort(self) -> None:
        self._close(None)

    def _read(self) -> None:
        # a handle without overlapped operations would keep a thread in the read
        if self._handle is not None and self._handle.is_overlapped:
            self._handle.read(memoryview(bytearray(16)), self._peer_gone)

    def _peer_gone(self, size: int, error: OSError | None) -> None:
        if self._closing or (error is not None and getattr(error, "status", 0) not in GONE):
            return  # closed by us; or the handle is not for reading
        if size:
            self._read()  # what a reader says is not for us
        else:
            self._close(BrokenPipeError() if self._unsent_size else None)

    def _write(self) -> None:
        if self._writing or not self._unsent or self._closing:
            return
        assert self._handle is not None
        self._writing = True
        self._handle.write(self._unsent[0], self._written)

    def _written(self, size: int, error: OSError | None) -> None:
        self._writing = False
        if self._closing:
            return
        if error is not None:
            self._close(error)
            return
        self._unsent_size -= len(self._unsent.popleft())
        self._maybe_resume_protocol()
        if self._unsent:
            self._write()
        elif self._eof:
            self._close(None)

    def _close(self, error: BaseException | None) -> None:
        self._eof = True
        self._unsent.clear()
        self._unsent_size = 0
        super()._close(error)
