"""What waits because something is scarce: a descriptor for the next connection, or a pool's buffer.

The kernel has nothing of such an operation; it is handed over again, or ends, when there is what it
lacks.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

from netpoll.backends import sockets
from netpoll.backends.io_uring.pooled import (
    Provided,
    finish_pooled,
    peek,
    receive_into,
    wait_first,
)
from netpoll.backends.io_uring.submissions import Submissions
from netpoll.pools import Starved

if TYPE_CHECKING:
    import threading

    from netpoll.backends.io_uring.table import Channel
    from netpoll.overlapped import Overlapped
    from netpoll.pools import BufferPool

    Operation = Overlapped[Any]

_logger = logging.getLogger("netpoll")

SCARCE: Final = 1.0
"""Seconds without a lack of descriptors after which the next one is news."""


class Scarcity(Submissions):
    """Accepts without a descriptor, and receives without a buffer."""

    __slots__ = ("_fed", "_paused", "_pools", "_scarce_until", "_starved")

    def __init__(self, lock: threading.RLock, single_issuer: bool) -> None:
        super().__init__(lock, single_issuer)
        self._paused: dict[Channel, tuple[Operation, float]] = {}
        """Listeners without a descriptor for the next connection, and when to try again."""
        self._scarce_until = 0.0
        self._starved: dict[Channel, Operation] = {}
        """What has data, and waits for a pool's buffer."""
        self._fed: deque[Channel] = deque()
        """Where there is one now. Filled from any thread, without the lock."""
        self._pools: list[BufferPool] = []
        """Whose rings the kernel knows; the place is the group's number."""

    def _unpause(self, operation: Operation) -> bool:
        channel = cast("Channel", operation._association)
        paused = self._paused.get(channel)
        if paused is not None and paused[0] is operation:
            del self._paused[channel]
        elif self._starved.get(channel) is operation:
            del self._starved[channel]
        else:
            return False
        self._advance(channel.reading)
        return True

    # -- descriptors -------------------------------------------------------------------------------

    def _pause(self, token: int, operation: Operation, number: int) -> None:
        """No descriptor for the next connection: try again a little later."""
        now = time.monotonic()
        news = now >= self._scarce_until
        self._scarce_until = now + SCARCE
        if news:
            _logger.warning(
                "accepting pauses until a descriptor is free: %s; "
                "raise the limit (ulimit -n) or close connections",
                os.strerror(number),
            )
        channel = cast("Channel", operation._association)
        self._paused[channel] = operation, now + sockets.SCARCITY_PAUSE
        self._table[token] = None

    def _resume(self) -> None:
        now = time.monotonic()
        for channel, (operation, when) in list(self._paused.items()):
            if when <= now:
                del self._paused[channel]
                self._hand_over(operation)

    # -- buffers of a pool -------------------------------------------------------------------------

    def _adopt(self, pool: BufferPool) -> None:
        """Make the pool's buffers known to the kernel, at its first use."""
        if pool.home is None:
            Provided(pool, self._ring, len(self._pools))
            self._pools.append(pool)

    def _starve(self, token: int, operation: Operation) -> None:
        """There is no buffer. An end needs none, and whoever has data waits for one from now on."""
        result = peek(operation)
        if result == -errno.EAGAIN:
            wait_first(operation)
            self._once_more(token, operation)
            return
        if result <= 0:
            finish_pooled(operation, result)
            self._leave(operation)
            self._table[token] = None
            self._finished.append(operation)
            return
        channel = cast("Channel", operation._association)
        starved = Starved(functools.partial(self._feed, channel))
        if operation._address.wait(starved):
            operation._native.kept = starved
            self._starved[channel] = operation
            self._table[token] = None
        else:
            self._once_more(token, operation)  # one came back meanwhile

    def _feed(self, channel: Channel) -> None:
        self._fed.append(channel)
        self.interrupt()

    def _resume_fed(self) -> None:
        while self._fed:
            channel = self._fed.popleft()
            operation = self._starved.get(channel)
            starved = None if operation is None else operation._native.kept
            if operation is None or starved is None or starved.index < 0:
                continue  # cancelled, and perhaps another one's turn by now
            del self._starved[channel]
            operation._native.kept = None
            if receive_into(operation, starved.index):
                self._leave(operation)
                self._finished.append(operation)
            else:
                self._hand_over(operation)
