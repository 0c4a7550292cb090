"""Reads and writes of pipes: whole writes, ends that go away, and what a pipe has not."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

import netpoll
from netpoll import OperationAborted
from netpoll.testing.attempts import attempt, pattern, winerror
from netpoll.testing.drain import collect, nothing_more, take
from netpoll.testing.outcome import require, unsupported
from netpoll.testing.waiting import DEADLINE, run, wait_for_waiters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netpoll import CompletionPort, File
    from netpoll.testing.fixtures import MakePort

WINDOWS = sys.platform == "win32"
LARGE: Final = pattern(1 << 20)
"""More than any pipe holds."""
GONE: Final = {109, 232}
"""What a write says when nobody can read any more: found at its start, or while it was pending."""

pytestmark = pytest.mark.statement("EMU-35")


@pytest.fixture(autouse=True)
def needs_files(port: CompletionPort) -> None:
    require(port, "read_into")
    require(port, "write")


@pytest.fixture
def ends(no_leak: None) -> Iterator[tuple[File, File]]:
    """A pipe: the end to read from, and the one to write to."""
    near, far = netpoll.pipe()
    yield near, far
    near.close()
    far.close()


@pytest.fixture
def reader(port: CompletionPort, ends: tuple[File, File]) -> File:
    port.associate(ends[0], "reader")
    return ends[0]


@pytest.fixture
def writer(port: CompletionPort, ends: tuple[File, File]) -> File:
    port.associate(ends[1], "writer")
    return ends[1]


@pytest.mark.statement("PIPE-01")
def test_a_read_waits_for_data(port: CompletionPort, reader: File, writer: File) -> None:
    buffer = bytearray(100)
    read = port.read_into(reader, buffer)
    nothing_more(port)
    write = port.write(writer, b"data")
    ended = {each.overlapped: each for each in collect(port, 2)}
    assert (ended[read].key, ended[read].error, ended[read].result()) == ("reader", 0, 4)
    assert (ended[write].key, ended[write].error, ended[write].result()) == ("writer", 0, 4)
    assert buffer.startswith(b"data")


@pytest.mark.statement("PIPE-01")
def test_a_read_gets_what_is_there(port: CompletionPort, reader: File, writer: File) -> None:
    port.write(writer, b"abc")
    assert take(port).result() == 3
    buffer = bytearray(2)
    for expected in (b"ab", b"cb"):
        port.read_into(reader, buffer)
        completion = take(port)
        assert (completion.error, completion.result()) == (0, 2 if expected == b"ab" else 1)
        assert buffer == expected


def test_reads_are_served_in_order(port: CompletionPort, reader: File, writer: File) -> None:
    buffers = [bytearray(4) for _ in range(4)]
    reads = [port.read_into(reader, buffer) for buffer in buffers]
    nothing_more(port)
    port.write(writer, b"aaaabbbbccccdddd")
    ended = [each.overlapped for each in collect(port, 5)]
    assert [each for each in ended if each in reads] == reads
    assert buffers == [b"aaaa", b"bbbb", b"cccc", b"dddd"]


@pytest.mark.parametrize("several", [False, True], ids=["one-buffer", "several-buffers"])
def test_a_write_is_whole_however_long_it_takes(
    port: CompletionPort, reader: File, writer: File, several: bool
) -> None:
    parts = [LARGE[:7], b"", LARGE[7:600_000], LARGE[600_000:]]
    write = port.write(writer, parts if several else LARGE)
    nothing_more(port)
    got, buffer = bytearray(), bytearray(50_000)
    read = port.read_into(reader, [memoryview(buffer)[:9], memoryview(buffer)[9:]])
    while len(got) < len(LARGE):
        completion = port.get(DEADLINE)
        assert completion is not None
        assert completion.error == 0
        if completion.overlapped is write:
            assert completion.result() == len(LARGE)
            continue
        got += buffer[: completion.transferred]
        if len(got) < len(LARGE):
            port.resubmit(read)
    assert got == LARGE
    if not write.done:
        assert take(port).overlapped is write


def test_a_write_started_again_is_whole_again(
    port: CompletionPort, reader: File, writer: File
) -> None:
    write = port.write(writer, LARGE)
    buffer = bytearray(300_000)
    read = port.read_into(reader, buffer)
    for _ in range(2):
        got = bytearray()
        while len(got) < len(LARGE) or not write.done:
            completion = port.get(DEADLINE)
            assert completion is not None
            assert completion.error == 0
            if completion.overlapped is read:
                got += buffer[: completion.transferred]
                if len(got) < len(LARGE):
                    port.resubmit(read)
        assert got == LARGE
        port.resubmit(write)
        port.resubmit(read)
    port.cancel(writer)
    port.cancel(reader)
    collect(port, 2)


def test_writes_keep_their_order(port: CompletionPort, reader: File, writer: File) -> None:
    pieces = [bytes([index]) * 40_000 for index in range(5)]
    writes = {port.write(writer, piece) for piece in pieces}
    got, buffer = bytearray(), bytearray(1 << 16)
    read = port.read_into(reader, buffer)
    while writes or len(got) < 200_000:
        completion = port.get(DEADLINE)
        assert completion is not None
        if completion.overlapped is read:
            got += buffer[: completion.transferred]
            if len(got) < 200_000:
                port.resubmit(read)
        else:
            writes.remove(completion.overlapped)
    assert got == b"".join(pieces)


@pytest.mark.parametrize("early", [True, False], ids=["data-waits", "data-comes-later"])
def test_a_read_without_room_waits_and_takes_nothing(
    port: CompletionPort, reader: File, writer: File, early: bool
) -> None:
    if early:
        port.write(writer, b"data")
        take(port)
    read = port.read_into(reader, bytearray())
    if not early:
        nothing_more(port)
        port.write(writer, b"data")
    ended = [each.overlapped for each in collect(port, 1 if early else 2)]
    assert read in ended
    assert read.result() == 0
    buffer = bytearray(10)
    port.read_into(reader, buffer)
    assert take(port).result() == 4


def test_a_write_of_nothing_ends_at_once(port: CompletionPort, reader: File, writer: File) -> None:
    port.write(writer, b"")
    assert take(port).result() == 0


# -- the other end goes away -----------------------------------------------------------------------


@pytest.mark.statement("PIPE-03")
@pytest.mark.parametrize("early", [True, False], ids=["closed-before", "closed-later"])
@pytest.mark.parametrize("size", [0, 10])
def test_a_read_ends_with_109_when_nobody_writes_any_more(
    port: CompletionPort, reader: File, ends: tuple[File, File], early: bool, size: int
) -> None:
    if early:
        ends[1].close()
        ended = attempt(port, lambda: port.read_into(reader, bytearray(size)))
    else:
        port.read_into(reader, bytearray(size))
        nothing_more(port)
        ends[1].close()
        completion = take(port)
        assert isinstance(completion.exception(), BrokenPipeError)
        assert completion.error == 109
        ended = attempt(port, lambda: port.read_into(reader, bytearray(size)))
    assert (ended.number, ended.transferred) == (109, 0)
    assert isinstance(ended.error, BrokenPipeError)


@pytest.mark.statement("PIPE-03")
def test_what_was_written_before_the_end_is_read_first(
    port: CompletionPort, reader: File, writer: File
) -> None:
    port.write(writer, b"last words")
    take(port)
    port.close_handle(writer)
    buffer = bytearray(5)
    for expected in (b"last ", b"words"):
        port.read_into(reader, buffer)
        assert take(port).result() == 5
        assert buffer == expected
    assert attempt(port, lambda: port.read_into(reader, buffer)).number == 109


@pytest.mark.statement("PIPE-03")
def test_every_pending_read_ends_when_the_other_end_goes(
    port: CompletionPort, reader: File, ends: tuple[File, File]
) -> None:
    reads = {port.read_into(reader, bytearray(10)) for _ in range(5)}
    nothing_more(port)
    ends[1].close()
    ended = collect(port, 5)
    assert {each.overlapped for each in ended} == reads
    assert {each.error for each in ended} == {109}


@pytest.mark.parametrize("early", [True, False], ids=["closed-before", "closed-later"])
def test_a_write_fails_when_nobody_reads_any_more(
    port: CompletionPort, writer: File, ends: tuple[File, File], early: bool
) -> None:
    if not early:
        port.write(writer, LARGE)
        nothing_more(port)
    ends[0].close()
    if early:
        ended = attempt(port, lambda: port.write(writer, b"x"))
        assert isinstance(ended.error, BrokenPipeError)
    else:
        completion = take(port)
        assert (completion.error in GONE, completion.transferred) == (True, 0)
        ended = attempt(port, lambda: port.write(writer, b"x"))
    assert ended.number in GONE
    assert ended.transferred == 0


# -- ends of our own -------------------------------------------------------------------------------


@pytest.mark.statement("PIPE-03", "CLOSE-06")
def test_closing_our_end_ends_its_reads_with_109(port: CompletionPort, reader: File) -> None:
    reads = {port.read_into(reader, bytearray(10)), port.read_into(reader, bytearray(0))}
    nothing_more(port)
    port.close_handle(reader)
    ended = collect(port, 2)
    assert {each.overlapped for each in ended} == reads
    assert {each.error for each in ended} == {109}


def test_closing_our_end_ends_its_writes(
    port: CompletionPort, writer: File, ends: tuple[File, File]
) -> None:
    port.write(writer, LARGE)
    nothing_more(port)
    port.close_handle(writer)
    completion = take(port)
    assert (completion.error, completion.transferred) == (109, 0)


def test_an_end_that_the_program_closed_is_found_out(port: CompletionPort, reader: File) -> None:
    port.read_into(reader, bytearray(10))
    nothing_more(port)
    reader.close()
    assert take(port).error in {109, 995}


@pytest.mark.skipif(WINDOWS, reason="Python opens pipes without overlapped operations on Windows")
def test_an_end_that_its_python_object_closed_is_found_out(
    port: CompletionPort, no_leak: None
) -> None:
    near, far = os.pipe()
    with open(near, "rb", buffering=0) as reader, open(far, "wb"):
        port.associate(reader)
        read = port.read_into(reader, bytearray(10))
        nothing_more(port)
        reader.close()
        assert take(port).error in {109, 995}
        with pytest.raises(OSError, match=r"closed|handle") as caught:
            port.resubmit(read)
        assert winerror(caught.value) == 6


@pytest.mark.statement("CAN-02", "CAN-03", "CAN-05", "CAN-08", "CAN-10")
def test_a_cancelled_read_has_taken_nothing(
    port: CompletionPort, reader: File, writer: File
) -> None:
    first, second = (port.read_into(reader, bytearray(10)) for _ in range(2))
    assert {each.overlapped for each in port.inflight()} == {first, second}
    assert first.cancel()
    completion = take(port)
    assert (completion.overlapped, completion.error) == (first, 995)
    assert not first.cancel()
    port.write(writer, b"data")
    assert {each.overlapped for each in collect(port, 2)} >= {second}
    assert second.result() == 4
    port.resubmit(first)
    assert port.cancel(reader)
    assert take(port).error == 995
    assert not port.cancel(reader)


@pytest.mark.statement("SEND-08", "CAN-11")
def test_a_cancelled_write_reports_nothing_written(
    port: CompletionPort, writer: File, reader: File
) -> None:
    write = port.write(writer, LARGE)
    nothing_more(port)
    buffer = bytearray(1000)
    port.read_into(reader, buffer)
    assert take(port).result() == 1000
    assert write.cancel()
    completion = take(port)
    assert (completion.overlapped, completion.error, completion.transferred) == (write, 995, 0)
    following = port.write(writer, b"the next")
    rest = bytearray()
    ended: set[object] = set()
    while not rest.endswith(b"the next"):
        port.read_into(reader, buffer)
        for completion in port.get_many(2, DEADLINE):
            ended.add(completion.overlapped)
            if completion.overlapped is not following:
                rest += buffer[: completion.result()]
    assert following in ended or take(port).overlapped is following
    assert following.result() == 8
    withdrawn = len(LARGE) - 1000 - (len(rest) - 8)
    assert withdrawn > 0
    assert rest[:-8] == LARGE[1000 : len(LARGE) - withdrawn]
    if rest[:-8]:
        unsupported("what the system's pipe holds stays in it", "CAN-11")


def test_a_read_runs_out_of_time(port: CompletionPort, reader: File) -> None:
    port.read_into(reader, bytearray(10), timeout=0.01)
    assert isinstance(take(port).exception(), TimeoutError)


@pytest.mark.statement("PORT-18")
def test_closing_the_port_ends_what_is_pending(
    make_port: MakePort, ends: tuple[File, File]
) -> None:
    port = make_port()
    for end in ends:
        port.associate(end)
    read = port.read_into(ends[0], bytearray(0))
    port.close()
    with pytest.raises(OperationAborted):
        read.result()
    with pytest.raises(netpoll.PortClosed):
        port.resubmit(read)


def test_a_write_during_another_threads_wait(
    port: CompletionPort, reader: File, writer: File
) -> None:
    port.read_into(reader, bytearray(10))
    waiter = run(port.get_many, 2, DEADLINE)
    wait_for_waiters(port, 1)
    port.write(writer, b"x")
    first = waiter.result(DEADLINE / 2)
    assert first
    collect(port, 2 - len(first))


@pytest.mark.statement("OVL-17")
def test_without_an_association_there_is_no_packet(
    port: CompletionPort, ends: tuple[File, File]
) -> None:
    read = port.read_into(ends[0], bytearray(10))
    assert not read.wait(0)
    write = port.write(ends[1], b"data")
    assert write.wait(DEADLINE)
    assert read.wait(DEADLINE)
    assert read.result() == 4
    nothing_more(port)


# -- what a pipe has not ---------------------------------------------------------------------------


def test_a_pipe_refuses_an_offset(port: CompletionPort, reader: File, writer: File) -> None:
    with pytest.raises(OSError, match="offset") as caught:
        port.read_into(reader, bytearray(1), offset=0)
    assert winerror(caught.value) == 87
    with pytest.raises(OSError, match="offset"):
        port.write(writer, b"x", offset=10)


def test_the_wrong_end(port: CompletionPort, reader: File, writer: File) -> None:
    assert attempt(port, lambda: port.read_into(writer, bytearray(1))).number == 5
    assert attempt(port, lambda: port.write(reader, b"x")).number == 5


@pytest.mark.skipif(not WINDOWS, reason="elsewhere pipes are polled, see test_poll.py")
def test_a_pipe_of_windows_is_not_polled(port: CompletionPort, reader: File) -> None:
    with pytest.raises(OSError, match="sockets"):
        port.poll(reader, selectors.EVENT_READ)


@pytest.mark.skipif(WINDOWS, reason="Windows knows no readiness of pipes")
def test_a_pipe_is_waited_for(port: CompletionPort, reader: File, writer: File) -> None:
    port.wait(reader)
    nothing_more(port)
    port.write(writer, b"x")
    assert {each.key for each in collect(port, 2)} == {None, "writer"}


# -- pipes that others have made -------------------------------------------------------------------


@pytest.mark.skipif(WINDOWS, reason="Python opens pipes without overlapped operations on Windows")
@pytest.mark.parametrize("blocking", [True, False])
def test_the_pipes_of_a_child(port: CompletionPort, no_leak: None, blocking: bool) -> None:
    code = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])"
    command = [sys.executable, "-S", "-c", code]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for end in (child.stdin, child.stdout):
            port.associate(end)
            os.set_blocking(end.fileno(), blocking)
        got, buffer = bytearray(), bytearray(100_000)
        read = port.read_into(child.stdout, buffer)
        write = port.write(child.stdin, LARGE)
        ended = port.wait(child)
        finished: set[Any] = set()
        while finished != {read, write, ended}:
            completion = port.get(DEADLINE)
            assert completion is not None
            if completion.overlapped is not read:
                assert completion.error == 0
                finished.add(completion.overlapped)
                if completion.overlapped is write:
                    port.close_handle(child.stdin)
                continue
            got += buffer[: completion.transferred]
            if completion.error:
                assert completion.error == 109
                finished.add(read)
            else:
                try:
                    port.resubmit(read)
                except BrokenPipeError:
                    finished.add(read)
        assert got == LARGE[::-1]
        assert ended.result() == 0


@pytest.mark.skipif(not WINDOWS, reason="elsewhere every pipe does")
@pytest.mark.statement("ASSOC-02")
def test_a_pipe_without_overlapped_operations_is_refused(port: CompletionPort) -> None:
    near, far = os.pipe()
    with (
        open(near, "rb") as reader,
        open(far, "wb"),
        pytest.raises(OSError, match=r"netpoll\.pipe") as caught,
    ):
        port.associate(reader)
    assert winerror(caught.value) == 87
