"""The two rings shared with the kernel: entries go in, completions come out.

Nothing here locks: the port's lock guards all of it, except a system call that waits.

Memory ordering. The kernel reads submission entries within `io_uring_enter`, in the thread that
calls it, which sees its own stores in order; an entry that another thread wrote was written under
the port's lock. (A kernel thread that polls the ring, SQPOLL, would need more; it is never asked
for.) Completions may be posted by another processor at any time: the entry first, then the tail
with release semantics. Reading the tail and then the entry needs the loads to stay in that order.
x86-64 never reorders loads. arm64 may: `BARRIER` there takes and drops a lock between the two,
whose release keeps the tail's load before it and whose acquire keeps the entries' behind it. The
head goes back after the entries were copied, and the kernel reads it only to see how much room
there is, in a system call or long after: hundreds of instructions lie between.
"""

from __future__ import annotations

import errno
import mmap
import os
import platform
import struct
import threading
from typing import TYPE_CHECKING, Any, Final

from netpoll.backends.io_uring import constants as uring
from netpoll.backends.io_uring.library import SHARED, SINGLE, address_of, open_ring, syscalls

if TYPE_CHECKING:
    from collections.abc import Callable

U32: Final = 0xFFFFFFFF
ENTRIES: Final = 1024
"""Entries that one system call can hand over; more go in several. CLAMP lowers it if need be."""
COMPLETIONS: Final = 4 * ENTRIES
"""Many operations pend for one entry. What does not fit the kernel keeps (NODROP)."""
BARRIER: Final = platform.machine().lower() not in ("x86_64", "amd64", "i686", "i386")

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
        "_cq_head",
        "_cq_head_word",
        "_cq_mask",
        "_cq_size",
        "_cq_tail_word",
        "_cqes",
        "_enter",
        "_last_error",
        "_maps",
        "_sq_head_word",
        "_sq_mask",
        "_sq_size",
        "_sq_tail",
        "_sq_tail_word",
        "_sqes",
        "_timeout",
        "_timespec",
        "_words",
        "enters",
        "fd",
        "flags",
    )

    def __init__(self, *, single_issuer: bool = False) -> None:
        self.fd, params, self.flags = open_ring(
            ENTRIES, COMPLETIONS, SINGLE if single_issuer else SHARED
        )
        try:
            self._map(params)
        except BaseException:
            os.close(self.fd)
            raise
        self._enter: Callable[..., int] = syscalls().syscall
        self._last_error = syscalls().last_error
        self._barrier = threading.Lock()
        self.enters = 0
        """System calls made so far."""
        # struct io_uring_getevents_arg, which points to a __kernel_timespec
        self._timespec = bytearray(16)
        self._argument = bytearray(struct.pack("=QIIQ", 0, 0, 0, address_of(self._timespec)))
        self._argument_address = address_of(self._argument)
        self._timeout: float | None = None

    def _map(self, params: bytearray) -> None:
        self._sq_size, self._cq_size = struct.unpack_from("=II", params)
        head, tail, _, _, _, _, array = struct.unpack_from("=7I", params, uring.SQ_OFFSETS)
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
        # no call between these, so that Ctrl-C cannot come between (an entry that went in twice
        # would let the kernel write to a buffer that has been given back)
        del entries[:count]
        self._sq_tail = self._words[self._sq_tail_word] = (tail + count) & U32

    def unsubmitted(self) -> int:
        """Entries in the ring that the kernel has not taken yet."""
        taken: int = self._words[self._sq_head_word]
        return (self._sq_tail - taken) & U32

    def submit(self) -> None:
        """Hand over what is in the ring, and have done what is due, without waiting.

        :raises OSError: the ring is broken, or belongs to another thread
        """
        self._call(self.unsubmitted(), 0, uring.IORING_ENTER_GETEVENTS, 0, 0)

    def wait(self, timeout: float | None) -> None:
        """Hand over, and wait for one completion; the only call that may be made without the lock.

        :param timeout: seconds, 0 to look only
        """
        if timeout == 0 or self._words[self._cq_tail_word] != self._cq_head:
            self._call(self.unsubmitted(), 0, uring.IORING_ENTER_GETEVENTS, 0, 0)
            return
        if timeout is None:
            self._call(self.unsubmitted(), 1, uring.IORING_ENTER_GETEVENTS, 0, 0)
            return
        if timeout != self._timeout:
            self._timeout = timeout
            nanoseconds = int(timeout * 1e9) + 1  # never early
            struct.pack_into("=qq", self._timespec, 0, *divmod(nanoseconds, 1_000_000_000))
        self._call(
            self.unsubmitted(),
            1,
            uring.IORING_ENTER_GETEVENTS | uring.IORING_ENTER_EXT_ARG,
            self._argument_address,
            len(self._argument),
        )

    def _call(self, to_submit: int, complete: int, flags: int, argument: int, size: int) -> None:
        self.enters += 1
        if (
            self._enter(
                uring.SYS_IO_URING_ENTER, self.fd, to_submit, complete, flags, argument, size
            )
            < 0
        ):
            number = self._last_error()
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
        taken = CQE.iter_unpack(self._cqes[16 * first : 16 * end])
        # no call between these, see push()
        batch += taken
        self._cq_head = words[self._cq_head_word] = (head + count) & U32

    def _fence(self) -> None:
        with self._barrier:
            return

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
        self._let_go()

    def abandon(self) -> None:
        """In a child process: the ring is the parent's, who goes on with it."""
        os.close(self.fd)
        self._let_go()
        self._enter = _refuse

    def _let_go(self) -> None:
        self.fd = -1
        for view in (self._words, self._cqes, self._sqes):
            view.release()
        for each in self._maps:
            each.close()


def _refuse(*_arguments: int) -> int:
    raise RuntimeError("this port is the parent process's: make a new one after fork()")


def _shared(fd: int, size: int, offset: int) -> Any:
    library: Any = mmap  # whose declarations know these names on Linux only
    return library.mmap(
        fd,
        size,
        flags=library.MAP_SHARED | library.MAP_POPULATE,
        prot=library.PROT_READ | library.PROT_WRITE,
        offset=offset,
    )
