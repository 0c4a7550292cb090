"""The path of hot loops: an operation that is started again, and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from netpoll.backends import addresses, datagrams
from netpoll.backends.io_uring.starts import Starts
from netpoll.backends.io_uring.table import PENDING

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]


class Resubmits(Starts):
    """`resubmit`, written out in one function."""

    __slots__ = ()

    def make_resubmit(
        self, port: Any, general: Callable[..., Operation]
    ) -> Callable[..., Operation]:
        """What `SoftwarePort.resubmit` and `begin` do where nothing stands in the way, in one
        function: 50 ns an operation less."""
        acquire, release, lock = self._lock.acquire, self._lock.release, self._lock
        table, append, begin = self._table, self._started.append, self._begin_again
        sender = addresses.Sender
        begin_datagram, now_due = self._start_datagram, self._due.append
        pending = PENDING

        def resubmit(
            overlapped: Operation, size: int | None = None, address: Any = None
        ) -> Operation:
            if overlapped._in_use:
                overlapped._refuse_use()
            if address is not None:
                native = overlapped._native
                # 1 us less than to check it and make its bytes
                known = address.packed if address.__class__ is sender else b""
                if known and overlapped._plain_on is port and len(native.name) == len(known):
                    native.name = known
                    overlapped._address = address
                elif overlapped._owner is port:
                    self.redirected(overlapped, datagrams.redirect(overlapped, address))
            if size is not None and size != overlapped._size:
                overlapped._resize(size)
            try:
                acquire()
                line = overlapped._queue
                if (
                    overlapped._plain_on is port
                    and overlapped._begin is begin
                    and line.head is None
                    and not line.refusal
                    and not overlapped.handle._closed
                ):
                    native = overlapped._native
                    if overlapped._size != native.size:
                        native.rewrite(overlapped)
                    overlapped._in_use = True
                    overlapped.done = False
                    overlapped._final = pending
                    overlapped._since = port._now  # type: ignore[union-attr]
                    line.head = overlapped
                    table[native.token] = overlapped
                    append(overlapped)
                    if self._blocked:
                        self.wake()
                    return overlapped
                if (
                    overlapped._begin is begin_datagram
                    and line.burst
                    and overlapped._plain_on is port
                    and not line.refusal
                    and not overlapped.handle._closed
                    and not self._blocked
                ):
                    native = overlapped._native
                    if overlapped._size != native.size:
                        native.rewrite(overlapped)
                    overlapped._in_use = True
                    overlapped.done = False
                    overlapped._final = pending
                    overlapped._since = port._now  # type: ignore[union-attr]
                    if line.head is None:
                        line.due = True
                        line.head = overlapped
                        now_due(line)
                    else:
                        line.rest.append(overlapped)
                    return overlapped
            finally:
                try:
                    release()
                except RuntimeError:  # Ctrl-C while waiting for the lock: it never was ours
                    assert not lock._is_owned()  # type: ignore[attr-defined]
            return general(overlapped)

        return resubmit

    def restart(self, port: Any, operations: list[Operation], first: int) -> int:
        """As in `resubmit`, with one lock and one call for all: 90 ns each less. It stops at one
        that has something in its way."""
        table, append, begin = self._table, self._started.append, self._begin_again
        begin_datagram, now_due = self._start_datagram, self._due.append
        now, blocked = port._now, self._blocked
        for overlapped in operations[first:] if first else operations:
            line = overlapped._queue
            alone = overlapped._begin is begin
            if alone:
                if line.head is not None:
                    break
            elif overlapped._begin is not begin_datagram or blocked or not line.burst:
                break
            if (
                overlapped._in_use
                or overlapped._plain_on is not port
                or line.refusal
                or overlapped.handle._closed
            ):
                break
            native = overlapped._native
            if overlapped._size != native.size:
                native.rewrite(overlapped)
            overlapped._in_use = True
            overlapped.done = False
            overlapped._final = PENDING
            overlapped._since = now
            if alone:
                line.head = overlapped
                table[native.token] = overlapped
                append(overlapped)
                if blocked:
                    self.wake()
            elif line.head is None:
                line.due = True
                line.head = overlapped
                now_due(line)
            else:
                line.rest.append(overlapped)
            first += 1
        return first
