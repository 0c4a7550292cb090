"""Socket addresses as Winsock stores them, to and from Python's tuples."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    Address: TypeAlias = tuple[Any, ...]

_INET: Final = struct.Struct("=H2s4s8x")
"""sockaddr_in: family, port, address."""
_INET6: Final = struct.Struct("=H2s4s16sI")
"""sockaddr_in6: family, port, flow information, address, scope."""

SIZES: Final = {socket.AF_INET: _INET.size, socket.AF_INET6: _INET6.size}
"""Bytes of an address, by family; the families that the backend knows."""


def pack(family: int, address: Address) -> bytes:
    """The bytes of a `sockaddr_in` or `sockaddr_in6`.

    :param address: `(host, port)`, for IPv6 also with flow information and scope; host is numeric,
        and may name its scope by number (`fe80::1%3`)
    """
    host, zone = address[0].partition("%")[::2]
    number = int(address[1]).to_bytes(2, "big")
    raw = socket.inet_pton(family, host)
    if family == socket.AF_INET:
        return _INET.pack(family, number, raw)
    flow, scope = (*address[2:4], 0, 0)[:2]
    if not scope and zone.isdecimal():
        scope = int(zone)
    return _INET6.pack(family, number, int(flow).to_bytes(4, "big"), raw, scope)


def unpack(data: bytes) -> Address:
    """What `getpeername()` would say of these bytes.

    :raises ValueError: an address of another family
    """
    family = int.from_bytes(data[:2], "little")
    if family == socket.AF_INET:
        _, number, raw = _INET.unpack_from(data)
        return (socket.inet_ntop(family, raw), int.from_bytes(number, "big"))
    if family == socket.AF_INET6:
        _, number, flow, raw, scope = _INET6.unpack_from(data)
        host = socket.inet_ntop(family, raw)
        return (host, int.from_bytes(number, "big"), int.from_bytes(flow, "big"), scope)
    raise ValueError(f"an address of family {family}, which is neither IPv4 nor IPv6")


def wildcard(family: int) -> Address:
    """Any address of this machine and a port that the system chooses."""
    return ("0.0.0.0" if family == socket.AF_INET else "::", 0)
