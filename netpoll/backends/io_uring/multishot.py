"""Receives that stay: handed over once, they tell of all that comes, until the connection ends.

The kernel puts the data into a ring of provided buffers, each of which it uses up bit by bit
(IOU_PBUF_RING_INC): what a thousand connections receive lies side by side. There is no
entry for each message, no `Overlapped` and no `Completion`; what a turn has brought is delivered by
one packet, for all connections together.

That is no operation of the port's interface either (see `staging.py`): it is what the event loop's
transports read with, and 1 of the 6 µs that a message cost them with a receive for each.
"""

from __future__ import annotations

import errno
import functools
import os
import struct
from typing import TYPE_CHECKING, Final

from netpoll import debugging
from netpoll.backends.io_uring import constants as uring
from netpoll.backends.io_uring.entries import NEVER, SQE
from netpoll.backends.io_uring.library import address_of, syscalls
from netpoll.backends.io_uring.pooled import (
    BUFFER,
    BUFFER_GROUP,
    BUFFER_SIZE,
    REGISTRATION,
    TAIL_WORD,
    U16,
)
from netpoll.backends.io_uring.ring import BARRIER, Ring
from netpoll.backends.io_uring.table import cancel_entry
from netpoll.pools import anonymous

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

    from netpoll.backends.base import Receiver
    from netpoll.backends.io_uring.engine import IoUringEngine

COUNT: Final = 16
"""Buffers; a power of two."""
SIZE: Final = 64 << 10
"""Bytes of one, and so of one piece of data at most."""
GROUP: Final = U16
"""The number of the ring of buffers. Those of pools count up from 0."""
MOST: Final = 2 * SIZE
"""Bytes after which it has to be started again: what a connection may have waiting for it here."""
LIMITED: Final = struct.Struct("=HxxI")
"""The end of an entry: the number of the ring, and that limit (`optlen`)."""
USUAL: Final = uring.IORING_CQE_F_BUFFER | uring.IORING_CQE_F_MORE | uring.IORING_CQE_F_BUF_MORE
"""Data, with more to come, in a buffer that has room left."""


class MultishotReceive:
    """That of one connection."""

    __slots__ = ("deliver", "entry", "fd", "receiver", "run", "stopping", "token")

    # as an operation in the engine's table: no result is plain success, and nothing is pending
    _least = NEVER
    _final = 0

    def __init__(self, fd: int, receiver: Receiver, run: Callable[..., object]) -> None:
        self.fd: int = fd
        self.receiver: Receiver | None = receiver
        self.run: Callable[..., object] = run
        """What calls the receiver: `Context.run`."""
        self.deliver: Callable[[bytes], object] = receiver.arrived
        """What takes data; the receiver may put a faster way here."""
        self.token: int = 0
        """While the kernel has it."""
        self.stopping: bool = False
        self.entry: bytearray | None = None


class MultishotReceives:
    """Those of a port."""

    def __init__(self, engine: IoUringEngine) -> None:
        """
        :raises OSError: the kernel knows no such buffers, or no limit
        """
        if not _kernel_has_limits():
            raise OSError(errno.EINVAL, "multishot receives without a limit: Linux 6.17 has one")
        small = debugging.enabled(debugging.LIMITS)
        self._engine = engine
        self._count, self._size = (2, 256) if small else (COUNT, SIZE)
        self._inbox: deque[tuple[MultishotReceive, int, int]] = engine._inbox
        self._memory = memoryview(anonymous(self._count * self._size))
        self._at = [index * self._size for index in range(self._count)]
        """Where what has not been delivered begins, in each buffer."""
        self._base = address_of(self._memory)
        self._ring_memory = anonymous(self._count * BUFFER_SIZE)
        self._words = memoryview(self._ring_memory).cast("H")
        self._tail = 0
        request = bytearray(
            REGISTRATION.pack(
                address_of(self._ring_memory), self._count, GROUP, uring.IOU_PBUF_RING_INC
            )
        )
        result = syscalls().register(
            engine._ring.fd, uring.IORING_REGISTER_PBUF_RING, address_of(request), 1
        )
        if result < 0:
            raise OSError(-result, f"io_uring_register: {os.strerror(-result)}")
        for index in range(self._count):
            self._provide(index)

    @property
    def memory(self) -> object:
        """What the kernel writes to."""
        return self._memory, self._ring_memory

    def _provide(self, index: int) -> None:
        """Give the kernel a buffer, all of it."""
        start = self._at[index] = index * self._size
        slot = BUFFER_SIZE * (self._tail & (self._count - 1))
        BUFFER.pack_into(self._ring_memory, slot, self._base + start, self._size, index)
        if BARRIER:
            self._engine._ring._fence()  # the kernel sees the entry before it sees the tail
        self._tail = (self._tail + 1) & U16
        self._words[TAIL_WORD] = self._tail

    # -- for one connection ------------------------------------------------------------------------

    def open(self, fd: int, receiver: Receiver, run: Callable[..., object]) -> MultishotReceive:
        """For a new connection; it is not started yet.

        :param receiver: whom it tells, through `run`
        """
        return MultishotReceive(fd, receiver, run)

    def start(self, receive: MultishotReceive) -> None:
        """With the next system call. Whatever becomes of it, the receiver is told."""
        engine = self._engine
        with engine._lock:
            token = engine._new_token()
            entry = bytearray(uring.SQE_SIZE)
            SQE.pack_into(entry, 0, uring.IORING_OP_RECV, 0, 0, receive.fd, 0, 0, 0, 0, token)
            entry[1] = uring.IOSQE_BUFFER_SELECT
            entry[2] = uring.IORING_RECV_MULTISHOT
            LIMITED.pack_into(entry, BUFFER_GROUP, GROUP, MOST)
            receive.token, receive.entry, receive.stopping = token, entry, False
            engine._table[token] = receive
            engine._queued.append(entry)
            if engine._blocked:
                engine.wake()

    def stop(self, receive: MultishotReceive) -> None:
        """Ask for its end. What has come by then is delivered before."""
        if receive.stopping or not receive.token:
            return
        engine = self._engine
        with engine._lock:
            receive.stopping = True
            assert receive.entry is not None
            # if it has not gone out yet, it must not: the number may be another socket's by then
            receive.entry[0] = uring.IORING_OP_NOP
            engine._queued.append(cancel_entry(receive.token))
            if engine._blocked:
                engine.wake()

    def flush(self) -> None:
        """Hand over what was started or stopped, and have mail for what Ctrl-C left behind."""
        engine = self._engine
        with engine._lock:
            if self._inbox:
                engine._announce()
            if engine._queued:
                engine.flush()

    # -- what has come -----------------------------------------------------------------------------

    def deliver(self) -> None:
        """Tell the receivers of everything that has come."""
        with self._engine._lock:
            inbox = self._inbox
            batch = list(inbox)
            inbox.clear()
        memory, at = self._memory, self._at
        rest = iter(batch)
        try:
            for receive, size, flags in rest:
                if size > 0 and flags & USUAL == USUAL:
                    # what follows, for the usual case
                    index = flags >> 16
                    start = at[index]
                    end = at[index] = start + size
                    data = memory[start:end].tobytes()
                    try:
                        receive.run(receive.deliver, data)
                    except (SystemExit, KeyboardInterrupt):
                        raise
                    except BaseException as error:
                        self._failed(receive, error)
                else:
                    self._deliver_otherwise(receive, size, flags)
        except BaseException:
            with self._engine._lock:
                self._inbox.extendleft(reversed(list(rest)))
            self.flush()
            raise

    def _deliver_otherwise(self, receive: MultishotReceive, result: int, flags: int) -> None:
        """Data for which the next buffer begins, or the end."""
        data = b""
        if result > 0:
            index = flags >> uring.IORING_CQE_BUFFER_SHIFT
            start = self._at[index]
            end = self._at[index] = start + result
            data = self._memory[start:end].tobytes()
            # told by the place: the flag is not for all kernels true of an end
            if end == (index + 1) * self._size:
                self._provide(index)
        over = not flags & uring.IORING_CQE_F_MORE
        if over:
            self._forget(receive)
        try:
            if data:
                self._tell(receive, receive.deliver, data)
        finally:
            receiver = receive.receiver
            if over and receiver is not None:
                if data or (receive.stopping and not result):
                    result = -errno.EAGAIN  # an end of stream is told by the next one once more
                self._tell(receive, receiver.receive_over, result)

    def _tell(
        self, receive: MultishotReceive, function: Callable[..., object], argument: object
    ) -> None:
        try:
            receive.run(function, argument)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._failed(receive, error)

    def _forget(self, receive: MultishotReceive) -> None:
        engine = self._engine
        with engine._lock:
            engine._table[receive.token] = None
            engine._tokens.append(receive.token)
            receive.token, receive.entry = 0, None

    def _failed(self, receive: MultishotReceive, error: BaseException) -> None:
        if receive.receiver is not None:
            receive.run(receive.receiver.receiver_failed, error)


@functools.cache
def _kernel_has_limits() -> bool:
    """Whether there is an end to what one of them takes: older kernels refuse an entry with a
    limit, newer ones no more than the descriptor of this one."""
    entry = bytearray(uring.SQE_SIZE)
    SQE.pack_into(entry, 0, uring.IORING_OP_RECV, 0, 0, -1, 0, 0, 0, 0, 0)
    entry[1] = uring.IOSQE_BUFFER_SELECT
    entry[2] = uring.IORING_RECV_MULTISHOT
    LIMITED.pack_into(entry, BUFFER_GROUP, GROUP, MOST)
    completions: list[tuple[int, int, int]] = []
    ring = Ring()
    try:
        ring.push([entry])
        ring.submit()
        ring.take(completions)
    finally:
        ring.close()
    return [result for _, result, _ in completions] == [-errno.EBADF]
