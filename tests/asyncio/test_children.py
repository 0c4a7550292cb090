"""Child processes."""

from __future__ import annotations

import asyncio
import errno
import sys
from typing import TYPE_CHECKING, Any

import pytest

from netpoll.testing.waiting import DEADLINE

if TYPE_CHECKING:
    import subprocess

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
