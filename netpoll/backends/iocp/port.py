"""A completion port of Windows: the packet queue, the waiters, the concurrency limit and the
cancellation are the kernel's.

Its layers: handles (`handles.py`), packets (`packets.py`), waits (`waiting.py`), ends without a
packet (`ends.py`), starts (`starts.py`), and here cancels, closing, and the port as a whole.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
import weakref
from typing import TYPE_CHECKING, Any, Final

from netpoll import status as nt
from netpoll.backends import descriptors
from netpoll.backends.base import Capability, Inflight
from netpoll.backends.iocp import operations, pooled
from netpoll.backends.iocp.library import Library, load
from netpoll.backends.iocp.library import handle as as_handle
from netpoll.backends.iocp.packets import WAKE_KEY
from netpoll.backends.iocp.starts import Starts
from netpoll.backends.iocp.waiting import BETWEEN_LOOKS
from netpoll.finalizers import closes_at_exit
from netpoll.overlapped import FILES, SENDS, Opcode, Overlapped

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll.backends.iocp.native import Native

    Operation = Overlapped[Any]

_logger = logging.getLogger("netpoll")

HANGING: Final = SENDS | FILES | {Opcode.SENDFILE}
"""What Wine lets pend for ever when its handle is closed (CLOSE-09)."""
DRAINING: Final = 5.0
"""Seconds that closing waits for what it has cancelled."""

_open_ports: weakref.WeakSet[IocpPort] = weakref.WeakSet()
_abandoned: list[Operation] = []
"""What did not come back when its port was closed. Windows may still write to it."""


class IocpPort(Starts):
    """`Backend` over CreateIoCompletionPort."""

    # slots in every layer: CPython's fast way to attributes in a dict ends with the 30th
    __slots__ = ()
    name = "iocp"
    progresses_alone = True

    def __init__(
        self, concurrency: int, max_inflight: int | None, *, library: Library | None = None
    ) -> None:
        """
        :param library: what is called instead of Windows, for tests that count calls
        :raises OSError: this is not Windows, or it has no port for us
        """
        super().__init__(library or load(), concurrency, max_inflight)
        _open_ports.add(self)

    # -- cancellation ------------------------------------------------------------------------------

    def abandon(self, operation: Operation) -> None:
        # the kernel would cancel it by itself, but call nobody: have it told while there is time
        self.cancel(operation)
        self._kernel32.SleepEx(0, 1)
        operation._in_use = False

    def cancel(self, operation: Operation) -> bool:
        with self._lock:
            return self._stop(operation, nt.STATUS_CANCELLED)

    def _stop(self, operation: Operation, cause: int) -> bool:
        native: Native | None = operation._native
        if native is None or self._table.get(native.address) is not operation:
            return False
        if not native.known:
            if operation.opcode is Opcode.POLL:
                self.polls.forget(operation)
            elif operation.opcode is Opcode.WAIT:
                self._watcher.forget(native.address)
            if native.overlapped.Internal == nt.STATUS_PENDING:
                self._tell_of_stop(operation, cause)
            return self.end(operation, cause)
        number = operation.handle.fileno()
        if number < 0:
            return False  # closing has stopped it
        asked = native.cause != 0
        native.cause = native.cause or cause
        withdrawn = (
            operation.opcode is Opcode.RECV_POOLED and not asked and pooled.withdraw(operation)
        )
        if not withdrawn:
            found = self._kernel32.CancelIoEx(as_handle(number), native.overlapped)
            if asked or not found:
                return False  # what was not found has ended, its packet is on the way (CAN-12)
        self._tell_of_stop(operation, cause)
        return True

    def _tell_of_stop(self, operation: Operation, cause: int) -> None:
        if self._observer is not None:
            self._observer.stopping(operation, cause)

    def cancel_all(self, handle: Any) -> bool:
        with self._lock:
            self._check_open()
            # one by one, because Wine finds something to cancel on any handle (CAN-02)
            own = [each for each in list(self._table.values()) if each.handle is handle]
            stopped = [self._stop(operation, nt.STATUS_CANCELLED) for operation in own]
            return any(stopped)

    # -- closing -----------------------------------------------------------------------------------

    def detach(self, handle: Any, release: Callable[[], object]) -> None:
        number = handle.detach()
        # From now on a start finds no socket. One that has found it must have made its call before
        # the number can become another socket's: it would receive that one's data.
        deadline = time.monotonic() + DRAINING
        while self._is_starting(handle) and time.monotonic() < deadline:
            time.sleep(0)
        with self._lock:
            # Wine lets a pending send of a closed socket hang for ever (CLOSE-09)
            for operation in list(self._table.values()):
                if operation.handle is not handle:
                    continue
                native: Native = operation._native
                pooled_one = operation.opcode is Opcode.RECV_POOLED
                if native.overlapped.Internal == nt.STATUS_PENDING or pooled_one:
                    self._tell_of_stop(operation, nt.STATUS_CONNECTION_ABORTED)
                if operation.opcode is Opcode.POLL:
                    self._stop(operation, nt.STATUS_CANCELLED)
                elif operation.opcode in HANGING:
                    if operation.opcode in FILES:
                        native.cause = descriptors.status_of_close(operation)
                    self._kernel32.CancelIoEx(as_handle(number), native.overlapped)
                elif pooled_one and not native.cause:
                    native.cause = nt.STATUS_CONNECTION_ABORTED
                    pooled.withdraw(operation)
            if number >= 0:
                if isinstance(handle, socket.socket):
                    socket.close(number)
                else:
                    self._kernel32.CloseHandle(as_handle(number))
            sock = self._sockets.get(number)
            if sock is not None and sock.handle() is handle:
                del self._sockets[number]
        release()

    def _is_starting(self, handle: Any) -> bool:
        """Whether some thread is about to give the number of this socket to Windows."""
        pending = list(self._table.values())
        return any(each.handle is handle and each._native.starts for each in pending)

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
        _open_ports.discard(self)
        self._watcher.close()
        self._drain()
        with self._lock:
            self._lose(self._early)
            self._early.clear()
            self._posted_packets.clear()
            self._sockets.clear()
            self.polls.close()
            self._freed = True
            self._settled.notify_all()
            if self._waiting:
                self._post_packet(WAKE_KEY, 0)
            else:
                self._kernel32.CloseHandle(self._port)

    def _drain(self) -> None:
        """End what is pending, and wait until Windows has let go of it."""
        deadline = time.monotonic() + DRAINING
        while (self._table or self.polls.busy) and time.monotonic() < deadline:
            with self._lock:
                for operation in list(self._table.values()):
                    if not operation._native.known:
                        self._stop(operation, nt.STATUS_CANCELLED)
                        continue
                    # again each time: one may have been about to start when we looked last
                    number = operation.handle.fileno()
                    if number >= 0:
                        native: Native = operation._native
                        asked = native.cause != 0
                        if not asked and native.overlapped.Internal == nt.STATUS_PENDING:
                            self._tell_of_stop(operation, nt.STATUS_CANCELLED)
                        native.cause = native.cause or nt.STATUS_CANCELLED
                        if operation.opcode is Opcode.RECV_POOLED and not asked:
                            pooled.withdraw(operation)
                        self._kernel32.CancelIoEx(as_handle(number), native.overlapped)
            self._lose(self._wait_once(64, BETWEEN_LOOKS, True))
            for operation in list(self._table.values()):
                self._settle_if_ended(operation)
        for operation in list(self._table.values()):
            _logger.warning(
                "%r did not come back when its port was closed; "
                "its memory is kept, because Windows may still write to it",
                operation,
            )
            _abandoned.append(operation)

    def _settle_if_ended(self, operation: Operation) -> None:
        """An operation whose end comes without a packet: by its event, or by a routine."""
        native: Native = operation._native
        if native.event is None and operation.routine is None:
            return
        status = native.overlapped.Internal & 0xFFFFFFFF
        if status != nt.STATUS_PENDING:
            with self._lock:
                self._settle(operation, status)
                if operation.event is not None:
                    operation.event.set()

    # -- the port as a whole -----------------------------------------------------------------------

    def flush(self) -> None:
        return  # every start has gone to the kernel by the time it returns

    def inflight(self) -> list[Inflight]:
        now = time.monotonic()
        return [
            Inflight(
                opcode=operation.opcode or Opcode.RECV_INTO,
                handle=operation.handle,
                key=operation._association.key,
                age=now - operation._since,
                overlapped=operation,
            )
            for operation in list(self._table.values())
        ]

    def stats(self) -> dict[str, float]:
        with self._lock:
            inflight = len(self._table)
            return {
                "started": self._taken + inflight,
                "taken": self._taken,
                "inflight": inflight,
                "posted": self._posted,
                "queued": len(self._posted_packets) + len(self._early),
                "waits": self._waits,
                "waiting": self._waiting,
                "unknown_packets": self._unknown,
            }

    def capability(self, opcode: str) -> Capability:
        return operations.capability(opcode)


@closes_at_exit
def _close_all() -> None:
    """Whatever is pending when the interpreter ends must not write to memory that is gone."""
    for port in list(_open_ports):
        with contextlib.suppress(OSError):
            port.close()
