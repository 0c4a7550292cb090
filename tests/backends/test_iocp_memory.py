"""What Windows may still write to is kept, whatever happens, and an address that comes in a packet
is looked up and never followed."""

from __future__ import annotations

import gc
import logging
import sys
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pytest

from netpoll import CompletionPort
from netpoll.backends.iocp import port as port_module
from netpoll.backends.iocp.handles import FIRST_KEY
from netpoll.backends.iocp.library import Library, ffi
from netpoll.backends.iocp.packets import POSTED_KEY
from netpoll.testing.drain import nothing_more, take
from netpoll.testing.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netpoll.backends.iocp.port import IocpPort
    from netpoll.testing.pairs import Loopback

T = TypeVar("T")

pytestmark = pytest.mark.skipif(
    sys.platform != "win32", reason="needs Windows, or Wine (tox -e wine)"
)

NOWHERE = 0x10
"""An address that no program has."""


@pytest.fixture
def port(net: Loopback) -> Iterator[CompletionPort]:
    with CompletionPort("iocp") as port:
        yield port


@pytest.mark.parametrize("key", ["association", "unknown", "posted"])
@pytest.mark.parametrize("address", ["nowhere", "finished"])
def test_a_packet_of_nobody_s_is_told_and_left_alone(
    port: CompletionPort, net: Loopback, caplog: pytest.LogCaptureFixture, key: str, address: str
) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "near")
    finished = port.recv(near, 8)
    far.sendall(b"finished")
    assert take(port).result() == b"finished"
    backend = cast("IocpPort", port._backend)
    keys = {
        "association": cast("Any", finished._association).number,
        "unknown": FIRST_KEY + 0x7777,
        "posted": POSTED_KEY,
    }
    addresses = {"nowhere": NOWHERE, "finished": finished._native.address}
    pending = port.recv(near, 8)
    pointer = ffi.cast("OVERLAPPED *", addresses[address])
    assert backend._kernel32.PostQueuedCompletionStatus(backend._port, 5, keys[key], pointer)
    with caplog.at_level(logging.WARNING, "netpoll"):
        nothing_more(port)
    (record,) = caplog.records
    assert f"address {addresses[address]:#x}" in record.getMessage()
    assert port.stats()["unknown_packets"] == 1
    assert finished.result() == b"finished"
    far.sendall(b"pending")
    completion = take(port)
    assert (completion.key, completion.overlapped) == ("near", pending)
    assert completion.result() == b"pending"


class WithoutCancelling:
    """The functions of Windows, but for a CancelIoEx that does nothing."""

    def __init__(self, functions: object) -> None:
        self._functions = functions

    def __getattr__(self, name: str) -> object:
        return getattr(self._functions, name)

    def CancelIoEx(self, *_: object) -> int:
        return 1


def test_what_does_not_come_back_at_the_close_is_reported_and_kept(
    net: Loopback, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def wrap(functions: T, /) -> T:
        return cast("T", WithoutCancelling(functions))

    abandoned: list[Any] = []
    monkeypatch.setattr(port_module, "load", lambda: Library(wrap))
    monkeypatch.setattr(port_module, "DRAINING", 0.1)
    monkeypatch.setattr(port_module, "_abandoned", abandoned)
    near, far = net.tcp_pair()
    buffer = bytearray(8)
    with CompletionPort("iocp") as port:
        port.associate(near)
        described = repr(port.recv_into(near, buffer))
    (record,) = [each for each in caplog.records if each.name == "netpoll"]
    assert described in record.getMessage()
    assert [repr(operation) for operation in abandoned] == [described]
    del port
    gc.collect()
    with pytest.raises(BufferError):
        buffer.clear()
    far.sendall(b"too late")  # Windows writes it
    wait_until(lambda: bytes(buffer) == b"too late", "the data of a receive that nobody waits for")
