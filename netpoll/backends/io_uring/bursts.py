"""Datagrams that share a system call: as many as there are receives pending, and the answers.

A receive is given a datagram only once it has been started, so what one `recvmmsg` may take from a
socket is what its pending receives have room for: a server that keeps some dozens pending is served
by the dozen, and what it sends meanwhile goes out by one `sendmmsg`. (The kernel takes three times
as long for an entry of the ring as for a plain call.)

The two calls say how many messages moved, and of what stopped them nothing. That is no loss where
the next try meets it again. `recvmmsg` sees to that itself; for sends see `Bursts.may_send`.
"""

from __future__ import annotations

import errno
import struct
from functools import cache
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final

from netpoll import debugging
from netpoll import status as nt
from netpoll.backends import addresses, sockets
from netpoll.backends.io_uring.entries import MSGHDR, UNUSED
from netpoll.backends.io_uring.library import address_of, syscalls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from netpoll.backends.io_uring.lines import DatagramLine
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]

TOGETHER: Final = 64
"""Datagrams in one call. More gain little, and what both calls bring fits one `get_many`."""
WORDS: Final = MSGHDR.size // 4
FLAGS_WORD, MOVED_WORD = 12, 14
"""Of struct mmsghdr: the flags, and the bytes that moved."""
VECTOR_SIZE: Final = 16
"""Bytes of a struct iovec."""
PENDING: Final = nt.STATUS_PENDING
MSG_TRUNC: Final = sockets.MSG_TRUNC
RECEIVE_FLAGS: Final = sockets.DONTWAIT
SEND_FLAGS: Final = sockets.DONTWAIT | sockets.NOSIGNAL


@cache
def _names(room: int, count: int) -> struct.Struct:
    """So many addresses in a row, of `room` bytes each."""
    return struct.Struct(f"{room}s" * count)


class _Messages:
    """What one system call is given: messages with one buffer and one address each."""

    __slots__ = ("_fresh", "_messages", "_names", "_room", "_vectors", "_words", "address")

    def __init__(self, most: int, room: int) -> None:
        """
        :param room: bytes of an address; all that the kernel writes have that many
        """
        self._room = room
        # a slice of a memoryview is set in a quarter of the time that a bytearray takes
        self._names = memoryview(bytearray(most * room))
        self._vectors = memoryview(bytearray(most * VECTOR_SIZE))
        names, vectors = address_of(self._names), address_of(self._vectors)
        self._fresh = b"".join(
            MSGHDR.pack(names + each * room, room, vectors + each * VECTOR_SIZE, 1, 0, 0, 0, UNUSED)
            for each in range(most)
        )
        self._messages = memoryview(bytearray(self._fresh))
        self._words = self._messages.cast("I")
        self.address: int = address_of(self._messages)

    def fill(self, vectors: bytes, names: bytes = b"") -> None:
        """Make the first messages ready for a call.

        :param vectors: a struct iovec for each
        :param names: where to, of sends
        """
        self._vectors[: len(vectors)] = vectors
        self._names[: len(names)] = names
        size = len(vectors) // VECTOR_SIZE * MSGHDR.size
        self._messages[:size] = self._fresh[:size]

    # columns, which are read in a quarter of the time that rows take

    def moved(self, count: int) -> list[int]:
        """The bytes of each datagram, or `UNUSED`."""
        return self._words[MOVED_WORD : WORDS * count : WORDS].tolist()

    def flags(self, count: int) -> list[int]:
        """What was special about each."""
        return self._words[FLAGS_WORD : WORDS * count : WORDS].tolist()

    def senders(self, count: int) -> list[Any]:
        """Who has sent each."""
        names: Any = _names(self._room, count).unpack_from(self._names)
        found = list(map(addresses.known_senders.get, names))
        if None in found:
            return list(map(addresses.sender, names))
        return found


class Bursts:
    """Receives and sends that share system calls, and what becomes of them."""

    __slots__ = (
        "_finished",
        "_get_peer",
        "_last_error",
        "_length",
        "_messages",
        "_nothing",
        "_receive",
        "_send",
        "calls",
        "most",
    )

    def __init__(self, finished: list[Operation]) -> None:
        """
        :param finished: where the operations go that have ended
        """
        self._finished = finished
        self.most: int = 2 if debugging.enabled(debugging.LIMITS) else TOGETHER
        """Datagrams in one call."""
        self._messages: dict[int, _Messages] = {}
        """By the bytes of an address."""
        self._nothing = bytearray(4)
        self._length = address_of(self._nothing)
        """Of the room for a peer's address: none."""
        calls = syscalls()
        self._get_peer: Callable[..., int] = calls.getpeername
        self._receive: Callable[..., int] = calls.recvmmsg
        self._send: Callable[..., int] = calls.sendmmsg
        self._last_error: Callable[[], int] = calls.last_error
        self.calls: int = 0
        """System calls made so far."""

    def _gather(self, line: DatagramLine) -> list[Operation]:
        """Those at the head of the line."""
        rest: Any = line.rest
        return [line.head, *rest[: self.most - 1]]

    def _messages_for(self, operation: Operation) -> _Messages:
        room = operation._native.room
        messages = self._messages.get(room)
        if messages is None:
            messages = self._messages[room] = _Messages(self.most, room)
        return messages

    # -- receive -----------------------------------------------------------------------------------

    def receive(self, line: DatagramLine) -> tuple[int, int]:
        """Fill the receives at the head of the line with the datagrams that are there.

        :return: how many; and the errno of the first one, if that has failed
        """
        run = self._gather(line)
        vectors: list[Any] = [operation._native.vector for operation in run]
        try:
            buffers = b"".join(vectors)
        except TypeError:  # one that has to go alone
            del vectors[vectors.index(None) :]
            if not vectors:
                return 0, errno.EAGAIN  # what is special about it only the kernel knows
            buffers = b"".join(vectors)
        messages = self._messages_for(run[0])
        messages.fill(buffers)
        self.calls += 1
        try:
            taken = self._receive(
                run[0]._association.fd, messages.address, len(vectors), RECEIVE_FLAGS, 0
            )
            if taken < 0:
                return 0, self._last_error()
            self._end_receives(run, messages, taken)
            let_go(line, taken)
        except BaseException:
            # Ctrl-C: the kernel has noted in each message what it brought
            self._end_receives(run, messages, _number_tried(messages.moved(len(vectors))))
            let_go(line, _number_ended(line))
            raise
        return taken, 0

    def _end_receives(self, run: list[Operation], messages: _Messages, count: int) -> None:
        """The first `count` have got their datagrams; some may have been told already."""
        finished = self._finished
        flags = messages.flags(count)
        finals: Iterable[int] = repeat(0)
        if flags.count(0) != count:
            truncated = nt.STATUS_BUFFER_OVERFLOW
            finals = [truncated if each & MSG_TRUNC else 0 for each in flags]
        brought = zip(run, messages.moved(count), finals, messages.senders(count))  # noqa: B905
        for operation, length, final, sender in brought:
            if operation._final == PENDING:
                operation.transferred = length
                operation._value = sender
                # no call between these: whoever is not pending any more is in the list
                operation._final = final
                finished.append(operation)

    # -- send --------------------------------------------------------------------------------------

    def may_send(self, line: DatagramLine) -> bool:
        """Whether no send can meet what an earlier datagram has met: such an error would be gone
        with the call that did not report it. A socket without a peer is told of none, unless it
        has asked for that."""
        head: Operation = line.head
        if head._native.vector is None:
            return False
        record: Any = head._association
        return not record.reports and self._get_peer(record.fd, self._length, self._length) < 0

    def send(self, line: DatagramLine) -> int:
        """Send what stands at the head of the line; how many datagrams went."""
        run = self._gather(line)
        natives: list[Any] = [operation._native for operation in run]
        vectors: list[Any] = [native.vector for native in natives]
        try:
            buffers = b"".join(vectors)
        except TypeError:  # one that has to go alone
            del vectors[vectors.index(None) :]
            buffers = b"".join(vectors)
            del natives[len(vectors) :]
        messages = self._messages_for(run[0])
        messages.fill(buffers, b"".join([native.name for native in natives]))
        self.calls += 1
        try:
            sent = self._send(run[0]._association.fd, messages.address, len(natives), SEND_FLAGS)
            if sent <= 0:
                return 0
            self._end_sends(run[:sent])
            let_go(line, sent)
        except BaseException:
            self._end_sends(run[: _number_tried(messages.moved(len(natives)))])
            let_go(line, _number_ended(line))
            raise
        return sent

    def _end_sends(self, run: list[Operation]) -> None:
        """They have gone; some may have been told already."""
        finished = self._finished
        for operation in run:
            if operation._final == PENDING:
                operation.transferred = operation._size
                operation._final = 0
                finished.append(operation)


def _number_tried(moved: list[int]) -> int:
    """How far the kernel has come."""
    return [*moved, UNUSED].index(UNUSED)


def _number_ended(line: DatagramLine) -> int:
    """How many at the head of the line have ended."""
    if line.head is None:
        return 0
    pending = [each._final == PENDING for each in (line.head, *line.waiting())]
    return [*pending, True].index(True)


def let_go(line: DatagramLine, ended: int) -> None:
    """The first `ended` leave the line."""
    rest: Any = line.rest
    if ended > len(rest):
        line.head = None
        line.due = False
        rest.clear()
    elif ended:
        # no call between these, see Line.advance()
        line.head = rest[ended - 1]
        del rest[:ended]
