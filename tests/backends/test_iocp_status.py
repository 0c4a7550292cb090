"""`netpoll.status` says what Winsock says: WSAGetOverlappedResult is asked about every status.

It makes a Winsock number of the status in an OVERLAPPED, so each one is planted in turn in that of
a receive which has ended.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from netpoll import status as nt
from netpoll.backends.iocp.library import NULL, ffi, load
from netpoll.testing.pairs import wait_readable
from netpoll.testing.wine import wine_version

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll.testing.pairs import Loopback

    Ask = Callable[[int], int]

pytestmark = pytest.mark.skipif(
    sys.platform != "win32", reason="needs Windows, or Wine (tox -e wine)"
)

KNOWN = {
    name: value
    for name, value in vars(nt).items()
    if name.startswith("STATUS_") and isinstance(value, int)
}
UNKNOWN = {0x00000104: 0, 0x40000000: 0, 0xC0000035: 10022, 0xC00000FD: 10022}
"""Statuses that the table does not have, with their numbers."""
OF_WINE = {"STATUS_HOPLIMIT_EXCEEDED": 10022}
"""The statuses that Wine 8.0 has another number for; this one has none of its own there."""


@pytest.fixture
def ask(net: Loopback) -> Ask:
    """Winsock's number for a status."""
    library = load()
    near, far = net.tcp_pair()
    overlapped, moved, flags = ffi.new("OVERLAPPED *"), ffi.new("DWORD *"), ffi.new("DWORD *")
    buffers, memory = ffi.new("WSABUF[]", 1), ffi.new("char[]", 8)
    buffers[0].len, buffers[0].buf = 8, memory
    far.sendall(b"received")
    wait_readable(near)
    arguments = (near.fileno(), buffers, 1, moved, flags, overlapped, NULL)
    assert library.ws2_32.WSARecv(*arguments) == 0

    def ask(status: int) -> int:
        overlapped.Internal = status
        if library.ws2_32.WSAGetOverlappedResult(near.fileno(), overlapped, moved, 0, flags):
            return 0
        return library.kernel32.GetLastError()

    assert ask(0) == 0
    assert moved[0] == 8
    return ask


def test_winsock_agrees_with_the_table(ask: Ask) -> None:
    others = {
        name: number
        for name, status in KNOWN.items()
        if (number := ask(status)) != nt.winsock_error(status)
    }
    assert others == (OF_WINE if wine_version() else {})


def test_winsock_agrees_about_what_is_not_in_the_table(ask: Ask) -> None:
    assert {status: ask(status) for status in UNKNOWN} == UNKNOWN
    assert {status: nt.winsock_error(status) for status in UNKNOWN} == UNKNOWN
