"""curl through `netpoll serve forward`, from a file server and to a server that takes uploads."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from cli.running import Running, serve
from real_programs.programs import digest_of, file_server, make_file, require, run, url

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

pytestmark = require("curl")

FULL = bool(os.environ.get("NETPOLL_FULL"))
SIZE = (1 << 30) if FULL else (64 << 20)
"""Of the big file: 1 GiB with NETPOLL_FULL=1."""
SMALL = 300_000


@pytest.fixture(params=["1", "4"], ids=["one-thread", "four-threads"])
def threads(request: pytest.FixtureRequest) -> str:
    """How many threads the relay has."""
    return str(request.param)


@pytest.fixture
def relay(tmp_path: Path, threads: str) -> Generator[Running]:
    """`forward` in front of a file server that serves `tmp_path`."""
    with file_server(tmp_path) as (host, port):
        with serve("forward", "--to", f"{host}:{port}", "--threads", threads) as server:
            yield server
            result = server.stop()
        assert result.code == 0
        assert "Traceback" not in result.err
        assert "Warning" not in result.err


def test_a_big_file_bit_for_bit(relay: Running, tmp_path: Path) -> None:
    room = shutil.disk_usage(tmp_path).free
    if room < 2 * SIZE:
        pytest.skip(f"{tmp_path} has {room >> 20} MiB left, and the file needs {SIZE >> 20}")
    expected = make_file(tmp_path / "big", SIZE)
    got = digest_of(["curl", "-sSf", url(relay.address, "big")], timeout=100)
    (tmp_path / "big").unlink()
    assert got == expected


def test_200_at_once(relay: Running, tmp_path: Path) -> None:
    make_file(tmp_path / "small", 1 << 20)
    expected = hashlib.sha256((tmp_path / "small").read_bytes()).hexdigest()
    command = ["curl", "-sSf", "--connect-timeout", "60", url(relay.address, "small")]
    digests: list[str] = []
    failed: list[int] = []

    def fetch() -> None:
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=100, check=False)
        if done.returncode:
            failed.append(done.returncode)
        digests.append(hashlib.sha256(done.stdout).hexdigest())

    clients = [threading.Thread(target=fetch, daemon=True) for _ in range(200)]
    for client in clients:
        client.start()
    for client in clients:
        client.join(100)
    assert failed == []
    assert digests == [expected] * 200


class _Uploads(BaseHTTPRequestHandler):
    """Answers an upload with its SHA-256, and a download of NUMBER with as many mebibytes."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        digest = hashlib.sha256()
        left = int(self.headers["Content-Length"])
        while left:
            piece = self.rfile.read(min(left, 1 << 16))
            assert piece
            digest.update(piece)
            left -= len(piece)
        self._answer(digest.hexdigest().encode())

    def do_GET(self) -> None:
        self._answer(bytes(range(256)) * 4096 * int(self.path[1:]))

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def test_uploads_and_downloads_together(tmp_path: Path, threads: str) -> None:
    upload = tmp_path / "upload"
    expected_up = make_file(upload, 16 << 20)
    expected_down = hashlib.sha256(bytes(range(256)) * 4096 * 16).hexdigest()
    with _Server(("127.0.0.1", 0), _Uploads) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        to = f"127.0.0.1:{server.server_address[1]}"
        with serve("forward", "--to", to, "--threads", threads) as relay:
            up = ["curl", "-sSf", "-T", str(upload), url(relay.address, "up")]
            down = ["curl", "-sSf", url(relay.address, "16")]
            got: dict[str, list[str]] = {"up": [], "down": []}

            def put() -> None:
                got["up"].append(run(*up, timeout=100).decode())

            def fetch() -> None:
                got["down"].append(digest_of(down, timeout=100))

            clients = [
                threading.Thread(target=target, daemon=True)
                for _ in range(8)
                for target in (put, fetch)
            ]
            for client in clients:
                client.start()
            for client in clients:
                client.join(100)
            result = relay.stop()
        server.shutdown()
    assert got == {"up": [expected_up] * 8, "down": [expected_down] * 8}
    assert result.code == 0
    assert "Traceback" not in result.err
