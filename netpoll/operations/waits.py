"""What moves no data: readiness, time, the end of a process, an event."""

from __future__ import annotations

import selectors
from typing import TYPE_CHECKING, Any, Protocol, overload

from netpoll.handles import require_pollable, require_waitable
from netpoll.operations.starter import A_CENTURY, Starter, check_timeout
from netpoll.overlapped import Opcode, Overlapped

if TYPE_CHECKING:
    import subprocess

    from netpoll.operations.starter import HasFileno, Routine

EVENTS = selectors.EVENT_READ, selectors.EVENT_WRITE, selectors.EVENT_READ | selectors.EVENT_WRITE


class HasHandle(Protocol):
    """What has a HANDLE of Windows, as an integer."""

    @property
    def handle(self) -> int: ...


class Waits(Starter):
    """Part of `CompletionPort`: operations that move no data."""

    def poll(
        self,
        handle: HasFileno,
        events: int,
        *,
        overlapped: Overlapped[int] | None = None,
        routine: Routine | None = None,
        timeout: float | None = None,
    ) -> Overlapped[int]:
        """Complete once the handle is readable or writable; the result is what it is of `events`.

        Consumes nothing, and tells once (EMU-33). An error or the end of the connection counts as
        both. Polls stand beside the transfers of the handle and beside each other, in no order:
        what was ready may have been taken by another operation since.

        :param handle: a socket; outside Windows also a pipe, a terminal, what else can be ready
        :param events: `selectors.EVENT_READ`, `selectors.EVENT_WRITE` or both
        :raises ValueError: `events` is neither of them
        :raises OSError: a regular file, which is always ready
        """
        if events not in EVENTS:
            raise ValueError(
                f"events is selectors.EVENT_READ, selectors.EVENT_WRITE or both, not {events!r}"
            )
        operation = self._new(Opcode.POLL, handle, overlapped, routine, timeout, require_pollable)
        return self._begin(operation, None, None, events)

    def timer(
        self,
        seconds: float,
        *,
        overlapped: Overlapped[None] | None = None,
        routine: Routine | None = None,
    ) -> Overlapped[None]:
        """Complete once the time is over, never early (EMU-32). `resubmit` starts it again, from
        then on.

        It works on no handle, so its packet carries the key `None`; `cancel` its `Overlapped`. A
        `routine` runs instead of a packet, in an alertable wait of this thread.

        :param seconds: from now, 0 or more
        :raises ValueError: negative, not a number, or `None`
        """
        if seconds is None:  # pyright: ignore[reportUnnecessaryComparison]
            raise ValueError("a timer has an end: seconds is a number, 0 or more, not None")
        checked = check_timeout(seconds)
        operation = self._new(Opcode.TIMER, None, overlapped, routine, None, require=None)
        operation._timeout = A_CENTURY if checked is None else checked
        return self._begin(operation, None, None, 0)

    @overload
    def wait(
        self,
        handle: subprocess.Popen[Any],
        *,
        overlapped: Overlapped[int] | None = None,
        routine: Routine | None = None,
        timeout: float | None = None,
    ) -> Overlapped[int]: ...
    @overload
    def wait(
        self,
        handle: HasFileno | HasHandle,
        *,
        overlapped: Overlapped[None] | None = None,
        routine: Routine | None = None,
        timeout: float | None = None,
    ) -> Overlapped[None]: ...
    def wait(
        self,
        handle: Any,
        *,
        overlapped: Overlapped[Any] | None = None,
        routine: Routine | None = None,
        timeout: float | None = None,
    ) -> Overlapped[Any]:
        """Complete once a process has ended or an event is set (WAIT-01, EMU-34).

        The result of a `subprocess.Popen` is its return code, also when it had ended before;
        `returncode` is set then. Anything else has no result. No association is needed: the packet
        carries the key `None`.

        :param handle: a `subprocess.Popen`; on POSIX also what has a `fileno()` that becomes
            readable (a pidfd, an eventfd), on Windows what has the integer of a HANDLE as `handle`
            (a wait takes the signal of an event that resets itself, WAIT-02)
        :raises TypeError: something else; a socket, which `poll` is for
        """
        operation = self._new(Opcode.WAIT, handle, overlapped, routine, timeout, require=None)
        require_waitable(handle)
        return self._begin(operation, None, None, 0)
