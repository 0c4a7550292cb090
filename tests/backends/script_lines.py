"""What of a script waits, and for what: lines of operations, what has come for them, and pools."""

from __future__ import annotations

import socket
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backends.script_freedoms import ended_later

from netpoll import BufferPool, Overlapped, PooledBuffer
from netpoll.buffers import total

if TYPE_CHECKING:
    from collections.abc import Callable

    from backends.scripts import World

    Operation = Overlapped[Any]


class Again:
    """The last of some operations, to be started again."""

    def __init__(self) -> None:
        self._operations: list[Operation] = []

    def add(self, operation: Operation | None) -> None:
        if operation is not None:
            self._operations.append(operation)

    def drop(self, operation: Operation) -> None:
        """Its start has failed, after which its status says nothing (OVL-02)."""
        self._operations.remove(operation)

    def finished(self, size: int = 0) -> Operation | None:
        """It, if it may be started again, and has room for so much."""
        while self._operations and not ended_later(self._operations[-1]):
            self._operations.pop()
        if not self._operations or not self._operations[-1].done:
            return None
        operation = self._operations[-1]
        pinned = operation._pinned
        return operation if size <= (total(pinned) if pinned else 0) else None


class Waiting:
    """Operations on one handle that wait for the same thing, oldest first."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.operations: deque[Operation] = deque()

    def add(self, begin: Callable[[], Operation]) -> Operation | None:
        operation = self.world.start(begin)
        if operation is not None:
            self.operations.append(operation)
        return operation

    def pop(self) -> Operation:
        """The oldest one has what it waited for."""
        operation = self.operations.popleft()
        self.world.is_due(operation)
        return operation

    def forget(self, operation: Operation) -> bool:
        if operation not in self.operations:
            return False
        self.operations.remove(operation)
        return True

    def end(self, *, closing: bool) -> None:
        """All of them end: their handle is closed, or they are cancelled."""
        if closing:
            self.world.closing.update(self.operations)
        while self.operations:
            self.pop()


@dataclass
class Piece:
    """Bytes that have come together."""

    size: int
    beside: bool
    """Whether there is control data with them."""


class Inbox(Waiting):
    """Receives, and what has come for them."""

    def __init__(self, world: World, *, stream: bool) -> None:
        super().__init__(world)
        self.stream = stream
        self.arrived: list[Piece] = []
        """What nobody has received, by datagram; of a stream as little as can be told apart."""
        self.over = False
        """Nothing more will come: every receive ends."""
        self.reports = 0
        """Datagrams that found no port, and that no receive has told of; several are one."""
        self.refusing = False
        """A peek was told of such a datagram, so the next start is too (UDP-07)."""
        self.pool: Pool | None = None
        """Where receives take their buffers from."""
        self.had = 0
        """What the oldest has, which waits for all of its bytes."""

    def add(self, begin: Callable[[], Operation], *, peeks: bool = False) -> Operation | None:
        operation = super().add(begin)
        if operation is None:  # it failed with that (UDP-05), which a peek does not take (UDP-07)
            self.refusing = peeks and (self.refusing or bool(self.reports))
            self.reports = 0
        return operation

    def put(self, size: int, *, beside: bool = False) -> None:
        if self.stream and self.arrived and not beside and not self.arrived[-1].beside:
            self.arrived[-1].size += size
        else:
            self.arrived.append(Piece(size, beside))

    @property
    def readable(self) -> bool:
        return bool(self.arrived) or self.over or bool(self.reports)

    @property
    def idle(self) -> bool:
        """Nothing waits, and a receive would."""
        return not self.operations and not self.readable and not self.refusing

    def count_due(self) -> None:
        while self.operations and self.readable:
            if self.arrived and self.pool and not self.pool.give_one():
                return
            operation = self.operations[0]
            if self.reports:
                self.reports = 0
                self.refusing = bool(operation.flags & socket.MSG_PEEK)
            elif self.arrived and not (operation.flags & socket.MSG_PEEK or self._take(operation)):
                continue
            self.had = 0
            self.pop()

    def _take(self, operation: Operation) -> bool:
        """Let it have what is there; whether that is enough."""
        if not self.stream:
            self.arrived.pop(0)
            return True
        whole = operation.flags & socket.MSG_WAITALL
        room = (self.pool.size if self.pool else operation._size) - self.had
        while room and self.arrived:
            piece = self.arrived[0]
            taken = min(room, piece.size)
            piece.size -= taken
            room -= taken
            self.had += taken
            if not piece.size:
                self.arrived.pop(0)
            if piece.beside:  # one receive brings the control data of one send
                piece.beside = False
                if not whole:
                    break
        return not (whole and room)

    def forget(self, operation: Operation) -> bool:
        if self.operations and self.operations[0] is operation:
            self.had = 0
        return super().forget(operation)

    def end(self, *, closing: bool) -> None:
        self.had = 0
        super().end(closing=closing)


class Pool:
    """A few small buffers, and what the script does with them."""

    def __init__(self, count: int, size: int) -> None:
        self.buffers = BufferPool(count, size)
        self.size = size
        self.holding = False
        """Whether buffers are kept for now, so that receives wait for one."""
        self.held: list[PooledBuffer] = []
        self.free = count

    def give_one(self) -> bool:
        """Whether there is a buffer for a receive."""
        if not self.free:
            return False
        self.free -= self.holding
        return True

    def took(self, buffer: PooledBuffer) -> bytes:
        """A receive has brought it."""
        data = bytes(buffer)
        if self.holding and data:
            self.held.append(buffer)
        else:
            buffer.release()
        return data

    def release(self) -> None:
        """All that are held go back."""
        self.free += len(self.held)
        while self.held:
            self.held.pop().release()
        self.holding = False
