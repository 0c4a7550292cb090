"""Everything again with addresses that are nonsense: a clear error at the call, nothing lost; and
with those that are odd but legal.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

from netpoll import Overlapped
from netpoll.testing.attempts import refuses
from netpoll.testing.drain import take
from netpoll.testing.outcome import require
from netpoll.testing.pairs import LOOPBACK, has_ipv6

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll import CompletionPort
    from netpoll.testing.pairs import Loopback

ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
IPV4: Final = socket.AF_INET
IPV6: Final = socket.AF_INET6

SHAPE: Final = "an address is a tuple"
NUMERIC: Final = "not a numeric address"
LONG: Final = "x" * 100_000

NEITHER: Final[list[tuple[Any, type[Exception], str]]] = [
    (80, TypeError, SHAPE),
    (True, TypeError, SHAPE),
    (1.5, TypeError, SHAPE),
    (..., TypeError, SHAPE),
    ((), TypeError, SHAPE),
    ({}, TypeError, SHAPE),
    (LONG, TypeError, SHAPE),
]
"""No addresses of any family of the Internet's, nor of one by its shape."""


def internet(host: str) -> list[tuple[Any, type[Exception], str]]:
    """What is no address, of a family of which `host` is one."""
    return [
        *NEITHER,
        (host, TypeError, SHAPE),
        (f"{host}:80", TypeError, SHAPE),
        (host.encode(), TypeError, SHAPE),
        ([host, 80], TypeError, SHAPE),
        ({0: host, 1: 80}, TypeError, SHAPE),
        (iter((host, 80)), TypeError, SHAPE),
        ((host,), TypeError, SHAPE),
        ((host, 80, 0, 0, 0), TypeError, SHAPE),
        ((host.encode(), 80), TypeError, SHAPE),
        ((None, 80), TypeError, SHAPE),
        ((80, host), TypeError, SHAPE),
        ((0x7F000001, 80), TypeError, SHAPE),
        ((host, "80"), TypeError, SHAPE),
        ((host, "http"), TypeError, SHAPE),
        ((host, 80.0), TypeError, SHAPE),
        ((host, float("nan")), TypeError, SHAPE),
        ((host, True), TypeError, SHAPE),
        ((host, None), TypeError, SHAPE),
        ((host, -1), ValueError, "port number"),
        ((host, 65536), ValueError, "port number"),
        ((host, 2**70), ValueError, "port number"),
        ((host, -(10**5000)), ValueError, "port number"),
        (("", 80), ValueError, NUMERIC),
        (("localhost", 80), ValueError, NUMERIC),
        (("<broadcast>", 80), ValueError, NUMERIC),
        ((f"{host} ", 80), ValueError, NUMERIC),
        ((f"{host}\0", 80), ValueError, NUMERIC),
        (("\0", 80), ValueError, NUMERIC),
        (("\ud800", 80), ValueError, NUMERIC),
        (("\U0001f600", 80), ValueError, NUMERIC),
        ((LONG, 80), ValueError, NUMERIC),
        ((host * 20_000, 80), ValueError, NUMERIC),
    ]


NONSENSE: Final[dict[socket.AddressFamily, list[tuple[Any, type[Exception], str]]]] = {
    IPV4: [
        *internet("127.0.0.1"),
        (("::1", 80), ValueError, NUMERIC),
        (("::ffff:127.0.0.1", 80), ValueError, NUMERIC),
        (("127.0.0.1", 80, 0), TypeError, SHAPE),
        (("127.0.0.1", 80, 0, 0), TypeError, SHAPE),
        (("127.0.0.1%1", 80), ValueError, "no scope"),
        (("127.0.0.1%", 80), ValueError, "no scope"),
        (("127.1", 80), ValueError, NUMERIC),
        (("0x7f.0.0.1", 80), ValueError, NUMERIC),
        (("2130706433", 80), ValueError, NUMERIC),
        (("127.0.0.256", 80), ValueError, NUMERIC),
    ],
    IPV6: [
        *internet("::1"),
        (("127.0.0.1", 80), ValueError, NUMERIC),
        (("[::1]", 80), ValueError, NUMERIC),
        (("::1::", 80), ValueError, NUMERIC),
        (("::1", 80, -1), ValueError, "flow"),
        (("::1", 80, 1 << 20), ValueError, "flow"),
        (("::1", 80, 1.0), TypeError, SHAPE),
        (("::1", 80, False), TypeError, SHAPE),
        (("::1", 80, None), TypeError, SHAPE),
        (("::1", 80, 0, -1), ValueError, "scope"),
        (("::1", 80, 0, 1 << 32), ValueError, "scope"),
        (("::1", 80, 0, 2**70), ValueError, "scope"),
        (("::1", 80, 0, "lo"), TypeError, SHAPE),
        (("::1%", 80), ValueError, "no interface"),
        (("::1%nobody's", 80), ValueError, "no interface"),
        (("::1%-1", 80), ValueError, "no interface"),
        (("::1%4294967296", 80), ValueError, "no interface"),
        (("::1%" + "9" * 10_000, 80), ValueError, "no interface"),
        (("::1%" + LONG, 80), ValueError, "no interface"),
        (("::1%lo\0", 80), ValueError, "no interface"),
        (("::1%\ud800", 80), ValueError, "no interface"),
        (("::1%1%1", 80), ValueError, "no interface"),
    ],
}


@dataclass
class Place:
    """A parameter that takes an address."""

    start: Callable[[Any], object]
    works: Callable[[], None]
    """The same operation on the same socket, to an address that is one."""
    optional: bool = False
    """`None` is legal."""


class Places:
    """Makes them, with one `Overlapped` for all."""

    def __init__(self, port: CompletionPort, net: Loopback, family: socket.AddressFamily) -> None:
        self.port = port
        self.net = net
        self.family = family
        self.operation: Overlapped[Any] = Overlapped()

    def connect(self) -> Place:
        listener = self.net.listener(self.family)
        sock = self.net.new_socket(self.family)
        self.port.associate(sock)

        def start(address: Any) -> object:
            return self.port.connect(sock, address, overlapped=self.operation)

        def works() -> None:
            start(listener.getsockname())
            assert take(self.port).error == 0
            assert sock.getpeername() == listener.getsockname()

        return Place(start, works)

    def sendto(self) -> Place:
        return self._datagram(
            lambda sock, address: self.port.sendto(
                sock, b"data", address, overlapped=self.operation
            )
        )

    def sendmsg(self) -> Place:
        require(self.port, "sendmsg")
        place = self._datagram(
            lambda sock, address: self.port.sendmsg(
                sock, b"data", (), address, overlapped=self.operation
            )
        )
        place.optional = True
        return place

    def resubmit(self) -> Place:
        first = self.net.bound(self.family, socket.SOCK_DGRAM)
        sock = self.net.bound(self.family, socket.SOCK_DGRAM)
        self.port.associate(sock)
        self.port.sendto(sock, b"data", first.getsockname(), overlapped=self.operation)
        take(self.port)
        place = self._datagram(
            lambda _, address: self.port.resubmit(self.operation, address=address)
        )
        place.optional = True

        def works() -> None:
            # what was refused has changed nothing
            self.port.resubmit(self.operation)
            assert take(self.port).transferred == 4
            assert [first.recv(10) for _ in range(2)] == [b"data"] * 2
            before()

        before, place.works = place.works, works
        return place

    def _datagram(self, send: Callable[[socket.socket, Any], object]) -> Place:
        sock = self.net.bound(self.family, socket.SOCK_DGRAM)
        peer = self.net.bound(self.family, socket.SOCK_DGRAM)
        self.port.associate(sock)

        def works() -> None:
            send(sock, peer.getsockname())
            assert take(self.port).transferred == 4
            assert peer.recv(10) == b"data"

        return Place(lambda address: send(sock, address), works)


NAMES: Final = ("connect", "sendto", "sendmsg", "resubmit")


@pytest.mark.parametrize("family", [IPV4, pytest.param(IPV6, marks=ipv6)])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_address_is_refused_at_the_call(
    port: CompletionPort, net: Loopback, name: str, family: socket.AddressFamily
) -> None:
    places = Places(port, net, family)
    place: Place = getattr(places, name)()
    for address, kind, words in NONSENSE[family]:
        refuses(port, kind, words, place.start, address)
        assert places.operation.done
    if not place.optional:
        refuses(port, TypeError, SHAPE, place.start, None)
    place.works()


@pytest.mark.parametrize("name", NAMES)
def test_the_message_is_short_however_long_the_address(
    port: CompletionPort, net: Loopback, name: str
) -> None:
    place: Place = getattr(Places(port, net, IPV4), name)()
    for address in (LONG, (LONG, 80), ("127.0.0.1", LONG), ("127.0.0.1%" + LONG, 80), (80,) * 9999):
        with pytest.raises((TypeError, ValueError)) as caught:
            place.start(address)
        assert len(str(caught.value)) < 400


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="Python has no Unix sockets here")
def test_what_is_no_path_is_refused_at_the_call(port: CompletionPort, net: Loopback) -> None:
    sock = net.new_socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    stream = net.new_socket(socket.AF_UNIX)
    for each in (sock, stream):
        port.associate(each)
    operation: Overlapped[Any] = Overlapped()
    starts: list[Callable[[Any], object]] = [
        lambda address: port.connect(stream, address, overlapped=operation),
        lambda address: port.sendto(sock, b"data", address, overlapped=operation),
        lambda address: port.sendmsg(sock, b"data", (), address, overlapped=operation),
    ]
    wrong: list[tuple[Any, type[Exception], str]] = [
        *((each, TypeError, "path") for each in (80, True, 1.5, ("127.0.0.1", 80), ["path"], ())),
        ("", ValueError, "never empty"),
        (b"", ValueError, "never empty"),
        ("with\0zero", ValueError, "zero byte"),
        ("x" * 108, ValueError, "at most"),
        (LONG, ValueError, "at most"),
        ("\ud800", ValueError, "surrogates"),
    ]
    for start in starts:
        for address, kind, words in wrong:
            refuses(port, kind, words, start, address)


class Named(NamedTuple):
    host: str
    port: int


def test_addresses_may_be_tuples_of_another_kind(port: CompletionPort, net: Loopback) -> None:
    sock = net.bound(IPV4, socket.SOCK_DGRAM)
    peer = net.bound(IPV4, socket.SOCK_DGRAM)
    port.associate(sock)
    operation = port.sendto(sock, b"data", Named(*peer.getsockname()))
    assert take(port).transferred == 4
    port.resubmit(operation, address=Named(*peer.getsockname()))
    assert take(port).transferred == 4
    assert [peer.recv(10) for _ in range(2)] == [b"data"] * 2


@ipv6
def test_a_scope_in_the_host_is_read_alike_everywhere(port: CompletionPort, net: Loopback) -> None:
    """Some systems' look-up takes a scope of the addresses of a link only: it is not asked."""
    number, name = next(
        (number, name)
        for number, name in socket.if_nameindex()
        if re.match("lo", name) or number == 1
    )
    listener = net.listener(IPV6)
    peer = net.bound(IPV6, socket.SOCK_DGRAM)
    sock = net.bound(IPV6, socket.SOCK_DGRAM)
    port.associate(sock)
    operation: Overlapped[Any] = Overlapped()
    for zone in (name, str(number)):
        address = (f"{LOOPBACK[IPV6]}%{zone}", peer.getsockname()[1])
        port.sendto(sock, b"data", address, overlapped=operation)
        assert take(port).transferred == 4
        port.resubmit(operation, address=(*address, 0, 0))
        assert take(port).transferred == 4
        assert [peer.recv(10) for _ in range(2)] == [b"data"] * 2
        client = net.new_socket(IPV6)
        port.associate(client)
        port.connect(client, (f"::1%{zone}", listener.getsockname()[1]))
        assert take(port).error == 0
