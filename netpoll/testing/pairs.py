"""Sockets over loopback, made the way a program makes them and closed when the test ends.

No real network is ever used. The sockets are ordinary blocking ones with a time limit: the end that
a test gives to a port is switched to whatever the backend needs, the other end plays the peer that
knows nothing of netpoll.
"""

from __future__ import annotations

import select
import socket
import struct
import sys
from contextlib import closing
from typing import Final

from netpoll.testing.waiting import DEADLINE

LOOPBACK: Final = {
    socket.AddressFamily.AF_INET: "127.0.0.1",
    socket.AddressFamily.AF_INET6: "::1",
}
# BSD and Linux have two ints there, Winsock two shorts
_LINGER: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


class Loopback:
    """Makes loopback sockets and closes all of them with `close()`."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def track(self, sock: socket.socket) -> socket.socket:
        """Have `sock` closed at the end as well; returns it."""
        self._sockets.append(sock)
        return sock

    def new_socket(
        self,
        family: socket.AddressFamily = socket.AF_INET,
        kind: socket.SocketKind = socket.SOCK_STREAM,
    ) -> socket.socket:
        """A socket that is neither bound nor connected."""
        sock = self.track(socket.socket(family, kind))
        sock.settimeout(DEADLINE)
        return sock

    def bound(
        self,
        family: socket.AddressFamily = socket.AF_INET,
        kind: socket.SocketKind = socket.SOCK_STREAM,
    ) -> socket.socket:
        """A socket bound to a free loopback port."""
        sock = self.new_socket(family, kind)
        sock.bind((LOOPBACK[family], 0))
        return sock

    def listener(
        self, family: socket.AddressFamily = socket.AF_INET, backlog: int = 128
    ) -> socket.socket:
        """A listening TCP socket."""
        sock = self.bound(family)
        sock.listen(backlog)
        return sock

    def tcp_pair(
        self, family: socket.AddressFamily = socket.AF_INET, *, buffer: int | None = None
    ) -> tuple[socket.socket, socket.socket]:
        """Two connected TCP sockets.

        :param buffer: bytes to ask for as the send and receive buffers of both; small ones make a
            send pend early (the system rounds them up)
        """
        with closing(socket.socket(family)) as listener:
            if buffer is not None:
                # before listen() and connect(): the window is negotiated in the handshake
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            listener.bind((LOOPBACK[family], 0))
            listener.listen(1)
            listener.settimeout(DEADLINE)
            near = self.new_socket(family)
            if buffer is not None:
                near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            near.connect(listener.getsockname())
            far = self.track(listener.accept()[0])
        far.settimeout(DEADLINE)
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if buffer is not None:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        return near, far

    def udp_pair(
        self, family: socket.AddressFamily = socket.AF_INET
    ) -> tuple[socket.socket, socket.socket]:
        """Two UDP sockets connected to each other."""
        near = self.bound(family, socket.SOCK_DGRAM)
        far = self.bound(family, socket.SOCK_DGRAM)
        near.connect(far.getsockname())
        far.connect(near.getsockname())
        return near, far

    def close(self) -> None:
        """Close every socket made here."""
        while self._sockets:
            self._sockets.pop().close()


def reset(sock: socket.socket) -> None:
    """Close a TCP socket abortively: the peer sees a reset, not an end of stream."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
    sock.close()


def wait_readable(*socks: socket.socket) -> None:
    """Return when every one of `socks` has something to read (data, an end, an error or a client).

    :raises AssertionError: one has nothing within the deadline
    """
    for sock in socks:
        if not select.select([sock], [], [], DEADLINE)[0]:
            raise AssertionError(f"{sock} has nothing to read after {DEADLINE:g} s")


def fill(sock: socket.socket) -> int:
    """Send zeros until nothing more fits, to a peer that must not read; the bytes sent.

    The socket is left as blocking, or not, as it was.
    """
    timeout = sock.gettimeout()
    sock.setblocking(False)
    sent = 0
    chunk = bytes(65536)
    try:
        # what looks full has room again once the system has moved a little to the peer's side
        while select.select([], [sock], [], 0.05)[1]:
            try:
                sent += sock.send(chunk)
            except BlockingIOError:
                continue
    finally:
        sock.settimeout(timeout)
    return sent


def receive_exactly(sock: socket.socket, count: int) -> bytes:
    """Read `count` bytes from a blocking socket.

    :raises AssertionError: the stream ends before
    """
    data = bytearray()
    while len(data) < count:
        part = sock.recv(min(count - len(data), 1 << 20))
        if not part:
            raise AssertionError(f"the stream ended after {len(data)} bytes of {count}")
        data += part
    return bytes(data)


def has_ipv6() -> bool:
    """Whether this machine has an IPv6 loopback."""
    try:
        with closing(socket.socket(socket.AF_INET6)) as sock:
            sock.bind((LOOPBACK[socket.AF_INET6], 0))
    except OSError:
        return False
    return True
