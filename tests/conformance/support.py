"""What several conformance files share beyond `netpoll.testing`."""

from __future__ import annotations

import select
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import pytest

from netpoll.testing.drain import nothing_more, take

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll import CompletionPort, Overlapped
    from netpoll.testing.pairs import Loopback

NOT_CONNECTED = frozenset({59, 10057})
"""There is no connection (RECV-08)."""

SHUT_DOWN = frozenset({233, 10058})
"""This side shut that direction down (RECV-09, SEND-06)."""

TIMED_OUT = frozenset({121, 10060})
"""The time given to the operation is over (CON-06)."""

INVALID = frozenset({87, 10022})
"""The call makes no sense in the handle's state."""

NO_SOCKET = frozenset({6, 10038})
"""The handle is closed, or no socket (XFER-08)."""


@dataclass(frozen=True)
class Ended:
    """How an operation ended, inside its start or later: both are legal (section 10, rule 1)."""

    number: int
    """Win32 number of a packet, Winsock number of a start that failed; 0 is success."""
    transferred: int
    error: OSError | None
    inline: bool
    """Whether the start itself failed."""


def attempt(port: CompletionPort, start: Callable[[], Overlapped[Any]]) -> Ended:
    """Start one operation on an idle port and see it through; proves that it ended exactly once."""
    try:
        operation = start()
    except OSError as error:
        nothing_more(port)  # XFER-03
        return Ended(winerror(error), 0, error, inline=True)
    completion = take(port)
    assert completion.overlapped is operation
    return Ended(completion.error, completion.transferred, completion.exception(), inline=False)


def winerror(error: OSError) -> int:
    """`error.winerror`, which type checkers know on Windows only."""
    return cast("int", vars(error)["winerror"])


def read_to_end(sock: socket.socket) -> bytes:
    """Everything that a blocking socket's peer sends before it ends its stream."""
    parts: list[bytes] = []
    while part := sock.recv(1 << 20):
        parts.append(part)
    return b"".join(parts)


def pattern(size: int) -> bytes:
    """`size` bytes in which each piece tells its place: lost or reordered ones show."""
    return b"".join(number.to_bytes(4, "big") for number in range(-(-size // 4)))[:size]


def silent_address(net: Loopback) -> Any:
    """An address that neither takes a connection nor refuses it: a listener whose backlog is full.

    Ends the test as skipped where the system answers such a client with a refusal.
    """
    listener = net.listener(backlog=0)
    address = listener.getsockname()
    for _ in range(16):
        client = net.socket()
        client.setblocking(False)
        client.connect_ex(address)
        # 0.3 s: a loopback handshake takes microseconds, a repeated SYN a second
        if not select.select([], [client], [client], 0.3)[1]:
            return address
        if client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            break
    pytest.skip("this system does not leave a client of a full backlog waiting")
