"""A transfer of a file takes turns, and does without `os.sendfile` where it has to."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import pytest

from netpoll.backends import files
from netpoll.backends.files import FileTransfer
from netpoll.testing.attempts import pattern
from netpoll.testing.pairs import receive_exactly

if TYPE_CHECKING:
    from pathlib import Path

    from netpoll.testing.pairs import Loopback

pytestmark = pytest.mark.skipif(not hasattr(os, "sendfile"), reason="this system has no sendfile()")


def transfer_of(path: Path, **arguments: Any) -> FileTransfer:
    with path.open("rb") as file:
        transfer = FileTransfer(
            file,
            arguments.get("offset", 0),
            arguments.get("count"),
            memoryview(arguments.get("head", b"")),
            memoryview(arguments.get("tail", b"")),
        )
        transfer.open()
    return transfer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(pattern(100_000))
    return path


def test_a_long_file_leaves_the_others_their_turn(
    path: Path, net: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer that reads as fast as we send must not have the port to itself."""
    near, far = net.tcp_pair()
    monkeypatch.setattr(files, "TURN", 30_000)
    transfer = transfer_of(path, tail=b"tail")
    received = bytearray()
    turns = 1
    while not transfer.send_on(near):
        received += receive_exactly(far, 30_000)
        turns += 1
    assert turns == 4
    assert received + receive_exactly(far, 10_004) == path.read_bytes() + b"tail"
    transfer.close()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS])
def test_where_the_system_does_not_send_from_a_file_it_is_read(
    path: Path, net: Loopback, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, "not from here")

    monkeypatch.setattr(os, "sendfile", refuse)
    monkeypatch.setattr(files, "COPIED", 999)
    near, far = net.tcp_pair()
    transfer = transfer_of(path, offset=7, count=20_000, head=b"h", tail=b"t")
    assert transfer.send_on(near)
    assert transfer.moved == 20_002
    assert receive_exactly(far, 20_002) == b"h" + path.read_bytes()[7:20_007] + b"t"
    transfer.close()


def test_an_error_of_the_file_is_told(
    path: Path, net: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "the disk")

    monkeypatch.setattr(os, "sendfile", broken)
    near, _ = net.tcp_pair()
    transfer = transfer_of(path)
    with pytest.raises(OSError, match="the disk"):
        transfer.send_on(near)
    transfer.close()


def test_one_that_is_dropped_closes_its_file(path: Path) -> None:
    transfer = transfer_of(path)
    fd = transfer.fd
    assert os.fstat(fd).st_size == 100_000
    del transfer
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
