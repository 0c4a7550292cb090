"""Child processes."""

from __future__ import annotations

import asyncio
import errno
import socket
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


ENDLESS = "import threading; threading.Event().wait()"


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
def test_a_child_whose_pipe_cannot_be_connected_is_no_child(
    loops: Loops, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whoever asked for it is told so, not left to wait for the end of a pipe that never was one;
    and none of its pipes stays open."""
    loops.require("wait")
    raw: list[Any] = []

    async def main() -> None:
        loop = loops.running()
        connect: dict[str, Any] = {
            each: getattr(loop, each) for each in ("connect_read_pipe", "connect_write_pipe")
        }

        def refuse(method: str) -> Any:
            async def connecting(factory: Any, pipe: Any) -> Any:
                raw.append(pipe)
                if len(raw) > ("stdin", "stdout", "stderr").index(name):
                    raise OSError(errno.EMFILE, "too many open files")
                return await connect[method](factory, pipe)

            return connecting

        for each in connect:
            monkeypatch.setattr(loop, each, refuse(each))
        creating = asyncio.create_subprocess_exec(
            sys.executable, "-c", ENDLESS, stdin=-1, stdout=-1, stderr=-1
        )
        with pytest.raises(OSError, match="too many"):
            await asyncio.wait_for(creating, DEADLINE)

    loops.run(main())
    assert len(raw) == ("stdin", "stdout", "stderr").index(name) + 1


def test_a_creation_that_is_cancelled_closes_pipes_that_another_process_has_too(
    loops: Loops, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child is killed, but its own child has inherited its output and lives on: what is waited
    for is the child. cpython#119710; CPython's own `test_cancel_post_init`."""
    loops.require("wait")
    lost: list[Exception | None] = []
    heir = (
        "import socket, sys; peer = socket.create_connection(('127.0.0.1', int(sys.argv[1])));"
        " peer.recv(1)"
    )
    program = (
        "import subprocess, sys;"
        f" subprocess.Popen([sys.executable, '-c', {heir!r}, sys.argv[1]]).wait()"
    )

    class Protocol(asyncio.SubprocessProtocol):
        def connection_lost(self, exc: Exception | None) -> None:
            lost.append(exc)
            gone.set()

    async def main() -> None:
        loop = loops.running()
        connect = loop.connect_write_pipe

        async def connect_later(factory: Any, pipe: Any) -> Any:
            await go.wait()
            return await connect(factory, pipe)

        monkeypatch.setattr(loop, "connect_write_pipe", connect_later)
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.setblocking(False)
            port = str(server.getsockname()[1])
            task = loop.create_task(
                loop.subprocess_exec(Protocol, sys.executable, "-c", program, port)
            )
            peer, _ = await asyncio.wait_for(loop.sock_accept(server), DEADLINE)
            with peer:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asyncio.wait_for(task, DEADLINE)
                go.set()
                await asyncio.wait_for(gone.wait(), DEADLINE)

    go, gone = asyncio.Event(), asyncio.Event()
    loops.run(main())
    assert lost == [None]
