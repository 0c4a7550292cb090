"""When datagrams share system calls: those that were started since the last wait go out together,
and are received together, before the kernel is given what has to wait. The calls themselves are in
`bursts.py`.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from netpoll.backends import sockets
from netpoll.backends.io_uring.bursts import Bursts, let_go
from netpoll.backends.io_uring.completions import Completions
from netpoll.backends.io_uring.datagrams import fail
from netpoll.backends.io_uring.table import PENDING

if TYPE_CHECKING:
    import threading

    from netpoll.backends.io_uring.lines import DatagramLine
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]


class Batching(Completions):
    """Datagrams by the dozen."""

    __slots__ = ("_bursts",)

    def __init__(self, lock: threading.RLock, single_issuer: bool) -> None:
        super().__init__(lock, single_issuer)
        self._bursts = Bursts(self._finished)

    def _try_due(self) -> None:
        """Send and receive what was started since the last wait, and could share system calls."""
        due = self._due
        for line in due:
            if not line.due:
                continue
            head: Operation = line.head
            if head.handle._closed:
                self._give_to_kernel(line)  # on whose way that is looked at
            elif line is sockets.association_of(head).writing:
                self._send_due(line)
            else:
                self._receive_due(line)
        if self._finished:
            # who waits has something to do, and comes back: then there may be more
            due[:] = [line for line in due if line.due]
        else:
            self._hand_due_over()

    def _send_due(self, line: DatagramLine) -> None:
        bursts = self._bursts
        while line.due and bursts.may_send(line) and bursts.send(line) == bursts.most:
            pass
        while line.due and line.head._perform is not None:
            head: Operation = line.head
            try:
                if not head._perform(head):
                    break
            finally:
                self._let_go(line, head)
        if line.due:
            self._hand_report_over(line.head._association)
            self._give_to_kernel(line)
            self._urgent = True

    def _receive_due(self, line: DatagramLine) -> None:
        record = sockets.association_of(line.head)
        bursts = self._bursts
        most = 0
        taken, error = bursts.most, 0
        while line.due and taken == bursts.most:
            taken, error = bursts.receive(line)
            most = max(most, taken)
        for each in (record.reading, record.writing):
            each.burst = most > 1
        if error not in (0, errno.EAGAIN):
            head: Operation = line.head
            try:
                fail(head, error)
            finally:
                self._let_go(line, head)

    def _let_go(self, line: DatagramLine, head: Operation) -> None:
        """The head has left the line if it has ended, by whatever."""
        if head._final != PENDING:
            self._finished.append(head)
            let_go(line, 1)
