"""nc and socat: raw streams, and their ends."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from cli.peers import listener, read_all
from cli.running import serve
from real_programs.programs import require, run

from netpoll.testing.waiting import DEADLINE, wait_until
from netpoll.testing.waiting import run as start

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

DATA = bytes(range(256)) * 40_000
"""10 MB: more than all the buffers on the way hold, so that both directions must move."""


Client = Callable[[tuple[str, int]], list[str]]
"""Makes the command line of a program that sends its input and prints what comes."""


def nc(address: tuple[str, int]) -> list[str]:
    """netcat, which ends its stream when its input does (-N), and stays for the answer."""
    return ["nc", "-N", *map(str, address)]


def socat(address: tuple[str, int]) -> list[str]:
    """socat, which does so too; -t says how long it waits for the other direction after that."""
    return ["socat", "-t", "60", "-", f"TCP:{address[0]}:{address[1]}"]


CLIENTS = [pytest.param(nc, marks=require("nc")), pytest.param(socat, marks=require("socat"))]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("threads", ["1", "4"])
def test_echo(client: Client, threads: str) -> None:
    with serve("echo", "--threads", threads) as server:
        assert run(*client(server.address), data=DATA) == DATA
        assert server.stop().code == 0


@pytest.mark.parametrize("client", CLIENTS)
def test_discard(client: Client) -> None:
    with serve("discard") as server:
        assert run(*client(server.address), data=DATA) == b""
        result = server.stop()
    assert re.search(rf"received +{len(DATA):,} bytes", result.out)


@pytest.mark.parametrize("client", CLIENTS)
def test_the_answer_comes_after_the_end_of_the_question(client: Client) -> None:
    """Half-close: the other server answers only when it has seen the end of what the client
    says.
    """
    with listener() as upstream:
        to = f"127.0.0.1:{upstream.getsockname()[1]}"
        with serve("forward", "--to", to) as relay:
            command = client(relay.address)
            with subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            ) as process:
                assert process.stdin is not None
                far, _ = upstream.accept()
                with far:
                    far.settimeout(DEADLINE)
                    process.stdin.write(b"what is the answer?\n")
                    process.stdin.close()
                    assert read_all(far) == b"what is the answer?\n"
                    assert process.stdout is not None
                    answer = start(process.stdout.read)
                    far.sendall(DATA)
                assert answer.result() == DATA
                assert process.wait(DEADLINE) == 0
            result = relay.stop()
    assert result.code == 0
    assert re.search(r"ended +1$", result.out, re.MULTILINE), result.out


@contextlib.contextmanager
def socat_server(*action: str) -> Generator[str]:
    """socat, listening on a free port and doing `action` for each client; its HOST:PORT."""
    listening = "TCP-LISTEN:0,bind=127.0.0.1,reuseaddr,fork"
    command = ["socat", "-d", "-d", *action[:-1], listening, action[-1]]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                match = re.search(r"listening on .*:(\d+)", line)
                if match is not None:
                    yield f"127.0.0.1:{match[1]}"
                    break
        finally:
            process.terminate()


@pytest.mark.parametrize("client", CLIENTS)
@require("socat")
def test_programs_on_both_sides(client: Client) -> None:
    """Neither end of the relay is ours: `cat` behind socat, which must see the end of the input."""
    with socat_server("EXEC:cat") as to, serve("forward", "--to", to) as relay:
        assert run(*client(relay.address), data=DATA) == DATA
        assert relay.stop().code == 0


@require("socat")
def test_a_file_written_by_socat(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    with socat_server("-u", f"CREATE:{copy}") as to, serve("forward", "--to", to) as relay:
        command = ["socat", "-u", "-", "TCP:{}:{}".format(*relay.address)]
        run(*command, data=DATA)
        wait_until(lambda: copy.exists() and copy.stat().st_size == len(DATA), "the whole file")
        assert copy.read_bytes() == DATA
        assert relay.stop().code == 0
