"""What an operation can read into and write from, and that it owns it until its packet is taken."""

from __future__ import annotations

import array
import ctypes
import gc
import mmap
from typing import TYPE_CHECKING, Any

import pytest

from netpoll import Overlapped
from netpoll.testing.attempts import pattern, read_to_end
from netpoll.testing.drain import collect, nothing_more, take
from netpoll.testing.pairs import receive_exactly, wait_readable
from netpoll.testing.waiting import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll import CompletionPort
    from netpoll.testing.pairs import Loopback

MANY = 3000
"""Buffers in one list; more than any system takes in one call (IOV_MAX is 1024 or 16)."""


def mapped(data: bytes) -> mmap.mmap:
    area = mmap.mmap(-1, len(data))
    area[:] = data
    return area


READABLE: dict[str, Callable[[], Any]] = {
    "bytes": lambda: b"12345678",
    "bytearray": lambda: bytearray(b"12345678"),
    "memoryview": lambda: memoryview(b"12345678"),
    "slice": lambda: memoryview(b"..12345678..")[2:10],
    "array": lambda: array.array("I", b"12345678"),
    "mmap": lambda: mapped(b"12345678"),
    "ctypes": lambda: ctypes.create_string_buffer(b"12345678", 8),
    "matrix": lambda: memoryview(b"12345678").cast("B", (2, 4)),
    "list": lambda: [b"123", bytearray(b"45"), memoryview(b"678")],
    "tuple": lambda: (b"1234", array.array("H", b"5678")),
}


@pytest.mark.parametrize("kind", READABLE)
def test_anything_bytes_like_can_be_sent(port: CompletionPort, net: Loopback, kind: str) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    operation = port.send(near, READABLE[kind]())
    assert take(port).result() == 8
    assert receive_exactly(far, 8) == b"12345678"
    operation.release()


WRITABLE: dict[str, Callable[[], Any]] = {
    "bytearray": lambda: bytearray(8),
    "memoryview": lambda: memoryview(bytearray(8)),
    "array": lambda: array.array("Q", [0]),
    "mmap": lambda: mmap.mmap(-1, 8),
    "ctypes": lambda: (ctypes.c_uint16 * 4)(),
    "matrix": lambda: memoryview(bytearray(8)).cast("B", (4, 2)),
}


@pytest.mark.parametrize("kind", WRITABLE)
def test_anything_writable_can_be_received_into(
    port: CompletionPort, net: Loopback, kind: str
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    buffer = WRITABLE[kind]()
    operation = port.recv_into(near, buffer)
    assert operation.buffers is buffer
    nothing_more(port)
    far.sendall(b"12345678")
    assert take(port).result() == 8
    assert memoryview(buffer).tobytes() == b"12345678"
    operation.release()


def test_a_slice_receives_only_its_own_part(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    whole = bytearray(b"-" * 10)
    port.recv_into(near, memoryview(whole)[3:6])
    far.sendall(b"abcdef")
    assert take(port).result() == 3
    assert whole == b"---abc----"
    port.recv_into(near, [memoryview(whole)[8:], memoryview(whole)[:1]])
    assert take(port).result() == 3
    assert whole == b"f--abc--de"


@pytest.mark.parametrize(
    "buffer",
    [b"read-only", memoryview(bytearray(4)).toreadonly(), [bytearray(4), b"read-only"]],
    ids=["bytes", "view", "in-a-list"],
)
def test_receiving_into_what_is_read_only_is_refused(
    port: CompletionPort, net: Loopback, buffer: Any
) -> None:
    near, _ = net.tcp_pair()
    listener = net.listener()
    port.associate(near)
    port.associate(listener)
    with pytest.raises(TypeError, match="read-only"):
        port.recv_into(near, buffer)
    with pytest.raises(TypeError, match="read-only"):
        port.accept(listener, receive=buffer)
    assert port.inflight() == []


@pytest.mark.parametrize("how", ["send", "recv_into"])
@pytest.mark.parametrize("listed", [False, True], ids=["alone", "in-a-list"])
def test_a_buffer_with_gaps_is_refused(
    port: CompletionPort, net: Loopback, how: str, listed: bool
) -> None:
    near, _ = net.tcp_pair()
    port.associate(near)
    gaps: Any = memoryview(bytearray(10))[::2]
    with pytest.raises(ValueError, match="contiguous"):
        getattr(port, how)(near, [bytearray(1), gaps] if listed else gaps)
    assert port.inflight() == []


@pytest.mark.parametrize("thing", ["text", 12, None, ..., ["text"], [b"x", 1]], ids=repr)
@pytest.mark.parametrize("how", ["send", "recv_into"])
def test_what_is_no_buffer_is_refused(
    port: CompletionPort, net: Loopback, how: str, thing: Any
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    with pytest.raises(TypeError, match=r"buffer|bytes"):
        getattr(port, how)(near, thing)
    assert port.inflight() == []
    # nothing went out, and the socket is as good as before
    port.send(near, b"ok")
    assert take(port).result() == 2
    assert receive_exactly(far, 2) == b"ok"


@pytest.mark.parametrize("size", [-1, "10", None, 1.5], ids=repr)
def test_a_size_that_makes_no_sense_is_refused(
    port: CompletionPort, net: Loopback, size: Any
) -> None:
    near, _ = net.tcp_pair()
    port.associate(near)
    with pytest.raises((TypeError, ValueError), match="size"):
        port.recv(near, size)
    assert port.inflight() == []


@pytest.mark.statement("RECV-11")
def test_more_buffers_than_one_call_takes_are_received_into(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    data = pattern(MANY)
    buffers = [bytearray(1) for _ in range(MANY)]
    far.sendall(data)
    received = 0
    while received < MANY:
        port.recv_into(near, buffers[received:])
        moved = take(port).result()
        assert moved > 0
        received += moved
    assert b"".join(buffers) == data


@pytest.mark.statement("RECV-11")
def test_a_long_row_of_empty_buffers_is_no_end_of_stream(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    last = bytearray(4)
    far.sendall(b"data")
    wait_readable(near)
    port.recv_into(near, [bytearray() for _ in range(MANY)] + [last])
    completion = take(port)
    assert (completion.error, completion.transferred) == (0, 4)
    assert last == b"data"


@pytest.mark.statement("SEND-04", "SEND-09")
def test_more_buffers_than_one_call_takes_are_sent_whole(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    pieces = [b"%d," % number * (number % 5) for number in range(MANY)]
    data = b"".join(pieces)
    port.send(near, pieces)
    reading = run(receive_exactly, far, len(data))
    assert take(port).result() == len(data)
    assert reading.result() == data


@pytest.mark.statement("SEND-09")
def test_a_long_row_of_empty_buffers_is_sent_with_what_follows(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    port.send(near, [b""] * MANY + [b"data"])
    assert take(port).result() == 4
    assert receive_exactly(far, 4) == b"data"
    port.send(near, [b""] * MANY)
    assert take(port).result() == 0


@pytest.mark.statement("SEND-09")
@pytest.mark.parametrize("empty", [b"", bytearray(), memoryview(b""), array.array("I")], ids=type)
def test_an_empty_buffer_can_be_sent(port: CompletionPort, net: Loopback, empty: Any) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    port.send(near, empty)
    assert take(port).result() == 0
    port.close_handle(near)
    assert read_to_end(far) == b""


@pytest.mark.statement("OVL-07")
def test_a_pending_operation_s_buffers_cannot_be_resized(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    alone, listed = bytearray(4), bytearray(4)
    port.recv_into(near, alone)
    port.recv_into(near, [listed, bytearray(4)])
    nothing_more(port)
    for buffer in (alone, listed):
        with pytest.raises(BufferError):
            buffer.extend(b"more")
        with pytest.raises(BufferError):
            buffer.clear()
    far.sendall(b"aaaabbbbcccc")
    collect(port, 2)
    assert (alone, listed) == (b"aaaa", b"bbbb")


@pytest.mark.statement("OVL-07")
def test_releasing_a_finished_operation_lets_its_buffer_be_resized(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    buffer = bytearray(4)
    operation = port.recv_into(near, buffer)
    with pytest.raises(RuntimeError, match="in use"):
        operation.release()
    far.sendall(b"data")
    take(port)
    operation.release()
    buffer.extend(b"more")
    assert buffer == b"datamore"


@pytest.mark.statement("OVL-07")
def test_dropping_a_finished_operation_lets_its_buffer_be_resized(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    buffer = bytearray(4)
    port.recv_into(near, buffer)
    far.sendall(b"data")
    take(port)
    gc.collect()
    buffer.extend(b"more")
    assert buffer == b"datamore"


@pytest.mark.statement("OVL-07")
def test_a_start_that_fails_keeps_no_buffer(port: CompletionPort, net: Loopback) -> None:
    unconnected = net.new_socket()
    port.associate(unconnected)
    buffer = bytearray(4)
    operation: Overlapped[int] = Overlapped()
    try:
        port.recv_into(unconnected, buffer, overlapped=operation)
    except OSError:
        operation.release()
    else:
        take(port).overlapped.release()
    buffer.extend(b"more")


@pytest.mark.statement("OVL-07")
def test_the_list_of_buffers_may_change_after_the_start(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    first, second = bytearray(2), bytearray(2)
    buffers = [first, second]
    port.recv_into(near, buffers)
    buffers.clear()
    far.sendall(b"abcd")
    assert take(port).result() == 4
    assert (first, second) == (b"ab", b"cd")


def test_the_same_buffer_twice_is_filled_twice(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    buffer = bytearray(3)
    port.recv_into(near, [buffer, buffer])
    far.sendall(b"abcdef")
    assert take(port).result() == 6
    assert buffer == b"def"


def test_a_repeated_operation_works_on_the_same_buffers(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    buffers = [bytearray(2), bytearray(4)]
    operation = port.recv_into(near, buffers)
    far.sendall(b"abcdef")
    assert take(port).result() == 6
    far.sendall(b"ABCDEF")
    for size, expected in ((1, [b"Ab", b"cdef"]), (3, [b"BC", b"Ddef"]), (6, [b"EF", b"Ddef"])):
        assert port.resubmit(operation, size=size) is operation
        take(port)
        assert buffers == expected
    with pytest.raises(ValueError, match="size"):
        port.resubmit(operation, size=7)
    assert port.inflight() == []


def test_a_repeated_send_sends_as_much_as_is_asked(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    operation = port.send(near, [b"abc", b"def"])
    assert take(port).result() == 6
    for size in (0, 2, 4, 6):
        port.resubmit(operation, size=size)
        assert take(port).result() == size
    port.resubmit(operation)
    assert take(port).result() == 6
    assert receive_exactly(far, 24) == b"abcdef" + b"ab" + b"abcd" + b"abcdef" * 2
