"""Receives whose buffer is taken from a pool when data is there: one try."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from netpoll.backends import sockets
from netpoll.backends.queues import BLOCKED, DONE, EXHAUSTED
from netpoll.backends.selectors.tries import fail, unblock
from netpoll.backends.sockets import DONTWAIT
from netpoll.pools import PooledBuffer

if TYPE_CHECKING:
    from netpoll.backends.selectors.engine import Channel, SelectorsEngine
    from netpoll.overlapped import Overlapped
    from netpoll.pools import BufferPool, Starved

    Operation = Overlapped[Any]


def prepare_pooled(engine: SelectorsEngine, operation: Operation, channel: Channel) -> None:
    operation._queue = channel.reading
    operation._perform = receive_pooled
    operation._begin = start_pooled
    operation._call = engine.starve
    operation._native = None


def start_pooled(operation: Operation) -> bool:
    operation._value = None  # the last start's buffer is the program's alone
    return bool(operation._queue.start(operation))


def receive_pooled(operation: Operation) -> int:
    unblock(operation)
    pool: BufferPool = operation._address
    starved: Starved | None = operation._native  # while it waits for a buffer
    index = pool.take() if starved is None else starved.index
    if index < 0:
        return look_without_buffer(operation)
    operation._native = None
    try:
        moved = operation.handle.recv_into(pool.buffer(index), 0, DONTWAIT)
    except OSError as error:
        pool.give(index)
        return BLOCKED if isinstance(error, BlockingIOError) else fail(operation, error)
    if not moved:
        pool.give(index)
        return end(operation)
    operation._value = PooledBuffer(pool, index, moved)
    operation.transferred = moved
    operation._final = 0
    return DONE if moved == pool.size else EXHAUSTED


def look_without_buffer(operation: Operation) -> int:
    """There is no buffer: wait for one only if there is something to put into it."""
    if operation._native is not None:
        operation._call(operation)  # it waits already, and somebody asked for readiness again
        return BLOCKED
    try:
        if not operation.handle.recv(1, socket.MSG_PEEK | DONTWAIT):
            return end(operation)
    except BlockingIOError:
        return BLOCKED
    except OSError as error:
        return fail(operation, error)
    return BLOCKED if operation._call(operation) else receive_pooled(operation)


def end(operation: Operation) -> int:
    operation._value = PooledBuffer(operation._address, -1, 0)
    sockets.end_of_stream(operation)
    return DONE
