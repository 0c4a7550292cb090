"""Buffer lists: what an operation reads into or writes from, checked once and pinned.

A pinned buffer is a byte-wise `memoryview`. The export keeps the object alive and makes its owner
refuse to resize (a `bytearray` raises `BufferError`), which is what "the buffers belong to the
operation" (OVL-07) means in Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias, Union, cast

if TYPE_CHECKING:
    from typing_extensions import Buffer
else:  # the name exists at run time from Python 3.12 on only
    Buffer = object

BufferList: TypeAlias = Union["Buffer", Sequence["Buffer"]]
"""One buffer, or a sequence of them (WSABUF scatter and gather)."""

Pinned: TypeAlias = memoryview | list[memoryview]
"""One byte-wise view, or a list of two or more: the two shapes that the backends distinguish."""


def pin(buffers: BufferList, *, writable: bool) -> Pinned:
    """Export `buffers` as byte-wise views, in order.

    :raises TypeError: something is not a buffer, or is read-only where data is to be stored
    :raises ValueError: a buffer is not C-contiguous, or the sequence is empty (XFER-09)
    """
    if isinstance(buffers, Sequence) and not _is_buffer(buffers):
        views = [_view(buffer, writable) for buffer in buffers]
        if not views:
            raise ValueError("an operation needs at least one buffer; an empty one is allowed")
        # empty ones would fill a system call's list of buffers for nothing
        views = [view for view in views if view] or views[:1]
        return views[0] if len(views) == 1 else views
    return _view(cast("Buffer", buffers), writable)


def pin_one(buffer: Buffer, name: str, *, writable: bool) -> memoryview:
    """As `pin`, where there is room for one buffer only.

    :param name: what the buffer is, for the message
    :raises TypeError: also for a sequence of buffers, even of one
    """
    pinned = pin(buffer, writable=writable)
    if isinstance(pinned, list) or (isinstance(buffer, Sequence) and not _is_buffer(buffer)):
        raise TypeError(f"{name} is one buffer, and not a sequence of them; join them first")
    return pinned


def copy(buffers: BufferList) -> memoryview:
    """As `pin` of what is sent, but the bytes are taken here and now: all of them, as one view."""
    pinned = pin(buffers, writable=False)
    return memoryview(b"".join(pinned) if isinstance(pinned, list) else bytes(pinned))


def _is_buffer(candidate: object) -> bool:
    """Bytes and arrays are sequences too."""
    if isinstance(candidate, (list, tuple)):
        return False  # the usual sequences, without an exception
    try:
        memoryview(cast("Buffer", candidate))
    except TypeError:
        return isinstance(candidate, str)  # let it be refused as a whole
    return True


def _view(buffer: Buffer, writable: bool) -> memoryview:
    try:
        view = memoryview(buffer)
    except TypeError:
        hint = "; encode it first" if isinstance(buffer, str) else ""
        raise TypeError(
            f"a buffer is bytes-like or a sequence of bytes-like objects, not "
            f"{type(buffer).__name__}{hint}"
        ) from None
    if writable and view.readonly:
        raise TypeError(
            f"a receive needs a writable buffer; this {type(buffer).__name__} is read-only "
            f"(use a bytearray or a writable memoryview)"
        )
    if not view.c_contiguous:
        raise ValueError("a buffer must be C-contiguous; copy it into a bytearray first")
    if view.format == "B" and view.ndim == 1:
        return view
    # cast() refuses shapes with a zero in them, which are empty anyway
    return view.cast("B") if view.nbytes else memoryview(bytearray())


def total(pinned: Pinned) -> int:
    """The number of bytes in all of the views."""
    if isinstance(pinned, list):
        return sum(map(len, pinned))
    return len(pinned)


def first(pinned: Pinned, size: int) -> Pinned:
    """The first `size` bytes of the views."""
    if isinstance(pinned, list):
        kept: list[memoryview] = []
        for view in pinned:
            kept.append(view[:size])
            size -= len(kept[-1])
            if not size:
                break
        return kept
    return pinned[:size]


def after(views: list[memoryview], moved: int) -> list[memoryview]:
    """What is left of the views behind their first `moved` bytes."""
    for index, view in enumerate(views):
        if moved < len(view):
            return [view[moved:], *views[index + 1 :]]
        moved -= len(view)
    return []


def scatter(data: memoryview, pinned: list[memoryview]) -> None:
    """Copy `data` into the views, filling them in order (RECV-11)."""
    offset = 0
    for view in pinned:
        part = data[offset : offset + len(view)]
        view[: len(part)] = part
        offset += len(part)
        if offset == len(data):
            break
