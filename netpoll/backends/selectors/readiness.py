"""When is a descriptor ready? One interface over whatever this OS has, level-triggered."""

from __future__ import annotations

import select
import selectors
import sys
from typing import TYPE_CHECKING, Final, Protocol

from netpoll import status as nt

if TYPE_CHECKING:
    from collections.abc import Callable

READ: Final = 1
"""Readable. The values are epoll's, so that the fastest selector needs no translation."""
WRITE: Final = 4
"""Writable. Any other bit (error, hang-up) means both: whoever waits shall try and find out."""

BATCH: Final = 64
"""Events taken from epoll in one turn. A turn goes over its connections four times, and with more
of them they fall out of the processor's cache in between: measured at 1,000 connections, 64 at a
time cost 10 % less than all at once, for 1/64 more system calls. The rest is reported in the next
turn."""
ReadyList = list[tuple[int, int]]


class Readiness(Protocol):
    """What the engine asks of a selector."""

    name: str
    live: bool
    """Whether a change made by another thread takes effect in a `wait` that is under way."""

    def add(self, fd: int, interest: int, /) -> None: ...
    def change(self, fd: int, interest: int, /) -> None: ...
    def remove(self, fd: int, /) -> None:
        """
        :raises OSError: the system does not know `fd`: it was closed, which removes it
        """

    def wait(self, timeout: float | None, limit: int, /) -> ReadyList:
        """The ready descriptors after at most `timeout` seconds (rounded up, never early); no more
        than `limit`, if that is within its power."""
        ...

    def close(self) -> None: ...


class EpollReadiness:
    """epoll, without the object that `selectors.EpollSelector` makes and looks up for each event.

    Measured (Python 3.11): 190 ns an event instead of 340, one event a message.
    """

    name = "epoll"
    live = True

    def __init__(self) -> None:
        self._epoll = getattr(select, "epoll")()  # noqa: B009  (declared on Linux only)
        self.add: Callable[[int, int], None] = self._epoll.register
        self.change: Callable[[int, int], None] = self._epoll.modify
        self.remove: Callable[[int], None] = self._epoll.unregister
        # as it is: a function of ours in between would cost each turn 50 ns
        self.wait: Callable[[float | None, int], ReadyList] = self._epoll.poll
        self.close: Callable[[], None] = self._epoll.close


class SelectorReadiness:
    """Any class of the standard library's `selectors`."""

    def __init__(self, selector: selectors.BaseSelector, name: str, *, live: bool) -> None:
        self._selector = selector
        self.name = name
        self.live = live

    def add(self, fd: int, interest: int) -> None:
        if self.name == "select":
            check_select_limit(fd, len(self._selector.get_map()))
        self._selector.register(fd, _to_events(interest))

    def change(self, fd: int, interest: int) -> None:
        self._selector.modify(fd, _to_events(interest))

    def remove(self, fd: int) -> None:
        self._selector.unregister(fd)

    def wait(self, timeout: float | None, limit: int) -> ReadyList:
        return [
            (key.fd, events & selectors.EVENT_READ | (events & selectors.EVENT_WRITE) << 1)
            for key, events in self._selector.select(timeout)
        ]

    def close(self) -> None:
        self._selector.close()


def _to_events(interest: int) -> int:
    return interest & READ | (interest & WRITE) >> 1


def check_select_limit(fd: int, registered: int) -> None:
    """`select` takes few descriptors: 512 sockets on Windows, numbers below 1024 elsewhere.

    :raises OSError: this one is too many; says what to use instead
    """
    too_many = registered >= 512 if sys.platform == "win32" else fd >= 1024
    if too_many:
        raise nt.make_exception(
            nt.STATUS_INSUFFICIENT_RESOURCES,
            inline=True,
            message=f"select() takes no more sockets ({registered} are in, this is fd {fd}); "
            f"use selector='epoll', 'poll' or 'kqueue', or on Windows the iocp backend",
        )


def available() -> list[str]:
    """The names of the selectors that this machine has, best first."""
    return [name for name in ("epoll", "kqueue", "poll", "select") if _usable(name)]


def _usable(name: str) -> bool:
    """Whether the OS not only declares the selector but also lets it be made."""
    if not hasattr(select, name):
        return False
    try:
        open_readiness(name).close()
    except OSError:
        return False
    return True


def open_readiness(name: str) -> Readiness:
    """A new selector: "epoll", "kqueue", "poll", "select", or "default" for the best one here.

    :raises ValueError: there is no such selector on this OS
    """
    if name == "default":
        name = next(each for each in ("epoll", "kqueue", "poll", "select") if hasattr(select, each))
    elif not hasattr(select, name) or name not in ("epoll", "kqueue", "poll", "select"):
        usable = ", ".join(repr(each) for each in available())
        raise ValueError(
            f"selector={name!r} is not known on {sys.platform}; choose from {usable} or 'default'"
        )
    if name == "epoll":
        return EpollReadiness()
    if name == "kqueue":
        return SelectorReadiness(getattr(selectors, "KqueueSelector")(), name, live=True)  # noqa: B009
    if name == "poll":
        return SelectorReadiness(getattr(selectors, "PollSelector")(), name, live=False)  # noqa: B009
    return SelectorReadiness(selectors.SelectSelector(), name, live=False)
