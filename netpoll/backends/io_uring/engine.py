"""The engine over io_uring: entries queue up, one system call hands them over and waits.

A start appends its ready-made entry to a list, which goes to the kernel with the next wait. The
first start of an operation looks at once what becomes of it, by a plain system call where there is
one for that, and a send, an accept or a connect that has to wait goes to the kernel there and then:
a program that starts one and then does something else is served as on Windows. `resubmit`, the path
of hot loops, leaves it to the wait or to `flush`.

The kernel ends the pending operations of a thread that exits, with ECANCELED. Nobody asked for
that: such an operation is handed over again, by whoever sees it.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import logging
import os
import socket
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

from netpoll import status as nt
from netpoll.backends import addresses, datagrams, descriptors, sockets, software
from netpoll.backends.base import Association, Capability, Engine
from netpoll.backends.io_uring import constants as uring
from netpoll.backends.io_uring import operations
from netpoll.backends.io_uring.bursts import Bursts, let_go
from netpoll.backends.io_uring.connections import finish_first_receive
from netpoll.backends.io_uring.datagrams import (
    can_resend,
    fail,
    finish_datagram_send,
    finish_wait,
    receive_datagram,
    retarget,
    send_datagram,
    write_wait,
)
from netpoll.backends.io_uring.entries import NEVER, SQE, DatagramNative, Native
from netpoll.backends.io_uring.library import address_of
from netpoll.backends.io_uring.lines import DatagramLine, EndOfStream, Line
from netpoll.backends.io_uring.pooled import Provided, receive_into, wait_first
from netpoll.backends.io_uring.ring import Ring
from netpoll.backends.io_uring.staging import StagedSend, Staging
from netpoll.backends.io_uring.streams import end_whole, finish_whole
from netpoll.backends.queues import refuse
from netpoll.backends.software import FAILURES, reacquire
from netpoll.buffers import total
from netpoll.overlapped import FILES, SENDS, Opcode, Overlapped
from netpoll.pools import Starved

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll.backends.files import FileTransfer
    from netpoll.pools import BufferPool

    Operation = Overlapped[Any]

_os: Any = os
"""For names that are declared on Linux only."""
_logger = logging.getLogger("netpoll")

PENDING: Final = nt.STATUS_PENDING
PATIENCE: Final = 0.05
"""Seconds to wait for the end of what was cancelled, where the caller has to know it. It usually is
there at once; another thread that has handed the operation over may have to run first."""
DRAIN: Final = 5.0
"""Seconds to wait, when the port closes, for the ends of what was cancelled."""
SCARCE: Final = 1.0
"""Seconds without a lack of descriptors after which the next one is news."""
PAST: Final = 3
"""Waits that datagrams may end in a row without a look at the ring, which costs a system call."""
WAKE: Final = 0
"""The token of the read that other threads end a wait with."""
IGNORED: Final = 1
"""The token of what nobody looks at the completion of."""

_engines: weakref.WeakSet[IoUringEngine] = weakref.WeakSet()
_left_over: list[object] = []
"""The memory that the kernel did not give back: it may still write there."""


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


class IoUringEngine(Engine):
    """OVERLAPPED operations as the kernel's own."""

    __slots__ = (
        "__weakref__",
        "_again",
        "_batch",
        "_begin_again",
        "_blocked",
        "_bursts",
        "_due",
        "_fed",
        "_finished",
        "_lock",
        "_owner",
        "_past",
        "_paused",
        "_polls",
        "_pools",
        "_queued",
        "_resend",
        "_ring",
        "_scarce_until",
        "_staging",
        "_start_datagram",
        "_started",
        "_starved",
        "_table",
        "_tokens",
        "_turn",
        "_urgent",
        "_wake_buffer",
        "_wake_entry",
        "_wake_fd",
        "_wake_pending",
        "_wakes",
        "_woken",
    )

    name = "io_uring"

    def __init__(self, lock: threading.RLock, single_issuer: bool = False) -> None:
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
        self._batch: list[tuple[int, int, int]] = []
        """Completions taken from the ring and not looked at yet."""
        self._again: list[Operation] = []
        """Operations to be handed over once more."""
        self._finished: list[Operation] = []
        self._bursts = Bursts(self._finished)
        self._staging: Staging | None = None
        self._past = 0
        """Waits in a row that had enough of those, and did not look at the ring."""
        self._due: list[DatagramLine] = []
        """Where datagrams have been started that are to share a system call."""
        self._paused: dict[Channel, tuple[Operation, float]] = {}
        """Listeners without a descriptor for the next connection, and when to try again."""
        self._starved: dict[Channel, Operation] = {}
        """What has data, and waits for a pool's buffer."""
        self._fed: deque[Channel] = deque()
        """Where there is one now. Filled from any thread, without the lock."""
        self._pools: list[BufferPool] = []
        """Whose rings the kernel knows; the place is the group's number."""
        self._scarce_until = 0.0
        self._urgent = False
        """Entries are queued that should not have to wait for the next wait."""
        self._blocked = False
        self._woken = False
        self._polls = 0
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
        self._begin_again = self._make_begin()
        self._start_datagram = self._begin_datagram
        """Bound once, so that it can be told by identity."""
        self._turn = self._ring.make_turn(lock.release, self._after_wait)
        _engines.add(self)

    # -- handles -----------------------------------------------------------------------------------

    def attach(self, handle: Any, fd: int) -> Channel:
        sockets.unblock(handle)
        return Channel(handle, fd)

    def detach(self, association: Association) -> list[Operation]:
        channel = cast("Channel", association)
        sockets.about_to_close(channel)
        channel.closing = False
        channel.refuse(nt.STATUS_INVALID_HANDLE)
        pending = self.pending(channel)
        for operation in pending:
            self._stop(operation, sockets.status_of_close(operation))
        self._await(pending)
        ended = [each for each in pending if each._final != PENDING]
        # in place: a poll in another thread holds this list while it waits
        self._finished[:] = [each for each in self._finished if each._association is not channel]
        return ended

    def shutdown(self, association: Association, how: int) -> None:
        channel = cast("Channel", association)
        sockets.shutdown(channel, how)
        if channel.closing:
            channel.closing = False
            channel.writing.wait(EndOfStream(channel))

    def refuse(self, association: Association, status: int) -> None:
        cast("Channel", association).refuse(status)

    def report_unreachable(self, association: Association, on: bool) -> None:
        datagrams.switch_reports(cast("Channel", association), on)

    # -- starting ----------------------------------------------------------------------------------

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
        elif operation._perform in (receive_datagram, send_datagram):
            operation._begin = self._start_datagram
            if can_resend(operation):
                operation._resend = self._resend
        else:
            operation._begin = self._begin_first

    def _new_token(self) -> int:
        """A place in the table."""
        try:
            return self._tokens.pop()
        except IndexError:
            self._table.append(None)
            return len(self._table) - 1

    def staging(self) -> Staging:
        if self._staging is None:
            self._staging = Staging(self)
        return self._staging

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

    def make_resubmit(
        self, port: Any, general: Callable[..., Operation]
    ) -> Callable[..., Operation]:
        """What `SoftwarePort.resubmit` and `begin` do where nothing stands in the way, in one
        function: 50 ns an operation less."""
        acquire, release, lock = self._lock.acquire, self._lock.release, self._lock
        table, append, begin = self._table, self._started.append, self._begin_again
        bytes_of = addresses.bytes_of.get
        begin_datagram, now_due = self._start_datagram, self._due.append
        pending = PENDING

        def resubmit(overlapped: Operation, size: int | None = None) -> Operation:
            if overlapped._in_use:
                overlapped._refuse_use()
            if size is not None and size != overlapped._size:
                overlapped._resize(size)
            try:
                acquire()
                line = overlapped._queue
                if (
                    overlapped._plain_on is port
                    and overlapped._begin is begin
                    and line.head is None
                    and not line.refusal
                    and not overlapped.handle._closed
                ):
                    native = overlapped._native
                    if overlapped._size != native.size:
                        native.rewrite(overlapped)
                    overlapped._in_use = True
                    overlapped.done = False
                    overlapped._final = pending
                    overlapped._since = port._now  # type: ignore[union-attr]
                    line.head = overlapped
                    table[native.token] = overlapped
                    append(overlapped)
                    if self._blocked:
                        self.wake()
                    return overlapped
                if (
                    overlapped._begin is begin_datagram
                    and line.burst
                    and overlapped._plain_on is port
                    and not line.refusal
                    and not overlapped.handle._closed
                    and not self._blocked
                ):
                    native = overlapped._native
                    if overlapped._size != native.size:
                        native.rewrite(overlapped)
                    overlapped._in_use = True
                    overlapped.done = False
                    overlapped._final = pending
                    overlapped._since = port._now  # type: ignore[union-attr]
                    if line.head is None:
                        line.due = True
                        line.head = overlapped
                        now_due(line)
                    else:
                        line.rest.append(overlapped)
                    return overlapped
            finally:
                try:
                    release()
                except RuntimeError:  # Ctrl-C while waiting for the lock: it never was ours
                    assert not lock._is_owned()  # type: ignore[attr-defined]
            return general(overlapped)

        def resend(overlapped: Operation, address: Any, size: int | None) -> Operation:
            """The same of a `sendto`, with another address."""
            if overlapped._in_use:
                overlapped._refuse_use()
            if size is None:
                size = total(overlapped._pinned)  # type: ignore[arg-type]
            native = overlapped._native
            known = bytes_of(id(address))
            if (
                known is None
                or known[0] is not address
                or native.kept is None
                or native.room != len(known[1])
            ):
                retarget(overlapped, address)
                return resubmit(overlapped, size)
            native.name[:] = known[1]
            overlapped._address = address
            if size != overlapped._size:
                overlapped._resize(size)
            try:
                acquire()
                line = overlapped._queue
                if (
                    line.burst
                    and not line.refusal
                    and not overlapped.handle._closed
                    and not self._blocked
                ):
                    if size != native.size:
                        native.rewrite(overlapped)
                    overlapped._in_use = True
                    overlapped.done = False
                    overlapped._final = pending
                    overlapped._since = port._now
                    if line.head is None:
                        line.due = True
                        line.head = overlapped
                        now_due(line)
                    else:
                        line.rest.append(overlapped)
                    return overlapped
            finally:
                try:
                    release()
                except RuntimeError:
                    assert not lock._is_owned()  # type: ignore[attr-defined]
            return general(overlapped)

        self._resend = resend
        return resubmit

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
                self._hand_report_over(cast("Channel", operation._association))
                self._urgent = True
        ended = self._begin_again(operation)
        if self._urgent and not self._blocked:
            self.flush()
        return ended

    def _begin_connect(self, operation: Operation) -> bool:
        channel = cast("Channel", operation._association)
        if channel.writing.refusal:
            operation._final = channel.writing.refusal
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

    def _forget_finished(self, operation: Operation) -> None:
        self._finished[:] = [each for each in self._finished if each is not operation]

    def _hand_over(self, operation: Operation) -> None:
        native: Native = operation._native
        if native.size != operation._size and operation.opcode is not Opcode.CONNECT:
            native.rewrite(operation)
        self._table[native.token] = operation
        self._started.append(operation)
        self._urgent = True

    def _may_call(self) -> bool:
        return self._owner is None or self._owner == threading.get_ident()

    def flush(self) -> None:
        if not self._may_call():
            self.wake()  # the owner's next wait takes it along
            return
        self._urgent = True
        while self._urgent:
            self._urgent = False
            if self._due:
                self._try_due()
            self._submit()
            self._take_in()
        self._nudge()

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

    # -- datagrams by the dozen --------------------------------------------------------------------

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
            if each.rest is None:
                each.rest = deque()
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
            let_go(line)

    def _give_to_kernel(self, line: DatagramLine) -> None:
        """The head has to wait, alone."""
        head: Operation = line.head
        native: Native = head._native
        if line.rest and native.vector is not None:
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

    def _nudge(self) -> None:
        """Another thread may be on its way into its wait, and the completions that would have ended
        that were taken by this one."""
        if not self._blocked:
            return
        if not self._wake_pending:
            self._arm_wake()
            self._submit()
            self.wake()
        elif self._finished:
            self.wake()

    def _arm_wake(self) -> None:
        self._wake_pending = True
        self._queued.append(self._wake_entry)

    # -- cancelling --------------------------------------------------------------------------------

    def cancel(self, operation: Operation, status: int) -> bool:
        if operation._native.cause or not self._stop(operation, status):
            return False
        self._await([operation])
        if operation._final != PENDING:
            self._forget_finished(operation)
        elif self._blocked:
            self.wake()
        return True

    def _stop(self, operation: Operation, status: int) -> bool:
        """Ask for the end of an operation; whether there was anything to ask for."""
        if self._again:
            self._take_in()  # Ctrl-C has left it there
        if operation._final != PENDING:
            return False
        native: Native = operation._native
        if operation._queue.remove(operation) or self._unpause(operation):
            self._end(operation, status)
            return True
        if self._due:
            self._hand_due_over()
        if self._table[native.token] is not operation:
            return False
        if self._may_call():
            native.cause = status
            operation._least = NEVER  # so that its end is looked at
            self._submit()
            self._ring.cancel(native.token)
        else:
            self._queue_stop(operation, status)
            self.wake()
        return True

    def _queue_stop(self, operation: Operation, status: int) -> None:
        """Ask for the end of an operation that the kernel has, with the next system call."""
        native: Native = operation._native
        native.cause = status
        operation._least = NEVER
        entry = bytearray(uring.SQE_SIZE)
        SQE.pack_into(
            entry, 0, uring.IORING_OP_ASYNC_CANCEL, 0, 0, -1, 0, native.token, 0, 0, IGNORED
        )
        if self._due:
            self._hand_due_over()
        if self._started:
            self._queue_started()  # what it asks the end of goes out before it
        self._queued.append(entry)

    def _await(self, stopped: list[Operation]) -> None:
        """Give what was stopped a moment to end."""
        if not self._may_call():
            return  # nor take completions away from the owner, who could not be woken then
        deadline = time.monotonic() + PATIENCE
        self._take_in()
        while any(each._final == PENDING for each in stopped):
            if time.monotonic() >= deadline:
                break  # poll will return it
            self._ring.wait(0.001)
            self._take_in()
        if self._urgent:
            self.flush()
        self._nudge()

    def _end(self, operation: Operation, status: int) -> None:
        """End an operation that the kernel has nothing of."""
        if operation._call is finish_whole and operation._native.moved:
            end_whole(operation)  # what has come is not lost (CAN-10)
            return
        operation._final = status
        operation.transferred = 0
        if operation.opcode is Opcode.SENDFILE:
            operation._address.close()
        elif operation.opcode is Opcode.RECV_POOLED:
            starved, operation._native.kept = operation._native.kept, None
            if starved is not None:
                operation._address.leave(starved)
        file = operation._association.file
        if file is not None:
            file.settle(operation)

    def pending(self, association: Association) -> list[Operation]:
        channel = cast("Channel", association)
        heads = [line.head for line in (channel.reading, channel.writing) if line.head is not None]
        return [
            *heads[:1],
            *channel.reading.waiting(),
            *heads[1:],
            *channel.writing.waiting(),
            *channel.first_receives,
            *channel.polls,
            *(each for each in self._finished if each._association is channel),
        ]

    # -- waiting -----------------------------------------------------------------------------------

    def poll(self, timeout: float | None) -> list[Operation]:
        finished = self._finished
        if not self._may_call():
            raise RuntimeError(
                "this port was made with single_issuer=True: only the thread that made it may wait"
            )
        self._polls += 1
        staging = self._staging
        if staging is not None and staging.pending:
            staging.queue()
            if self._ring.available():
                self._submit()  # the peers are to go on, and the turn would make no system call
        if self._due:
            self._try_due()
            if finished and self._past < PAST and not (self._started or self._queued):
                self._past += 1
                return finished
            self._past = 0
        if self._started:
            self._queue_started()
        if finished or self._batch:
            timeout = 0
        if self._paused:
            pause = max(0.0, min(when for _, when in self._paused.values()) - time.monotonic())
            timeout = pause if timeout is None else min(timeout, pause)
        if not self._wake_pending:
            self._arm_wake()
        self._blocked = True
        try:
            self._turn(self._queued, self._batch, timeout)
        finally:
            self._blocked = False  # also where no system call was needed
        self._look_at_batch()
        if staging is not None and staging.flying:
            staging.confirm()
        if self._due and not finished:
            self._try_due()
        if self._paused:
            self._resume()
        if self._urgent:
            self.flush()
        return finished

    def _after_wait(self) -> None:
        """Take the port's lock back."""
        lock = self._lock
        try:
            lock.acquire()
        except BaseException:  # Ctrl-C while another thread had it
            if not lock._is_owned():  # type: ignore[attr-defined]
                reacquire(lock)
            raise
        finally:
            self._blocked = False

    def _take_in(self) -> None:
        """Look at the completions that are there."""
        self._ring.take(self._batch)
        self._look_at_batch()

    def _look_at_batch(self) -> None:
        batch, table = self._batch, self._table
        append = self._finished.append
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
                else:
                    self._settle(token, operation, result, flags)
        except BaseException:
            # Ctrl-C: what was looked at is not in the table any more
            batch[:] = [each for each in batch if table[each[0]] is not None]
            raise
        batch.clear()
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
        elif result in (-errno.ECANCELED, -errno.EINTR, -errno.EAGAIN):
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

    def _once_more(self, token: int, operation: Operation) -> None:
        self._again.append(operation)
        self._table[token] = None

    def _leave(self, operation: Operation) -> None:
        """The operation has ended: the next of its line gets its turn."""
        channel = cast("Channel", operation._association)
        if operation.opcode is Opcode.CONNECT:
            if channel.writing.refusal == nt.STATUS_INVALID_CONNECTION:
                channel.refuse(0)
        elif channel.polls and channel.forget_poll(operation):
            return  # it stood in no line
        elif operation in channel.first_receives:
            channel.first_receives.remove(operation)
            if operation._final >= FAILURES and operation._value is not None:
                operation._value[0].close()
                operation._value = None
            operation._native.rewrite(operation)
            return
        if operation._queue.head is operation:
            self._advance(operation._queue)

    def _advance(self, line: Line) -> None:
        following = line.advance()
        if isinstance(following, EndOfStream):
            line.head = None
            sockets.send_fin(following.record)
        elif following is None:
            return
        elif not following._native.room or following.handle._closed:
            self._hand_over(following)
        else:
            datagrams = cast("DatagramLine", line)
            datagrams.due = True
            self._due.append(datagrams)

    def _move(self, operation: Operation) -> None:
        """An accept has its connection and waits for data on it; the next accept gets its turn."""
        channel = cast("Channel", operation._association)
        channel.first_receives.append(operation)
        self._advance(channel.reading)

    # -- scarcity ----------------------------------------------------------------------------------

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

    def _adopt(self, pool: BufferPool) -> None:
        """Make the pool's buffers known to the kernel, at its first use."""
        if pool.home is None:
            Provided(pool, self._ring, len(self._pools))
            self._pools.append(pool)

    def _starve(self, token: int, operation: Operation) -> None:
        """There is no buffer; and if that was asked for, there is data."""
        if wait_first(operation):
            self._once_more(token, operation)
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

    def _resume(self) -> None:
        now = time.monotonic()
        for channel, (operation, when) in list(self._paused.items()):
            if when <= now:
                del self._paused[channel]
                self._hand_over(operation)

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

    # -- the engine as a whole ---------------------------------------------------------------------

    def wake(self) -> None:
        if self._blocked and not self._woken:
            self._woken = True
            self._wakes += 1
            self.interrupt()

    def interrupt(self) -> None:
        with contextlib.suppress(OSError):  # closed: nobody is left to wake
            _os.eventfd_write(self._wake_fd, 1)

    def drain(self) -> list[Operation]:
        """Every operation has been cancelled, and the port is about to close: wait for their
        ends."""
        pending = self._in_kernel()
        deadline = time.monotonic() + DRAIN
        while any(each._final == PENDING for each in pending) and time.monotonic() < deadline:
            if self._may_call():
                self._submit()  # where another thread has asked for the ends
                self._await(pending)
            elif self._blocked:
                self._let_the_owner_drain()
            else:
                break  # only the owner could ask the kernel: the end of the ring has to do
        left = [each for each in pending if each._final == PENDING]
        if left:
            names = ", ".join(map(repr, left))
            if self._may_call():
                _logger.error("the kernel does not give back: %s", names)
            else:
                _logger.info("not closed by its only thread, a port keeps the memory of: %s", names)
            for operation in left:
                # not the operation, which the program may release or use again
                _left_over.append((operation._native, operation._pinned, operation._view))
                _left_over.append(operation._address)
                self._end(operation, nt.STATUS_CANCELLED)
        return pending

    def _let_the_owner_drain(self) -> None:
        """It is in its wait, and closes the engine when it comes out."""
        self.wake()
        lock: Any = self._lock
        held = lock._release_save()
        try:
            time.sleep(0.001)
        finally:
            lock._acquire_restore(held)

    def _in_kernel(self) -> list[Operation]:
        return [each for each in self._table[IGNORED:] if isinstance(each, Overlapped)]

    def close(self) -> None:
        if self._ring.fd < 0:
            return
        _engines.discard(self)
        self.drain()
        self._finished.clear()  # what they have brought is nobody's any more
        if self._may_call():
            self._ring.cancel(WAKE)
        self._ring.close()
        os.close(self._wake_fd)

    def stats(self) -> dict[str, int]:
        return {"polls": self._polls, "wakes": self._wakes, "enters": self._ring.enters}

    @staticmethod
    def capability(opcode: str) -> Capability:
        return operations.capability(opcode)


def _refuse(*_: object) -> NoReturn:
    raise RuntimeError("this port is the parent process's: make a new one after fork()")


class ParentsEngine(IoUringEngine):
    """What an engine turns into in a child process: the ring, which the two share, is the
    parent's."""

    __slots__ = ()

    def pending(self, association: Association) -> list[Operation]:
        return []

    def drain(self) -> list[Operation]:
        return []

    def close(self) -> None:
        """The child's copies are closed already."""


for _name in ("attach", "detach", "shutdown", "prepare", "cancel"):
    setattr(ParentsEngine, _name, _refuse)
for _name in ("poll", "flush", "wake", "interrupt"):
    setattr(ParentsEngine, _name, _refuse)


def _in_child() -> None:
    """After fork(): the rings are the parent's."""
    for engine in list(_engines):
        with contextlib.suppress(BufferError):  # another thread is just looking at completions
            engine._ring.close()
        os.close(engine._wake_fd)
        engine._blocked = True  # so that a start has to wake, and is refused
        engine.__class__ = ParentsEngine
    _engines.clear()


if hasattr(_os, "register_at_fork"):
    _os.register_at_fork(after_in_child=_in_child)


@atexit.register
def _at_exit() -> None:
    """Whatever is pending when the interpreter ends must not write to memory that is gone."""
    for port in list(software.ports):
        if port.name == IoUringEngine.name:
            port.close()
