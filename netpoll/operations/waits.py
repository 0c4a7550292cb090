"""What waits for something else than data: time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netpoll.operations.starter import A_CENTURY, Starter, check_timeout
from netpoll.overlapped import Opcode, Overlapped

if TYPE_CHECKING:
    from netpoll.operations.starter import Routine


class Waits(Starter):
    """Part of `CompletionPort`: operations that move no data."""

    def timer(
        self,
        seconds: float,
        *,
        overlapped: Overlapped[None] | None = None,
        routine: Routine | None = None,
    ) -> Overlapped[None]:
        """Complete once the time is over, never early (EMU-32). `resubmit` starts it again, from
        then on.

        It works on no handle, so its packet carries the key `None`; `cancel` its `Overlapped`. A
        `routine` runs instead of a packet, in an alertable wait of this thread.

        :param seconds: from now, 0 or more
        :raises ValueError: negative, not a number, or `None`
        """
        if seconds is None:  # pyright: ignore[reportUnnecessaryComparison]
            raise ValueError("a timer has an end: seconds is a number, 0 or more, not None")
        if check_timeout(seconds) is None:
            seconds = A_CENTURY
        operation = self._new(Opcode.TIMER, None, overlapped, routine, None, require=None)
        operation._timeout = seconds
        return self._begin(operation, None, None, 0)
