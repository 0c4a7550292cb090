"""Socket addresses as Winsock and Linux store them, to and from Python's tuples."""

from __future__ import annotations

import os
import socket
import struct
import sys
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

if TYPE_CHECKING:
    Address: TypeAlias = tuple[Any, ...]

_INET: Final = struct.Struct("=H2s4s8x")
"""sockaddr_in: family, port, address."""
_INET6: Final = struct.Struct("=H2s4s16sI")
"""sockaddr_in6: family, port, flow information, address, scope."""

SIZES: Final = {socket.AF_INET: _INET.size, socket.AF_INET6: _INET6.size}
"""Bytes of an address, by family."""
PATH_ROOM: Final = 108
"""Of a sockaddr_un."""


UNIX: Final[int] = getattr(socket, "AF_UNIX", -1)


def pack(family: int, address: Address | str | bytes) -> bytes:
    """The bytes of a `sockaddr_in`, `sockaddr_in6` or `sockaddr_un`.

    :param address: `(host, port)`, for IPv6 also with flow information and scope; host is numeric,
        and may name its scope by number (`fe80::1%3`). Of a Unix socket the path, or the abstract
        name behind a zero byte
    :raises ValueError: a path that is too long, or an address of another family
    """
    if family == UNIX:
        return _pack_path(cast("str | bytes", address))
    if family not in SIZES:
        raise ValueError(f"addresses of family {family} are not known here")
    assert isinstance(address, tuple)
    host, zone = address[0].partition("%")[::2]
    number = int(address[1]).to_bytes(2, "big")
    raw = socket.inet_pton(family, host)
    if family == socket.AF_INET:
        return _INET.pack(family, number, raw)
    flow, scope = (*address[2:4], 0, 0)[:2]
    if not scope and zone.isdecimal():
        scope = int(zone)
    return _INET6.pack(family, number, int(flow).to_bytes(4, "big"), raw, scope)


def _pack_path(path: str | bytes) -> bytes:
    name = os.fsencode(path)
    if not name.startswith(b"\0"):
        name += b"\0"
    if len(name) > PATH_ROOM:
        raise ValueError(f"a Unix socket's path has {PATH_ROOM - 1} bytes at most: {path!r}")
    return struct.pack("=H", UNIX) + name


def unpack(data: bytes) -> Any:
    """What `getpeername()` would say of these bytes.

    :raises ValueError: an address of another family
    """
    if len(data) < 2:
        raise ValueError("no address")
    family = int.from_bytes(data[:2], sys.byteorder)
    if family == socket.AF_INET:
        _, number, raw = _INET.unpack_from(data)
        return (socket.inet_ntop(family, raw), int.from_bytes(number, "big"))
    if family == socket.AF_INET6:
        _, number, flow, raw, scope = _INET6.unpack_from(data)
        host = socket.inet_ntop(family, raw)
        return (host, int.from_bytes(number, "big"), int.from_bytes(flow, "big"), scope)
    if family == UNIX:
        name = data[2:]
        return name if name.startswith(b"\0") else os.fsdecode(name.partition(b"\0")[0])
    raise ValueError(f"an address of family {family}, which is neither IPv4 nor IPv6")


def wildcard(family: int) -> Address:
    """Any address of this machine and a port that the system chooses."""
    return ("0.0.0.0" if family == socket.AF_INET else "::", 0)
