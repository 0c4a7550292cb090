"""What the kernel's completions mean.

The kernel ends the pending operations of a thread that exits, with ECANCELED. Nobody asked for
that: such an operation is handed over again, by whoever sees it.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from netpoll import status as nt
from netpoll.backends import sockets
from netpoll.backends.io_uring.connections import finish_connect, finish_first_receive
from netpoll.backends.io_uring.datagrams import finish_datagram_send, finish_wait
from netpoll.backends.io_uring.multishot import MultishotReceive, MultishotReceives
from netpoll.backends.io_uring.scarcity import Scarcity
from netpoll.backends.io_uring.staging import StagedSend, Staging
from netpoll.backends.io_uring.table import WAKE
from netpoll.overlapped import SENDS, Opcode, Overlapped

if TYPE_CHECKING:
    import threading

    from netpoll.backends.io_uring.entries import Native
    from netpoll.backends.io_uring.lines import DatagramLine
    from netpoll.backends.io_uring.table import Channel

    Operation = Overlapped[Any]


class Completions(Scarcity):
    """Completions, taken from the ring and looked at."""

    __slots__ = ("_batch", "_inbox", "_mail", "_multishot")

    def __init__(self, lock: threading.RLock, single_issuer: bool) -> None:
        super().__init__(lock, single_issuer)
        self._batch: list[tuple[int, int, int]] = []
        """Completions taken from the ring and not looked at yet."""
        self._inbox: deque[tuple[MultishotReceive, int, int]] = deque()
        """What multishot receives have brought."""
        self._mail: Operation | None = None
        """The operation that finishes when there is something in it."""
        self._multishot: MultishotReceives | None = None

    def _take_in(self) -> None:
        """Look at the completions that are there."""
        self._ring.take(self._batch)
        self._look_at_batch()

    def _look_at_batch(self) -> None:
        batch, table = self._batch, self._table
        append = self._finished.append
        inbox = self._inbox
        before = len(inbox)
        try:
            for token, result, flags in batch:
                operation = table[token]
                if operation is None:
                    continue
                if result >= operation._least:
                    operation.transferred = result
                    operation._final = 0
                    line = operation._queue
                    if line.rest:
                        self._advance(line)
                    else:
                        line.head = None
                    table[token] = None
                    append(operation)
                elif operation.__class__ is MultishotReceive:
                    inbox.append((operation, result, flags))
                else:
                    self._settle(token, operation, result, flags)
        except BaseException:
            # Ctrl-C: what was looked at is not in the table any more, or in the inbox
            stays = [id(each) for each in batch if table[each[0]].__class__ is MultishotReceive]
            seen = {*stays[: len(inbox) - before]}
            batch[:] = [e for e in batch if table[e[0]] is not None and id(e) not in seen]
            raise
        batch.clear()
        if inbox:
            self._announce()
        again = self._again
        while again:
            operation = again[-1]
            table[operation._native.token] = operation
            self._started.append(operation)
            again.pop()
            self._urgent = True
        if self._due and self._blocked:
            self._hand_due_over()
            self._urgent = True

    def _announce(self) -> None:
        """There is something to deliver."""
        mail = self._mail
        if mail is not None and not mail._in_use:
            mail._in_use = True
            mail.done = False
            self._finished.append(mail)

    def _settle(self, token: int, operation: Any, result: int, flags: int) -> None:
        """A completion that is not plain success."""
        if token == WAKE:
            self._woken = self._wake_pending = False
            self._resume_fed()
            return
        if operation.__class__ is StagedSend:
            cast("Staging", self._staging).failed(operation, result)
            return
        native: Native = operation._native
        native.flags = flags
        if native.cause:
            self._end_cancelled(operation, result)
        elif result in (-errno.ECANCELED, -errno.EINTR, -errno.EAGAIN) and not (
            result == -errno.EAGAIN and operation._call is finish_connect
        ):
            # the thread that had handed it over has exited
            self._once_more(token, operation)
            return
        elif -result in sockets.SCARCE and operation.opcode in sockets.ACCEPTS:
            self._pause(token, operation, -result)
            return
        elif result == -errno.ENOBUFS and operation.opcode is Opcode.RECV_POOLED:
            self._starve(token, operation)
            return
        elif not operation._call(operation, result):
            if operation._call is finish_first_receive:
                self._move(operation)
            elif operation._call is finish_wait:
                line: DatagramLine = operation._queue
                # no call between these, as in _give_to_kernel()
                line.due = True
                self._table[token] = None
                self._due.append(line)
                return
            elif operation._call is finish_datagram_send:
                self._hand_report_over(cast("Channel", operation._association))
            self._once_more(token, operation)
            return
        self._leave(operation)
        self._table[token] = None
        self._finished.append(operation)

    def _end_cancelled(self, operation: Operation, result: int) -> None:
        """Whichever came first, the cancel or what was waited for (CAN-05)."""
        native: Native = operation._native
        status, native.cause = native.cause, 0
        native.size = -1  # the entry is to be written anew for the next start
        before = operation._value
        sending = operation.opcode in SENDS or operation.opcode is Opcode.WRITE
        partly = sending and native.moved + result < operation._size
        # what went out of a send that was cut off does not count (SEND-08)
        if result < 0 or partly or not operation._call(operation, result):
            self._end(operation, status)
            if operation._value is not before:
                operation._value[0].close()  # an accept that went on to wait for data
                operation._value = None
        elif status == nt.STATUS_PORT_UNREACHABLE:
            sockets.association_of(operation).report()  # data came first: for the next receive
