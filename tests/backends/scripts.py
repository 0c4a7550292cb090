"""Scripts that a port is driven by, step by step: one world is one port with its sockets, pipes,
files and timers, and it knows how many completions are due after each step.

Everything that is due is taken between two steps, no less and no more. Handles are made when a
script first names them; what they do is in `script_handles.py`.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from netpoll import BufferPool, CompletionPort, Overlapped, PooledBuffer
from netpoll import status as nt
from netpoll.backends.software import FAILURES
from netpoll.testing.drain import nothing_more
from netpoll.testing.pairs import Loopback
from netpoll.testing.waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from netpoll import Completion

    Operation = Overlapped[Any]

CLOSING = frozenset((nt.STATUS_CANCELLED, nt.STATUS_CONNECTION_ABORTED, nt.STATUS_CONNECTION_RESET))
"""How an operation may end whose handle is closed under it (CLOSE-02): that is free."""
NO_READER = frozenset((nt.STATUS_PIPE_BROKEN, nt.STATUS_PIPE_CLOSING))
"""What a write says whose reader is gone: 109 or 232 (EMU-35)."""


class World:
    """One port, and everything that a script has made on it."""

    def __init__(self, port: CompletionPort, folder: Path) -> None:
        self.port = port
        self.folder = folder
        self.net = Loopback()
        self.ends = contextlib.ExitStack()
        self.ends.callback(self.net.close)
        self.handles: dict[Any, Any] = {}
        self.names: dict[Any, str] = {}
        """What addresses are called: their numbers differ between two runs."""
        self.starts: list[Operation | None] = []
        """`None` where it failed at once, which is as good as a completion that says so."""
        self.closing: set[Operation] = set()
        """Those that were pending when their handle was closed."""
        self.due = 0
        self.outcomes: list[tuple[Any, ...]] = []

    def start(self, begin: Callable[[], Operation]) -> Operation | None:
        """Start an operation; `None` if it failed at once."""
        operation = None
        try:
            operation = begin()
        except OSError as error:
            self.tell("failed", len(self.starts), self._freed(vars(error)["status"]))
        self.starts.append(operation)
        return operation

    def at_once(self, begin: Callable[[], Operation]) -> Operation | None:
        """Start an operation that has all it needs: its completion is due."""
        operation = self.start(begin)
        self.due += operation is not None
        return operation

    def tell(self, *outcome: Any) -> None:
        self.outcomes.append(outcome)

    def call(self, name: str, call: Callable[[], object]) -> None:
        """Call what is no operation; its error is an outcome too."""
        try:
            call()
        except OSError as error:
            self.tell(name, vars(error)["status"])

    def settle(self) -> None:
        """Take what is due, and prove that nothing else is there."""
        for handle in list(self.handles.values()):
            handle.count_due()
        deadline = time.monotonic() + DEADLINE
        outcomes: list[tuple[Any, ...]] = []
        while self.due:
            batch = self.port.get_many(timeout=deadline - time.monotonic())
            assert batch, f"{self.due} completions more; pending: {self.port.inflight()}"
            self.due -= len(batch)
            outcomes += map(self._outcome, batch)
        nothing_more(self.port)
        # in which order completions of different operations are seen is not promised (RECV-13)
        self.outcomes += sorted(outcomes, key=lambda outcome: outcome[1])

    def _outcome(self, completion: Completion) -> tuple[Any, ...]:
        operation = completion.overlapped
        number = len(self.starts) - 1 - self.starts[::-1].index(operation)
        status = completion.status
        if operation in self.closing and status in CLOSING:
            return ("closed", number)
        if status >= FAILURES:
            return ("failed", number, self._freed(status))
        return ("ended", number, status, completion.transferred, self._value(operation))

    def _freed(self, status: int) -> int:
        return min(NO_READER) if status in NO_READER else status

    def _value(self, operation: Operation) -> Any:
        """The result in a form that is the same in every run."""
        value: Any = operation.value  # which a truncated datagram has too
        data = b"".join(operation.buffers) if operation.opcode in READING else None
        match operation.opcode:
            case "recv_pooled":
                return operation.context.took(value)
            case "recvfrom_into":
                # Python for Windows tells selectors no sender of a truncated datagram
                told = sys.platform != "win32" or not operation.status
                return value[0], told and self.names.get(value[1]), data
            case "recvmsg_into":
                return value.size, value.flags, self.names.get(value.address), data
            case "accept":
                value[0].close()
                return self.names[value[1]], operation.context and bytes(operation.context)
            case _:
                return value if data is None else data

    def cancel(self, number: int) -> None:
        """Cancel the start of that number, whatever has become of it."""
        if not self.starts:
            return
        operation = self.starts[number % len(self.starts)]
        asked = operation is not None and operation.cancel()
        self.tell("cancel", asked)
        if operation is not None and asked:
            self.forget(operation)

    def forget(self, operation: Operation) -> None:
        """It has been cancelled, and its completion is due."""
        assert any(handle.forget(operation) for handle in self.handles.values())
        self.due += 1

    def close(self) -> None:
        """Close what is still open, and take what that ends."""
        for handle in self.handles.values():
            handle.close()
        self.settle()


READING = frozenset(("recv_into", "recvfrom_into", "recvmsg_into", "read_into"))


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
        self.world.due += 1
        return self.operations.popleft()

    def forget(self, operation: Operation) -> bool:
        if operation not in self.operations:
            return False
        self.operations.remove(operation)
        return True

    def end(self, *, closing: bool) -> None:
        """All of them end: their handle is closed, or they are cancelled."""
        self.world.due += len(self.operations)
        if closing:
            self.world.closing.update(self.operations)
        self.operations.clear()


class Inbox(Waiting):
    """Receives, and what has come for them."""

    def __init__(self, world: World, *, stream: bool) -> None:
        super().__init__(world)
        self.stream = stream
        self.arrived: list[int] = []
        """Bytes that nobody has received, by datagram; of a stream in one number."""
        self.over = False
        """Nothing more will come: every receive ends."""
        self.reports = 0
        """Datagrams that found no port, and that no receive has told of; several are one."""
        self.pool: Pool | None = None
        """Where receives take their buffers from."""

    def add(self, begin: Callable[[], Operation]) -> Operation | None:
        operation = super().add(begin)
        if operation is None:
            self.reports = 0  # it failed with that
        return operation

    def put(self, size: int) -> None:
        if self.stream:
            self.arrived = [sum(self.arrived) + size]
        else:
            self.arrived.append(size)

    @property
    def readable(self) -> bool:
        return bool(self.arrived) or self.over

    def count_due(self) -> None:
        while self.operations and (self.reports or self.readable):
            if self.arrived and self.pool and not self.pool.give_one():
                return
            operation = self.pop()
            if self.reports:
                self.reports = 0
                continue
            if not self.arrived:
                continue
            room = self.pool.size if self.pool else operation._size
            if self.stream and room < self.arrived[0]:
                self.arrived[0] -= room
            else:
                self.arrived.pop(0)


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
