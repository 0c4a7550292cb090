"""A port's ring, and the table of what the kernel has.

An operation that the kernel works on is in the table, by a token that it keeps and that its
completion names. A start appends its ready-made entry to a list, which goes to the kernel with the
next wait.
"""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any, Final

from netpoll import status as nt
from netpoll.backends import sockets
from netpoll.backends.base import Engine
from netpoll.backends.io_uring import constants as uring
from netpoll.backends.io_uring.entries import NEVER, SQE, Native
from netpoll.backends.io_uring.lines import DatagramLine, Line
from netpoll.backends.io_uring.ring import Ring
from netpoll.overlapped import Opcode, Overlapped

if TYPE_CHECKING:
    Operation = Overlapped[Any]

PENDING: Final = nt.STATUS_PENDING
WAKE: Final = 0
"""The token of the read that other threads end a wait with."""
IGNORED: Final = 1
"""The token of what nobody looks at the completion of."""


def cancel_entry(token: int) -> bytearray:
    """An entry that asks for the end of what was handed over with `token`."""
    entry = bytearray(uring.SQE_SIZE)
    SQE.pack_into(entry, 0, uring.IORING_OP_ASYNC_CANCEL, 0, 0, -1, 0, token, 0, 0, IGNORED)
    return entry


class Channel(sockets.SocketAssociation):
    """A handle with its two lines."""

    __slots__ = ()

    def __init__(self, handle: socket.socket, fd: int) -> None:
        # a file has no type
        datagrams = getattr(handle, "type", socket.SOCK_STREAM) != socket.SOCK_STREAM
        line = DatagramLine if datagrams else Line
        super().__init__(handle, fd, line(), line())


class _Wake:
    """Stands in the table for the read of the eventfd."""

    _least = NEVER


class Table(Engine):
    """The ring, what the kernel has, and what it is about to get.

    The layers above it are wake-ups (`wakeups.py`), ends (`ends.py`), submissions
    (`submissions.py`), scarcity (`scarcity.py`), completions (`completions.py`), datagrams by the
    dozen (`batching.py`), waits (`waiting.py`), cancels (`cancels.py`), starts (`starts.py`), the
    hot path (`resubmits.py`) and the engine (`engine.py`). They are one object, because each call
    and each look-up between two would be paid for every message.
    """

    __slots__ = (
        "__weakref__",
        "_due",
        "_finished",
        "_lock",
        "_owner",
        "_queued",
        "_ring",
        "_started",
        "_table",
        "_tokens",
        "_urgent",
    )

    def __init__(self, lock: threading.RLock, single_issuer: bool) -> None:
        if not isinstance(single_issuer, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"single_issuer is True or False, not {single_issuer!r}")
        self._lock = lock
        self._ring = Ring(single_issuer=single_issuer)
        self._owner = threading.get_ident() if single_issuer else None
        """The only thread that may hand operations over and wait."""
        self._table: list[Any] = [_Wake(), None]
        """What the kernel has, by token."""
        self._tokens: list[int] = []
        """Those that are free."""
        self._started: list[Operation] = []
        """What was started since the last system call."""
        self._queued: list[bytearray] = []
        """Entries for the next one."""
        self._urgent = False
        """Entries are queued that should not have to wait for the next wait."""
        self._due: list[DatagramLine] = []
        """Where datagrams have been started that are to share a system call."""
        self._finished: list[Operation] = []
        """What `poll` returns next."""

    def _new_token(self) -> int:
        """A place in the table."""
        try:
            return self._tokens.pop()
        except IndexError:
            self._table.append(None)
            return len(self._table) - 1

    def _hand_over(self, operation: Operation) -> None:
        native: Native = operation._native
        if native.size != operation._size and operation.opcode is not Opcode.CONNECT:
            native.rewrite(operation)
        self._table[native.token] = operation
        self._started.append(operation)
        self._urgent = True

    def _may_call(self) -> bool:
        return self._owner is None or self._owner == threading.get_ident()

    def _in_kernel(self) -> list[Operation]:
        return [each for each in self._table[IGNORED:] if isinstance(each, Overlapped)]
