"""The other end of a connection: ordinary blocking sockets, which know nothing of netpoll."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from typing import TYPE_CHECKING

from netpoll.testing.waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Generator

# BSD and Linux have two ints there, Winsock two shorts
_ABORT = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


def connect(address: tuple[str, int]) -> socket.socket:
    """A client of whatever listens there."""
    return socket.create_connection(address, timeout=DEADLINE)


@contextlib.contextmanager
def listener() -> Generator[socket.socket]:
    """A server, for `netpoll serve forward` to connect to."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.settimeout(DEADLINE)
        yield sock


def read_all(sock: socket.socket) -> bytes:
    """Everything until the end of the stream."""
    parts: list[bytes] = []
    while part := sock.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def read_until(sock: socket.socket, end: bytes) -> bytes:
    """Everything up to and including `end`, which must be the last that is sent for now."""
    received = b""
    while not received.endswith(end):
        part = sock.recv(1 << 16)
        assert part, f"the stream ended after {received!r}"
        received += part
    return received


def reset(sock: socket.socket) -> None:
    """Close it so that the peer sees a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    sock.close()
