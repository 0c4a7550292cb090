"""Who is next: one line per handle and direction, of which only the head is in the kernel.

The kernel does not keep the order of two receives (or sends) of one socket that both had to wait,
so the second is handed over when the first has ended (RECV-12, SEND-05). Pure, without a system
call.
"""

from __future__ import annotations

from collections import deque
from typing import Any


class EndOfStream:
    """Stands in a line for the FIN that goes out behind the sends before it (SEND-07)."""

    def __init__(self, record: Any) -> None:
        self.record = record
        """Whose."""


class Line:
    """The operations of one direction (receiving or sending) of one handle."""

    __slots__ = ("head", "refusal", "rest")

    # only a DatagramLine has these of its own
    burst: bool = False
    """Datagrams come by the dozen: what is started now waits for what will be started next."""
    due: bool = False
    """The head waits for that, and the kernel has not got it."""

    def __init__(self) -> None:
        self.head: Any = None
        """The one that the kernel has, or is about to get."""
        self.rest: deque[Any] | list[Any] | None = None
        self.refusal: int = 0
        """The status with which every start fails: a reset is sticky (EMU-15), so is a shutdown."""

    def wait(self, operation: Any) -> None:
        """Stand behind the others."""
        if self.rest is None:
            self.rest = deque((operation,))
        else:
            self.rest.append(operation)

    def advance(self) -> Any:
        """The head has ended: who is next, if anybody."""
        rest = self.rest
        if rest:
            # no call between these: Ctrl-C would lose one
            self.head = rest[0]
            del rest[0]
        else:
            self.head = None
        return self.head

    def remove(self, operation: Any) -> bool:
        """Take `operation` out of those that wait behind the head. `False` if it is not there."""
        rest = self.rest
        # by identity: an Overlapped subclass may define equality
        for index, other in enumerate(rest or ()):
            if other is operation:
                assert rest is not None
                del rest[index]
                return True
        return False

    def waiting(self) -> list[Any]:
        """Those behind the head, in order."""
        return [each for each in self.rest or () if not isinstance(each, EndOfStream)]


class DatagramLine(Line):
    """A line of operations that may share system calls, and end by the dozen: hence a list, of
    which that many are taken at once."""

    __slots__ = ("burst", "due")

    def __init__(self) -> None:
        super().__init__()
        self.rest: deque[Any] | list[Any] | None = []
        self.burst: bool = False
        self.due: bool = False
