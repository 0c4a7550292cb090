"""Sending files (TXF): every byte once and in order, and the program's file left alone."""

from __future__ import annotations

import io
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from netpoll import UnsupportedOperation, open_file
from netpoll.testing.accepted import CLOSED_HERE, RESET
from netpoll.testing.attempts import (
    INVALID,
    NO_SOCKET,
    NOT_CONNECTED,
    SHUT_DOWN,
    attempt,
    clog,
    pattern,
    read_to_end,
)
from netpoll.testing.drain import collect, nothing_more, take
from netpoll.testing.fixtures import open_descriptors
from netpoll.testing.pairs import receive_exactly, reset
from netpoll.testing.waiting import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from netpoll import CompletionPort
    from netpoll.testing.backends import Target
    from netpoll.testing.pairs import Loopback

MOST = 2_147_483_646
BIG = pattern(3 << 20)
SMALL = b"0123456789"


class Files:
    """Makes files and closes them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: list[Any] = []

    def make(self, data: bytes = SMALL, mode: str = "rb") -> Any:
        path = self._folder / f"file{len(self._open)}"
        path.write_bytes(data)
        self._open.append(path.open(mode))
        return self._open[-1]

    def close(self) -> None:
        for each in self._open:
            each.close()


@pytest.fixture
def files(tmp_path: Path, no_leak: None) -> Iterator[Files]:
    made = Files(tmp_path)
    yield made
    made.close()


@pytest.mark.statement("TXF-02")
@pytest.mark.parametrize("data", [SMALL, BIG], ids=["small", "big"])
def test_a_file_is_sent_whole(
    port: CompletionPort, net: Loopback, files: Files, data: bytes
) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "near")
    operation = port.sendfile(near, files.make(data))
    reading = run(receive_exactly, far, len(data))
    completion = take(port)
    assert completion.overlapped is operation
    assert (completion.key, completion.error, completion.result()) == ("near", 0, len(data))
    assert reading.result() == data


@pytest.mark.statement("TXF-02")
def test_head_and_tail_go_around_the_part_that_was_asked_for(
    port: CompletionPort, net: Loopback, files: Files
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    port.sendfile(near, files.make(), offset=2, count=5, head=b"<<", tail=bytearray(b">>>"))
    assert take(port).result() == 10
    assert receive_exactly(far, 10) == b"<<23456>>>"
    nothing_more(port)


@pytest.mark.statement("TXF-02")
@pytest.mark.parametrize(
    ("offset", "count", "expected"),
    [(9, None, b"9"), (10, None, b""), (3, 0, b""), (0, 1, b"0"), (8, 100, b"89"), (0, 10, SMALL)],
)
def test_the_edges_of_the_file(
    port: CompletionPort,
    net: Loopback,
    files: Files,
    offset: int,
    count: int | None,
    expected: bytes,
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    port.sendfile(near, files.make(), offset=offset, count=count, tail=b"!")
    assert take(port).result() == len(expected) + 1
    assert receive_exactly(far, len(expected) + 1) == expected + b"!"


@pytest.mark.statement("TXF-02")
def test_the_file_s_position_is_neither_used_nor_moved(
    port: CompletionPort, net: Loopback, files: Files
) -> None:
    """cpython#150107: offset ignored, and tell() wrong afterwards."""
    near, far = net.tcp_pair()
    port.associate(near)
    file = files.make(SMALL * 100)
    assert file.read(4) == b"0123"
    raw = os.lseek(file.fileno(), 0, os.SEEK_CUR)
    port.sendfile(near, file, offset=5, count=300)
    assert take(port).result() == 300
    assert receive_exactly(far, 300) == (SMALL * 100)[5:305]
    assert (file.tell(), os.lseek(file.fileno(), 0, os.SEEK_CUR)) == (4, raw)
    assert file.read(2) == b"45"


@pytest.mark.statement("TXF-01")
@pytest.mark.parametrize(
    ("head", "tail"), [(b"head", b"tail"), (b"", b"t"), (b"h", b""), (b"", b"")]
)
def test_without_a_file_head_and_tail_are_sent(
    port: CompletionPort, net: Loopback, head: bytes, tail: bytes
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    port.sendfile(near, None, head=head, tail=tail)
    assert take(port).result() == len(head + tail)
    assert receive_exactly(far, len(head + tail)) == head + tail


def test_an_empty_file_is_sent(port: CompletionPort, net: Loopback, files: Files) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    file = files.make(b"")
    port.sendfile(near, file)
    assert take(port).result() == 0
    port.sendfile(near, file, head=b"h", tail=b"t")
    assert take(port).result() == 2
    assert receive_exactly(far, 2) == b"ht"


@pytest.mark.statement("TXF-01")
@pytest.mark.parametrize("kind", ["new", "listening", "datagram"])
def test_a_socket_without_a_connection_cannot(
    port: CompletionPort, net: Loopback, files: Files, kind: str
) -> None:
    makers: Any = {
        "new": net.new_socket,
        "listening": net.listener,
        "datagram": lambda: net.udp_pair()[0],
    }
    sock = makers[kind]()
    port.associate(sock)
    ended = attempt(port, lambda: port.sendfile(sock, files.make()))
    assert ended.number in NOT_CONNECTED


@pytest.mark.statement("TXF-01")
def test_a_closed_socket_cannot(port: CompletionPort, net: Loopback, files: Files) -> None:
    near, _ = net.tcp_pair()
    port.associate(near)
    port.close_handle(near)
    assert attempt(port, lambda: port.sendfile(near, files.make())).number in NO_SOCKET


@pytest.mark.statement("TXF-04")
def test_more_than_the_limit_is_refused_before_anything_goes_out(
    port: CompletionPort, net: Loopback, files: Files
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    file = files.make(b"", "r+b")
    file.truncate(MOST + 1)
    refused: list[dict[str, Any]] = [{}, {"count": MOST + 1}, {"count": MOST, "head": b"h"}]
    for arguments in refused:
        with pytest.raises(OSError, match="in parts") as caught:
            port.sendfile(near, file, **arguments)
        assert vars(caught.value)["winerror"] == 10022
    port.sendfile(near, file, offset=MOST - 1)
    assert take(port).result() == 2
    assert receive_exactly(far, 2) == b"\0\0"


@pytest.mark.statement("TXF-04")
def test_a_place_outside_the_file_is_refused(
    port: CompletionPort, net: Loopback, files: Files
) -> None:
    near, _ = net.tcp_pair()
    port.associate(near)
    ended = attempt(port, lambda: port.sendfile(near, files.make(), offset=11))
    assert ended.number in INVALID


@pytest.mark.statement("TXF-04")
def test_after_the_end_of_sending_it_is_refused(
    port: CompletionPort, net: Loopback, files: Files
) -> None:
    near, _ = net.tcp_pair()
    port.associate(near)
    port.shutdown(near, socket.SHUT_WR)
    assert attempt(port, lambda: port.sendfile(near, files.make())).number in SHUT_DOWN


# -- what is no file -------------------------------------------------------------------------------


def test_nonsense_is_refused_at_the_call(port: CompletionPort, net: Loopback, files: Files) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    file = files.make()
    wrong: list[tuple[type[Exception], Any]] = [
        (TypeError, lambda: port.sendfile(near, "name")),
        (TypeError, lambda: port.sendfile(near, file, head="text")),  # type: ignore[arg-type]
        (TypeError, lambda: port.sendfile(near, file, tail=[b"a", b"b"])),  # type: ignore[arg-type]
        (ValueError, lambda: port.sendfile(near, file, offset=-1)),
        (ValueError, lambda: port.sendfile(near, file, count=-1)),
        (ValueError, lambda: port.sendfile(near, None, count=1)),
        (ValueError, lambda: port.sendfile(near, file, head=memoryview(b"abcdef")[::2])),
        (io.UnsupportedOperation, lambda: port.sendfile(near, io.BytesIO(b"x"))),
    ]
    for kind, start in wrong:
        with pytest.raises(kind):
            start()
    file.close()
    with pytest.raises(ValueError, match="closed"):
        port.sendfile(near, file)
    nothing_more(port)
    port.send(near, b"fine")
    take(port)
    assert receive_exactly(far, 4) == b"fine"


def test_a_file_that_is_only_written_cannot_be_sent(
    port: CompletionPort, net: Loopback, files: Files
) -> None:
    near, _ = net.tcp_pair()
    port.associate(near)
    with pytest.raises(PermissionError, match="reading"):
        port.sendfile(near, files.make(SMALL, "ab"))
    nothing_more(port)


def test_what_is_not_a_regular_file_is_refused(port: CompletionPort, net: Loopback) -> None:
    near, _ = net.tcp_pair()
    port.associate(near)
    reader, writer = os.pipe()
    try:
        with open(reader, "rb") as pipe, pytest.raises(UnsupportedOperation, match="regular"):
            port.sendfile(near, pipe)
    finally:
        os.close(writer)


# -- order -----------------------------------------------------------------------------------------


@pytest.mark.statement("SEND-05", "TXF-02")
def test_it_waits_in_the_line_of_the_sends(
    port: CompletionPort, net: Loopback, files: Files
) -> None:
    near, far = net.tcp_pair(buffer=16384)
    port.associate(near)
    file = files.make(BIG)
    operations = [
        port.send(near, BIG),
        port.sendfile(near, file, head=b"head", tail=b"tail"),
        port.send(near, b"between"),
        port.sendfile(near, file, offset=7, count=100_000),
        port.send(near, b"last"),
    ]
    expected = BIG + b"head" + BIG + b"tail" + b"between" + BIG[7:100_007] + b"last"
    reading = run(receive_exactly, far, len(expected))
    ended = collect(port, 5)
    assert {each.overlapped for each in ended} == set(operations)
    assert all(not each.error for each in ended)
    assert reading.result() == expected


@pytest.mark.statement("TXF-02", "OVL-06")
def test_it_can_be_started_again(port: CompletionPort, net: Loopback, files: Files) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    file = files.make(SMALL, "r+b")
    operation = port.sendfile(near, file, head=b"h", tail=b"t")
    assert take(port).result() == 12
    file.seek(0, os.SEEK_END)
    file.write(b"more")
    file.flush()
    port.resubmit(operation)
    assert take(port).result() == 16
    assert receive_exactly(far, 28) == b"h0123456789th0123456789moret"
    with pytest.raises(ValueError, match="size"):
        port.resubmit(operation, size=3)


# -- what goes away in the middle ------------------------------------------------------------------


@pytest.mark.statement("TXF-02", "RECV-05")
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_peer_that_goes_away_in_the_middle_ends_it(
    port: CompletionPort, net: Loopback, files: Files, how: str
) -> None:
    near, far = net.tcp_pair(buffer=16384)
    port.associate(near)
    file = files.make(BIG)
    before = open_descriptors()
    operation = port.sendfile(near, file)
    assert receive_exactly(far, 1000) == BIG[:1000]
    nothing_more(port)
    # what it has not read makes a reset of a close
    far.close() if how == "close" else reset(far)
    completion = take(port)
    assert open_descriptors() <= before
    assert completion.overlapped is operation
    assert (completion.error in RESET | CLOSED_HERE, completion.transferred) == (True, 0)


@pytest.mark.statement("CAN-05", "SEND-08")
def test_a_cancel_in_the_middle(port: CompletionPort, net: Loopback, files: Files) -> None:
    near, far = net.tcp_pair(buffer=16384)
    port.associate(near)
    file = files.make(BIG)
    before = open_descriptors()
    operation = port.sendfile(near, file)
    assert receive_exactly(far, 1000) == BIG[:1000]
    nothing_more(port)
    assert port.cancel(operation)
    completion = take(port)
    assert (completion.overlapped, completion.error, completion.transferred) == (operation, 995, 0)
    assert open_descriptors() <= before
    port.close_handle(near)
    with suppress(ConnectionResetError):
        assert BIG[1000:].startswith(read_to_end(far))


def test_a_time_limit_in_the_middle(port: CompletionPort, net: Loopback, files: Files) -> None:
    near, _ = net.tcp_pair(buffer=16384)
    port.associate(near)
    # long enough to stand still by then: Wine loses a cancel that falls into a piece under way
    port.sendfile(near, files.make(BIG), timeout=0.4)
    assert isinstance(take(port).exception(), TimeoutError)


def test_one_that_waits_behind_a_send_can_be_cancelled(
    port: CompletionPort, net: Loopback, files: Files
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    filled = clog(near)
    sending = port.send(near, b"x")
    operation = port.sendfile(near, files.make())
    assert port.cancel(operation)
    assert take(port).overlapped is operation
    port.send(near, b"y")
    reading = run(receive_exactly, far, filled + 2)
    assert {each.error for each in collect(port, 2)} == {0}
    assert sending.done
    assert reading.result() == bytes(filled) + b"xy"


@pytest.mark.statement("CLOSE-02")
def test_closing_the_socket_in_the_middle_ends_it(
    port: CompletionPort, net: Loopback, files: Files
) -> None:
    near, _ = net.tcp_pair(buffer=16384)
    port.associate(near)
    operation = port.sendfile(near, files.make(BIG))
    nothing_more(port)
    port.close_handle(near)
    completion = take(port)
    assert completion.overlapped is operation
    assert completion.error in CLOSED_HERE


def test_closing_the_port_in_the_middle_leaves_no_file_open(
    port: CompletionPort, net: Loopback, files: Files
) -> None:
    near, _ = net.tcp_pair(buffer=16384)
    port.associate(near)
    file = files.make(BIG)
    before = open_descriptors()
    operation = port.sendfile(near, file)
    nothing_more(port)
    port.close()
    assert operation.status == 0xC0000120
    assert open_descriptors() <= before


def test_the_file_may_be_closed_and_deleted_meanwhile(
    port: CompletionPort, net: Loopback, files: Files
) -> None:
    near, far = net.tcp_pair(buffer=16384)
    port.associate(near)
    file = files.make(BIG)
    port.sendfile(near, file)
    nothing_more(port)
    file.close()
    with suppress(PermissionError):  # Windows keeps the name while somebody reads
        os.unlink(file.name)
    with open(os.devnull, "rb"):  # takes the number
        reading = run(receive_exactly, far, len(BIG))
        assert take(port).result() == len(BIG)
    assert reading.result() == BIG


def test_a_file_that_gets_shorter_is_counted_truly(
    port: CompletionPort, net: Loopback, files: Files, target: Target
) -> None:
    near, far = net.tcp_pair(buffer=16384)
    port.associate(near)
    file = files.make(BIG, "r+b")
    port.sendfile(near, file, head=b"h", tail=b"t")
    assert receive_exactly(far, 1000) == b"h" + BIG[:999]
    nothing_more(port)
    kept = len(BIG) - 4096
    try:
        file.truncate(kept)
    except OSError:  # Windows: not while it is being sent
        kept = len(BIG)
    reading = run(read_to_end, far)
    completion = take(port)
    port.close_handle(near)
    data = reading.result()
    if target.emulated:
        assert completion.result() == kept + 1
    if not completion.error:
        assert completion.transferred == 1000 + len(data)
    assert (BIG + b"t").startswith(data[: kept - 999], 999)


def test_a_file_of_netpoll_s_will_do(port: CompletionPort, net: Loopback, files: Files) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    with open_file(files.make().name) as file:
        port.sendfile(near, file, offset=4)
        assert take(port).result() == 6
    with pytest.raises(ValueError, match="closed"):
        port.sendfile(near, file)
    assert receive_exactly(far, 6) == b"456789"


def test_an_object_that_only_has_a_descriptor_will_do(
    port: CompletionPort, net: Loopback, files: Files
) -> None:
    file = files.make()

    class Thing:
        def fileno(self) -> int:
            return int(file.fileno())

    near, far = net.tcp_pair()
    port.associate(near)
    port.sendfile(near, Thing(), offset=4)
    assert take(port).result() == 6
    assert receive_exactly(far, 6) == b"456789"


@pytest.mark.statement("OVL-07")
def test_head_and_tail_belong_to_the_operation_until_it_is_released(
    port: CompletionPort, net: Loopback, files: Files
) -> None:
    near, far = net.tcp_pair()
    port.associate(near)
    head, tail = bytearray(b"head"), bytearray(b"tail")
    operation = port.sendfile(near, files.make(), head=head, tail=tail)
    for each in (head, tail):
        with pytest.raises(BufferError):
            each.clear()
    take(port)
    operation.release()
    head.clear()
    tail.clear()
    assert receive_exactly(far, 18) == b"head" + SMALL + b"tail"
