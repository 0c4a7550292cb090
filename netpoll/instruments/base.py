"""The hooks of an instrument, and the backend that calls them.

A port without instruments knows nothing of this: `Observed` stands in front of its backend only
where there are some, so that the hot path of the others costs nothing. What it cannot see from
there, ends without a packet above all, the backend tells it of (`netpoll.backends.base.Observer`).
"""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Any

from netpoll import status as nt
from netpoll.backends.base import Backend
from netpoll.overlapped import Completion, FailedCompletion, Overlapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from netpoll.backends.base import Association, Capability, Inflight, Observer

    Operation = Overlapped[Any]

_logger = logging.getLogger("netpoll")


class Instrument:
    """What a port tells of. Override what you need, and give it to
    `CompletionPort(instruments=[...])`.

    After `starting`, exactly one of `not_started`, `ended_inline`, `completed` and `ended` is told
    of an operation. A method is called in the thread in which the thing happens. `stopping`,
    `ended_inline` and `ended` are called while the port is locked, so they must not block; the
    others without any lock of netpoll's. One that raises is logged and never called again; the port
    goes on.
    """

    def starting(self, operation: Operation) -> None:
        """`operation` is about to be started, for the first time or again."""

    def not_started(self, operation: Operation, error: BaseException) -> None:
        """The start raised `error`: there is no operation, and nothing will come (XFER-03)."""

    def ended_inline(self, operation: Operation) -> None:
        """It finished within its start, and no packet comes (MODE-03)."""

    def completed(self, completion: Completion) -> None:
        """A packet was taken from the port: of an operation, or a posted one; `operation_of` tells
        which."""

    def ended(self, completion: Completion) -> None:
        """An operation ended of which nobody takes a packet: it ends by its event or its routine
        (ASSOC-15, OVL-17), or the port was closed. The program sees it after this.

        :param completion: what its packet would have been
        """

    def cancelling(self, target: Any) -> None:
        """A cancel is about to be asked for, of an operation or of all on a handle."""

    def cancel_asked(self, target: Any, found: bool) -> None:
        """It was asked for, and there was something to stop, or not (CAN-02)."""

    def stopping(self, operation: Operation, status: int) -> None:
        """A pending operation was asked to end: by a cancel of it or of all on its handle, by its
        time limit, by `close_handle`, by the end of its thread, or because the port closes. Told
        once, the first time. How it ends is in its completion (CAN-05).

        :param status: what for: `STATUS_CANCELLED`; `STATUS_IO_TIMEOUT`, its time is over;
            `STATUS_CONNECTION_ABORTED`, its handle is closed
        """

    def posted(self, completion: Completion) -> None:
        """The program is about to queue a packet of its own."""

    def waiting(self, timeout: float | None) -> None:
        """A thread begins to wait for packets."""

    def woken(self, number: int) -> None:
        """Its wait is over, with `number` packets; those are told one by one after this."""

    def closing(self) -> None:
        """The port is about to be closed."""

    def closed(self) -> None:
        """It is."""

    def stats(self) -> dict[str, float]:
        """What `CompletionPort.stats` is to show beside the backend's own."""
        return {}

    def where(self, operation: Operation) -> str | None:
        """Where a pending operation was started, "file:line", if this instrument knows."""
        return None


class _Posted(Completion):
    """Instruments are shown this in place of a packet that is no operation's end: the program may
    post an operation of its own, which is not touched (PORT-28)."""

    __slots__ = ()


def operation_of(completion: Completion) -> Operation | None:
    """The operation that ended with it; `None` of a posted packet."""
    operation: Any = completion.overlapped
    if isinstance(operation, Overlapped) and not isinstance(completion, _Posted):
        finished: Operation = operation  # pyright: ignore[reportUnknownVariableType]
        if finished.opcode is not None:
            return finished
    return None


class Observed(Backend):
    """A backend with instruments in front of it."""

    def __init__(self, backend: Backend, instruments: Sequence[Instrument]) -> None:
        self._backend = backend
        self._instruments: tuple[Instrument, ...] = tuple(instruments)
        self._open: dict[int, Operation] = {}
        """By identity, the operations of whose start the instruments know, and of no end."""
        self._asked: set[int] = set()
        """Those of them of which `stopping` was told."""
        self._posted: dict[int, Completion] = {}
        """By identity, the program's own packets."""
        self.name: str = backend.name
        self.resubmit: Callable[..., Operation] = self._resubmit
        backend.observe(self)

    def _tell(self, hook: str, *arguments: Any) -> None:
        for instrument in self._instruments:
            try:
                getattr(instrument, hook)(*arguments)
            except Exception:
                self._instruments = tuple(
                    each for each in self._instruments if each is not instrument
                )
                _logger.exception("%r raised in %s() and is not called again", instrument, hook)

    # -- what is told of ---------------------------------------------------------------------------

    def start(self, operation: Operation) -> None:
        self._resubmit(operation)

    def _resubmit(
        self, overlapped: Operation, size: int | None = None, address: Any = None
    ) -> Operation:
        if overlapped._in_use:
            overlapped._refuse_use()
        if size is not None and size != overlapped._size:
            overlapped._resize(size)
        self._asked.discard(id(overlapped))
        self._open[id(overlapped)] = overlapped
        self._tell("starting", overlapped)
        try:
            self._backend.resubmit(overlapped, None, address)
        except BaseException as error:
            # Ctrl-C may come behind the start: then the operation has an end of its own
            if not overlapped._in_use and self._close(overlapped):
                self._tell("not_started", overlapped, error)
            raise
        return overlapped

    def _close(self, operation: Operation) -> bool:
        """Its end is to be told of now; whether it was not yet."""
        self._asked.discard(id(operation))
        return self._open.pop(id(operation), None) is not None

    def cancel(self, operation: Operation) -> bool:
        self._tell("cancelling", operation)
        found = self._backend.cancel(operation)
        self._tell("cancel_asked", operation, found)
        return found

    def cancel_all(self, handle: Any) -> bool:
        self._tell("cancelling", handle)
        found = self._backend.cancel_all(handle)
        self._tell("cancel_asked", handle, found)
        return found

    def post(self, completion: Completion) -> None:
        self._tell("posted", completion)
        self._posted[id(completion)] = completion
        try:
            self._backend.post(completion)
        except BaseException:
            self._posted.pop(id(completion), None)
            raise

    def dequeue(self, limit: int, timeout: float | None, alertable: bool) -> list[Completion]:
        self._tell("waiting", timeout)
        batch: list[Completion] = []
        try:
            batch = self._backend.dequeue(limit, timeout, alertable)
        finally:
            self._tell("woken", len(batch))
        for completion in batch:
            self._tell("completed", self._told_as(completion))
        return batch

    def _told_as(self, completion: Completion) -> Completion:
        """A packet as instruments see it: the end of an operation, once, or a posted one."""
        if self._posted.pop(id(completion), None) is None and self._close(completion.overlapped):
            return completion
        # Also the packet of one that has ended without: started on a duplicate of a handle that is
        # not associated itself (ASSOC-08).
        told = _Posted()
        told.key, told.overlapped = completion.key, completion.overlapped
        told.transferred = completion.transferred
        return told

    def close(self) -> None:
        self._tell("closing")
        self._backend.close()
        self._posted.clear()
        self._tell("closed")

    def inflight(self) -> list[Inflight]:
        pending: list[Inflight] = []
        for each in self._backend.inflight():
            places = [instrument.where(each.overlapped) for instrument in self._instruments]
            known = next(filter(None, places), None)
            pending.append(dataclasses.replace(each, where=known))
        return pending

    def stats(self) -> dict[str, float]:
        stats = self._backend.stats()
        for instrument in self._instruments:
            stats |= instrument.stats()
        return stats

    # -- what the backend tells of -----------------------------------------------------------------

    def stopping(self, operation: Operation, status: int) -> None:
        """As `netpoll.backends.base.Observer` says, and the next ones."""
        number = id(operation)
        if number in self._open and number not in self._asked:
            self._asked.add(number)
            self._tell("stopping", operation, status)

    def ended_inline(self, operation: Operation) -> None:
        if self._close(operation):
            self._tell("ended_inline", operation)

    def ended(self, operation: Operation) -> None:
        if self._close(operation):
            self._tell("ended", _packet_of(operation))

    def untaken(self, completions: Iterable[Completion]) -> None:
        for completion in completions:
            if self._posted.pop(id(completion), None) is None and self._close(
                completion.overlapped
            ):
                self._tell("ended", completion)

    # -- what is not -------------------------------------------------------------------------------

    def observe(self, observer: Observer) -> None:
        self._backend.observe(observer)

    def associate(self, handle: Any, key: Any, skip_on_success: bool) -> None:
        self._backend.associate(handle, key, skip_on_success)

    def association(self, handle: Any) -> Association | None:
        return self._backend.association(handle)

    def prepare(self, operation: Operation) -> None:
        self._backend.prepare(operation)

    def abandon(self, operation: Operation) -> None:
        self._backend.abandon(operation)

    def detach(self, handle: Any, release: Callable[[], object]) -> None:
        self._backend.detach(handle, release)

    def shutdown(self, handle: Any, how: int) -> None:
        self._backend.shutdown(handle, how)

    def report_unreachable(self, handle: Any, on: bool) -> None:
        self._backend.report_unreachable(handle, on)

    def wait_for(self, operation: Operation, timeout: float | None) -> bool:
        return self._backend.wait_for(operation, timeout)

    @property
    def progresses_alone(self) -> bool:  # type: ignore[override]
        return self._backend.progresses_alone

    def run_until(
        self,
        finished: Callable[[], bool],
        timeout: float | None,
        alert: Callable[[Callable[[], object] | None], object] | None = None,
    ) -> bool:
        return self._backend.run_until(finished, timeout, alert)

    def flush(self) -> None:
        self._backend.flush()

    def capability(self, opcode: str) -> Capability:
        return self._backend.capability(opcode)


def _packet_of(operation: Operation) -> Completion:
    """What the packet of an operation would be, if one came."""
    status = operation._final
    completion: Completion
    if status:
        completion = FailedCompletion()
        completion.status = status
        completion.error = nt.win32_error(status)
    else:
        completion = Completion()
    completion.key = operation._association.key
    completion.overlapped = operation
    completion.transferred = operation.transferred
    return completion
