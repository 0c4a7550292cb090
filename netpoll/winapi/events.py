"""Events: what `hEvent` is."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from netpoll.winapi import constants as c
from netpoll.winapi.errors import SetLastError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from netpoll.winapi.overlapped import Operation

changed: threading.Condition = threading.Condition()
"""Guards the state of all events, and is notified when one is set."""


class Event:
    """An event object: what `CreateEvent` and `WSACreateEvent` give. `event | 1` is what C does to
    keep the packet of an operation away (ASSOC-15)."""

    def __init__(self, manual_reset: bool, signalled: bool) -> None:
        self.manual_reset: bool = manual_reset
        self.signalled: bool = signalled
        self.closed: bool = False
        self._operations: list[Operation] = []
        self._watchers: list[Callable[[], object]] = []

    def set(self) -> None:
        """Signal it."""
        with changed:
            self.signalled = True
            self._operations = self.pending()  # what has ended may go, and its buffers with it
            self._tell()

    def _tell(self) -> None:
        """Have those look again who wait for it, with or without letting a port progress. With the
        lock held: who waits no more is not called any more."""
        changed.notify_all()
        for wake in self._watchers:
            wake()

    def clear(self) -> None:
        """Make it non-signalled."""
        with changed:
            self.signalled = False

    def expect(self, operation: Operation) -> None:
        """`operation` will set it. Whoever waits for it lets that one progress (EMU-11)."""
        with changed:
            self._operations = [*self.pending(), operation]

    def started(self) -> None:
        """An operation that it expects is under way: who waits already has another port to look
        after."""
        with changed:
            self._tell()

    def pending(self) -> list[Operation]:
        """The operations that will set it."""
        return [each for each in self._operations if not each.done]

    def __or__(self, bit: int) -> Tagged:
        if bit != 1:
            raise ValueError("of an event's handle, only the lowest bit has a meaning")
        return Tagged(self)


class Tagged:
    """An event whose operation queues no packet (ASSOC-15). Everywhere else it is the event:
    Windows does not look at the lowest bits of a handle."""

    def __init__(self, event: Event) -> None:
        self.event: Event = event


def watch(events: Sequence[Event]) -> Callable[[Callable[[], object] | None], None]:
    """What `Backend.run_until` takes as `alert`: the events wake who waits there."""
    watching: list[Callable[[], object]] = []

    def alert(wake: Callable[[], object] | None) -> None:
        with changed:
            for event in events:
                if wake is None:
                    event._watchers.remove(watching[0])
                else:
                    event._watchers.append(wake)
            watching[:] = [] if wake is None else [wake]

    return alert


def CreateEvent(
    lpEventAttributes: Any, bManualReset: int, bInitialState: int, lpName: Any = c.NULL
) -> Event:
    """Make an event. It has neither attributes nor a name here."""
    if lpEventAttributes is not None or lpName is not None:
        raise ValueError("an event has no attributes and no name here; pass NULL")
    return Event(bool(bManualReset), bool(bInitialState))


def WSACreateEvent() -> Event:
    """Make an event: reset by hand, not signalled."""
    return Event(manual_reset=True, signalled=False)


def SetEvent(hEvent: Event | Tagged) -> int:
    """Signal it; TRUE."""
    event = opened(hEvent)
    if event is None:
        return c.FALSE
    event.set()
    return c.TRUE


def ResetEvent(hEvent: Event | Tagged) -> int:
    """Make it non-signalled; TRUE."""
    event = opened(hEvent)
    if event is None:
        return c.FALSE
    event.clear()
    return c.TRUE


def WSACloseEvent(hEvent: Event | Tagged) -> int:
    """Close an event; whether it was open."""
    event = opened(hEvent)
    if event is None:
        return c.FALSE
    event.closed = True
    return c.TRUE


WSASetEvent = SetEvent
WSAResetEvent = ResetEvent


def event_of(handle: object) -> Event | None:
    """The event that a handle is of, if it is one's and that has not been closed."""
    event = handle.event if isinstance(handle, Tagged) else handle
    return event if isinstance(event, Event) and not event.closed else None


def opened(handle: object) -> Event | None:
    """As `event_of`; the last error says if there is none."""
    event = event_of(handle)
    if event is None:
        SetLastError(c.WSA_INVALID_HANDLE)
    return event
