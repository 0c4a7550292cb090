"""Receives whose buffer the kernel takes from a ring of provided ones, when data is there.

Giving a buffer back is a write to that ring, and no system call. Where it is empty, the kernel says
so when the data has come; then the next buffer that comes back goes past the ring to the receive
that has waited for the longest time.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any, Final

from netpoll.backends import sockets
from netpoll.backends.io_uring import constants as uring
from netpoll.backends.io_uring.library import address_of, syscalls
from netpoll.backends.io_uring.ring import BARRIER
from netpoll.pools import PooledBuffer, anonymous

if TYPE_CHECKING:
    from netpoll.backends.io_uring.entries import Native
    from netpoll.backends.io_uring.ring import Ring
    from netpoll.overlapped import Overlapped
    from netpoll.pools import BufferPool

    Operation = Overlapped[Any]

BUFFER: Final = struct.Struct("=QIH")
"""struct io_uring_buf: address, length, id; the rest of the first one is the ring's tail."""
BUFFER_SIZE: Final = 16
TAIL_WORD: Final = 7
REGISTRATION: Final = struct.Struct("=QIHH24x")
"""struct io_uring_buf_reg: address, entries, group, flags."""
PRIORITY: Final = struct.Struct("=H")
IOPRIO: Final = 2
BUFFER_GROUP: Final = 40
"""Where those are in an entry."""
U16: Final = 0xFFFF


class Provided:
    """A pool's free buffers, in a ring that the kernel takes them from."""

    def __init__(self, pool: BufferPool, ring: Ring, group: int) -> None:
        """
        :raises OSError: the kernel refuses it
        """
        self.group: int = group
        self._address = address_of(pool.memory)
        self._size = pool.size
        entries = 1 << (pool.count - 1).bit_length()
        self._mask = entries - 1
        self._tail = 0
        self._barrier = threading.Lock()
        self._barrier.acquire()
        self._memory = anonymous(entries * BUFFER_SIZE)
        self._words = memoryview(self._memory).cast("H")
        request = bytearray(REGISTRATION.pack(address_of(self._memory), entries, group, 0))
        result = syscalls().register(
            ring.fd, uring.IORING_REGISTER_PBUF_RING, address_of(request), 1
        )
        if result < 0:
            raise OSError(
                -result,
                f"io_uring_register of a buffer pool: {os.strerror(-result)}; with "
                "single_issuer=True the port's own thread has to start the first receive",
            )
        pool.move_to(self)

    def provide(self, index: int) -> None:
        """Put a buffer into the ring; the pool's lock is held."""
        slot = BUFFER_SIZE * (self._tail & self._mask)
        BUFFER.pack_into(self._memory, slot, self._address + index * self._size, self._size, index)
        if BARRIER:
            self._barrier.release()  # the kernel sees the entry before it sees the tail, see Ring
            self._barrier.acquire()
        self._tail = (self._tail + 1) & U16
        self._words[TAIL_WORD] = self._tail


def prepare_pooled(operation: Operation, record: sockets.SocketAssociation) -> None:
    operation._queue = record.reading
    operation._native.rewrite = write_pooled
    operation._perform = look_at_once
    write_pooled(operation)


def look_at_once(operation: Operation) -> bool:
    """Without a buffer: an end or an error is told by the start."""
    result = peek(operation)
    return result != -errno.EAGAIN and result <= 0 and finish_pooled(operation, result)


def peek(operation: Operation) -> int:
    """What is there: 1 is data, 0 the end of the stream, and less than that an errno."""
    sockets.unblock(operation.handle)
    try:
        return len(operation.handle.recv(1, socket.MSG_PEEK | sockets.DONTWAIT))
    except OSError as error:
        return -(error.errno or errno.EIO)


def write_pooled(operation: Operation) -> None:
    native: Native = operation._native
    native.size = operation._size
    pool: BufferPool = operation._address
    provided: Any = pool.home
    native.write(uring.IORING_OP_RECV, sockets.association_of(operation).fd, length=pool.size)
    native.entry[1] = uring.IOSQE_BUFFER_SELECT
    struct.pack_into("=H", native.entry, BUFFER_GROUP, provided.group)
    operation._call = finish_pooled


def wait_first(operation: Operation) -> None:
    """The ring is empty: look there when there is data."""
    PRIORITY.pack_into(operation._native.entry, IOPRIO, uring.IORING_RECVSEND_POLL_FIRST)


def finish_pooled(operation: Operation, result: int) -> bool:
    native: Native = operation._native
    pool: BufferPool = operation._address
    flags, native.flags = native.flags, 0
    PRIORITY.pack_into(native.entry, IOPRIO, 0)
    index = -1
    if flags & uring.IORING_CQE_F_BUFFER:
        index = flags >> uring.IORING_CQE_BUFFER_SHIFT
        pool.taken(index)
    if index >= 0 and result <= 0:
        pool.give(index)
    if result < 0:
        sockets.fail(operation, -result)
    elif result:
        operation._value = PooledBuffer(pool, index, result)
        operation.transferred = result
        operation._final = 0
    else:
        operation._value = PooledBuffer(pool, -1, 0)
        sockets.end_of_stream(operation)
    return True


def receive_into(operation: Operation, index: int) -> bool:
    """The receive was out of buffers and has got one: its data is there, unless somebody else has
    read it. Whether it has ended."""
    pool: BufferPool = operation._address
    try:
        result = operation.handle.recv_into(pool.buffer(index), 0, sockets.DONTWAIT)
    except BlockingIOError:
        pool.give(index)
        return False
    except OSError as error:
        result = -(error.errno or errno.EIO)
    operation._native.flags = uring.IORING_CQE_F_BUFFER | index << uring.IORING_CQE_BUFFER_SHIFT
    return finish_pooled(operation, result)
