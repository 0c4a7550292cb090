"""What every server here does the same way: listen, say where, and not outlive the benchmark."""

import ctypes
import json
import os
import signal
import socket
import sys

from benchmarks.servers.computing import Computing

BACKLOG = 4096
BUFFER_SIZE = 65536
"""Bytes offered to a receive, by the servers that choose their buffers themselves."""

WRITE = 65536
"""Bytes of one write, and..."""
BLOCK = 1024 * 1024
"""... bytes that answer one byte, or that one byte answers, where a server streams."""
COMPUTE = "NETPOLL_BENCHMARK_COMPUTE"
"""The environment variable that asks for a computing thread besides."""
FILE = "NETPOLL_BENCHMARK_FILE"
"""The environment variable that names the file to send."""

HELLO = b"Hello, world!"
"""What answers an HTTP request."""

PR_SET_PDEATHSIG = 1


def listen() -> socket.socket:
    """Return a listening loopback socket, already announced on standard output."""
    die_with_parent()
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    # Accepted sockets inherit it (asyncio and uvloop set it by themselves; so all servers have it).
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setblocking(False)
    if os.environ.get(COMPUTE):
        Computing().start()
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    return listener


def bind() -> socket.socket:
    """Return a bound loopback UDP socket, already announced on standard output."""
    die_with_parent()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    print(json.dumps({"port": sock.getsockname()[1]}), flush=True)
    return sock


def die_with_parent() -> None:
    """A benchmark that is killed outright must not leave servers behind (Linux: prctl(2))."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
