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
    Message = tuple[tuple[int, int, int], tuple[bytes]]

TOGETHER: Final = 32
"""Datagrams in one call. More gain little, and what both calls bring fits one `get_many`."""
MOVED: Final = struct.Struct("=8xI36xI4xI4x")
"""Of struct mmsghdr: the length of the name, the flags, and the bytes that moved."""
VECTOR_SIZE: Final = 16
"""Bytes of a struct iovec."""
PENDING: Final = nt.STATUS_PENDING
MSG_TRUNC: Final = sockets.MSG_TRUNC
RECEIVE_FLAGS: Final = sockets.DONTWAIT
SEND_FLAGS: Final = sockets.DONTWAIT | sockets.NOSIGNAL


class _Incoming:
    """The messages of one `recvmmsg`, each with a place for the sender's address."""

    __slots__ = ("_fresh", "_messages", "_names", "_vectors", "address", "name", "room")

    def __init__(self, most: int, room: int) -> None:
        """
        :param room: bytes of an address
        """
        self.room = room
        self.name = struct.Struct(f"{room}s")
        # a slice of a memoryview is set in a quarter of the time that a bytearray takes
        self._names = memoryview(bytearray(most * room))
        self._vectors = memoryview(bytearray(most * VECTOR_SIZE))
        names, vectors = address_of(self._names), address_of(self._vectors)
        self._fresh = b"".join(
            MSGHDR.pack(names + each * room, room, vectors + each * VECTOR_SIZE, 1, 0, 0, 0, UNUSED)
            for each in range(most)
        )
        self._messages = memoryview(bytearray(self._fresh))
        self.address: int = address_of(self._messages)

    def fill(self, vectors: bytes) -> None:
        """Make the first messages ready for another call."""
        self._vectors[: len(vectors)] = vectors
        size = len(vectors) // VECTOR_SIZE * MSGHDR.size
        self._messages[:size] = self._fresh[:size]

    def brought(self, count: int) -> Iterable[Message]:
        """What the first `count` messages are now."""
        moved: Iterable[Any] = MOVED.iter_unpack(self._messages[: MSGHDR.size * count])
        names: Iterable[Any] = self.name.iter_unpack(self._names[: self.room * count])
        return zip(moved, names, strict=True)


class Bursts:
    """Receives and sends that share system calls, and what becomes of them."""

    __slots__ = (
        "_finished",
        "_get_peer",
        "_incoming",
        "_last_error",
        "_length",
        "_messages",
        "_nothing",
        "_outgoing",
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
        self._incoming: dict[int, _Incoming] = {}
        self._messages = memoryview(bytearray(MSGHDR.size * self.most))
        self._outgoing = address_of(self._messages)
        self._nothing = bytearray(4)
        self._length = address_of(self._nothing)
        calls = syscalls()
        self._get_peer: Callable[..., int] = calls.getpeername
        self._receive: Callable[..., int] = calls.recvmmsg
        self._send: Callable[..., int] = calls.sendmmsg
        self._last_error: Callable[[], int] = calls.last_error
        self.calls: int = 0
        """System calls made so far."""

    def _gather(self, line: DatagramLine) -> list[Operation]:
        """Those at the head of the line."""
        rest = line.rest
        if not rest:
            return [line.head]
        run: list[Operation] = [line.head, *rest]
        del run[self.most :]
        return run

    # -- receive -----------------------------------------------------------------------------------

    def receive(self, line: DatagramLine) -> tuple[int, int]:
        """Fill the receives at the head of the line with the datagrams that are there.

        :return: how many; and the errno of the first one, if that has failed
        """
        run = self._gather(line)
        vectors: list[Any] = [operation._native.vector for operation in run]
        if None in vectors:
            del vectors[vectors.index(None) :]
            if not vectors:
                return 0, errno.EAGAIN  # what is special about it only the kernel knows
        incoming = self._incoming_of(run[0])
        incoming.fill(b"".join(vectors))
        self.calls += 1
        try:
            taken = self._receive(
                run[0]._association.fd, incoming.address, len(vectors), RECEIVE_FLAGS, 0
            )
            if taken < 0:
                return 0, self._last_error()
            self._end_receives(run, incoming.brought(taken), incoming.room)
        except BaseException:
            # Ctrl-C: the kernel has noted in each message what it brought
            tried = zip(run, incoming.brought(len(vectors)), strict=False)
            left = [(each, message) for each, message in tried if _is_left(each, message[0])]
            self._end_receives(
                [each for each, _ in left], [each for _, each in left], incoming.room
            )
            raise
        finally:
            let_go(line)
        return taken, 0

    def _incoming_of(self, operation: Operation) -> _Incoming:
        room = operation._native.room
        incoming = self._incoming.get(room)
        if incoming is None:
            incoming = self._incoming[room] = _Incoming(self.most, room)
        return incoming

    def _end_receives(self, run: list[Operation], brought: Iterable[Message], room: int) -> None:
        append = self._finished.append
        known = addresses.known_senders.get
        for operation, ((used, flags, length), (name,)) in zip(run, brought):  # noqa: B905
            value = known(name)
            if value is None or used != room:
                value = addresses.sender(name[:used])
            operation.transferred = length
            operation._value = value
            # no call between these: whoever is not pending any more is in the list
            operation._final = nt.STATUS_BUFFER_OVERFLOW if flags & MSG_TRUNC else 0
            append(operation)

    # -- send --------------------------------------------------------------------------------------

    def may_send(self, line: DatagramLine) -> bool:
        """Whether no send can meet what an earlier datagram has met: such an error would be gone
        with the call that did not report it. A socket without a peer is told of none, unless it
        has asked for that."""
        head: Operation = line.head
        if head._native.header is None:
            return False
        record: Any = head._association
        return not record.reports and self._get_peer(record.fd, self._outgoing, self._length) < 0

    def send(self, line: DatagramLine) -> int:
        """Send what stands at the head of the line; how many datagrams went."""
        run = self._gather(line)
        headers: list[Any] = [operation._native.header for operation in run]
        try:
            messages = b"".join(headers)
        except TypeError:  # one that has to go alone
            del headers[headers.index(None) :]
            messages = b"".join(headers)
        self._messages[: len(messages)] = messages
        self.calls += 1
        try:
            sent = self._send(run[0]._association.fd, self._outgoing, len(headers), SEND_FLAGS)
            self._end_sends(run[:sent] if sent >= 0 else [])
        except BaseException:
            moved = MOVED.iter_unpack(self._messages[: len(messages)])
            tried = zip(run, moved, strict=False)
            self._end_sends([each for each, message in tried if _is_left(each, message)])
            raise
        finally:
            let_go(line)
        return max(sent, 0)

    def _end_sends(self, run: list[Operation]) -> None:
        append = self._finished.append
        for operation in run:
            operation.transferred = operation._size
            operation._final = 0
            append(operation)


def _is_left(operation: Operation, moved: tuple[int, int, int]) -> bool:
    """Whether the kernel has come to it, and we have not."""
    return operation._final == PENDING and moved[2] != UNUSED


def let_go(line: DatagramLine) -> None:
    """Those that have ended leave the line."""
    rest = line.rest
    last = rest[-1] if rest else line.head
    if last._final != PENDING:
        line.head = None
        line.due = False
        if rest:
            rest.clear()
        return
    while line.head._final != PENDING:
        line.advance()
