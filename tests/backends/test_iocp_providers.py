"""Providers whose sockets are no handles of the system's: what must not be asked of those."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING, Any, cast

import pytest

from netpoll import CompletionPort
from netpoll.backends.iocp import constants as win
from netpoll.backends.iocp.library import Library, ffi
from netpoll.testing.drain import take
from netpoll.testing.pairs import receive_exactly

if TYPE_CHECKING:
    from netpoll.testing.pairs import Loopback

pytestmark = pytest.mark.skipif(
    sys.platform != "win32", reason="needs Windows, or Wine (tox -e wine)"
)


class Layered:
    """As much of a socket as is asked for what its provider can do."""

    family, type, proto = socket.AF_INET, socket.SOCK_STREAM, 0

    def __init__(self, flags: int) -> None:
        self._flags = flags

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        info = ffi.new("WSAPROTOCOL_INFOW *")
        info.dwServiceFlags1 = self._flags
        return bytes(ffi.buffer(info, size))


@pytest.mark.parametrize("ifs", [True, False])
def test_rsync_4546_a_layered_provider_is_found_out(ifs: bool) -> None:
    flags = 0x66 & ~win.XP1_IFS_HANDLES | (win.XP1_IFS_HANDLES if ifs else 0)
    assert Library().has_ifs_handles(cast("Any", Layered(flags))) is ifs


def has_none(library: Library, sock: socket.socket) -> bool:
    return False


def test_rsync_4546_no_packet_is_skipped_on_a_layered_provider(
    net: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the mode may lose completions: each success has its packet, whatever was asked for."""
    monkeypatch.setattr(Library, "has_ifs_handles", has_none)
    near, far = net.tcp_pair()
    with CompletionPort("iocp") as port:
        port.associate(near, skip_on_success=True)
        operation = port.send(near, b"data")
        completion = take(port)
        assert (completion.overlapped, completion.transferred) == (operation, 4)
        assert receive_exactly(far, 4) == b"data"
