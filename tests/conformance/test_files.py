"""Reads and writes of files: offsets, ends, positions, and what is no file."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import pytest

import netpoll
from netpoll import OperationAborted, Overlapped
from netpoll.testing.attempts import attempt, pattern, winerror
from netpoll.testing.drain import collect, nothing_more, take
from netpoll.testing.outcome import require, unsupported
from netpoll.testing.waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from netpoll import CompletionPort, File
    from netpoll.testing.backends import Target
    from netpoll.testing.fixtures import MakePort
    from netpoll.testing.pairs import Loopback

    Open = Callable[..., File]

DATA = pattern(10_000)

pytestmark = pytest.mark.statement("EMU-28")


@pytest.fixture(autouse=True)
def needs_files(port: CompletionPort) -> None:
    require(port, "read_into")
    require(port, "write")


@pytest.fixture
def opened(no_leak: None, tmp_path: Path) -> Iterator[Open]:
    """Opens `tmp_path / "file"`, which has DATA in it to begin with."""
    (tmp_path / "file").write_bytes(DATA)
    files: list[File] = []

    def open_it(mode: str = "r+", name: str = "file") -> File:
        files.append(netpoll.open_file(tmp_path / name, mode))
        return files[-1]

    yield open_it
    for file in files:
        file.close()


@pytest.mark.statement("FILE-01", "FILE-02")
def test_a_read_comes_from_its_offset(port: CompletionPort, opened: Open) -> None:
    file = opened("r")
    port.associate(file, "key")
    buffer = bytearray(100)
    for offset in (0, 5000, 17):
        operation = port.read_into(file, buffer, offset=offset)
        completion = take(port)
        assert completion.overlapped is operation
        assert (completion.key, completion.error, completion.transferred) == ("key", 0, 100)
        assert completion.result() == 100
        assert buffer == DATA[offset : offset + 100]


@pytest.mark.statement("FILE-01")
def test_the_offset_is_part_of_the_operation(port: CompletionPort, opened: Open) -> None:
    file = opened()
    port.associate(file)
    buffer = bytearray(10)
    operation = port.read_into(file, buffer, offset=30)
    for _ in range(3):
        assert take(port).result() == 10
        assert buffer == DATA[30:40]
        buffer[:] = bytes(10)
        port.resubmit(operation)
    assert take(port).overlapped is operation


@pytest.mark.statement("FILE-01", "FILE-02")
def test_a_write_goes_to_its_offset(port: CompletionPort, opened: Open, tmp_path: Path) -> None:
    file = opened()
    port.associate(file)
    port.write(file, b"middle", offset=5000)
    assert take(port).result() == 6
    port.write(file, b"beyond the end", offset=12_000)
    assert take(port).result() == 14
    expected = bytearray(DATA + bytes(2000) + b"beyond the end")
    expected[5000:5006] = b"middle"
    assert (tmp_path / "file").read_bytes() == expected


@pytest.mark.statement("FILE-01")
def test_a_read_gets_less_at_the_end_only_and_at_the_end_fails_with_38(
    port: CompletionPort, opened: Open, target: Target
) -> None:
    file = opened("r")
    port.associate(file)
    buffer = bytearray(100)
    port.read_into(file, buffer, offset=len(DATA) - 30)
    assert take(port).result() == 30
    assert buffer[:30] == DATA[-30:]
    for offset in (len(DATA), 2 * len(DATA)):
        start = lambda: port.read_into(file, buffer, offset=offset)  # noqa: B023, E731
        ended = attempt(port, start)
        assert (ended.number, ended.transferred) == (38, 0)
        assert not (ended.inline and target.emulated)
        assert getattr(ended.error, "status", 0) == 0xC0000011
    port.read_into(file, buffer, offset=0)  # nothing is sticky
    assert take(port).result() == 100


@pytest.mark.statement("EMU-35")
def test_without_an_offset_each_start_goes_on_behind_the_last(
    port: CompletionPort, opened: Open
) -> None:
    file = opened()
    port.associate(file)
    buffers = [bytearray(1000) for _ in range(4)]
    for buffer in buffers:  # several under way: each has its place already
        port.read_into(file, buffer)
    collect(port, 4)
    assert b"".join(buffers) == DATA[:4000]
    port.write(file, b"here")
    assert take(port).result() == 4
    check = bytearray(10)
    port.read_into(file, check, offset=3998)
    take(port)
    assert check == DATA[3998:4000] + b"here" + DATA[4004:4008]
    port.read_into(file, check)  # one with an offset has not moved it
    take(port)
    assert check == DATA[4004:4014]


@pytest.mark.statement("EMU-35", "FILE-01")
def test_the_position_stays_at_the_end_of_the_file(port: CompletionPort, opened: Open) -> None:
    file = opened()
    port.associate(file)
    buffer = bytearray(7000)
    operation = port.read_into(file, buffer)
    assert take(port).result() == 7000
    port.resubmit(operation)
    assert take(port).result() == 3000
    assert attempt(port, lambda: port.resubmit(operation)).number == 38
    port.write(file, b"more")
    assert take(port).result() == 4
    assert attempt(port, lambda: port.resubmit(operation)).number == 38
    port.read_into(file, buffer, offset=len(DATA))
    assert take(port).result() == 4
    assert buffer.startswith(b"more")


@pytest.mark.statement("RECV-11", "SEND-09")
def test_several_buffers_are_filled_and_written_in_order(
    port: CompletionPort, opened: Open
) -> None:
    file = opened()
    port.associate(file)
    parts = [bytearray(size) for size in (1, 0, 999, 5)]
    port.read_into(file, parts, offset=3)
    assert take(port).result() == 1005
    assert b"".join(parts) == DATA[3:1008]
    port.write(file, [b"ab", b"", b"c"], offset=len(DATA))
    assert take(port).result() == 3
    port.read_into(file, parts, offset=len(DATA))
    assert take(port).result() == 3
    assert b"".join(parts)[:3] == b"abc"


def test_more_buffers_than_one_call_of_the_system_takes(port: CompletionPort, opened: Open) -> None:
    file = opened()
    port.associate(file)
    parts = [bytearray(2) for _ in range(3000)]
    port.write(file, [DATA[2 * index : 2 * index + 2] for index in range(3000)], offset=100)
    assert take(port).result() == 6000
    port.read_into(file, parts, offset=100)
    assert take(port).result() == 6000
    assert b"".join(parts) == DATA[:6000]


@pytest.mark.parametrize("size", [0, 1, 1 << 20])
def test_sizes(port: CompletionPort, opened: Open, size: int) -> None:
    file = opened()
    port.associate(file)
    data = pattern(size)
    port.write(file, data, offset=0)
    assert take(port).result() == size
    buffer = bytearray(size)
    port.read_into(file, buffer, offset=0)
    assert take(port).result() == size
    assert buffer == data


def test_the_first_bytes_only(port: CompletionPort, opened: Open) -> None:
    file = opened()
    port.associate(file)
    operation = port.write(file, b"abcdef", offset=0, size=2)
    assert take(port).result() == 2
    port.resubmit(operation, size=4)
    assert take(port).result() == 4
    buffer = bytearray(6)
    port.read_into(file, buffer, offset=0)
    take(port)
    assert buffer == b"abcd" + DATA[4:6]


def test_appending(port: CompletionPort, opened: Open, tmp_path: Path) -> None:
    file = opened("a")
    port.associate(file)
    for data in (b"one", b"two"):
        port.write(file, data)
        assert take(port).result() == 3
    assert (tmp_path / "file").read_bytes() == DATA + b"onetwo"


@pytest.mark.parametrize("mode", ["r", "w"])
def test_a_file_that_is_not_open_for_it(port: CompletionPort, opened: Open, mode: str) -> None:
    file = opened(mode)
    port.associate(file)
    if mode == "r":
        ended = attempt(port, lambda: port.write(file, b"x"))
    else:
        ended = attempt(port, lambda: port.read_into(file, bytearray(1)))
    assert ended.number == 5
    assert isinstance(ended.error, PermissionError)


def test_modes(opened: Open, tmp_path: Path) -> None:
    opened("w", "new")
    with pytest.raises(FileExistsError):
        opened("x", "new")
    with pytest.raises(FileNotFoundError):
        opened("r", "missing")
    with pytest.raises(FileNotFoundError):
        opened("r+b", "missing")
    for nonsense in ("", "rw", "t", "w++", "U"):
        with pytest.raises(ValueError, match="mode"):
            opened(nonsense)
    opened("w")
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.statement("OVL-17", "OVL-05")
def test_without_an_association_there_is_no_packet(port: CompletionPort, opened: Open) -> None:
    file = opened()
    buffer = bytearray(10)
    operation = port.read_into(file, buffer, offset=0)
    assert operation.wait(DEADLINE)
    assert operation.result() == 10
    assert buffer == DATA[:10]
    end: Overlapped[int] = Overlapped()
    with contextlib.suppress(OSError):  # within its start, or later
        port.read_into(file, buffer, offset=len(DATA), overlapped=end)
    assert end.wait(DEADLINE)
    assert end.status == 0xC0000011
    nothing_more(port)


@pytest.mark.statement("MODE-03")
def test_skipping_packets_of_success(port: CompletionPort, opened: Open) -> None:
    file = opened()
    port.associate(file, skip_on_success=True)
    operation = port.read_into(file, bytearray(10), offset=0)
    if not operation.done:
        assert take(port).overlapped is operation
    assert operation.result() == 10
    nothing_more(port)


@pytest.mark.statement("ASSOC-12")
def test_an_associated_file_takes_no_routine(port: CompletionPort, opened: Open) -> None:
    file = opened()
    port.associate(file)
    with pytest.raises(OSError, match="routine") as caught:
        port.read_into(file, bytearray(10), offset=0, routine=print)
    assert winerror(caught.value) == 10022
    nothing_more(port)
    unsupported("the number is Winsock's (10022) for files too, and not 87", "ASSOC-12")


@pytest.mark.statement("ASSOC-13", "XFER-08")
def test_a_closed_file_is_refused(port: CompletionPort, opened: Open) -> None:
    file = opened()
    port.associate(file)
    operation = port.read_into(file, bytearray(10), offset=0)
    take(port)
    port.close_handle(file)
    nothing_more(port)
    assert file.closed
    with pytest.raises(OSError, match=r"closed|handle") as caught:
        port.resubmit(operation)
    assert winerror(caught.value) == 6
    with pytest.raises(OSError, match="closed"):
        port.write(file, b"x")
    with pytest.raises(OSError, match="closed"):
        port.associate(file)


@pytest.mark.statement("EMU-07")
def test_a_number_in_use_again_is_another_file(port: CompletionPort, opened: Open) -> None:
    for _ in range(3):
        file = opened()
        port.associate(file)
        buffer = bytearray(10)
        port.read_into(file, buffer)
        take(port)
        assert buffer == DATA[:10]  # with a position of its own
        file.close()


@pytest.mark.statement("PORT-19")
def test_a_closed_port_refuses(make_port: MakePort, opened: Open) -> None:
    port = make_port()
    file = opened()
    port.associate(file)
    operation = port.read_into(file, bytearray(10), offset=0)
    take(port)
    port.close()
    with pytest.raises(netpoll.PortClosed):
        port.resubmit(operation)


@pytest.mark.statement("ASSOC-01")
def test_a_file_belongs_to_one_port(
    port: CompletionPort, make_port: MakePort, opened: Open
) -> None:
    file = opened()
    port.associate(file)
    other = make_port()
    for wrong in (port, other):
        with pytest.raises(netpoll.AlreadyAssociated):
            wrong.associate(file)
    with pytest.raises(netpoll.AlreadyAssociated):
        other.read_into(file, bytearray(1))


def test_misuse(port: CompletionPort, opened: Open, net: Loopback) -> None:
    file = opened()
    port.associate(file)
    near, _ = net.tcp_pair()
    wrong: Any
    for wrong in (3, None, "file"):
        with pytest.raises(TypeError, match="handle"):
            port.read_into(wrong, bytearray(1))
    with pytest.raises(TypeError, match="recv_into"):
        port.read_into(near, bytearray(1))
    for wrong in (-1, 2**63, "0", 1.5):
        with pytest.raises(ValueError, match="offset"):
            port.read_into(file, bytearray(1), offset=wrong)
    with pytest.raises(TypeError, match="read-only"):
        port.read_into(file, b"fixed")
    with pytest.raises(ValueError, match="contiguous"):
        port.write(file, memoryview(DATA)[::2])
    with pytest.raises(ValueError, match="at least one"):
        port.write(file, [])
    wrong = file
    with pytest.raises(OSError, match="read_into") as caught:
        port.recv(wrong, 10)
    assert winerror(caught.value) == 87
    with pytest.raises(OSError, match="sockets"):
        port.shutdown(wrong, 0)
    nothing_more(port)


@pytest.mark.statement("ASSOC-02")
def test_files_that_python_has_opened(port: CompletionPort, tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(DATA)
    with open(tmp_path / "plain", "rb") as plain:
        if sys.platform == "win32":
            with pytest.raises(OSError, match=r"netpoll\.open_file") as caught:
                port.read_into(plain, bytearray(10))
            assert winerror(caught.value) == 87
            return
        assert plain.read(3) == DATA[:3]
        port.associate(plain)
        buffer = bytearray(10)
        port.read_into(plain, buffer)
        assert take(port).result() == 10
        assert buffer == DATA[:10]  # the port's own position, and not the file's
        assert plain.read(3) == DATA[3:6]
    with pytest.raises(OSError, match="closed"):
        port.read_into(plain, bytearray(10))


@pytest.mark.skipif(sys.platform == "win32", reason="CreateFileW refuses directories by itself")
def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        netpoll.open_file(tmp_path)


def test_a_file_that_is_dropped_open_warns(opened: Open, tmp_path: Path) -> None:
    with pytest.warns(ResourceWarning, match="unclosed"):
        netpoll.open_file(tmp_path / "file")


@pytest.mark.statement("CAN-02")
def test_what_has_ended_cannot_be_cancelled(port: CompletionPort, opened: Open) -> None:
    file = opened()
    port.associate(file)
    operation = port.read_into(file, bytearray(10), offset=0)
    completion = take(port)
    assert completion.overlapped is operation
    assert not operation.cancel()
    assert not port.cancel(file)


def test_many_reads_at_once(port: CompletionPort, opened: Open) -> None:
    file = opened()
    port.associate(file)
    reads: dict[Any, int] = {}
    for offset in range(0, 10_000, 100):
        reads[port.read_into(file, bytearray(100), offset=offset)] = offset
    for completion in collect(port, 100):
        offset = reads.pop(completion.overlapped)
        assert completion.overlapped.buffers == DATA[offset : offset + 100]
    assert not reads


@pytest.mark.statement("PORT-18")
def test_closing_the_port_with_reads_under_way(make_port: MakePort, opened: Open) -> None:
    port = make_port()
    file = opened()
    port.associate(file)
    reads = [port.read_into(file, bytearray(1000), offset=0) for _ in range(20)]
    port.close()
    for operation in reads:
        assert operation.done
        error = operation.exception()
        assert error is None or isinstance(error, OperationAborted)
