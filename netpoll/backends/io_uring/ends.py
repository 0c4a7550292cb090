"""How an operation ends: it leaves its line, whose next one gets its turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from netpoll import status as nt
from netpoll.backends import sockets
from netpoll.backends.io_uring.lines import DatagramLine, EndOfStream, Line
from netpoll.backends.io_uring.streams import end_whole, finish_whole
from netpoll.backends.io_uring.wakeups import Wakeups
from netpoll.backends.software import FAILURES
from netpoll.overlapped import Opcode, Overlapped

if TYPE_CHECKING:
    from netpoll.backends.io_uring.table import Channel

    Operation = Overlapped[Any]


class Ends(Wakeups):
    """The ends of operations, and whose turn it is then."""

    __slots__ = ()

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

    def _leave(self, operation: Operation) -> None:
        """The operation has ended: the next of its line gets its turn."""
        channel = cast("Channel", operation._association)
        if operation.opcode is Opcode.CONNECT:
            if channel.writing.refusal == nt.STATUS_INVALID_CONNECTION:
                channel.refuse(0)
        elif channel.polls and channel.forget_poll(operation):
            return  # it stood in no line
        elif channel.first_receives and channel.waits_for_data(operation):
            channel.forget_first_receive(operation)
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

    def _forget_finished(self, operation: Operation) -> None:
        self._finished[:] = [each for each in self._finished if each is not operation]
