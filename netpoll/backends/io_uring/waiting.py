"""The wait, which hands over what was started and takes completions, all with one system call; and
`flush`, which does so without waiting.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from netpoll.backends.io_uring.batching import Batching
from netpoll.backends.software import reacquire

if TYPE_CHECKING:
    import threading

    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]

PAST: Final = 3
"""Waits that datagrams may end in a row without a look at the ring, which costs a system call."""


class Waiting(Batching):
    """The wait of the port's poller."""

    __slots__ = ("_past", "_polls", "_turn")

    def __init__(self, lock: threading.RLock, single_issuer: bool) -> None:
        super().__init__(lock, single_issuer)
        self._past = 0
        """Waits in a row that had enough datagrams, and did not look at the ring."""
        self._polls = 0
        self._turn = self._ring.make_turn(lock.release, self._after_wait)

    def poll(self, timeout: float | None) -> list[Operation]:
        finished = self._finished
        if not self._may_call():
            raise RuntimeError(
                "this port was made with single_issuer=True: only the thread that made it may wait"
            )
        self._polls += 1
        staging = self._staging
        if staging is not None and staging.pending:
            staging.queue()
            if self._ring.available():
                self._submit()  # the peers are to go on, and the turn would make no system call
        if self._due:
            self._try_due()
            if finished and self._past < PAST and not (self._started or self._queued):
                self._past += 1
                return finished
            self._past = 0
        if self._started:
            self._queue_started()
        if finished or self._batch:
            timeout = 0
        if self._paused:
            pause = max(0.0, min(when for _, when in self._paused.values()) - time.monotonic())
            timeout = pause if timeout is None else min(timeout, pause)
        if not self._wake_pending:
            self._arm_wake()
        self._blocked = True
        try:
            self._turn(self._queued, self._batch, timeout)
        finally:
            self._blocked = False  # also where no system call was needed
        self._look_at_batch()
        if staging is not None and staging.flying:
            staging.confirm()
        if self._due and not finished:
            self._try_due()
        if self._paused:
            self._resume()
        if self._urgent:
            self.flush()
        return finished

    def _after_wait(self) -> None:
        """Take the port's lock back."""
        lock = self._lock
        try:
            lock.acquire()
        except BaseException:  # Ctrl-C while another thread had it
            if not lock._is_owned():  # type: ignore[attr-defined]
                reacquire(lock)
            raise
        finally:
            self._blocked = False

    def flush(self) -> None:
        if not self._may_call():
            self.wake()  # the owner's next wait takes it along
            return
        self._urgent = True
        while self._urgent:
            self._urgent = False
            if self._due:
                self._try_due()
            self._submit()
            self._take_in()
        self._nudge()

    def _nudge(self) -> None:
        """Another thread may be on its way into its wait, and the completions that would have ended
        that were taken by this one."""
        if not self._blocked:
            return
        if not self._wake_pending:
            self._arm_wake()
            self._submit()
            self.wake()
        elif self._finished:
            self.wake()
