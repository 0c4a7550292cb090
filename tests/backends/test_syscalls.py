"""How many system calls a message costs on the selectors backend, counted by strace.

An echo needs a receive and a send; everything else, the wait above all, must be shared by the
messages of a turn. The test counts calls and measures no time, so a slow machine does not fail it.
"""

from __future__ import annotations

import collections
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONNECTIONS = 100
ROUNDS = 20
MESSAGE = b"m" * 64
MOST_CALLS = 2.3
"""System calls per message, at most."""

# The server comes from the tree, but netpoll from wherever this interpreter has it: `append`.
SERVER = f"""
import runpy, sys
sys.path.append({str(ROOT)!r})
sys.argv[1:] = ["selectors"]
runpy.run_module("benchmarks.servers.netpoll_echo", run_name="__main__")
"""
CALL = re.compile(r"^\d+ +(?P<time>\d+\.\d+) (?P<name>\w+)\(", re.MULTILINE)


def strace_obstacle() -> str | None:
    """Why system calls cannot be counted here, or None."""
    if shutil.which("strace") is None:
        return "strace is not installed (Debian: apt-get install strace)"
    probe = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, text=True)
    if probe.returncode != 0:
        return f"strace may not trace here: {probe.stderr.strip()}"
    return None


def exchange(connections: list[socket.socket]) -> None:
    """One message there and back on every connection, all under way together."""
    for connection in connections:
        connection.sendall(MESSAGE)
    for connection in connections:
        assert connection.recv(len(MESSAGE), socket.MSG_WAITALL) == MESSAGE


def calls_between(log: str, begin: float, end: float) -> collections.Counter[str]:
    """The system calls of an strace log, by name, that were made between two times."""
    return collections.Counter(
        match["name"] for match in CALL.finditer(log) if begin <= float(match["time"]) <= end
    )


@pytest.mark.skipif(sys.platform != "linux", reason="strace is a Linux program")
@pytest.mark.real_programs
def test_a_message_costs_little_more_than_its_receive_and_its_send(tmp_path: Path) -> None:
    obstacle = strace_obstacle()
    if obstacle is not None:
        pytest.skip(obstacle)
    log = tmp_path / "strace.log"
    command = ["strace", "-f", "-I2", "-ttt", "-o", str(log), sys.executable, "-c", SERVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        connections: list[socket.socket] = []
        try:
            assert server.stdout is not None
            address = ("127.0.0.1", json.loads(server.stdout.readline())["port"])
            for _ in range(CONNECTIONS):
                connections.append(socket.create_connection(address, timeout=30))
                connections[-1].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            exchange(connections)  # what is done once for each connection is not of interest
            begin = time.time()
            for _ in range(ROUNDS):
                exchange(connections)
            end = time.time()
        finally:
            server.terminate()  # strace takes the server with it
            for connection in connections:
                connection.close()
    calls = calls_between(log.read_text(), begin, end)
    messages = CONNECTIONS * ROUNDS
    assert calls["recvfrom"] >= messages, f"this is not the echo server's log: {calls}"
    assert calls.total() / messages <= MOST_CALLS, f"{messages} messages: {calls.most_common()}"
