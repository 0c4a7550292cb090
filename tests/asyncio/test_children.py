"""Child processes."""

from __future__ import annotations

import asyncio
import errno
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from netpoll.testing.waiting import DEADLINE

if TYPE_CHECKING:
    from loops import Loops


def test_a_child_that_cannot_be_waited_for_does_not_go_on(
    loops: Loops, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where descriptors have run out, the one for the wait may be the first that there is none for:
    whoever asked for the child is told that it could not be made, so there must be none."""
    loops.require("wait")
    children: list[subprocess.Popen[bytes]] = []

    def refuse(child: subprocess.Popen[bytes], **_: Any) -> None:
        children.append(child)
        raise OSError(errno.EMFILE, "too many open files")

    async def main() -> None:
        monkeypatch.setattr(loops.running().port, "wait", refuse)
        endless = "import threading; threading.Event().wait()"
        with pytest.raises(OSError, match="too many"):
            await asyncio.create_subprocess_exec(sys.executable, "-c", endless)

    loops.run(main())
    assert children[0].wait(DEADLINE) != 0


def test_writes_to_a_child_that_has_ended(loops: Loops) -> None:
    """Nobody can know when a child ends: to write is no mistake, and drain() tells."""
    loops.require("wait")

    async def main() -> None:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "pass", stdin=subprocess.PIPE
        )
        assert child.stdin is not None
        assert await child.wait() == 0
        for _ in range(6):
            child.stdin.write(b"anybody there?")
            await asyncio.sleep(0)
        with pytest.raises(ConnectionError):
            await child.stdin.drain()
        child.stdin.write(b"now it is known")
        child.stdin.close()

    loops.run(main())
