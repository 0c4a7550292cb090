"""`add_reader` and `add_writer`: polls that start again after each callback.

A descriptor is watched through a duplicate of its own. So it may at the same time be used by
transports and `sock_*`, belong to another port, or be closed and its number given to another file,
and no callback ever speaks of a wrong one. What the standard loops ask for holds here more than
there: `remove_reader` before closing, since the duplicate keeps the file open.
"""

from __future__ import annotations

import io
import os
import selectors
import socket
import stat
import sys
from asyncio import events
from typing import TYPE_CHECKING, Any

from netpoll.asyncio.operations import Operation
from netpoll.asyncio.standard import LoopPart
from netpoll.handles import OnlyPolled

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll.overlapped import Completion


class Interest:
    """What waits for one direction of a descriptor."""

    __slots__ = ("_armed", "_event", "_forgotten", "_operation", "_watch", "callback")

    def __init__(self, watch: Watch, event: int) -> None:
        self._watch = watch
        self._event = event
        self._operation: Operation[int] = Operation(self._ended)
        self._armed = False
        self._forgotten = False
        """Whether the poll that is pending was started for a callback that was removed since."""
        self.callback: events.Handle | None = None

    def call(self, callback: events.Handle) -> None:
        if self.callback is not None:
            self.callback.cancel()
        self.callback = callback
        self._arm()

    def forget(self) -> bool:
        """Whether there was a callback."""
        if self.callback is None:
            return False
        self.callback.cancel()
        self.callback = None
        self._forgotten = self._armed
        self._operation.cancel()
        return True

    def _arm(self) -> None:
        if self._armed or self.callback is None:
            return
        self._armed = True
        watch = self._watch
        watch.loop.port.poll(watch.handle, self._event, overlapped=self._operation)

    def _ended(self, completion: Completion) -> None:
        self._armed = False
        forgotten, self._forgotten = self._forgotten, False
        callback = self.callback
        if callback is None:
            return
        loop = self._watch.loop
        # what was ready before this one came need not be so any more
        if not completion.status and not forgotten:
            loop._add_callback(callback)
        # behind the callback, which is to take what made the descriptor ready; also after a cancel,
        # if somebody has come to wait since
        loop.call_soon(self._arm)


class Watch:
    """A descriptor that callbacks wait for."""

    def __init__(self, loop: Readiness, number: int) -> None:
        self.loop = loop
        self.handle: Any = duplicate(number)
        self.reader: Interest = Interest(self, selectors.EVENT_READ)
        self.writer: Interest = Interest(self, selectors.EVENT_WRITE)
        try:
            loop.port.associate(self.handle)
        except BaseException:
            self.handle.close()
            raise

    def close(self) -> None:
        self.reader.forget()
        self.writer.forget()
        self.loop.port.close_handle(self.handle)

    def is_of(self, number: int) -> bool:
        """Whether the number still means the file that is watched."""
        return sys.platform == "win32" or os.path.sameopenfile(number, self.handle.fileno())


class Readiness(LoopPart):
    """Part of `EventLoop`: readiness of descriptors."""

    _watches: dict[int, Watch]

    def _add_reader(
        self, fd: Any, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> events.Handle:
        handle = events.Handle(callback, args, self, context)
        self._watch(fd).reader.call(handle)
        return handle

    def _add_writer(
        self, fd: Any, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> events.Handle:
        handle = events.Handle(callback, args, self, context)
        self._watch(fd).writer.call(handle)
        return handle

    def _remove_reader(self, fd: Any) -> bool:
        watch = self._watches.get(descriptor(fd))
        found = watch is not None and watch.reader.forget()
        self._close_unused(fd, watch)
        return found

    def _remove_writer(self, fd: Any) -> bool:
        watch = self._watches.get(descriptor(fd))
        found = watch is not None and watch.writer.forget()
        self._close_unused(fd, watch)
        return found

    def _watch(self, fd: Any) -> Watch:
        self._check_closed()
        number = descriptor(fd)
        watch = self._watches.get(number)
        if watch is not None and not watch.is_of(number):
            del self._watches[number]
            watch.close()
            watch = None
        if watch is None:
            watch = self._watches[number] = Watch(self, number)
        return watch

    def _close_unused(self, fd: Any, watch: Watch | None) -> None:
        if watch is not None and watch.reader.callback is None and watch.writer.callback is None:
            del self._watches[descriptor(fd)]
            watch.close()

    def _close_watches(self) -> None:
        for watch in self._watches.values():
            watch.close()
        self._watches.clear()


def descriptor(fd: Any) -> int:
    """
    :raises ValueError: a negative number, or an object that has none
    """
    try:
        number = int(fd if isinstance(fd, int) else fd.fileno())
    except (AttributeError, TypeError, ValueError):
        raise ValueError(f"Invalid file object: {fd!r}") from None
    if number < 0:
        raise ValueError(f"Invalid file descriptor: {number}")
    return number


def duplicate(number: int) -> Any:
    """A handle of its own for what `number` stands for.

    :raises OSError: it is closed; or a regular file, which is always ready
    """
    if sys.platform == "win32":
        return OnlyPolled(fileno=socket.dup(number))
    if stat.S_ISSOCK(os.fstat(number).st_mode):
        return socket.socket(fileno=os.dup(number))
    if stat.S_ISREG(os.fstat(number).st_mode):
        raise PermissionError(1, "a regular file is always ready: it cannot be waited for")
    return Duplicate(os.dup(number))


class Duplicate(io.RawIOBase):
    """Something with a descriptor of its own; not `io.FileIO`, which looks at what it is given."""

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        if self._number < 0:
            raise ValueError("closed")
        return self._number

    def close(self) -> None:
        number, self._number = self._number, -1
        if number >= 0:
            os.close(number)
        super().close()
