"""Counting what happens on a port, and how long its threads wait and work."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final

from netpoll import status as nt
from netpoll.instruments.base import Instrument, operation_of

if TYPE_CHECKING:
    from netpoll.overlapped import Completion, Overlapped

    Operation = Overlapped[Any]

SIZES: Final = (1, 2, 4, 8, 16, 32, 64)
"""Where the classes of batch sizes begin; the last one has no end."""
OUTCOMES: Final = ("cancelled", "timed_out", "closed", "cancelled_too_late", "cancelled_failed")


class _Clock(threading.local):
    """Since when a thread waits, or works on what its last wait brought."""

    since: float | None = None


class Statistics(Instrument):
    """Shown by `CompletionPort.stats`:

    * `inline`, `failed_starts`: starts that ended within themselves, well and without a packet, or
      by raising
    * `batches`, `packets`, `largest_batch`: waits that brought something, and what they brought;
      the mean is `packets / batches`
    * `batches_of_1`, `batches_of_2`, `batches_of_4` and so on to `batches_of_64`: those that
      brought so many packets or more, and fewer than the next one says
    * `cancels`, `cancels_in_vain`: asked for by `cancel`, of one operation or of all on a handle,
      and where there was nothing to stop
    * how operations ended that somebody had asked to stop, each counted once: `cancelled`, with
      995, by `cancel`, the end of their thread or the port's close; `timed_out`, with 121, by their
      time limit; `closed`, with any failure, by `close_handle`; `cancelled_too_late`, well after
      all, since the bytes had moved (CAN-05); `cancelled_failed`, with a failure of their own. One
      that ends with 995 is `cancelled` also where nobody has told netpoll: a plain `close()` of a
      listener, say
    * `seconds_waiting`, `seconds_dispatching`: of all threads, in their waits and between them
    """

    def __init__(self) -> None:
        # reentrant: the collector may finalize a port with the same instrument anywhere
        self._lock = threading.RLock()
        self._clock = _Clock()
        self._asked: dict[int, int] = {}
        """What the operations that were asked to stop are to end with."""
        self._counts: dict[str, float] = dict.fromkeys(
            (
                *("inline", "failed_starts", "batches", "packets", "largest_batch"),
                *(f"batches_of_{size}" for size in SIZES),
                *("cancels", "cancels_in_vain"),
                *OUTCOMES,
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

    def not_started(self, operation: Operation, error: BaseException) -> None:
        self._asked.pop(id(operation), None)
        self._count("failed_starts")

    def ended_inline(self, operation: Operation) -> None:
        self._count("inline")

    def cancel_asked(self, target: Any, found: bool) -> None:
        self._count("cancels")
        if not found:
            self._count("cancels_in_vain")

    def stopping(self, operation: Operation, status: int) -> None:
        self._asked[id(operation)] = status

    def completed(self, completion: Completion) -> None:
        if operation_of(completion) is not None:
            self.ended(completion)

    def ended(self, completion: Completion) -> None:
        asked = self._asked.pop(id(completion.overlapped), None)
        status = completion.status
        if asked is None:
            if status == nt.STATUS_CANCELLED:
                self._count("cancelled")
        elif not nt.is_error(status):
            self._count("cancelled_too_late")
        elif asked == nt.STATUS_CONNECTION_ABORTED:
            self._count("closed")
        elif status != asked:
            self._count("cancelled_failed")
        else:
            self._count("timed_out" if asked == nt.STATUS_IO_TIMEOUT else "cancelled")

    def waiting(self, timeout: float | None) -> None:
        self._step("seconds_dispatching")

    def woken(self, number: int) -> None:
        self._step("seconds_waiting")
        if number:
            # the power of two that is not larger
            size = min(1 << (number.bit_length() - 1), SIZES[-1])
            with self._lock:
                self._counts["batches"] += 1
                self._counts["packets"] += number
                self._counts["largest_batch"] = max(self._counts["largest_batch"], number)
                self._counts[f"batches_of_{size}"] += 1

    def _step(self, name: str) -> None:
        now = time.perf_counter()
        if self._clock.since is not None:
            self._count(name, now - self._clock.since)
        self._clock.since = now
