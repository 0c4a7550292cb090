"""Reads and writes of files and pipes: their entries, and what their completions mean."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any, Final

from netpoll import buffers
from netpoll import status as nt
from netpoll.backends import descriptors, sockets
from netpoll.backends.io_uring import constants as uring
from netpoll.backends.io_uring.entries import iovecs
from netpoll.backends.io_uring.library import address_of
from netpoll.backends.io_uring.lines import Line

if TYPE_CHECKING:
    from netpoll.backends.io_uring.entries import Native
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]

AT_POSITION: Final = 2**64 - 1
"""As an offset: where the descriptor stands; what a pipe is given."""
POLLIN: Final[int] = getattr(select, "POLLIN", 1)


def prepare_file(operation: Operation, record: sockets.SocketAssociation) -> None:
    descriptors.check(operation, record.file)
    if descriptors.is_positioned(operation):
        operation._queue = Line()  # its own: transfers of a file wait for nobody
        operation._value = 0
    else:
        operation._queue = record.reading if descriptors.is_reading(operation) else record.writing
    operation._native.rewrite = write_entry


def write_entry(operation: Operation) -> None:
    native: Native = operation._native
    native.size = operation._size
    native.moved = 0
    record = sockets.association_of(operation)
    reading = descriptors.is_reading(operation)
    operation._call = finish_read if reading else finish_write
    assert record.file is not None
    if reading and not operation._size and not record.file.has_offsets:
        # a read without room waits for data, or for the end, and consumes nothing
        native.write(uring.IORING_OP_POLL_ADD, record.fd, flags=uring.POLLIN)
        operation._call = finish_probe
        return
    view: buffers.Pinned = operation._view
    _write_views(operation, view if isinstance(view, list) else [view])


def _write_views(operation: Operation, views: list[memoryview]) -> None:
    """Make the entry for what is left."""
    native: Native = operation._native
    record = sockets.association_of(operation)
    reading = descriptors.is_reading(operation)
    positioned = record.file is not None and record.file.has_offsets
    offset = operation._value + native.moved if positioned else AT_POSITION
    if len(views) == 1:
        native.write(
            uring.IORING_OP_READ if reading else uring.IORING_OP_WRITE,
            record.fd,
            address=address_of(views[0]),
            length=min(len(views[0]), descriptors.MOST_BYTES),
            offset=offset,
        )
        return
    views = views[: sockets.IOV_MAX]
    vectors = native.kept = iovecs(views)
    native.write(
        uring.IORING_OP_READV if reading else uring.IORING_OP_WRITEV,
        record.fd,
        address=address_of(vectors),
        length=len(views),
        offset=offset,
    )


def finish_read(operation: Operation, result: int) -> bool:
    """Of a file all that there is room for, less at its end only; of a pipe what is there."""
    native: Native = operation._native
    file = sockets.association_of(operation).file
    assert file is not None
    if result < 0:
        descriptors.fail(operation, -result)
    else:
        native.moved += result
        if result and file.has_offsets and native.moved < operation._size:
            _go_on(operation)
            return False
        descriptors.finish_read(operation, native.moved)
    native.size = -1  # the entry may be in the middle: write it anew
    file.settle(operation)
    return True


def finish_write(operation: Operation, result: int) -> bool:
    """All of it, however many entries it takes."""
    native: Native = operation._native
    file = sockets.association_of(operation).file
    assert file is not None
    if result < 0:
        descriptors.fail(operation, -result)
    else:
        native.moved += result
        if native.moved < operation._size:
            _go_on(operation)
            return False
        operation.transferred = native.moved
        operation._final = 0
    native.size = -1
    file.settle(operation)
    return True


def _go_on(operation: Operation) -> None:
    view: buffers.Pinned = operation._view
    views = view if isinstance(view, list) else [view]
    _write_views(operation, buffers.after(views, operation._native.moved))


def finish_probe(operation: Operation, result: int) -> bool:
    if result < 0:
        descriptors.fail(operation, -result)
    else:
        operation.transferred = 0
        operation._final = 0 if result & POLLIN else nt.STATUS_PIPE_BROKEN
    operation._native.size = -1
    return True
