"""Reads and writes: of files within the start, of pipes one try of each."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING, Any

from netpoll import buffers
from netpoll import status as nt
from netpoll.backends import descriptors
from netpoll.backends.queues import BLOCKED, DONE, EXHAUSTED
from netpoll.backends.sockets import IOV_MAX, association_of

if TYPE_CHECKING:
    from netpoll.backends.selectors.engine import Channel, SelectorsEngine
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]

_os: Any = os
_select: Any = select
"""For names that Windows, where none of this works, does not have."""


def prepare_file(engine: SelectorsEngine, operation: Operation, channel: Channel) -> None:
    descriptors.check(operation, channel.file)
    reading = descriptors.is_reading(operation)
    operation._native = None
    if descriptors.is_positioned(operation):
        operation._call = engine.end_later
        operation._begin = start_read if reading else start_write
    else:
        operation._queue = channel.reading if reading else channel.writing
        operation._perform = read_pipe if reading else write_pipe
        operation._begin = operation._queue.start


def _views(operation: Operation) -> list[memoryview]:
    view: buffers.Pinned = operation._view
    return view if isinstance(view, list) else [view]


# -- files -----------------------------------------------------------------------------------------


def start_read(operation: Operation) -> bool:
    """A file is always ready (EMU-28): read here and now, under the port's lock."""
    record = association_of(operation)
    assert record.file is not None
    offset = record.file.place(operation)
    left, moved = _views(operation), 0
    try:
        while left and _is_open(operation):
            part = _os.preadv(record.fd, left[:IOV_MAX], offset + moved)
            moved += part
            left = buffers.after(left, part)
            if not part:
                break
    except OSError as error:
        descriptors.fail(operation, error.errno or 0)
    else:
        descriptors.finish_read(operation, moved)
    if not _is_open(operation):
        operation._final = nt.STATUS_INVALID_HANDLE
    record.file.settle(operation)
    # the end of the file comes as a packet, as on Windows (FILE-01)
    at_end = operation._final == nt.STATUS_END_OF_FILE
    return bool(operation._call(operation)) if at_end else True


def start_write(operation: Operation) -> bool:
    record = association_of(operation)
    assert record.file is not None
    offset = record.file.place(operation)
    left, moved = _views(operation), 0
    try:
        while left and _is_open(operation):
            part = _os.pwritev(record.fd, left[:IOV_MAX], offset + moved)
            moved += part
            left = buffers.after(left, part)
        operation.transferred = moved
        operation._final = 0
    except OSError as error:
        descriptors.fail(operation, error.errno or 0)
    if not _is_open(operation):
        operation._final = nt.STATUS_INVALID_HANDLE
    record.file.settle(operation)
    return True


def _is_open(operation: Operation) -> bool:
    """The number is still this file's, and the port's."""
    record = association_of(operation)
    return record.reading.refusal != nt.STATUS_INVALID_HANDLE and record.alive()


# -- pipes -----------------------------------------------------------------------------------------


def read_pipe(operation: Operation) -> int:
    """Whatever is there; the end is 109 (PIPE-03)."""
    record = association_of(operation)
    if not record.alive():
        return _closed(operation)
    try:
        descriptors.unblock(record.fd)
        if not operation._size:
            return _await_data(operation, record.fd)
        moved = _os.readv(record.fd, _views(operation)[:IOV_MAX])
    except BlockingIOError:
        return BLOCKED
    except OSError as error:
        descriptors.fail(operation, error.errno or 0)
        return DONE
    descriptors.finish_read(operation, moved)
    return DONE if moved == operation._size else EXHAUSTED


def _await_data(operation: Operation, number: int) -> int:
    """A read without room waits for data, or for the end, and consumes nothing."""
    poll = _select.poll()
    poll.register(number, _select.POLLIN)
    ready: list[tuple[int, int]] = poll.poll(0)
    if not ready:
        return BLOCKED
    operation.transferred = 0
    operation._final = 0 if ready[0][1] & _select.POLLIN else nt.STATUS_PIPE_BROKEN
    return DONE


def write_pipe(operation: Operation) -> int:
    """All of it, however many tries it takes."""
    record = association_of(operation)
    if not record.alive():
        return _closed(operation)
    # while the write is under way, _native is what is left of the views
    left: list[memoryview] = operation._native or _views(operation)
    try:
        descriptors.unblock(record.fd)
        while left:
            left = buffers.after(left, _os.writev(record.fd, left[:IOV_MAX]))
            operation._native = left
    except BlockingIOError:
        return BLOCKED
    except OSError as error:
        operation._native = None
        descriptors.fail(operation, error.errno or 0)
        return DONE
    operation._native = None
    operation.transferred = operation._size
    operation._final = 0
    return DONE


def _closed(operation: Operation) -> int:
    pending = operation._queue.head is operation
    operation._final = (
        descriptors.status_of_close(operation) if pending else nt.STATUS_INVALID_HANDLE
    )
    operation._native = None
    operation.transferred = 0
    return DONE
