"""Counting what happens on a port, and how long its threads wait and work."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from netpoll import status as nt
from netpoll.instruments.base import Instrument
from netpoll.overlapped import Completion, Overlapped

if TYPE_CHECKING:
    Operation = Overlapped[Any]


class _Clock(threading.local):
    """Since when a thread waits, or works on what its last wait brought."""

    since: float | None = None


class Statistics(Instrument):
    """Shown by `CompletionPort.stats`:

    * `inline`, `failed_starts`: starts that ended without a packet, well or not
    * `batches`, `packets`, `largest_batch`: waits that brought something, and what they brought
    * `cancels`, `cancels_in_vain`: asked for, and where there was nothing to stop
    * `cancelled`, `cancelled_too_late`, `cancelled_failed`: how operations ended whose cancel was
      asked for: with 995, well, or in another way (CAN-05)
    * `seconds_waiting`, `seconds_dispatching`: of all threads, in their waits and between them
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clock = _Clock()
        self._asked: set[int] = set()
        """The operations whose cancel was asked for."""
        self._counts: dict[str, float] = dict.fromkeys(
            (
                *("inline", "failed_starts", "batches", "packets", "largest_batch"),
                *("cancels", "cancels_in_vain"),
                *("cancelled", "cancelled_too_late", "cancelled_failed"),
                *("seconds_waiting", "seconds_dispatching"),
            ),
            0,
        )

    def stats(self) -> dict[str, float]:
        with self._lock:
            return dict(self._counts)

    def _count(self, name: str, amount: float = 1) -> None:
        with self._lock:
            self._counts[name] += amount

    def starting(self, operation: Operation) -> None:
        self._asked.discard(id(operation))

    def not_started(self, operation: Operation, error: BaseException) -> None:
        self._count("failed_starts")

    def ended_inline(self, operation: Operation) -> None:
        self._count("inline")

    def cancelling(self, target: Any) -> None:
        if isinstance(target, Overlapped):
            self._asked.add(id(target))  # pyright: ignore[reportUnknownArgumentType]

    def cancel_asked(self, target: Any, found: bool) -> None:
        self._count("cancels")
        if not found:
            self._asked.discard(id(target))
            self._count("cancels_in_vain")

    def completed(self, completion: Completion) -> None:
        number = id(completion.overlapped)
        if number in self._asked:
            self._asked.discard(number)
            if completion.status == nt.STATUS_CANCELLED:
                self._count("cancelled")
            else:
                self._count("cancelled_failed" if completion.status else "cancelled_too_late")

    def waiting(self, timeout: float | None) -> None:
        self._step("seconds_dispatching")

    def woken(self, number: int) -> None:
        self._step("seconds_waiting")
        if number:
            with self._lock:
                self._counts["batches"] += 1
                self._counts["packets"] += number
                self._counts["largest_batch"] = max(self._counts["largest_batch"], number)

    def _step(self, name: str) -> None:
        now = time.perf_counter()
        if self._clock.since is not None:
            self._count(name, now - self._clock.since)
        self._clock.since = now
