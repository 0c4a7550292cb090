"""Everything again with buffers that nobody should give: a clear error at the call, nothing
started, nothing lost. And with those that are odd but legal: exactly those bytes move.

`netpoll.testing.places` has a row for each parameter that takes a buffer. Sizes are in
`test_bad_sizes.py`, addresses in `test_bad_addresses.py`.
"""

from __future__ import annotations

import array
import ctypes
import mmap
from typing import TYPE_CHECKING, Any, Final

import pytest

from netpoll.testing.attempts import refuses
from netpoll.testing.drain import take
from netpoll.testing.places import RECEIVES, SENDS, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from netpoll import CompletionPort
    from netpoll.testing.fixtures import MakePort
    from netpoll.testing.pairs import Loopback
    from netpoll.testing.places import Receive, Send


@pytest.fixture
def world(
    port: CompletionPort, make_port: MakePort, net: Loopback, tmp_path: Path
) -> Iterator[World]:
    world = World(port, make_port(), net, tmp_path)
    yield world
    world.close()


def released() -> memoryview:
    view = memoryview(bytearray(4))
    view.release()
    return view


def closed() -> mmap.mmap:
    area = mmap.mmap(-1, 4)
    area.close()
    return area


GAPS: Final = memoryview(bytearray(10))[::2]
NO_BUFFERS: Final[list[tuple[Any, type[Exception], str]]] = [
    ("text", TypeError, "not str; encode it first"),
    (12, TypeError, "not int"),
    (True, TypeError, "not bool"),
    (1.5, TypeError, "not float"),
    (..., TypeError, "not ellipsis"),
    ({1: 2}, TypeError, "not dict"),
    ({b"x"}, TypeError, "not set"),
    (iter([b"x"]), TypeError, "not list_iterator"),
    (range(3), TypeError, "not int"),
    ([65, 66], TypeError, "not int"),
    (["text"], TypeError, "not str"),
    ([bytearray(1), None], TypeError, "not NoneType"),
    ([], ValueError, "at least one buffer"),
    ((), ValueError, "at least one buffer"),
    (GAPS, ValueError, "C-contiguous"),
    ([bytearray(1), GAPS], ValueError, "C-contiguous"),
    (released(), ValueError, "released"),
    (closed(), ValueError, "closed"),
]
READ_ONLY: Final[list[Any]] = [
    *(b"read-only", b"", memoryview(bytearray(4)).toreadonly(), [bytearray(1), b"read-only"]),
]
SEVERAL: Final[list[Any]] = [[bytearray(4)], (bytearray(1), bytearray(2))]


@pytest.mark.parametrize("place", RECEIVES)
def test_what_nothing_can_be_received_into_is_refused(
    world: World, place: Callable[[World], Receive]
) -> None:
    row = place(world)
    for thing, kind, words in NO_BUFFERS:
        refuses(world.port, kind, words, row.start, thing)
    if not row.one:
        refuses(world.port, TypeError, "not NoneType", row.start, None)
    for thing in READ_ONLY:
        refuses(world.port, TypeError, "read-only", row.start, thing)
    for thing in SEVERAL if row.one else ():
        refuses(world.port, TypeError, "one buffer", row.start, thing)
    # the same operation and the same handle are as good as before
    row.give(b"fine")
    buffer = bytearray(4)
    assert row.start(buffer) is world.operation
    assert take(world.port).transferred == 4
    assert buffer == b"fine"
    world.take_accepted()


@pytest.mark.parametrize("place", SENDS)
def test_what_cannot_be_sent_is_refused(world: World, place: Callable[[World], Send]) -> None:
    row = place(world)
    for thing, kind, words in NO_BUFFERS:
        refuses(world.port, kind, words, row.start, thing)
    if not row.optional:
        refuses(world.port, TypeError, "not NoneType", row.start, None)
    for thing in SEVERAL if row.one else ():
        refuses(world.port, TypeError, "one buffer", row.start, thing)
    assert row.start(b"fine") is world.operation
    assert take(world.port).transferred == 4
    assert row.got(4) == b"fine"


def mapped(data: bytes) -> mmap.mmap:
    area = mmap.mmap(-1, len(data))
    area[:] = data
    return area


SENT: Final[list[tuple[Callable[[], Any], bytes]]] = [
    (lambda: b"", b""),
    (lambda: memoryview(bytearray(4))[4:], b""),
    (lambda: array.array("d"), b""),
    (lambda: b"x", b"x"),
    (lambda: memoryview(b"12345678").cast("Q"), b"12345678"),
    (lambda: memoryview(b"12345678").cast("B", (2, 2, 2)), b"12345678"),
    (lambda: array.array("I", b"12345678"), b"12345678"),
    (lambda: ctypes.create_string_buffer(b"12345678", 8), b"12345678"),
    (lambda: mapped(b"12345678"), b"12345678"),
    (lambda: [b"", b""], b""),
    (lambda: (b"x",), b"x"),
    (lambda: [b"", b"123", bytearray(), array.array("H", b"4567"), b"8", b""], b"12345678"),
]


@pytest.mark.parametrize("place", SENDS)
def test_odd_buffers_are_sent_as_they_are(world: World, place: Callable[[World], Send]) -> None:
    row = place(world)
    for make, content in SENT:
        thing = make()
        if row.one and isinstance(thing, (list, tuple)):
            continue
        row.start(thing)
        completion = take(world.port)
        assert (completion.error, completion.transferred) == (0, len(content)), thing
        assert row.got(len(content)) == content


FILLED: Final[list[tuple[Callable[[], Any], int]]] = [
    (lambda: bytearray(1), 1),
    (lambda: memoryview(bytearray(10))[2:3], 1),
    (lambda: memoryview(bytearray(8)).cast("Q"), 8),
    (lambda: memoryview(bytearray(8)).cast("B", (2, 2, 2)), 8),
    (lambda: array.array("H", [0] * 4), 8),
    (lambda: (ctypes.c_int * 2)(), 8),
    (lambda: mmap.mmap(-1, 8), 8),
    (lambda: (bytearray(1),), 1),
    (lambda: [bytearray(), bytearray(3), bytearray(), array.array("B", [0] * 5), bytearray()], 8),
]


@pytest.mark.parametrize("place", RECEIVES)
def test_odd_buffers_are_filled(world: World, place: Callable[[World], Receive]) -> None:
    row = place(world)
    for make, size in FILLED:
        thing = make()
        several = isinstance(thing, (list, tuple))
        if row.one and several:
            continue
        data = b"12345678"[:size]
        row.give(data)
        row.start(thing)
        completion = take(world.port)
        assert (completion.error, completion.transferred) == (0, size), thing
        parts: list[Any] = [*thing] if several else [thing]
        assert b"".join(memoryview(part).tobytes() for part in parts) == data
        world.take_accepted()


@pytest.mark.statement("RECV-01", "UDP-03")
@pytest.mark.parametrize("place", RECEIVES)
def test_a_buffer_without_room_is_filled_with_nothing(
    world: World, place: Callable[[World], Receive]
) -> None:
    row = place(world)
    for nothing in (bytearray(), memoryview(bytearray(4))[4:], array.array("d"), [bytearray()] * 3):
        if row.one and isinstance(nothing, list):
            continue
        row.give(b"x")
        row.start(nothing)
        completion = take(world.port)
        assert completion.transferred == 0
        assert completion.error in (0, 234)
        world.take_accepted()
        if not row.keeps:
            row.give(b"x")
        one = bytearray(1)
        row.start(one)
        assert take(world.port).transferred == 1
        assert one == b"x"
        world.take_accepted()
