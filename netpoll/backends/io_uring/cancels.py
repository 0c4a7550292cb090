"""How the end of an operation is asked for, wherever it is: in its line, where something scarce is
waited for, among datagrams that share a call, or in the kernel.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, cast

from netpoll.backends.io_uring.entries import NEVER, Native
from netpoll.backends.io_uring.table import PENDING
from netpoll.backends.io_uring.waiting import Waiting

if TYPE_CHECKING:
    from netpoll.backends.base import Association
    from netpoll.backends.io_uring.table import Channel
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]

PATIENCE: Final = 0.05
"""Seconds to wait for the end of what was cancelled, where the caller has to know it. It usually is
there at once; another thread that has handed the operation over may have to run first."""


class Cancels(Waiting):
    """Cancels, and what there is to cancel on a handle."""

    __slots__ = ()

    def cancel(self, operation: Operation, status: int) -> bool:
        if operation._native.cause or not self._stop(operation, status):
            return False
        self._await([operation])
        if operation._final != PENDING:
            self._forget_finished(operation)
        elif self._blocked:
            self.wake()
        return True

    def _stop(self, operation: Operation, status: int) -> bool:
        """Ask for the end of an operation; whether there was anything to ask for."""
        if self._again:
            self._take_in()  # Ctrl-C has left it there
        if operation._final != PENDING:
            return False
        native: Native = operation._native
        if operation._queue.remove(operation) or self._unpause(operation):
            self._end(operation, status)
            return True
        if self._due:
            self._hand_due_over()
        if self._table[native.token] is not operation:
            return False
        if self._may_call():
            native.cause = status
            operation._least = NEVER  # so that its end is looked at
            self._submit()
            self._ring.cancel(native.token)
        else:
            self._queue_stop(operation, status)
            self.wake()
        return True

    def _await(self, stopped: list[Operation]) -> None:
        """Give what was stopped a moment to end."""
        if not self._may_call():
            return  # nor take completions away from the owner, who could not be woken then
        deadline = time.monotonic() + PATIENCE
        self._take_in()
        while any(each._final == PENDING for each in stopped):
            if time.monotonic() >= deadline:
                break  # poll will return it
            self._ring.wait(0.001)
            self._take_in()
        if self._urgent:
            self.flush()
        self._nudge()

    def pending(self, association: Association) -> list[Operation]:
        channel = cast("Channel", association)
        heads = [line.head for line in (channel.reading, channel.writing) if line.head is not None]
        return [
            *heads[:1],
            *channel.reading.waiting(),
            *heads[1:],
            *channel.writing.waiting(),
            *channel.first_receives,
            *channel.polls,
            *(each for each in self._finished if each._association is channel),
        ]
