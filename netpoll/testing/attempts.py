"""One operation seen through to its end, whether that comes inside its start or later."""

from __future__ import annotations

import re
import select
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from netpoll.testing.drain import nothing_more, take
from netpoll.testing.pairs import fill

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll import CompletionPort, Overlapped
    from netpoll.testing.pairs import Loopback

# Each set holds the Win32 number of a completion and the Winsock number of a start that fails.
NOT_CONNECTED: Final = frozenset({59, 10057})
"""There is no connection (RECV-08)."""

SHUT_DOWN: Final = frozenset({233, 10058})
"""This side shut that direction down (RECV-09, SEND-06)."""

TIMED_OUT: Final = frozenset({121, 10060})
"""The time given to the operation is over (CON-06)."""

INVALID: Final = frozenset({87, 10022})
"""The call makes no sense in the handle's state (CON-01)."""

NO_SOCKET: Final = frozenset({6, 10038})
"""The handle is closed, or no socket (XFER-08)."""


COUNTED: Final = ("started", "taken", "inflight", "posted", "queued")
"""What a port counts of operations and packets."""


@dataclass(frozen=True)
class Ended:
    """How an operation ended; inside its start and later are both legal (section 10, rule 1)."""

    number: int
    """Win32 number of the packet, Winsock number of a start that failed; 0 is success."""
    transferred: int
    error: OSError | None
    inline: bool
    """Whether the start itself failed."""
    value: Any = None
    """The operation's result, if it succeeded."""


def attempt(port: CompletionPort, start: Callable[[], Overlapped[Any]]) -> Ended:
    """Start one operation on a port with nothing due, and see it through.

    :raises AssertionError: it did not end exactly once
    """
    try:
        operation = start()
    except OSError as error:
        nothing_more(port)  # XFER-03
        return Ended(winerror(error), 0, error, inline=True)
    completion = take(port)
    if completion.overlapped is not operation:
        raise AssertionError(f"started {operation!r}, but {completion!r} came")
    failure = completion.exception()
    value = None if failure else completion.result()
    return Ended(completion.error, completion.transferred, failure, inline=False, value=value)


def refuses(
    port: CompletionPort,
    kind: type[Exception],
    words: str,
    call: Callable[..., object],
    *arguments: Any,
    **options: Any,
) -> None:
    """The call raises that, with words that match, and nothing else happens.

    :raises AssertionError: it does not, or something else has happened
    """
    stats = port.stats()
    try:
        call(*arguments, **options)
    except kind as error:
        if not re.search(words, str(error)):
            raise AssertionError(f"{error!r} says nothing of {words!r}") from error
    else:
        raise AssertionError(f"no {kind.__name__}: it was started")
    if port.inflight():
        raise AssertionError(f"refused, but pending: {port.inflight()}")
    after = port.stats()
    changed = {name: after[name] - stats[name] for name in COUNTED if after[name] != stats[name]}
    if changed:
        raise AssertionError(f"refused, but counted: {changed}")
    nothing_more(port)


def winerror(error: OSError) -> int:
    """`error.winerror`, which type checkers know on Windows only."""
    return cast("int", vars(error)["winerror"])


def clog(sock: socket.socket) -> int:
    """As `fill`, but until not one byte more fits; the bytes sent.

    A socket counts as writable only while a good part of its buffer is free, so after `fill` a
    small send may still succeed.
    """
    sent = fill(sock)
    timeout = sock.gettimeout()
    sock.setblocking(False)
    refusals = 0
    try:
        while refusals < 3:
            try:
                sent += sock.send(bytes(65536))
                refusals = 0
            except BlockingIOError:
                refusals += 1
                select.select([], [sock], [], 0.02)  # what is under way to the peer makes room
    finally:
        sock.settimeout(timeout)
    return sent


def read_to_end(sock: socket.socket) -> bytes:
    """Everything that the peer of a blocking socket sends before it ends its stream."""
    parts: list[bytes] = []
    while part := sock.recv(1 << 20):
        parts.append(part)
    return b"".join(parts)


def pattern(size: int) -> bytes:
    """`size` bytes in which each piece tells its place, so that lost and reordered ones show."""
    return b"".join(number.to_bytes(4, "big") for number in range(-(-size // 4)))[:size]


def silent_address(net: Loopback) -> Any:
    """An address that neither takes a connection nor refuses it: a listener whose backlog is full.

    Ends the test as skipped where the system refuses such a client.
    """
    listener = net.listener(backlog=0)
    address = listener.getsockname()
    for _ in range(16):
        client = net.new_socket()
        client.setblocking(False)
        client.connect_ex(address)
        # a loopback handshake takes microseconds, the first repeated SYN comes after a second
        if not select.select([], [client], [client], 0.3)[1]:
            return address
        if client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            break
    import pytest

    pytest.skip("this system does not leave a client of a full backlog waiting")
