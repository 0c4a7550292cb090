"""What scripts have that is no socket: pipes, files, events, processes, and the port itself."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from backends.script_lines import Again, Inbox, Waiting
from backends.script_sockets import BRIEF, LONG, Handle

import netpoll
from netpoll.testing.attempts import pattern
from netpoll.testing.waiting import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from backends.scripts import World

    from netpoll import Overlapped

    Operation = Overlapped[Any]

MUCH = 400_000
"""More bytes than a pipe holds."""


class Pipe(Handle):
    """Both ends of a pipe."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self.reader, self.writer = netpoll.pipe()
        world.ends.callback(self.reader.close)
        world.ends.callback(self.writer.close)
        self._join(self.reader)
        self._join(self.writer)
        self.inbox = Inbox(world, stream=True)
        self.lines = [self.inbox]

    def read(self, size: int, /) -> None:
        buffers, how = [bytearray(size % 100), bytearray(size)], self._how(size)
        self.inbox.add(lambda: self.port.read_into(self.reader, buffers, **how))

    def read_briefly(self, size: int, /) -> None:
        """One whose time runs out."""
        if self.inbox.idle:
            buffer = bytearray(size)
            self.world.at_once(lambda: self.port.read_into(self.reader, buffer, timeout=BRIEF))

    def write(self, size: int, /) -> None:
        how = self._how(size)
        size = 1 + size % 500  # so that it fits into the pipe, whatever is read of it
        begin = self.world.at_once
        if begin(lambda: self.port.write(self.writer, pattern(size), **how)) is not None:
            self.inbox.put(size)

    def cancel_all(self, _: int, /) -> None:
        if not self.reader.closed:
            self.world.tell("cancel_all", self.port.cancel(self.reader))
            self.end(closing=False)

    def close_reader(self, _: int, /) -> None:
        if not self.reader.closed:
            self.end(closing=True)
            self.port.close_handle(self.reader)

    def close_bare(self, _: int, /) -> None:
        if not self.reader.closed:
            self.end(closing=True)
            self.reader.close()

    def close_writer(self, _: int, /) -> None:
        if not self.writer.closed:
            self.port.close_handle(self.writer)
            self.inbox.over = True

    def close(self) -> None:
        self.close_reader(0)
        self.close_writer(0)


class SkippingPipe(Pipe):
    """One whose successes queue no packet where they are seen within their start (MODE-03)."""

    skips = True


class Writer(Handle):
    """The writing end of a pipe, whose writes wait until the other end has read."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self.reader, self.writer = netpoll.pipe()
        world.ends.callback(self.reader.close)
        world.ends.callback(self.writer.close)
        self._join(self.writer)
        self.writes = Waiting(world)
        self.lines = [self.writes]
        self.written = 0
        """Bytes that nobody has read."""
        self.broken = False
        """Some of what was written may be missing."""

    def write(self, size: int, /) -> None:
        if self.written or self.broken:  # how full is full is the system's
            return
        how = self._how(size)
        if self.world.at_once(lambda: self.port.write(self.writer, pattern(size), **how)):
            self.written += size

    def write_much(self, size: int, /) -> None:
        if self.broken or self.reader.closed:
            return
        buffers, how = [pattern(MUCH), b"", pattern(size)], self._how(size)
        if self.writes.add(lambda: self.port.write(self.writer, buffers, **how)) is not None:
            self.written += MUCH + size

    def write_much_briefly(self, size: int, /) -> None:
        """With a time that runs out."""
        if self.broken or self.reader.closed:
            return
        data = pattern(MUCH + size)
        if self.world.at_once(lambda: self.port.write(self.writer, data, timeout=BRIEF)):
            self.broken = True

    def peer_reads(self, _: int, /) -> None:
        if self.broken or self.reader.closed:
            return
        reading = run(_read_exactly, self.reader.fileno(), self.written)
        self.writes.end(closing=False)
        self.world.settle()
        self.world.tell("peer", self.name, reading.result())
        self.written = 0

    def forget(self, operation: Operation) -> bool:
        found = super().forget(operation)
        self.broken = self.broken or found
        return found

    def cancel_all(self, _: int, /) -> None:
        if not self.writer.closed:
            self.world.tell("cancel_all", self.port.cancel(self.writer))
            self.end(closing=False)

    def end(self, *, closing: bool) -> None:
        self.broken = self.broken or bool(self.writes.operations)
        super().end(closing=closing)

    def close_reader(self, _: int, /) -> None:
        if not self.reader.closed:
            self.reader.close()
            self.end(closing=False)

    def close_writer(self, _: int, /) -> None:
        self.close()

    def close(self) -> None:
        if not self.writer.closed:
            self.end(closing=True)
            self.port.close_handle(self.writer)


def _read_exactly(number: int, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        part = os.read(number, count - len(data))
        assert part, f"the pipe ended after {len(data)} bytes of {count}"
        data += part
    return bytes(data)


class File(Handle):
    """A file of 2,000 bytes."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        path = world.folder / name
        path.write_bytes(pattern(2000))
        self.file = netpoll.open_file(path, "r+")
        world.ends.callback(self.file.close)
        self._join(self.file)

    def read(self, size: int, /) -> None:
        buffers, how = [bytearray(size % 100), bytearray(size)], self._how(size)
        self.world.at_once(lambda: self.port.read_into(self.file, buffers, offset=size, **how))

    def read_on(self, size: int, /) -> None:
        how = self._how(size)
        self.world.at_once(lambda: self.port.read_into(self.file, [bytearray(size)], **how))

    def write(self, size: int, /) -> None:
        buffers, how = [pattern(size), b"end"], self._how(size)
        self.world.at_once(lambda: self.port.write(self.file, buffers, offset=size, **how))

    def write_on(self, size: int, /) -> None:
        how = self._how(size)
        self.world.at_once(lambda: self.port.write(self.file, pattern(size), **how))

    def close(self) -> None:
        self.port.close_handle(self.file)


class SkippingFile(File):
    """One whose successes queue no packet where they are seen within their start (MODE-03)."""

    skips = True


class Signal:
    """What becomes readable, or is signalled, when it is set, and stays so."""

    def __init__(self, world: World) -> None:
        if sys.platform == "win32":
            from netpoll.backends.iocp.library import NULL, ffi, load

            kernel32: Any = load().kernel32
            event = kernel32.CreateEventW(NULL, 1, 0, NULL)
            self.handle = int(ffi.cast("ULONG_PTR", event))
            world.ends.callback(kernel32.CloseHandle, event)
            self.set: Callable[[], object] = functools.partial(kernel32.SetEvent, event)
        else:
            near, far = os.pipe()
            world.ends.callback(os.close, near)
            world.ends.callback(os.close, far)
            self.fileno: Callable[[], int] = lambda: near
            self.set = functools.partial(os.write, far, b"x")


class Waits(Handle):
    """What may be waited for: here an event."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self.waits = Waiting(world)
        self.lines = [self.waits]
        self.over = False
        self.waited = Again()
        self.subject, self.finish = self._make()
        self.begin: Callable[..., Operation] = self.port.wait

    def _make(self) -> tuple[Any, Callable[[], object]]:
        signal = Signal(self.world)
        return signal, signal.set

    def wait(self, number: int, /) -> None:
        how = self._how(number)
        self._add(lambda: self.begin(self.subject, **how))

    def wait_again(self, _: int, /) -> None:
        operation = self.waited.finished()
        if operation is not None:
            self._add(lambda: self.port.resubmit(operation))

    def _add(self, begin: Callable[[], Operation]) -> None:
        self.waited.add(self.world.at_once(begin) if self.over else self.waits.add(begin))

    def wait_briefly(self, _: int, /) -> None:
        """One whose time runs out."""
        if not self.over:
            self.world.at_once(lambda: self.begin(self.subject, timeout=BRIEF))

    def finishes(self, _: int, /) -> None:
        if not self.over:
            self.over = True
            self.finish()
            self.waits.end(closing=False)

    def close(self) -> None:
        for operation in self.waits.operations:
            operation.cancel()
        self.end(closing=False)


class Process(Waits):
    """A process that ends when its standard input does."""

    def _make(self) -> tuple[Any, Callable[[], object]]:
        child = self.world.ends.enter_context(subprocess.Popen(["cat"], stdin=subprocess.PIPE))
        assert child.stdin is not None
        return child, child.stdin.close


class Port(Handle):
    """What works on no handle: timers, packets of the script's own, and cancels of whatever it
    is."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self.long = Waiting(world)
        self.lines = [self.long]
        self.again: Operation | None = None

    def timer(self, number: int, /) -> None:
        how = self._timed(number)
        self.again = self.world.at_once(lambda: self.port.timer(number / 1e6, **how))

    def timer_again(self, _: int, /) -> None:
        operation = self.again
        if operation is not None:
            self.world.at_once(lambda: self.port.resubmit(operation))

    def long_timer(self, number: int, /) -> None:
        how = self._timed(number)
        self.long.add(lambda: self.port.timer(LONG + number, **how))

    def _timed(self, number: int) -> dict[str, Any]:
        how = self._how(number)
        how.pop("timeout", None)  # which a timer is itself
        if number % 6 == 4:
            how["routine"] = self.world.routine
        return how

    def post(self, number: int, /) -> None:
        for each in range(1 + number % 3):
            self.port.post(number, ("key", each), each if number % 2 else None)
            self.world.due += 1

    def cancel(self, number: int, /) -> None:
        self.world.cancel(number)

    def close_port(self, _: int, /) -> None:
        self.world.close_port()

    def close(self) -> None:
        for operation in self.long.operations:
            operation.cancel()
        self.end(closing=True)
