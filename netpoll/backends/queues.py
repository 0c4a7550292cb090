"""Who is next: one FIFO per handle and direction, pure, without a system call.

The rules are asio's (a reactor that emulates completions), and each exists because its absence lost
or reordered somebody's data:

* an operation is tried at once only if nothing of its direction waits before it (RECV-12, SEND-05);
* after "done and exhausted" the next try would block, so it is not made until the handle is ready
again;
* readiness completes operations in order until one blocks, the handle is exhausted, or the budget
is
  spent, so that one busy handle starves no other. What is left is carried over: readiness is
  level-triggered, so the handle is reported again in the next turn.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from netpoll import status as nt

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCKED: Final = 0
"""The operation cannot go on now; it stays where it is."""
DONE: Final = 1
"""The operation finished, and the next one of its direction may well finish too."""
EXHAUSTED: Final = 2
"""The operation finished, and the next one of its direction would block."""

MOVED: Final = 3
"""The operation goes on elsewhere: it leaves this queue unfinished."""

BUDGET: Final = 16
"""Operations completed per handle and direction in one turn, at most."""


MSG_PEEK: Final = int(socket.MSG_PEEK)


def refuse(operation: Any, line: Any) -> None:
    """End a start with the refusal of its direction. A report of an unreachable port is made once,
    to a receive that does not only peek (UDP-07). That the handle is closed outdoes every other
    refusal, also where nobody has told the port so yet (XFER-08)."""
    alive = operation._association.alive()
    operation._final = line.refusal if alive else nt.STATUS_INVALID_HANDLE
    if line.refusal == nt.STATUS_PORT_UNREACHABLE and not operation.flags & MSG_PEEK:
        line.refusal = 0


class Try(Protocol):
    """One try of an operation, which answers one of the outcomes above."""

    def __call__(self, operation: Any, /) -> int: ...


class Performer(Protocol):
    """What a queue needs of an operation.

    The try is a slot and not a method because which one is right (one buffer, many, none) is chosen
    once, when the operation is prepared.
    """

    _perform: Try
    _final: int
    """How it ended. A refused operation ends with the refusal."""


P = TypeVar("P", bound=Performer)


class Direction(Generic[P]):
    """The operations of one direction (receiving or sending) of one handle.

    The head has a slot of its own: most queues never hold more than one operation, and an empty
    deque costs 600 bytes a connection.
    """

    __slots__ = ("head", "ready", "refusal", "rest", "watch", "watched")

    def __init__(self, watch: Callable[[P], object]) -> None:
        self.head: P | None = None
        self.rest: deque[P] | None = None
        self.ready: bool = True
        """Whether a try is worth its system call. Nothing is known at first, so it is."""
        self.refusal: int = 0
        """The status with which every start fails: a reset is sticky (EMU-15), so is a shutdown."""
        self.watch: Callable[[P], object] = watch
        """Called with an operation that has to wait while readiness is not watched."""
        self.watched: bool = False
        """Whether readiness will be reported to `on_ready`."""

    def start(self, operation: P) -> bool:
        """Try `operation`, or queue it. `True` if it finished."""
        if self.refusal:
            refuse(operation, self)
            return True
        if self.head is None:
            if self.ready:
                outcome = operation._perform(operation)
                if outcome == DONE:
                    return True
                if outcome == MOVED:
                    return False
                self.ready = False
                if outcome == EXHAUSTED:
                    return True
            self.head = operation
        elif self.rest is None:
            self.rest = deque((operation,))
        else:
            self.rest.append(operation)
        if not self.watched:
            self.watch(operation)
        return False

    def on_ready(self, finished: list[P], budget: int = BUDGET) -> None:
        """The handle is ready: append to `finished` what finishes, in order."""
        head = self.head
        if head is None:
            self.ready = True
            return
        outcome = head._perform(head)
        if outcome == EXHAUSTED and not self.rest:
            # the usual end of a turn, told apart from the loop below because it is the hot path
            finished.append(head)
            self.head = None
            self.ready = False
            return
        while True:
            if outcome == BLOCKED:
                self.ready = False
                return
            if outcome != MOVED:
                finished.append(head)
            rest = self.rest
            head = self.head = rest.popleft() if rest else None
            if outcome == EXHAUSTED:
                self.ready = False
                return
            budget -= 1
            if head is None or not budget:
                self.ready = True
                return
            outcome = head._perform(head)

    def remove(self, operation: P) -> bool:
        """Take `operation` out, wherever it stands. `False` if it is not here."""
        if self.head is operation:
            self.head = self.rest.popleft() if self.rest else None
            return True
        # by identity: an Overlapped subclass may define equality
        rest = self.rest
        for index, other in enumerate(rest or ()):
            if other is operation:
                assert rest is not None
                del rest[index]
                return True
        return False

    def drain(self) -> list[P]:
        """Take everything out, in order."""
        waiting = self.waiting()
        self.head = self.rest = None
        return waiting

    def waiting(self) -> list[P]:
        """What waits, in order."""
        if self.head is None:
            return []
        return [self.head, *(self.rest or ())]
