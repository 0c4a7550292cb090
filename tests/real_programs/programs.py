"""Programs that are not ours, and what the tests need of them."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from cli.running import Running

from netpoll.testing.waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from pathlib import Path

PACKAGES = {
    "curl": "curl",
    "nc": "netcat-openbsd",
    "redis-server": "redis-server",
    "socat": "socat",
    "wrk": "wrk",
}
"""Programs, and the Debian packages that bring them."""


def require(program: str) -> pytest.MarkDecorator:
    """Skip the test where the machine lacks `program`, and say what to install."""
    return pytest.mark.skipif(
        shutil.which(program) is None,
        reason=f"{program} is not installed: apt-get install {PACKAGES[program]}",
    )


def run(*command: str, data: bytes = b"", timeout: float = DEADLINE) -> bytes:
    """What `command` prints, given `data`.

    :raises AssertionError: it failed
    """
    done = subprocess.run(command, input=data, capture_output=True, timeout=timeout, check=False)
    assert done.returncode == 0, (command, done.returncode, done.stderr)
    return done.stdout


def url(address: tuple[str, int], path: str) -> str:
    """Where a program finds `path`."""
    return f"http://{address[0]}:{address[1]}/{path}"


@contextlib.contextmanager
def file_server(folder: Path) -> Generator[tuple[str, int]]:
    """`python -m http.server`, with connections that are kept open; its address."""
    arguments = ["-m", "http.server", "--bind", "127.0.0.1", "--protocol", "HTTP/1.1", "0"]
    with Running("-u", *arguments, directory=folder) as server:
        server.wait_for_output("\n")
        match = re.search(r"port (\d+)", server.out)
        assert match is not None, server.out
        yield "127.0.0.1", int(match[1])


def make_file(path: Path, size: int) -> str:
    """Fill a file with `size` bytes in which each piece tells its place; their SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for number in range(size >> 20):
            piece = number.to_bytes(4, "big") * (1 << 18)
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def digest_of(command: Iterable[str], timeout: float) -> str:
    """The SHA-256 of what `command` prints, which may be more than fits into memory."""
    digest = hashlib.sha256()
    with subprocess.Popen(list(command), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            while piece := process.stdout.read(1 << 20):
                digest.update(piece)
            assert process.wait(timeout) == 0
        finally:
            process.kill()
    return digest.hexdigest()
