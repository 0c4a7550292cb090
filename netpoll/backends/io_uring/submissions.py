"""How entries get into the submission queue, and to the kernel.

An entry names its socket by number. So what was started is looked at once more when it goes out:
the number may be another socket's by then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from netpoll import status as nt
from netpoll.backends import sockets
from netpoll.backends.io_uring.datagrams import write_wait
from netpoll.backends.io_uring.ends import Ends
from netpoll.backends.io_uring.entries import NEVER, Native
from netpoll.backends.io_uring.table import cancel_entry

if TYPE_CHECKING:
    import threading

    from netpoll.backends.io_uring.lines import DatagramLine
    from netpoll.backends.io_uring.staging import Staging
    from netpoll.backends.io_uring.table import Channel
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]


class Submissions(Ends):
    """What goes out with the next system call, and that call where nobody waits in it."""

    __slots__ = ("_again", "_staging")

    def __init__(self, lock: threading.RLock, single_issuer: bool) -> None:
        super().__init__(lock, single_issuer)
        self._again: list[Operation] = []
        """Operations to be handed over once more."""
        self._staging: Staging | None = None

    def _submit(self) -> None:
        queued, ring, staging = self._queued, self._ring, self._staging
        if self._due:
            self._hand_due_over()
        if self._started:
            self._queue_started()
        if staging is not None and staging.pending:
            staging.queue()
        while queued or ring.unsubmitted():
            ring.push(queued)
            before = ring.unsubmitted()
            ring.submit()
            if ring.unsubmitted() == before:
                return  # the kernel has no room: it takes them when completions were taken

    def _queue_started(self) -> None:
        """The entries of what was started. They name their sockets by number, so this is the last
        moment to see that one was closed meanwhile: its number may be another's by now."""
        started = self._started
        count = len(started)
        try:
            entries = [each._native.entry for each in started if not each.handle._closed]
        except AttributeError:  # what is no socket does not tell so cheaply
            entries = []
        if len(entries) != count:
            entries.clear()
            for operation in started[:count]:
                if operation._association.alive():  # a file of makefile() keeps a closed one open
                    entries.append(operation._native.entry)
                else:
                    self._end(operation, sockets.status_of_close(operation))
                    self._table[operation._native.token] = None
                    self._leave(operation)
                    self._finished.append(operation)
        # no call between these, see Ring.push()
        self._queued += entries
        del started[:count]  # an operation that ended here may have made room for another one

    def _once_more(self, token: int, operation: Operation) -> None:
        self._again.append(operation)
        self._table[token] = None

    def _give_to_kernel(self, line: DatagramLine) -> None:
        """The head has to wait, alone."""
        head: Operation = line.head
        native: Native = head._native
        if native.name:
            native.rewrite(head)  # the address may have changed since
        elif line.rest and native.vector is not None:
            write_wait(head)
        elif native.size != head._size:
            native.rewrite(head)
        self._table[native.token] = head
        # no call between these: it is due, or it has been started
        line.due = False
        self._started.append(head)

    def _hand_due_over(self) -> None:
        """Something else needs to know where they are: now the kernel has them."""
        while self._due:
            line = self._due[0]
            if line.due:
                self._give_to_kernel(line)
            del self._due[0]

    def _queue_stop(self, operation: Operation, status: int) -> None:
        """Ask for the end of an operation that the kernel has, with the next system call."""
        native: Native = operation._native
        native.cause = status
        operation._least = NEVER
        if self._due:
            self._hand_due_over()
        if self._started:
            self._queue_started()  # what it asks the end of goes out before it
        self._queued.append(cancel_entry(native.token))

    def _hand_report_over(self, channel: Channel) -> None:
        """A send may have met the failure of an earlier datagram, which a receive is told of
        (EMU-18): the one that is pending rather than the next."""
        line = channel.reading
        head = line.head
        if line.refusal != nt.STATUS_PORT_UNREACHABLE or head is None or head._native.cause:
            return
        if self._table[head._native.token] is head:
            line.refusal = 0
            self._queue_stop(head, nt.STATUS_PORT_UNREACHABLE)
            self._urgent = True
