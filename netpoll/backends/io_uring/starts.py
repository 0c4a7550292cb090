"""How an operation starts.

The first start looks at once what becomes of the operation, by a plain system call where there is
one for that, and a send, an accept or a connect that has to wait goes to the kernel there and then:
a program that starts one and then does something else is served as on Windows. Those after it leave
that to the wait or to `flush`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from netpoll import status as nt
from netpoll.backends import descriptors, sockets
from netpoll.backends.io_uring import datagrams, operations
from netpoll.backends.io_uring.cancels import Cancels
from netpoll.backends.io_uring.datagrams import finish_datagram_send
from netpoll.backends.io_uring.entries import DatagramNative, Native
from netpoll.backends.io_uring.lines import DatagramLine
from netpoll.backends.io_uring.pooled import wait_first
from netpoll.backends.io_uring.table import PENDING
from netpoll.backends.queues import refuse
from netpoll.backends.software import FAILURES
from netpoll.overlapped import FILES, SENDS, Opcode, Overlapped

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from netpoll.backends.files import FileTransfer
    from netpoll.backends.io_uring.table import Channel

    Operation = Overlapped[Any]


class Starts(Cancels):
    """Starts: what is done once for an operation, and each kind's way to begin."""

    __slots__ = ("_begin_again", "_start_datagram")

    def __init__(self, lock: threading.RLock, single_issuer: bool) -> None:
        super().__init__(lock, single_issuer)
        self._begin_again = self._make_begin()
        self._start_datagram = self._begin_datagram
        """Bound once, so that it can be told by identity."""

    def prepare(self, operation: Operation) -> None:
        sockets.unblock(operation.handle)
        token = self._new_token()
        record = sockets.association_of(operation)
        datagram = record.reading.__class__ is DatagramLine
        native = (DatagramNative if datagram else Native)(token, self._tokens)
        if operation.opcode is Opcode.RECV_POOLED:
            self._adopt(operation._address)
        operations.prepare(operation, native)
        if operation.opcode is Opcode.CONNECT:
            operation._begin = self._begin_connect
        elif operation.opcode is Opcode.DISCONNECT:
            operation._begin = self._begin_disconnect
        elif operation.opcode is Opcode.RECV_POOLED:
            operation._begin = self._begin_pooled
        elif operation.opcode is Opcode.SENDFILE:
            operation._begin = self._begin_sendfile
        elif operation.opcode in sockets.ALONE:
            operation._begin = self._begin_alone
        elif operation.opcode in FILES:
            positioned = descriptors.is_positioned(operation)
            operation._begin = self._begin_at_offset if positioned else self._begin_in_line
        elif operation._perform in (datagrams.receive_datagram, datagrams.send_datagram):
            operation._begin = self._start_datagram
        else:
            operation._begin = self._begin_first

    def redirected(self, operation: Operation, address: bytes) -> None:
        datagrams.readdress(operation, address)

    def _make_begin(self) -> Callable[[Operation], bool]:
        """The hot path of a start, over closed-over names, as in `SoftwarePort`."""
        table, append = self._table, self._started.append

        def begin(operation: Operation) -> bool:
            line = operation._queue
            if line.refusal:
                refuse(operation, line)
                return True
            # the number in the entry must still be this socket's; asking _closed costs 34 ns less
            # than fileno(), which then has the last word
            handle = operation.handle
            if handle._closed and handle.fileno() != operation._association.fd:
                operation._final = nt.STATUS_INVALID_HANDLE
                return True
            native = operation._native
            if line.head is not None:
                line.wait(operation)
                return False
            if operation._size != native.size:
                native.rewrite(operation)
            line.head = operation
            table[native.token] = operation
            append(operation)
            if self._blocked:
                self.wake()
            return False

        return begin

    def _begin_first(self, operation: Operation) -> bool:
        """The first start looks at once what becomes of the operation, as on Windows.

        By a plain system call where there is one for it: to hand two entries over, and to look for
        their completions, took 44 % of the CPU time of a connection that carries one message (by
        py-spy, system calls included). A receive that has to wait after that goes along with the
        next wait.
        """
        operation._begin = self._begin_again
        line = operation._queue
        at_once: Any = operation._perform
        looked = False
        if at_once is not None and not (line.refusal or line.head):
            if at_once(operation):
                return self._ended_inline(operation)
            looked = True
        blocked = self._blocked
        if looked and not blocked and operation.opcode not in SENDS:
            return operation._begin(operation)
        # no need to wake the waiting thread: this one makes the system call
        self._blocked = False
        try:
            if operation._begin(operation):
                return True
        finally:
            self._blocked = blocked
        if line.head is operation:
            self.flush()
        return self._ended_inline(operation)

    def _begin_datagram(self, operation: Operation) -> bool:
        """A start of a datagram is a plain system call, as the first one of others, unless many
        come together: an entry of the ring's takes three times as long. What has to wait goes along
        with the next wait."""
        line = operation._queue
        if line.head is not None and operation._size != operation._native.size:
            operation._native.rewrite(operation)  # it may share the call of those before it
        if not line.refusal and line.head is None:
            if operation._perform(operation):
                skipped = operation._skips or operation._plain_on is None
                if skipped or operation._final >= FAILURES:
                    return True
                # its packet goes behind those that poll has to tell of first
                self._finished.append(operation)
                self.wake()
                return False
            if operation._call is finish_datagram_send:
                operation._native.rewrite(operation)  # the address may have changed since
                self._hand_report_over(cast("Channel", operation._association))
                self._urgent = True
        ended = self._begin_again(operation)
        if self._urgent and not self._blocked:
            self.flush()
        return ended

    def _begin_connect(self, operation: Operation) -> bool:
        channel = cast("Channel", operation._association)
        if channel.writing.refusal:
            refuse(operation, channel.writing)
            return True
        channel.writing.head = operation
        # transfers are refused meanwhile, as on Windows (CON-09)
        channel.refuse(nt.STATUS_INVALID_CONNECTION)
        self._hand_over(operation)
        self.flush()
        # a connect's verdict is never seen within its start, even where the system knows at once
        # (CON-04)
        if operation._final == PENDING or sockets.is_verdict(operation._final):
            return False
        return self._ended_inline(operation)

    def _begin_disconnect(self, operation: Operation) -> bool:
        with sockets.disconnecting(operation):
            ended = self._begin_first(operation)
        operation._begin = self._begin_disconnect
        return ended

    def _begin_sendfile(self, operation: Operation) -> bool:
        transfer: FileTransfer = operation._address
        transfer.open()
        ended = True
        try:
            ended = self._begin_first(operation)
        finally:
            operation._begin = self._begin_sendfile
            if ended:
                transfer.close()
        return ended

    def _begin_alone(self, operation: Operation) -> bool:
        """The start of an operation that stands in no line, but beside the others (EMU-33)."""
        channel = cast("Channel", operation._association)
        if channel.reading.refusal == nt.STATUS_INVALID_HANDLE or not channel.alive():
            operation._final = nt.STATUS_INVALID_HANDLE
            return True
        channel.polls = (*channel.polls, operation)
        self._hand_over(operation)
        self.flush()
        if operation._final == nt.STATUS_END_OF_FILE:
            return False  # it comes as a packet, as on Windows (FILE-01)
        return self._ended_inline(operation)

    def _begin_at_offset(self, operation: Operation) -> bool:
        """The start of a transfer of a file. The kernel may work on several."""
        file = sockets.association_of(operation).file
        assert file is not None
        file.place(operation)
        operation._native.size = -1  # the entry speaks of another place now
        if not self._begin_alone(operation):
            return False
        if operation._final >= FAILURES:
            file.settle(operation)
        return True

    def _begin_in_line(self, operation: Operation) -> bool:
        """The start of a transfer of a pipe."""
        line, channel = operation._queue, cast("Channel", operation._association)
        if line.refusal or not channel.alive():
            operation._final = line.refusal or nt.STATUS_INVALID_HANDLE
            return True
        if line.head is not None:
            line.wait(operation)
            return False
        line.head = operation
        self._hand_over(operation)
        self.flush()
        return self._ended_inline(operation)

    def _begin_pooled(self, operation: Operation) -> bool:
        operation._value = None  # the last start's buffer is the program's alone
        ended = self._begin_first(operation)
        operation._begin = self._begin_pooled_again
        return ended

    def _begin_pooled_again(self, operation: Operation) -> bool:
        operation._value = None
        if not operation._address.free:
            wait_first(operation)
        return self._begin_again(operation)

    def _ended_inline(self, operation: Operation) -> bool:
        if operation._final == PENDING:
            return False
        plain = operation._plain_on is not None and not operation._skips
        if plain and operation._final < FAILURES:
            # its packet goes behind those that poll has to tell of first
            if all(each is not operation for each in self._finished):
                self._finished.append(operation)
                self.wake()
            return False
        self._forget_finished(operation)
        return True
