"""Sizes that are none, and those that are huge: refused at the call, or handled."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from netpoll import BufferPool
from netpoll.testing.attempts import refuses, winerror
from netpoll.testing.drain import nothing_more, take
from netpoll.testing.outcome import require
from netpoll.testing.pairs import receive_exactly
from netpoll.testing.places import (
    RECEIVES,
    World,
    send,
    sendfile_head,
    sendfile_tail,
    sendmsg,
    sendmsg_of_a_stream,
    sendto,
    write_of_a_pipe,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from netpoll import CompletionPort
    from netpoll.testing.backends import Target
    from netpoll.testing.fixtures import MakePort
    from netpoll.testing.pairs import Loopback
    from netpoll.testing.places import Receive, Send

NO_SIZES: Final[list[Any]] = [
    *(-1, -(2**31), -(2**70), 2**32, 2**63 - 1, 2**63, 2**64, 2**70, 10**5000),
    *(0.0, 1.5, float("nan"), True, False, "1", b"1", [1], (1,), {}),
]
"""For any operation, of whatever size."""
NO_NUMBERS: Final[list[Any]] = [*NO_SIZES, None]
GIB: Final = 1 << 30
NO_RESERVE: Final[int] = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


@pytest.fixture
def world(
    port: CompletionPort, make_port: MakePort, net: Loopback, tmp_path: Path
) -> Iterator[World]:
    world = World(port, make_port(), net, tmp_path)
    yield world
    world.close()


@pytest.fixture
def four_gigabytes() -> Iterator[mmap.mmap]:
    """More than 32 bits count, of memory that is not there before it is written to."""
    if sys.platform == "win32" or not NO_RESERVE:
        pytest.skip("this system reserves the memory of every mapping")
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE
    area = mmap.mmap(-1, 4 * GIB, flags=flags)
    yield area
    area.close()


# -- what is no size -------------------------------------------------------------------------------


def test_a_receive_of_no_size_is_refused(world: World) -> None:
    near, far = world.tcp()
    port, operation = world.port, world.operation
    for size in NO_NUMBERS:
        refuses(port, ValueError, "size", port.recv, near, size, overlapped=operation)
    far.sendall(b"fine")
    port.recv(near, 10, overlapped=operation)
    assert take(port).result() == b"fine"
    port.recv(near, 0, overlapped=operation)
    far.sendall(b"!")
    assert take(port).result() == b""


def test_room_of_no_size_is_refused(world: World) -> None:
    require(world.port, "recvmsg_into")
    near, far = world.udp()
    port, operation = world.port, world.operation
    buffer = bytearray(4)
    for size in NO_NUMBERS:
        refuses(
            port,
            ValueError,
            "ancillary_size",
            port.recvmsg_into,
            near,
            buffer,
            size,
            overlapped=operation,
        )
    far.send(b"fine")
    port.recvmsg_into(near, buffer, overlapped=operation)
    assert take(port).result().size == 4


@pytest.mark.parametrize("place", [send, sendto, write_of_a_pipe])
def test_a_part_of_no_size_is_refused(world: World, place: Callable[[World], Send]) -> None:
    row = place(world)
    port, operation = world.port, world.operation
    row.start(b"12345678")
    take(port)
    assert row.got(8) == b"12345678"
    for size in (*NO_SIZES, 9):
        refuses(port, ValueError, "size", port.resubmit, operation, size)
    # it is still ready
    port.resubmit(operation)
    assert take(port).transferred == 8
    assert row.got(8) == b"12345678"
    for size in (0, 1, 8):
        port.resubmit(operation, size)
        assert take(port).transferred == size
        assert row.got(size) == b"12345678"[:size]


def test_a_start_with_a_part_of_no_size_is_refused(world: World) -> None:
    near, far = world.tcp()
    udp, _ = world.udp()
    _, writer = world.pipe(1)
    port, operation = world.port, world.operation
    starts: list[Callable[[Any], object]] = [
        lambda size: port.send(near, b"data", size=size, overlapped=operation),
        lambda size: port.sendto(udp, b"data", udp.getpeername(), size=size, overlapped=operation),
        lambda size: port.write(writer, b"data", size=size, overlapped=operation),
    ]
    for start in starts:
        for size in (*NO_SIZES, 5):
            refuses(port, ValueError, "size", start, size)
    port.send(near, b"data", size=1, overlapped=operation)
    assert take(port).transferred == 1
    assert receive_exactly(far, 1) == b"d"


def test_offsets_and_counts_that_are_none_are_refused(world: World) -> None:
    world.path.write_bytes(b"contents")
    near, far = world.tcp()
    file = world.file("r+")
    port, operation = world.port, world.operation
    starts: list[tuple[str, Callable[[Any], object]]] = [
        ("offset", lambda it: port.read_into(file, bytearray(1), offset=it, overlapped=operation)),
        ("offset", lambda it: port.write(file, b"x", offset=it, overlapped=operation)),
        ("offset", lambda it: port.sendfile(near, file, offset=it, overlapped=operation)),
        ("count", lambda it: port.sendfile(near, file, count=it, overlapped=operation)),
    ]
    for name, start in starts:
        for wrong in (-1, -(2**70), 0.0, 1.5, float("nan"), True, "0", b"0", [0]):
            refuses(port, ValueError, name, start, wrong)
    for wrong in (2**63, 2**64, 2**70, 10**5000):
        for name, start in starts[:2]:
            refuses(port, ValueError, name, start, wrong)
    port.sendfile(near, file, offset=4, count=3, overlapped=operation)
    assert take(port).transferred == 3
    assert receive_exactly(far, 3) == b"ent"


@pytest.mark.statement("FILE-01")
def test_an_offset_beyond_any_file_is_refused_at_the_call(world: World) -> None:
    require(world.port, "write")
    world.path.write_bytes(b"contents")
    file = world.file("r+")
    port, operation = world.port, world.operation
    for offset, size in ((2**63 - 1, 1), (2**63 - 2, 2), (2**63 - 4, 100)):
        for start, buffer in ((port.write, bytes(size)), (port.read_into, bytearray(size))):
            options = {"offset": offset, "overlapped": operation}
            refuses(port, OSError, "beyond any file", start, file, buffer, **options)
            assert operation.status == 0xC000000D
    with pytest.raises(OSError, match="beyond") as caught:
        port.write(file, b"x", offset=2**63 - 1)
    assert winerror(caught.value) == 87
    port.write(file, b"", offset=2**63 - 1, overlapped=operation)
    assert take(port).transferred == 0
    port.write(file, b"X", offset=0, overlapped=operation)
    assert take(port).transferred == 1
    assert world.path.read_bytes() == b"Xontents"


@pytest.mark.statement("PORT-26")
def test_a_packet_of_no_size_is_refused(port: CompletionPort) -> None:
    for wrong in NO_NUMBERS:
        refuses(port, ValueError, "DWORD", port.post, wrong, "key")
    port.post(7, "key")
    assert take(port).transferred == 7


def test_flags_that_are_none_are_refused(world: World) -> None:
    near, far = world.udp()
    port, operation = world.port, world.operation
    address = far.getsockname()
    starts: list[Callable[[Any], object]] = [
        lambda flags: port.recv_into(near, bytearray(1), flags=flags, overlapped=operation),
        lambda flags: port.recv(near, 1, flags=flags, overlapped=operation),
        lambda flags: port.recvfrom_into(near, bytearray(1), flags=flags, overlapped=operation),
        lambda flags: port.recvmsg_into(near, bytearray(1), flags=flags, overlapped=operation),
        lambda flags: port.send(near, b"x", flags=flags, overlapped=operation),
        lambda flags: port.sendto(near, b"x", address, flags=flags, overlapped=operation),
        lambda flags: port.sendmsg(near, b"x", flags=flags, overlapped=operation),
    ]
    for start in starts:
        for wrong, kind in (("1", TypeError), (1.5, TypeError), (None, TypeError)):
            refuses(port, kind, "flags", start, wrong)
        for number in (-1, 2**31, 2**70):
            refuses(port, ValueError, "flags", start, number)
    port.send(near, b"fine", overlapped=operation)
    take(port)
    assert far.recv(10) == b"fine"


def test_what_is_no_pool_is_refused(world: World) -> None:
    near, far = world.tcp()
    port, operation = world.port, world.operation
    pool = BufferPool(1, 10)
    wrong: Any
    for wrong in (None, 12, "pool", b"pool", bytearray(4), [pool], BufferPool):
        refuses(
            port,
            TypeError,
            "BufferPool",
            port.recv_pooled,
            near,
            wrong,
            overlapped=operation,
        )
    for wrong in (0, -1, 1.5, "1", None, True):
        with pytest.raises(ValueError, match="count"):
            BufferPool(wrong, 1)
        with pytest.raises(ValueError, match="size"):
            BufferPool(1, wrong)
    far.sendall(b"fine")
    port.recv_pooled(near, pool, overlapped=operation)
    with take(port).result() as received:
        assert bytes(received) == b"fine"


# -- what is huge ----------------------------------------------------------------------------------


def test_memory_that_is_not_to_be_had_leaves_everything_usable(world: World) -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("this system does not tell how much memory a process has")
    resource = pytest.importorskip("resource")
    near, far = world.tcp()
    port, operation = world.port, world.operation
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * mmap.PAGESIZE + GIB, before[1]))
    try:
        refuses(port, MemoryError, "", port.recv, near, 2**32 - 1, overlapped=operation)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    far.sendall(b"fine")
    port.recv(near, 10, overlapped=operation)
    assert take(port).result() == b"fine"


@pytest.mark.parametrize("place", RECEIVES)
def test_four_gigabytes_of_room(
    world: World, place: Callable[[World], Receive], four_gigabytes: mmap.mmap
) -> None:
    row = place(world)
    rooms: list[Any] = [four_gigabytes] if row.one else [four_gigabytes, [four_gigabytes] * 2]
    for room in rooms:
        row.give(b"fine")
        row.start(room)
        assert take(world.port).transferred == 4
        assert four_gigabytes[:4] == b"fine"
        four_gigabytes[:4] = bytes(4)
        world.take_accepted()
    world.operation.release()


@pytest.mark.parametrize("place", [send, sendmsg_of_a_stream, write_of_a_pipe])
def test_a_stream_takes_four_gigabytes_to_send(
    world: World, place: Callable[[World], Send], four_gigabytes: mmap.mmap
) -> None:
    """Nobody has the time to see it through here: it is under way, and can be cancelled."""
    for data in (four_gigabytes, [four_gigabytes] * 2):
        row = place(world)
        row.start(data)
        nothing_more(world.port)
        assert world.operation.cancel()
        assert take(world.port).error == 995
        assert row.got(1000) == bytes(1000)
        world.operation.release()


@pytest.mark.parametrize("place", [sendto, sendmsg, sendfile_head, sendfile_tail])
def test_four_gigabytes_are_too_long(
    world: World, place: Callable[[World], Send], four_gigabytes: mmap.mmap
) -> None:
    row = place(world)
    words = "at most" if row.one else "too long"
    refuses(world.port, OSError, words, row.start, four_gigabytes)
    row.start(b"fine")
    assert take(world.port).transferred == 4
    assert row.got(4) == b"fine"
    world.operation.release()


def test_more_than_windows_counts(world: World, target: Target) -> None:
    """The same memory again and again: all of it together is more than a DWORD tells of."""
    for name in ("recvmsg_into", "read_into"):
        require(world.port, name)
    part = memoryview(bytearray(1 << 20))
    much: list[Any] = [part] * 4096
    port, operation = world.port, world.operation
    near, far = world.tcp()
    reader, _ = world.pipe(0)
    starts: list[Callable[[], object]] = [
        lambda: port.recv_into(near, much, overlapped=operation),
        lambda: port.recvmsg_into(near, much, overlapped=operation),
        lambda: port.send(near, much, overlapped=operation),
        lambda: port.read_into(reader, much, overlapped=operation),
    ]
    for start in starts:
        if target.backend == "iocp":
            refuses(port, ValueError, "more than Windows", start)
            continue
        start()
        nothing_more(port)
        assert operation.cancel()
        assert take(port).error == 995
    if target.backend == "iocp":
        port.send(near, b"fine", overlapped=operation)
        assert take(port).transferred == 4
        assert receive_exactly(far, 4) == b"fine"


@pytest.mark.statement("ACC-07")
def test_an_accept_with_an_empty_buffer_waits_for_no_data(world: World) -> None:
    listener = world.net.listener()
    world.port.associate(listener)
    world.port.accept(listener, receive=bytearray(), overlapped=world.operation)
    client = world.net.new_socket()
    client.connect(listener.getsockname())
    completion = take(world.port)
    assert (completion.error, completion.transferred) == (0, 0)
    world.take_accepted()
