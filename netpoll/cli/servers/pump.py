"""One direction of a connection: what is received here is sent there."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import netpoll

if TYPE_CHECKING:
    from netpoll import Completion, CompletionPort, Overlapped


class Pump:
    """Receives into its one buffer, sends all of that, and only then receives again.

    So a direction never holds more than one buffer of data, and whoever reads slowly slows the
    writer on the other side. It never has more than one operation in flight either, so only one
    thread at a time has a completion of it, and it needs no lock: it touches nothing of its own
    once it has started the next operation.

    :param sink: where the data goes; `None` throws it away
    :param size: bytes of the buffer
    """

    __slots__ = ("_buffer", "_port", "_prepared", "_receive", "_send", "_sink", "_source", "moved")

    def __init__(
        self, port: CompletionPort, source: socket.socket, sink: socket.socket | None, size: int
    ) -> None:
        self._port = port
        self._source = source
        self._sink = sink
        self._buffer = memoryview(bytearray(size))
        self._receive: Overlapped[int] = netpoll.Overlapped(self)
        self._send: Overlapped[int] = netpoll.Overlapped(self)
        self._prepared = False
        self.moved: int = 0
        """Bytes received since the start."""

    def start(self) -> None:
        """Start to receive.

        :raises OSError: it failed at once: there will be no completion
        """
        self._port.recv_into(self._source, self._buffer, overlapped=self._receive)

    def advance(self, completion: Completion) -> bool:
        """Start what comes after a completion of this pump; `False` when the stream is at its end.

        :raises OSError: the operation failed, or the next one did, at once
        """
        size = completion.result()
        if completion.overlapped is self._send:
            self._port.resubmit(self._receive)
        elif size:
            self.moved += size
            self._pass_on(size)
        else:
            self.end()
            return False
        return True

    def _pass_on(self, size: int) -> None:
        """Send the first `size` bytes of the buffer."""
        if self._sink is None:
            self._port.resubmit(self._receive)
        elif self._prepared:
            self._port.resubmit(self._send, size=size)
        else:
            self._prepared = True
            self._port.send(self._sink, self._buffer, size=size, overlapped=self._send)

    def end(self) -> None:
        """Pass the end of the stream on; the other direction lives on.

        :raises OSError: the connection is gone
        """
        if self._sink is not None:
            self._port.shutdown(self._sink, socket.SHUT_WR)

    def interrupt(self) -> None:
        """Ask the receive to stop, if that is what is in flight. It ends as `OperationAborted`, or
        with data that has come meanwhile, which then goes its way."""
        self._port.cancel(self._receive)

    def release(self) -> None:
        """Break the reference cycle of the pump and its operations, so that the buffer is freed at
        once and not when the garbage collector finds it."""
        self._receive.context = self._send.context = None
