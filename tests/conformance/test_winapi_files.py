"""`netpoll.winapi`: ReadFile and WriteFile, on files, pipes and sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import netpoll
import netpoll.winapi as w
from netpoll.testing.attempts import pattern
from netpoll.testing.outcome import require
from netpoll.testing.pairs import reset
from netpoll.testing.waiting import DEADLINE, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from netpoll import CompletionPort, File
    from netpoll.testing.pairs import Loopback

MILLISECONDS = int(1000 * DEADLINE)
DATA = pattern(10_000)

pytestmark = pytest.mark.usefixtures("winapi", "needs_files")


@pytest.fixture
def needs_files(port: CompletionPort) -> None:
    require(port, "read_into")
    require(port, "write")


@pytest.fixture
def file(no_leak: None, tmp_path: Path) -> Iterator[File]:
    (tmp_path / "file").write_bytes(DATA)
    with netpoll.open_file(tmp_path / "file", "r+") as opened:
        yield opened


def at(offset: int) -> w.OVERLAPPED:
    record = w.OVERLAPPED()
    record.Offset, record.OffsetHigh = offset & 0xFFFFFFFF, offset >> 32
    return record


def started(result: tuple[int, int]) -> None:
    assert result[0] or w.GetLastError() == w.ERROR_IO_PENDING


def take(port: CompletionPort) -> tuple[int, int, Any, Any]:
    return w.GetQueuedCompletionStatus(port, MILLISECONDS)


@pytest.mark.statement("FILE-01")
def test_a_file_is_read_and_written_where_the_overlapped_says(
    port: CompletionPort, file: File
) -> None:
    assert w.CreateIoCompletionPort(file, port, "file", 0) is port
    buffer = bytearray(100)
    for offset in (5000, 0):
        record = at(offset)
        started(w.ReadFile(file, buffer, 100, record))
        assert take(port) == (w.TRUE, 100, "file", record)
        assert buffer == DATA[offset : offset + 100]
    record = at(200)
    started(w.WriteFile(file, b"written and not", 7, record))
    assert take(port) == (w.TRUE, 7, "file", record)
    record = at(198)
    started(w.ReadFile(file, buffer, 11, record))
    assert take(port)[:2] == (w.TRUE, 11)
    assert buffer[:11] == DATA[198:200] + b"written" + DATA[207:209]
    record = at(len(DATA) - 3)
    started(w.ReadFile(file, buffer, 100, record))
    assert take(port)[:2] == (w.TRUE, 3)


@pytest.mark.statement("FILE-01")
@pytest.mark.parametrize("offset", [len(DATA), len(DATA) + (1 << 32)], ids=["end", "behind"])
def test_the_end_of_a_file_is_38(port: CompletionPort, file: File, offset: int) -> None:
    record, buffer = at(offset), bytearray(10)
    record.hEvent = w.WSACreateEvent()
    ok, moved = w.ReadFile(file, buffer, 10, record)
    assert (ok, moved) == (w.FALSE, 0)
    if w.GetLastError() == w.ERROR_IO_PENDING:
        assert w.GetOverlappedResult(file, record, w.TRUE) == (w.FALSE, 0)
    assert w.GetLastError() == w.ERROR_HANDLE_EOF == 38


def test_a_pipe_has_no_places(port: CompletionPort) -> None:
    near, far = netpoll.pipe()
    with near, far:
        w.CreateIoCompletionPort(near, port, "near", 0)
        record, buffer = at(77), bytearray(10)
        started(w.ReadFile(near, buffer, 10, record))
        sent = w.OVERLAPPED()
        ok, _ = w.WriteFile(far, b"data", 4, sent)
        if not ok:
            assert w.GetOverlappedResult(far, sent, w.TRUE) == (w.TRUE, 4)
        assert take(port) == (w.TRUE, 4, "near", record)
        assert buffer[:4] == b"data"
        assert w.CloseHandle(far)
        ok, _ = w.ReadFile(near, buffer, 10, record)
        if w.GetLastError() == w.ERROR_IO_PENDING:
            assert take(port) == (w.FALSE, 0, "near", record)
        assert w.GetLastError() == w.ERROR_BROKEN_PIPE == 109


def test_a_read_of_a_pipe_can_be_cancelled(port: CompletionPort) -> None:
    near, far = netpoll.pipe()
    with near, far:
        w.CreateIoCompletionPort(near, port, "near", 0)
        for one in (True, False):
            record = w.OVERLAPPED()
            started(w.ReadFile(near, bytearray(10), 10, record))
            assert w.CancelIoEx(near, record) if one else w.CancelIo(near)
            assert take(port) == (w.FALSE, 0, "near", record)
            assert w.GetLastError() == w.ERROR_OPERATION_ABORTED


@pytest.mark.statement("RECV-05")
def test_a_socket_is_read_with_win32s_numbers(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    w.CreateIoCompletionPort(near, port, "near", 0)
    record, buffer = w.OVERLAPPED(), bytearray(10)
    started(w.ReadFile(near, buffer, 10, record))
    assert w.send(far, b"data", 4, 0) == 4
    assert take(port) == (w.TRUE, 4, "near", record)
    started(w.WriteFile(near, b"back", 4, record))
    assert take(port) == (w.TRUE, 4, "near", record)
    assert far.recv(9) == b"back"
    started(w.ReadFile(near, buffer, 10, record))
    reset(far)
    assert take(port) == (w.FALSE, 0, "near", record)
    assert w.GetLastError() == w.ERROR_NETNAME_DELETED


def test_without_an_overlapped_only_what_is_not_overlapped(
    port: CompletionPort, net: Loopback, file: File
) -> None:
    near, far = net.tcp_pair()
    for handle in (file, near):
        assert w.ReadFile(handle, bytearray(4), 4, w.NULL) == (w.FALSE, 0)
        assert w.GetLastError() == w.ERROR_INVALID_PARAMETER
        assert w.WriteFile(handle, b"data", 4, w.NULL) == (w.FALSE, 0)
        assert w.GetLastError() == w.ERROR_INVALID_PARAMETER
    listener = net.listener()
    plain = net.track(w.WSASocketA(w.AF_INET, w.SOCK_STREAM, 0, w.NULL, 0, 0))
    assert w.connect(plain, listener.getsockname(), 16) == 0
    far = net.track(listener.accept()[0])
    buffer = bytearray(4)
    reader = run(w.ReadFile, plain, buffer, 4, w.NULL)
    far.sendall(b"data")
    assert reader.result() == (w.TRUE, 4)
    assert w.WriteFile(plain, buffer, 4, w.NULL) == (w.TRUE, 4)
    assert far.recv(9) == b"data"


def test_what_readfile_refuses(port: CompletionPort, file: File) -> None:
    for record in (at(1 << 63), at((1 << 64) - 1)):
        assert w.ReadFile(file, bytearray(4), 4, record) == (w.FALSE, 0)
        assert w.GetLastError() == w.ERROR_INVALID_PARAMETER
    assert w.ReadFile(file, w.NULL, 4, w.OVERLAPPED()) == (w.FALSE, 0)
    assert w.GetLastError() == w.ERROR_NOACCESS
    assert w.CloseHandle(file)
    assert (w.CloseHandle(file), w.GetLastError()) == (w.FALSE, w.ERROR_INVALID_HANDLE)
    garbage: Any
    for garbage in (file, w.NULL, 5):
        w.SetLastError(0)
        assert w.ReadFile(garbage, bytearray(4), 4, w.OVERLAPPED()) == (w.FALSE, 0)
        assert w.GetLastError() == w.ERROR_INVALID_HANDLE
        assert (w.CancelIo(garbage), w.GetLastError()) == (w.FALSE, w.ERROR_INVALID_HANDLE)
    assert w.CreateIoCompletionPort(file, port, 0, 0) is w.NULL
    assert w.GetLastError() == w.ERROR_INVALID_HANDLE
