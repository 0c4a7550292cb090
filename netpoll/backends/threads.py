"""What ends with the thread that started it: operations without a port, or with an event (THR-01,
THR-03).

The system tells nobody that a thread ends, but its thread-local storage is dropped then (EMU-14).
"""

from __future__ import annotations

import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

from netpoll.finalizers import finalizer

if TYPE_CHECKING:
    from netpoll.backends.base import Backend
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]

SWEEP: int = 64
"""Operations remembered until those that have ended are forgotten."""


class Issuer:
    """One thread's operations that are to end with it."""

    def __init__(self) -> None:
        self._mark = object()
        """What its operations know it by. They must not keep this object: that it goes is the
        signal."""
        self._operations: list[tuple[weakref.ref[Operation], weakref.ref[Backend]]] = []
        """Both weakly: a pending operation is kept by its backend, and that by its port; to keep
        it from here would keep a port that the program has dropped, and nobody would be warned."""
        self._sweep_at = SWEEP

    def add(self, operation: Operation, backend: Backend) -> None:
        operation._issuer = self._mark
        self._operations.append((weakref.ref(operation), weakref.ref(backend)))
        if len(self._operations) > self._sweep_at:
            self._operations = [each for each in self._operations if self._pending(each[0]())]
            self._sweep_at = SWEEP + 2 * len(self._operations)

    def _pending(self, operation: Operation | None) -> bool:
        """Whether it is this thread's, still: it may have been started again by another."""
        return operation is not None and operation._issuer is self._mark and operation._in_use

    @finalizer
    def __del__(self) -> None:
        if sys.is_finalizing():
            return  # everything ends now, and not everything works any more
        for reference, owner in self._operations:
            operation, backend = reference(), owner()
            if operation is not None and backend is not None and self._pending(operation):
                backend.abandon(operation)


_this_thread = threading.local()


def end_with_this_thread(operation: Operation, backend: Backend) -> None:
    """`operation` is started now, and is to be cancelled if the calling thread ends before it."""
    try:
        issuer: Issuer = _this_thread.issuer
    except AttributeError:
        issuer = _this_thread.issuer = Issuer()
    issuer.add(operation, backend)
