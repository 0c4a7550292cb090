"""Buffers that receives share: one is taken when data is there, and not before.

Ten thousand connections that wait need ten thousand buffers otherwise. A buffer is in one of three
places: free (in the pool, or in a ring of the kernel's), out (with the program, or about to be), or
handed to the receive that has waited for one for the longest time.
"""

from __future__ import annotations

import contextlib
import mmap
import sys
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol

from netpoll.errors import shown
from netpoll.finalizers import finalizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

MOST: Final = 32768
"""Buffers in one pool: what a ring of the kernel's takes."""


class Home(Protocol):
    """Where free buffers are kept, if not in the pool itself."""

    def provide(self, index: int, /) -> None: ...


class Starved:
    """A receive whose data is there, and for which there is no buffer."""

    __slots__ = ("index", "wake")

    def __init__(self, wake: Callable[[], object]) -> None:
        self.wake: Callable[[], object] = wake
        """Called once it has a buffer; in any thread, and at any moment: a collected buffer goes
        back to the pool as well."""
        self.index: int = -1
        """The buffer it got."""


class BufferPool:
    """`count` buffers of `size` bytes, for `CompletionPort.recv_pooled`. Safe to use from any
    thread. A pool belongs to the port that it is first used with.

    :param count: 1 to 32,768
    :param size: bytes in each, which is what one receive gets at most
    """

    __slots__ = (
        "__weakref__",
        "_busy",
        "_free",
        "_lock",
        "_out",
        "_port",
        "_returned",
        "_waiting",
        "count",
        "home",
        "memory",
        "size",
    )

    def __init__(self, count: int, size: int) -> None:
        _check("count", count)
        _check("size", size)
        if count > MOST:
            raise ValueError(f"a pool has {MOST} buffers at most, not {count}; make several pools")
        self.count: int = count
        self.size: int = size
        self._lock = threading.RLock()
        self._busy = False
        self.memory: memoryview = memoryview(anonymous(count * size))
        self.home: Home | None = None
        self._free: list[int] = list(range(count))
        self._out: set[int] = set()
        self._waiting: deque[Starved] = deque()
        self._returned: deque[int] = deque()
        """Buffers on their way back."""
        self._port: weakref.ref[Any] | None = None

    @property
    def free(self) -> int:
        """How many buffers nobody has."""
        return self.count - len(self._out)

    def __repr__(self) -> str:
        return f"<BufferPool {self.free} of {self.count} buffers of {self.size} bytes free>"

    # -- what the backends do ----------------------------------------------------------------------

    def bind(self, port: object) -> None:
        """
        :raises ValueError: it is another port's
        """
        if self._port is None:
            self._port = weakref.ref(port)
        elif self._port() is not port:
            raise ValueError("this pool belongs to another port; make one for each port")

    def buffer(self, index: int) -> memoryview:
        """The memory of one buffer."""
        return self.memory[index * self.size : (index + 1) * self.size]

    # Under the lock, `_busy` is true: what the collector or a signal handler gives back in the
    # middle of that is left in `_returned`, and looked at behind it.

    def take(self) -> int:
        """A free buffer, or -1."""
        with self._lock:
            before, self._busy = self._busy, True
            try:
                index = self._free.pop() if self._free else -1
                if index >= 0:
                    self._out.add(index)
            finally:
                self._busy = before
        if self._returned:
            self._look_at_returned()
        return index

    def taken(self, index: int) -> None:
        """The kernel has taken one from the pool's home."""
        self._out.add(index)  # which no lock makes more atomic

    def wait(self, starved: Starved) -> bool:
        """Give `starved` the next buffer that comes back, in order. `False`: one is free again,
        try that."""
        with self._lock:
            before, self._busy = self._busy, True
            try:
                none = len(self._out) == self.count
                if none:
                    self._waiting.append(starved)
            finally:
                self._busy = before
        if self._returned:
            self._look_at_returned()
        return none

    def leave(self, starved: Starved) -> bool:
        """It does not want one any more; whether it had none yet."""
        with self._lock:
            before, self._busy = self._busy, True
            try:
                index, starved.index = starved.index, -1
                if index < 0:
                    self._waiting.remove(starved)
                else:
                    self._returned.append(index)
            finally:
                self._busy = before
        if self._returned:
            self._look_at_returned()
        return index < 0

    def give(self, index: int) -> None:
        """A buffer comes back. From any thread at any moment, and even in the middle of another
        method here, because the collector may do it."""
        self._returned.append(index)
        self._look_at_returned()

    def move_to(self, home: Home) -> None:
        """From now on `home` keeps the free buffers."""
        with self._lock:
            self.home = home
            self._returned.extend(self._free)
            self._free.clear()
        self._look_at_returned()

    def _look_at_returned(self) -> None:
        returned = self._returned
        with self._lock:
            while returned and not self._busy:
                self._busy = True
                try:
                    while returned:
                        self._place(returned.popleft())
                finally:
                    self._busy = False

    def _place(self, index: int) -> None:
        """Whoever has waited for the longest time gets it."""
        if self._waiting:
            starved = self._waiting.popleft()
            starved.index = index
            starved.wake()
            return
        self._out.discard(index)
        if self.home is None:
            self._free.append(index)
        else:
            self.home.provide(index)


class PooledBuffer:
    """What a `recv_pooled` has received. `release()`, the end of a `with` block or the collector
    gives the memory back to the pool, which uses it for somebody else's data: copy what is to last,
    and release it only when the sends that use it have completed.
    """

    __slots__ = ("__weakref__", "_held", "_pool", "data")

    def __init__(self, pool: BufferPool, index: int, size: int) -> None:
        """
        :param index: -1 for one of no bytes, which has no memory
        """
        self._pool = pool
        # a list, because two threads cannot both pop the same
        self._held: list[int] = [index] if index >= 0 else []
        start = index * pool.size if index >= 0 else 0
        self.data: memoryview = pool.memory[start : start + size]
        """The bytes received; none at the end of the stream. Writable."""

    def release(self) -> None:
        """Give the memory back; again is harmless.

        :raises BufferError: something else than a `memoryview` still looks at `data`
        """
        self.data.release()
        try:
            index = self._held.pop()
        except IndexError:
            return  # another thread was faster, or there was none
        self._pool.give(index)

    def __len__(self) -> int:
        return len(self.data)

    def __bytes__(self) -> bytes:
        return bytes(self.data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    @finalizer
    def __del__(self) -> None:
        if self._held:
            # an array of somebody else's that still looks at it keeps it: the pool has one less
            with contextlib.suppress(BufferError):
                self.release()

    def __repr__(self) -> str:
        try:
            return f"<PooledBuffer {len(self.data)} bytes>"
        except ValueError:
            return "<PooledBuffer released>"


def _check(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} is a number of 1 or more, not {shown(value)}")


def anonymous(size: int) -> mmap.mmap:
    """Memory that begins with a page, is not touched before it is used, and is not shared with a
    child process."""
    if sys.platform == "win32":
        return mmap.mmap(-1, size)
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
