"""Ends without a packet of Windows': by an event, by a completion routine, and those that netpoll
posts, of operations that Windows knows nothing of.
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, cast

from netpoll import status as nt
from netpoll.backends.iocp.library import ffi
from netpoll.backends.iocp.packets import FAILURES, status_seen
from netpoll.backends.iocp.waiting import Waiting
from netpoll.backends.iocp.watcher import Watcher
from netpoll.overlapped import Opcode, Overlapped

if TYPE_CHECKING:
    from netpoll.backends.iocp.functions import LPOVERLAPPED, Routine
    from netpoll.backends.iocp.handles import Socket
    from netpoll.backends.iocp.library import Library
    from netpoll.backends.iocp.native import Native

    Operation = Overlapped[Any]

with_routine: dict[int, tuple[Ends, Operation]] = {}
"""Operations whose routine Windows has yet to call, by address: those outlive their port."""


class Ends(Waiting):
    """What the end of an operation means where its packet does not tell, or not that alone."""

    __slots__ = ("_lately", "_watcher")

    def __init__(self, library: Library, concurrency: int) -> None:
        super().__init__(library, concurrency)
        self._watcher = Watcher(library, self._expire)
        self._lately: Operation | None = None
        """The last that has ended without a port, and of which only a packet could tell the
        program. There is one if it was started on a duplicate of a socket that has a port
        (ASSOC-08), and it is to find its operation although the program has dropped that."""

    @abstractmethod
    def _stop(self, operation: Operation, cause: int) -> bool:
        """End an operation that is pending, with `cause` for its status; whether it was. With the
        lock held."""

    def _end_special(self, operation: Operation) -> None:
        operation._deadline = 0.0
        native: Native = operation._native
        if native.event is not None:
            self._watcher.forget(native.address)
            self._without_port.pop(native.address, None)
        if operation.event is not None and not operation.done:
            operation.event.set()  # once: whoever has seen it may have reset it (OVL-16)

    def _watch_event(self, operation: Operation) -> None:
        native: Native = operation._native
        assert native.event is not None
        self._watcher.when_set(native.address, native.event, lambda: self._on_event(operation))

    def _on_event(self, operation: Operation) -> None:
        """Windows has set the operation's event (OVL-05, OVL-17). In the thread of the watcher, or
        in one that looks for the end."""
        with self._lock:
            native: Native = operation._native
            if operation.done or self._table.get(native.address) is not operation:
                return
            overlapped = native.overlapped
            if overlapped.Internal == nt.STATUS_PENDING:
                # what the watcher has seen was the end before this start
                self._watch_event(operation)
                return
            operation.transferred = overlapped.InternalHigh
            status = overlapped.Internal & 0xFFFFFFFF
            if operation.packet and operation._association.associated:
                # its packet is still to come
                operation._final = status_seen(native, status)
                if native.finish is not None:
                    operation._final = native.finish(operation, operation._final)
                if self._is_to_accept_again(operation, operation._final):
                    return  # by its packet
                operation.done = True
            else:
                self._settle(operation, status)
            self._settled.notify_all()
            if operation.event is not None:
                operation.event.set()

    def _settle(self, operation: Operation, status: int) -> None:
        """An operation without a packet has ended."""
        native: Native = operation._native
        self._table.pop(native.address, None)
        operation._deadline = 0.0
        status = status_seen(native, status)
        if native.finish is not None:
            status = native.finish(operation, status)
        operation._final = status
        if status >= FAILURES:
            operation.transferred = 0
        self._taken += 1
        if self._observer is not None:
            self._observer.ended(operation)
        by_packet = operation.packet and operation.event is None and operation.routine is None
        if by_packet and not self._closed:
            self._lately = operation
        self._release(operation)

    def _expire(self, operation: Operation, deadline: float) -> None:
        """The time of an operation is over. In the watcher's thread."""
        with self._lock:
            if operation._in_use and not operation.done and operation._deadline == deadline:
                if operation.opcode is Opcode.TIMER:
                    self.end(operation, nt.STATUS_SUCCESS)
                else:
                    self._stop(operation, nt.STATUS_IO_TIMEOUT)

    def end(self, operation: Operation, status: int) -> bool:
        """End what Windows knows nothing of: the OVERLAPPED is ours to fill in, and the packet ours
        to post. With the lock held; whether it had not ended yet."""
        native: Native = operation._native
        if native.overlapped.Internal != nt.STATUS_PENDING:
            return False
        native.overlapped.Internal = status
        native.overlapped.InternalHigh = 0
        operation.transferred = 0
        record = cast("Socket", operation._association)
        if operation.routine is not None:
            _end_with_routine(self, operation, native, status)
        elif not (operation.packet and record.associated):
            self._settle(operation, status)
        else:
            if operation.event is not None:
                operation._final = status
                operation.done = True  # its packet is still to come (OVL-05)
            self._post_packet(record.number, native.address)
        self._settled.notify_all()
        if operation.event is not None and operation.routine is None:
            operation.event.set()
        return True

    @staticmethod
    def _release(operation: Operation) -> None:
        """The program may have it back."""
        operation._in_use = False
        operation.done = True


def _on_routine(error: int, transferred: int, overlapped: LPOVERLAPPED, flags: int) -> None:
    """Windows calls this in the issuing thread, within an alertable wait (APC-01). The program's
    routine runs after that wait, where it may raise."""
    address = int(ffi.cast("ULONG_PTR", overlapped))
    known = with_routine.pop(address, None)
    if known is None:
        return
    port, operation = known
    native: Native = operation._native
    with port._lock:
        operation.transferred = transferred
        _end_with_routine(port, operation, native, overlapped.Internal & 0xFFFFFFFF)


def _end_with_routine(port: Ends, operation: Operation, native: Native, status: int) -> None:
    known = port._table.pop(native.address, None)
    status = status_seen(native, status)
    if native.finish is not None:
        status = native.finish(operation, status)
    operation._final = status
    operation._deadline = 0.0
    if port._observer is not None and known is not None:  # else closing has told already
        port._observer.ended(operation)
    operation.done = True
    port._taken += 1
    queue, operation._routines = operation._routines, None
    if queue is not None:
        queue.add(operation, port)


@functools.cache  # kept for ever: Windows has its address
def routine() -> Routine:
    return ffi.callback("LPWSAOVERLAPPED_COMPLETION_ROUTINE", _on_routine)
