"""Pain K: what is sent of a file, and where the file stands then."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, BinaryIO

import pytest

from netpoll.testing.pairs import receive_exactly, reset
from netpoll.testing.waiting import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from loops import Loops

    from netpoll.testing.pairs import Loopback

DATA = bytes(range(256)) * 4096


@pytest.fixture
def file(tmp_path: Path) -> Iterator[BinaryIO]:
    """One megabyte in which each byte tells its place, a little."""
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with path.open("rb") as opened:
        yield opened


PARTS = [(0, None), (1000, None), (1000, 5000), (0, 1), (len(DATA) - 3, 100)]


@pytest.mark.parametrize(("offset", "count"), PARTS)
@pytest.mark.parametrize("by", ["sock_sendfile", "sendfile"])
def test_cpython_150107_a_part_of_a_file(
    loops: Loops, net: Loopback, file: BinaryIO, by: str, offset: int, count: int | None
) -> None:
    """The offset was ignored, the position wrong. Also cpython#112337, #88672, #102898."""
    expected = DATA[offset:] if count is None else DATA[offset : offset + count]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, far = net.tcp_pair()
        near.setblocking(False)
        reader = run(receive_exactly, far, len(expected))
        if by == "sock_sendfile":
            sent = await loop.sock_sendfile(near, file, offset, count, fallback=False)
        else:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=near)
            sent = await loop.sendfile(transport, file, offset, count, fallback=False)
            transport.close()
        assert sent == len(expected)
        assert file.tell() == offset + len(expected)
        assert reader.result() == expected

    loops.run(main())


def test_cpython_150107_a_peer_that_goes_in_the_middle(
    loops: Loops, net: Loopback, tmp_path: Path
) -> None:
    """The position tells how much went out."""
    path = tmp_path / "large"
    with path.open("wb") as large:
        large.truncate(64 << 20)

    async def main(file: BinaryIO) -> None:
        loop = asyncio.get_running_loop()
        near, far = net.tcp_pair(buffer=4096)
        near.setblocking(False)
        sending = asyncio.create_task(loop.sock_sendfile(near, file, fallback=False))
        await asyncio.sleep(0)
        receive_exactly(far, 1000)
        reset(far)
        with pytest.raises(ConnectionError):
            await sending
        assert file.tell() < 64 << 20

    with path.open("rb") as file:
        loops.run(main(file))
