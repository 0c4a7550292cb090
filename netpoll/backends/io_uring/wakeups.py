"""How another thread ends a wait: by an eventfd that the ring reads."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from netpoll.backends.io_uring import constants as uring
from netpoll.backends.io_uring.entries import SQE
from netpoll.backends.io_uring.library import address_of
from netpoll.backends.io_uring.table import WAKE, Table

if TYPE_CHECKING:
    import threading

_os: Any = os
"""For names that are declared on Linux only."""


class Wakeups(Table):
    """Whether a thread waits in the kernel, and how it is woken."""

    __slots__ = (
        "_blocked",
        "_wake_buffer",
        "_wake_entry",
        "_wake_fd",
        "_wake_pending",
        "_wakes",
        "_woken",
    )

    def __init__(self, lock: threading.RLock, single_issuer: bool) -> None:
        super().__init__(lock, single_issuer)
        self._blocked = False
        self._woken = False
        self._wakes = 0
        self._wake_fd = _os.eventfd(0)
        self._wake_buffer = bytearray(8)
        self._wake_entry = bytearray(uring.SQE_SIZE)
        SQE.pack_into(
            self._wake_entry,
            0,
            uring.IORING_OP_READ,
            0,
            0,
            self._wake_fd,
            0,
            address_of(self._wake_buffer),
            8,
            0,
            WAKE,
        )
        self._wake_pending = False

    def wake(self) -> None:
        if self._blocked and not self._woken:
            self._woken = True
            self._wakes += 1
            self.interrupt()

    def interrupt(self) -> None:
        with contextlib.suppress(OSError):  # closed: nobody is left to wake
            _os.eventfd_write(self._wake_fd, 1)

    def _arm_wake(self) -> None:
        self._wake_pending = True
        self._queued.append(self._wake_entry)
