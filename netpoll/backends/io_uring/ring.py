"""The two rings shared with the kernel: entries go in, completions come out.

Nothing here locks: the port's lock guards all of it, except a system call that waits.

Memory ordering. The kernel reads the submission tail and then the entries within `io_uring_enter`.
The thread in that call has given the lock back, and another may be adding entries: they must be
seen before the tail is. Completions may be posted by another processor at any time, the entry
first, then the tail with release semantics: the tail must be loaded before the entries, and they
before the head goes back. x86-64 keeps loads in order, and stores, and a store behind earlier
loads. arm64 does not: where `BARRIER` is true, a lock is dropped and taken between the two steps.
Nothing moves behind a release or before an acquire, and arm64 keeps a release before a later
acquire. (Taken and dropped would not do: both sides may move in between, and pass each other.)
"""

from __future__ import annotations

import errno
import mmap
import os
import platform
import struct
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from netpoll import debugging
from netpoll.backends.io_uring import constants as uring
from netpoll.backends.io_uring.library import (
    COMPLETIONS,
    ENTRIES,
    SHARED,
    SINGLE,
    address_of,
    open_ring,
    syscalls,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

U32: Final = 0xFFFFFFFF
BARRIER: Final = platform.machine().lower() not in ("x86_64", "amd64", "i686", "i386")

BATCH: Final = 64
"""Completions taken in one turn. While more are there, no system call is made, and what is started
meanwhile goes out with the next one; all at once would fall out of the processor's cache."""
LOOKS: Final = 16
"""One look in so many is a system call although there is nothing to do: it is then that other
threads have the interpreter and the port's lock without waiting for 5 ms."""
ARGUMENT_SIZE: Final = 24
"""struct io_uring_getevents_arg."""

CQE: Final = struct.Struct("=QiI")
"""struct io_uring_cqe: user_data, result, flags."""
AGAIN: Final = frozenset((errno.EINTR, errno.EAGAIN, errno.EBUSY, errno.ETIME))
"""Of `io_uring_enter`: a signal; no memory for a request just now; completions to be taken first;
the time is over. In each case the caller looks at what there is and comes back."""


class Ring:
    """One `io_uring` instance."""

    __slots__ = (
        "_argument",
        "_argument_address",
        "_barrier",
        "_batch",
        "_cq_head",
        "_cq_head_word",
        "_cq_mask",
        "_cq_size",
        "_cq_tail_word",
        "_cqes",
        "_enter",
        "_last_error",
        "_maps",
        "_sq_flags_word",
        "_sq_head_word",
        "_sq_mask",
        "_sq_size",
        "_sq_tail",
        "_sq_tail_word",
        "_sqes",
        "_timespec",
        "_words",
        "enters",
        "fd",
        "flags",
    )

    def __init__(self, *, single_issuer: bool = False) -> None:
        self.fd: int
        self.flags: tuple[str, ...]
        small = debugging.enabled(debugging.LIMITS)
        self._batch = 1 if small else BATCH
        self.fd, params, self.flags = open_ring(
            *((2, 4) if small else (ENTRIES, COMPLETIONS)), SINGLE if single_issuer else SHARED
        )
        try:
            self._map(params)
        except BaseException:
            os.close(self.fd)
            raise
        self._enter: Callable[..., int] = syscalls().syscall
        self._last_error = syscalls().last_error
        self._barrier = threading.Lock()
        self.enters: int = 0
        """System calls made so far."""
        # struct io_uring_getevents_arg, which points to a __kernel_timespec
        self._timespec = memoryview(bytearray(16)).cast("q")
        self._argument = bytearray(struct.pack("=QIIQ", 0, 0, 0, address_of(self._timespec)))
        self._argument_address = address_of(self._argument)

    def _map(self, params: bytearray) -> None:
        self._sq_size, self._cq_size = struct.unpack_from("=II", params)
        head, tail, _, _, flags, _, array = struct.unpack_from("=7I", params, uring.SQ_OFFSETS)
        self._sq_flags_word = flags // 4
        self._sq_head_word, self._sq_tail_word = head // 4, tail // 4
        self._sq_mask = self._sq_size - 1
        head, tail, _, _, _, cqes, _ = struct.unpack_from("=7I", params, uring.CQ_OFFSETS)
        self._cq_head_word, self._cq_tail_word = head // 4, tail // 4
        self._cq_mask = self._cq_size - 1
        size = max(array + 4 * self._sq_size, cqes + uring.CQE_SIZE * self._cq_size)
        rings = _shared(self.fd, size, uring.IORING_OFF_SQ_RING)
        entries = _shared(self.fd, uring.SQE_SIZE * self._sq_size, uring.IORING_OFF_SQES)
        self._maps = (rings, entries)
        self._words = memoryview(rings).cast("I")
        self._cqes = memoryview(rings)[cqes : cqes + uring.CQE_SIZE * self._cq_size]
        self._sqes = memoryview(entries)
        for index in range(self._sq_size):
            self._words[array // 4 + index] = index  # the indirection stays the identity
        self._sq_tail: int = self._words[self._sq_tail_word]
        self._cq_head: int = self._words[self._cq_head_word]

    def push(self, entries: list[bytearray]) -> None:
        """Move entries into the submission ring, as many as it has room for."""
        tail = self._sq_tail
        room = self._sq_size - ((tail - self._words[self._sq_head_word]) & U32)
        count = min(len(entries), room)
        first = tail & self._sq_mask
        straight = min(count, self._sq_size - first)
        self._sqes[64 * first : 64 * (first + straight)] = b"".join(entries[:straight])
        if straight < count:
            self._sqes[: 64 * (count - straight)] = b"".join(entries[straight:count])
        if BARRIER:
            self._fence()
        # no call between these, so that Ctrl-C cannot come between (an entry that went in twice
        # would let the kernel write to a buffer that has been given back)
        del entries[:count]
        self._sq_tail = self._words[self._sq_tail_word] = (tail + count) & U32

    def unsubmitted(self) -> int:
        """Entries in the ring that the kernel has not taken yet."""
        taken: int = self._words[self._sq_head_word]
        return (self._sq_tail - taken) & U32

    def available(self) -> bool:
        """Whether completions are there to be taken."""
        there: bool = self._words[self._cq_tail_word] != self._cq_head
        return there

    def submit(self) -> None:
        """Hand over what is in the ring, and have done what is due, without waiting.

        :raises OSError: the ring is broken, or belongs to another thread
        """
        self._call(self.unsubmitted(), 0, uring.IORING_ENTER_GETEVENTS, 0, 0)

    def wait(self, timeout: float) -> None:
        """Hand over, and wait for one completion.

        :param timeout: seconds
        """
        if self.available():
            self.submit()
            return
        self._set_timeout(timeout)
        flags = uring.IORING_ENTER_GETEVENTS | uring.IORING_ENTER_EXT_ARG
        self._call(self.unsubmitted(), 1, flags, self._argument_address, ARGUMENT_SIZE)

    def _set_timeout(self, timeout: float) -> None:
        self._timespec[0], self._timespec[1] = divmod(int(timeout * 1e9) + 1, 1_000_000_000)

    def make_turn(
        self, release: Callable[[], object], acquire: Callable[[], object]
    ) -> Callable[[list[bytearray], list[tuple[int, int, int]], float | None], None]:
        """`push`, `wait` and `take` in one function over closed-over names, for the hot path: in
        calls of their own they cost a message 2.3 us more with one connection (two turns), 0.7 us
        with four.

        :param release: called before the system call
        :param acquire: called after it, whatever happens
        """
        words, sqes, cqes, timespec = self._words, self._sqes, self._cqes, self._timespec
        sq_head, sq_tail, sq_mask = self._sq_head_word, self._sq_tail_word, self._sq_mask
        sq_size, cq_size = self._sq_size, self._cq_size
        cq_head, cq_tail, cq_mask = self._cq_head_word, self._cq_tail_word, self._cq_mask
        enter, unpack, argument = self._enter, CQE.iter_unpack, self._argument_address
        number, ring_fd = uring.SYS_IO_URING_ENTER, self.fd
        getevents = uring.IORING_ENTER_GETEVENTS
        with_timeout = getevents | uring.IORING_ENTER_EXT_ARG
        fence = self._fence if BARRIER else None
        most = self._batch
        sq_flags = self._sq_flags_word
        # without the flag nobody can know, so there is always something to do
        due = uring.IORING_SQ_TASKRUN | uring.IORING_SQ_CQ_OVERFLOW
        tells = "TASKRUN_FLAG" in self.flags
        looks = 0

        def turn(
            queued: list[bytearray], batch: list[tuple[int, int, int]], timeout: float | None
        ) -> None:
            nonlocal looks
            head = self._cq_head
            if words[cq_tail] == head:
                if queued:
                    tail = self._sq_tail
                    count = len(queued)
                    first = tail & sq_mask
                    if first + count <= sq_size and count <= sq_size - (
                        (tail - words[sq_head]) & U32
                    ):
                        sqes[64 * first : 64 * (first + count)] = b"".join(queued)
                        if fence is not None:
                            fence()
                        # no call between these, see push()
                        del queued[:]
                        self._sq_tail = words[sq_tail] = (tail + count) & U32
                    else:
                        self.push(queued)
                elif (
                    timeout == 0
                    and tells
                    and not words[sq_flags] & due
                    and self._sq_tail == words[sq_head]
                ):
                    # a look only, and there is nothing: 0.7 us less
                    looks += 1
                    if looks % LOOKS:
                        return
                to_submit = (self._sq_tail - words[sq_head]) & U32
                self.enters += 1
                if timeout is None:
                    complete, flags, address, size = 1, getevents, 0, 0
                elif timeout == 0 or queued:
                    complete, flags, address, size = 0, getevents, 0, 0
                else:
                    complete, flags, address, size = 1, with_timeout, argument, ARGUMENT_SIZE
                    if timeout < 1.0:
                        timespec[0], timespec[1] = 0, int(timeout * 1e9)
                    else:
                        self._set_timeout(timeout)
                release()
                try:
                    result = enter(number, ring_fd, to_submit, complete, flags, address, size)
                    if result < 0:
                        self._check(self._last_error())
                finally:
                    acquire()
                head = self._cq_head  # another thread may have taken some
            available = (words[cq_tail] - head) & U32
            if available:
                if fence is not None:
                    fence()
                first = head & cq_mask
                end = min(first + available, first + most, cq_size)
                taken: Iterable[tuple[Any, ...]] = unpack(cqes[16 * first : 16 * end])
                if fence is not None:
                    taken = list(taken)
                    fence()
                # no call between these, see push()
                batch += taken
                self._cq_head = words[cq_head] = (head + end - first) & U32

        return turn

    def _call(self, to_submit: int, complete: int, flags: int, argument: int, size: int) -> None:
        self.enters += 1
        enter, number = self._enter, uring.SYS_IO_URING_ENTER
        if enter(number, self.fd, to_submit, complete, flags, argument, size) < 0:
            error = self._last_error()
            if error != errno.ENOMEM:  # the entries stay, and whoever waits is told
                self._check(error)

    def _check(self, number: int) -> None:
        if number not in AGAIN:
            raise OSError(number, f"io_uring_enter: {os.strerror(number)}")

    def take(self, batch: list[tuple[int, int, int]]) -> None:
        """Append the completions that are there (user_data, result, flags) to `batch`."""
        words = self._words
        head = self._cq_head
        count = (words[self._cq_tail_word] - head) & U32
        if not count:
            return
        if BARRIER:
            self._fence()
        first = head & self._cq_mask
        end = min(first + count, self._cq_size)
        count = end - first  # what lies behind the wrap-around comes with the next call
        taken: Iterable[tuple[Any, ...]] = CQE.iter_unpack(self._cqes[16 * first : 16 * end])
        if BARRIER:
            taken = list(taken)
            self._fence()
        # no call between these, see push()
        batch += taken
        self._cq_head = words[self._cq_head_word] = (head + count) & U32

    def _fence(self) -> None:
        barrier = self._barrier
        barrier.acquire(False)  # which is held, unless Ctrl-C came between the other two
        barrier.release()
        barrier.acquire(False)

    def cancel(self, user_data: int, timeout: float = 1.0) -> int:
        """Cancel what was started with `user_data`, and wait until that is under way; 0 or a
        negative errno (ENOENT: there is no such thing any more)."""
        seconds, nanoseconds = divmod(int(timeout * 1e9), 1_000_000_000)
        # struct io_uring_sync_cancel_reg
        request = bytearray(
            struct.pack("=QiIqq4Q", user_data, -1, 0, seconds, nanoseconds, *[0] * 4)
        )
        self.enters += 1
        result: int = syscalls().register(
            self.fd, uring.IORING_REGISTER_SYNC_CANCEL, address_of(request), 1
        )
        return result

    def close(self) -> None:
        """Give the ring back. Whatever is pending still writes to its memory until the kernel has
        ended it, so nothing may be."""
        os.close(self.fd)
        self.fd = -1
        for view in (self._words, self._cqes, self._sqes):
            view.release()
        for each in self._maps:
            each.close()


def _shared(fd: int, size: int, offset: int) -> Any:
    library: Any = mmap  # whose declarations know these names on Linux only
    options: dict[str, Any] = {"offset": offset}
    if sys.version_info >= (3, 13):
        options["trackfd"] = False  # or each keeps a duplicate of the descriptor
    return library.mmap(
        fd,
        size,
        flags=library.MAP_SHARED | library.MAP_POPULATE,
        prot=library.PROT_READ | library.PROT_WRITE,
        **options,
    )
