"""A heap of deadlines: of operations with a time limit, and of timers, which are nothing else.

Operations mostly end before their time, so an entry may be dead: that of an operation that has
ended, or has been started again.
"""

from __future__ import annotations

import heapq
import time
from itertools import count
from typing import TYPE_CHECKING, Any, TypeAlias

from netpoll import status as nt

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll.overlapped import Overlapped

    AnyOverlapped = Overlapped[Any]

Timer: TypeAlias = "tuple[float, int, AnyOverlapped]"
"""When, a number that no other has, and what ends then."""
_numbers = count()


def push(timers: list[Timer], operation: AnyOverlapped, alive: int) -> bool:
    """Begin the time of an operation; whether its end is now the next.

    :param alive: how many entries may be alive, at most
    """
    assert operation._timeout is not None
    deadline = operation._deadline = time.monotonic() + operation._timeout
    heapq.heappush(timers, (deadline, next(_numbers), operation))
    first = timers[0][2] is operation
    if len(timers) > 64 and len(timers) > 4 * alive:
        # do not let dead entries pile up
        timers[:] = [entry for entry in timers if is_alive(entry)]
        heapq.heapify(timers)
    return first


def is_alive(entry: Timer) -> bool:
    deadline, _, operation = entry
    return operation._final == nt.STATUS_PENDING and operation._deadline == deadline


def run(timers: list[Timer], stop: Callable[[AnyOverlapped, int], bool]) -> float | None:
    """Stop what is overdue; seconds until the engine has to be back for the next timer, if any.
    0 if something was stopped, which somebody may be waiting for."""
    stopped = False
    while timers:
        if is_alive(timers[0]):
            left = timers[0][0] - time.monotonic()
            if left > 0:
                return 0.0 if stopped else left
            stopped = stop(timers[0][2], nt.STATUS_IO_TIMEOUT) or stopped
        heapq.heappop(timers)
    return 0.0 if stopped else None
