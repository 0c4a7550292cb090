"""Events: what `hEvent` is."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from netpoll.winapi import constants as c
from netpoll.winapi.errors import SetLastError

if TYPE_CHECKING:
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

    def set(self) -> None:
        """Signal it."""
        with changed:
            self.signalled = True
            changed.notify_all()

    def clear(self) -> None:
        """Make it non-signalled."""
        with changed:
            self.signalled = False

    def expect(self, operation: Operation) -> None:
        """`operation` will set it. Whoever waits for it lets that one progress (EMU-11)."""
        with changed:
            self._operations = [*self.pending(), operation]

    def pending(self) -> list[Operation]:
        """The operations that will set it."""
        return [each for each in self._operations if not each.done]

    def __or__(self, bit: int) -> Tagged:
        if bit != 1:
            raise ValueError("of an event's handle, only the lowest bit has a meaning")
        return Tagged(self)


class Tagged:
    """An event whose operation queues no packet (ASSOC-15)."""

    def __init__(self, event: Event) -> None:
        self.event: Event = event


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


def SetEvent(hEvent: Event) -> int:
    """Signal it; TRUE."""
    if not is_open(hEvent):
        return c.FALSE
    hEvent.set()
    return c.TRUE


def ResetEvent(hEvent: Event) -> int:
    """Make it non-signalled; TRUE."""
    if not is_open(hEvent):
        return c.FALSE
    hEvent.clear()
    return c.TRUE


def WSACloseEvent(hEvent: Event) -> int:
    """Close an event; whether it was open."""
    if not is_open(hEvent):
        return c.FALSE
    hEvent.closed = True
    return c.TRUE


WSASetEvent = SetEvent
WSAResetEvent = ResetEvent


def is_open(event: object) -> bool:
    """Whether it is an event that has not been closed; the last error says if not."""
    if isinstance(event, Event) and not event.closed:
        return True
    SetLastError(c.WSA_INVALID_HANDLE)
    return False
