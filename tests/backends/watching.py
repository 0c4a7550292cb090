"""Watching a port that has nothing to do, and what may be left for it to see meanwhile."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from netpoll.testing.drain import take
from netpoll.testing.pairs import reset

if TYPE_CHECKING:
    from netpoll import CompletionPort
    from netpoll.testing.pairs import Loopback

WATCHED: Final = 0.3
"""Seconds for which a port that has nothing to do is watched."""
FEW: Final = 15
"""Polls in that time: the first looks for closed handles come every 0.05 s. Spinning makes
thousands."""


def check_quiet(port: CompletionPort) -> None:
    """Prove that the port sleeps while nothing happens."""
    before = port.stats()["polls"]
    assert port.get(timeout=WATCHED) is None
    polls = port.stats()["polls"] - before
    assert polls <= FEW, f"{polls} polls in {WATCHED} s"


def check_alive(port: CompletionPort, net: Loopback) -> None:
    """Prove that the port goes on with other sockets."""
    near, far = net.tcp_pair()
    port.associate(near, "alive")
    port.recv(near, 100)
    far.sendall(b"alive")
    assert take(port).result() == b"alive"


def pair(port: CompletionPort, net: Loopback) -> tuple[socket.socket, socket.socket]:
    near, far = net.tcp_pair()
    port.associate(near, "pair")
    return near, far


def leave_data(near: socket.socket, far: socket.socket) -> None:
    far.sendall(b"nobody waits for this")


def leave_the_end(near: socket.socket, far: socket.socket) -> None:
    far.shutdown(socket.SHUT_WR)


def leave_both_ends(near: socket.socket, far: socket.socket) -> None:
    near.shutdown(socket.SHUT_WR)
    far.close()


def leave_a_reset(near: socket.socket, far: socket.socket) -> None:
    reset(far)


STATES = [leave_data, leave_the_end, leave_both_ends, leave_a_reset]
