"""What the watcher's thread waits for, and posts a packet of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from netpoll import status as nt
from netpoll.backends.iocp import constants as win
from netpoll.backends.iocp.native import Native

if TYPE_CHECKING:
    from netpoll.backends.iocp.library import Library
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]


def prepare_timer(operation: Operation, library: Library) -> Native:
    native = Native(begin_timer, finish_own)
    native.known = False
    return native


def begin_timer(operation: Operation, number: int) -> int:
    """The port sets the watcher's clock, as for every operation with a time limit."""
    operation._native.overlapped.Internal = nt.STATUS_PENDING
    return win.ERROR_IO_PENDING


def finish_own(operation: Operation, status: int) -> int:
    """A posted packet has no status: it is where the port has left it."""
    native: Native = operation._native
    return native.overlapped.Internal
