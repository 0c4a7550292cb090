"""Buffer lists against the same thing done with plain bytes."""

from __future__ import annotations

import array
import ctypes
import mmap
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netpoll.buffers import after, first, pin, scatter, total

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll.buffers import Pinned

contents = st.lists(st.binary(max_size=6), min_size=1, max_size=6)


class Pair(ctypes.Structure):
    _fields_ = (("one", ctypes.c_int), ("two", ctypes.c_char))


WRITABLE: dict[str, Callable[[], Any]] = {
    "bytearray": lambda: bytearray(24),
    "memoryview": lambda: memoryview(bytearray(24)),
    "part of one": lambda: memoryview(bytearray(48))[8:32],
    "array of doubles": lambda: array.array("d", [0.0] * 3),
    "two dimensions": lambda: memoryview(bytearray(24)).cast("B", (4, 6)),
    "no dimension": lambda: memoryview(bytearray(24)).cast("d", (1, 3)),
    "signed bytes": lambda: memoryview(bytearray(24)).cast("b"),
    "characters": lambda: memoryview(bytearray(24)).cast("c"),
    "ctypes array": lambda: (ctypes.c_int * 6)(),
    "ctypes matrix": lambda: (ctypes.c_short * 4 * 3)(),
    "ctypes structures": lambda: (Pair * 3)(),
    "ctypes string": lambda: ctypes.create_string_buffer(24),
    "anonymous mapping": lambda: memoryview(mmap.mmap(-1, 24)),
}


def content(pinned: Pinned) -> bytes:
    return b"".join(pinned) if isinstance(pinned, list) else bytes(pinned)


def parts(pinned: Pinned) -> list[bytes]:
    return [bytes(view) for view in pinned] if isinstance(pinned, list) else [bytes(pinned)]


def views(pinned: Pinned) -> list[memoryview]:
    return pinned if isinstance(pinned, list) else [pinned]


# -- what is pinned --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WRITABLE)
def test_every_buffer_is_seen_as_its_bytes(name: str) -> None:
    buffer = WRITABLE[name]()
    pinned = pin(buffer, writable=True)
    assert isinstance(pinned, memoryview)
    assert (pinned.format, pinned.ndim, len(pinned)) == ("B", 1, 24)
    pinned[:] = bytes(range(24))
    assert bytes(memoryview(buffer).tobytes()) == bytes(range(24))


@pytest.mark.parametrize(
    "empty",
    [
        b"",
        bytearray(),
        array.array("d"),
        memoryview(bytearray()).cast("d"),
        (ctypes.c_int * 0)(),
        (Pair * 0)(),
        (ctypes.c_int * 0 * 3)(),
    ],
    ids=lambda empty: type(empty).__name__,
)
def test_an_empty_buffer_is_allowed_whatever_its_shape(empty: Any) -> None:
    pinned = pin(empty, writable=False)
    assert isinstance(pinned, memoryview)
    assert (pinned.format, pinned.ndim, len(pinned)) == ("B", 1, 0)


def test_one_value_without_a_dimension_is_its_bytes() -> None:
    number = ctypes.c_uint32()
    pinned = pin(number, writable=True)
    assert isinstance(pinned, memoryview)
    pinned[:] = b"\1\1\1\1"
    assert number.value == 0x01010101


@given(contents, st.sampled_from((list, tuple)), st.booleans())
def test_a_sequence_keeps_its_order_and_loses_what_is_empty(
    buffers: list[bytes], kind: Callable[[Any], Any], writable: bool
) -> None:
    given_buffers = [bytearray(each) for each in buffers] if writable else buffers
    pinned = pin(kind(given_buffers), writable=writable)
    assert content(pinned) == b"".join(buffers)
    assert total(pinned) == len(b"".join(buffers))
    if isinstance(pinned, list):
        assert len(pinned) > 1
        assert all(pinned)


@given(contents)
def test_what_is_stored_reaches_the_buffers(buffers: list[bytes]) -> None:
    owned = [bytearray(len(each)) for each in buffers]
    scatter(memoryview(b"".join(buffers)), views(pin(owned, writable=True)))
    assert owned == buffers


def test_a_pinned_buffer_cannot_be_resized() -> None:
    buffer = bytearray(4)
    pinned = pin(buffer, writable=True)
    with pytest.raises(BufferError):
        buffer.append(0)
    assert total(pinned) == 4
    del pinned
    buffer.append(0)


def test_an_empty_buffer_among_others_is_not_pinned() -> None:
    """It is not part of the operation, so nothing keeps it from growing."""
    empty = bytearray()
    pinned = pin([empty, bytearray(4)], writable=True)
    assert isinstance(pinned, memoryview)
    empty.append(0)


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("buffers", [[], ()])
def test_no_buffer_at_all_is_refused(buffers: Any) -> None:
    with pytest.raises(ValueError, match="at least one buffer"):
        pin(buffers, writable=False)


@pytest.mark.parametrize("buffers", ["text", [b"bytes", "text"]])
def test_text_is_refused_with_the_cure(buffers: Any) -> None:
    with pytest.raises(TypeError, match="not str; encode it first"):
        pin(buffers, writable=False)


@pytest.mark.parametrize("buffers", [None, 5, [5], {"a": 1}, [[b"nested"]], iter([b"once"])])
def test_what_is_no_buffer_is_refused_by_name(buffers: Any) -> None:
    with pytest.raises(TypeError, match="bytes-like") as caught:
        pin(buffers, writable=False)
    assert "encode" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "buffers", [b"constant", [bytearray(1), b"constant"], memoryview(b"constant"), b""]
)
def test_a_receive_refuses_what_is_read_only(buffers: Any) -> None:
    with pytest.raises(TypeError, match=r"read-only.*use a bytearray"):
        pin(buffers, writable=True)
    pin(buffers, writable=False)


def test_gaps_in_a_buffer_are_refused_with_the_cure() -> None:
    with pytest.raises(ValueError, match=r"C-contiguous; copy it"):
        pin(memoryview(bytearray(8))[::2], writable=True)


def test_a_refused_sequence_pins_nothing() -> None:
    buffer = bytearray(4)
    with pytest.raises(TypeError):
        pin([buffer, "text"], writable=True)  # type: ignore[list-item]
    buffer.append(0)


def test_a_released_view_is_refused() -> None:
    view = memoryview(bytearray(4))
    view.release()
    with pytest.raises(ValueError, match="released"):
        pin(view, writable=False)


# -- parts of what is pinned -----------------------------------------------------------------------


@given(contents, st.data())
def test_the_first_bytes(buffers: list[bytes], data: st.DataObject) -> None:
    pinned = pin(buffers, writable=False)
    size = data.draw(st.integers(0, total(pinned)))
    kept = first(pinned, size)
    assert content(kept) == content(pinned)[:size]
    assert total(kept) == size
    # the shape is what the operation was prepared for
    assert isinstance(kept, list) is isinstance(pinned, list)
    assert len(views(kept)) >= 1, "a system call takes no empty list of buffers"


@given(contents, st.data())
def test_what_is_left_behind_the_bytes_that_moved(
    buffers: list[bytes], data: st.DataObject
) -> None:
    pinned = pin(buffers, writable=False)
    moved = data.draw(st.integers(0, total(pinned)))
    left = after(views(pinned), moved)
    assert content(left) == content(pinned)[moved:]
    # a send stops when nothing is left, and asks by truth
    assert bool(left) is (moved < total(pinned))


@given(contents, st.data())
def test_moving_in_any_number_of_steps_moves_everything_once(
    buffers: list[bytes], data: st.DataObject
) -> None:
    left = views(pin(buffers, writable=False))
    sent = b""
    while total(left):
        step = data.draw(st.integers(1, total(left)))
        sent += content(first(left, step))
        left = after(left, step)
    assert sent == b"".join(buffers)


@given(contents, st.binary(max_size=40))
def test_data_fills_the_buffers_in_order(buffers: list[bytes], arrived: bytes) -> None:
    """RECV-11. What does not fit is not there: a receive asks for no more than it has room for."""
    owned = [bytearray(each) for each in buffers]
    before = b"".join(buffers)
    scatter(memoryview(arrived), [memoryview(each) for each in owned])
    fits = arrived[: len(before)]
    assert b"".join(owned) == fits + before[len(fits) :]
    assert [len(each) for each in owned] == [len(each) for each in buffers]


def test_parts_share_the_memory_of_the_whole() -> None:
    owned = [bytearray(3), bytearray(3)]
    pinned = pin(owned, writable=True)
    for part in (first(pinned, 4), after(views(pinned), 2)):
        for view in views(part):
            view[:] = b"x" * len(view)
    assert owned == [b"xxx", b"xxx"]
    assert parts(pinned) == [b"xxx", b"xxx"]
