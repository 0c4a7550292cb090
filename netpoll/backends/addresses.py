"""Socket addresses as Winsock and Linux store them, to and from Python's tuples."""

from __future__ import annotations

import os
import socket
import struct
import sys
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from netpoll.errors import shown

if TYPE_CHECKING:
    Address: TypeAlias = tuple[Any, ...]

_INET: Final = struct.Struct("=H2s4s8x")
"""sockaddr_in: family, port, address."""
_INET6: Final = struct.Struct("=H2s4s16sI")
"""sockaddr_in6: family, port, flow information, address, scope."""

SIZES: Final = {socket.AF_INET: _INET.size, socket.AF_INET6: _INET6.size}
"""Bytes of an address, by family."""
MOST_FLOW: Final = 0xFFFFF
"""What Python takes as flow information."""
PATH_ROOM: Final = 108
"""Of a sockaddr_un."""
UNIX: Final[int] = getattr(socket, "AF_UNIX", -1)
MOST_SENDERS: Final = 4096
"""Addresses that are kept, at some 400 bytes each."""
KNOWN: Final[frozenset[int]] = frozenset((socket.AF_INET, socket.AF_INET6, UNIX)) - {-1}
"""The families whose addresses are read and written here."""


def pack(family: int, address: Any) -> bytes:
    """The bytes of a `sockaddr_in`, `sockaddr_in6` or `sockaddr_un`.

    :param address: `(host, port)`, for IPv6 also with flow information and scope; host is numeric,
        and may name its scope (`fe80::1%3`). Of a Unix socket the path, or the abstract name behind
        a zero byte
    :raises TypeError: no address of this family
    :raises ValueError: a host that is not numeric, a number that does not fit, a path too long
    """
    if family not in KNOWN:
        raise ValueError(f"addresses of family {family} are not known here")
    if family == UNIX:
        return _pack_path(address)
    host, port, flow, scope = _parts(family, address)
    name, scoped, zone = host.partition("%")
    try:
        raw = socket.inet_pton(family, name)
    except (OSError, ValueError):
        raise ValueError(
            f"{shown(host)} is not a numeric address of this socket's family; look names up first "
            f"(socket.getaddrinfo), because a look-up blocks"
        ) from None
    if family == socket.AF_INET:
        if scoped:
            raise ValueError(f"an IPv4 address has no scope: {shown(host)}")
        return _INET.pack(family, port.to_bytes(2, "big"), raw)
    if scoped:
        scope = scope or _scope(zone)
    return _INET6.pack(family, port.to_bytes(2, "big"), flow.to_bytes(4, "big"), raw, scope)


def check(family: int, address: Any) -> tuple[Any, bytes]:
    """Refuse a host name, whose look-up would block everybody, and what is no address at all.

    :return: the address as every `socket` reads it, and what `pack` makes of it; nothing where only
        the system knows the family
    :raises ValueError: the host is not a numeric address of the family, a number does not fit, or
        the path of a Unix socket is too long
    :raises TypeError: not an address of this family at all
    """
    if family not in KNOWN:
        return address, b""
    data = pack(family, address)
    if family == socket.AF_INET6 and "%" in address[0]:
        address = unpack(data)  # the system's own look-up takes a scope of some addresses only
    return address, data


def _parts(family: int, address: Any) -> tuple[str, int, int, int]:
    """Host, port, flow information and scope, of the right types and in range."""
    most = 2 if family == socket.AF_INET else 4
    # no list, which `socket` takes for no address either
    parts = cast("Any", address if isinstance(address, tuple) else ())
    if not 2 <= len(parts) <= most:
        form = "host and port" if most == 2 else "host, port and perhaps flow information and scope"
        raise TypeError(f"an address is a tuple of {form}, not {shown(cast('object', address))}")
    host, *numbers = parts
    if not isinstance(host, str) or not all(map(_is_number, numbers)):
        raise TypeError(f"an address is a tuple of host and port, not {shown(parts)}")
    port, flow, scope = (*numbers, 0, 0)[:3]
    if not 0 <= port <= 65535:
        raise ValueError(f"a port number is 0 to 65535, not {shown(port)}")
    if not 0 <= flow <= MOST_FLOW:
        raise ValueError(f"flow information is 0 to 1048575, not {shown(flow)}")
    if not 0 <= scope <= 0xFFFFFFFF:
        raise ValueError(f"a scope is the number of an interface, not {shown(scope)}")
    return host, port, flow, scope


def _is_number(part: object) -> bool:
    return isinstance(part, int) and not isinstance(part, bool)


def _scope(zone: str) -> int:
    """The number of an interface, which may be given by name."""
    try:
        number = int(zone) if zone.isdecimal() else socket.if_nametoindex(zone)
    except (OSError, ValueError):
        number = -1
    if not 0 <= number <= 0xFFFFFFFF:
        raise ValueError(f"there is no interface {shown(zone)}")
    return number


def _pack_path(path: Any) -> bytes:
    if not isinstance(path, (str, bytes)):
        raise TypeError(f"the address of a Unix socket is a path, str or bytes, not {shown(path)}")
    name = os.fsencode(path)
    if not name:
        raise ValueError("the address of a Unix socket is a path, which is never empty")
    if not name.startswith(b"\0"):
        if b"\0" in name:
            raise ValueError(f"a Unix socket's path has no zero byte in it: {shown(path)}")
        name += b"\0"
    if len(name) > PATH_ROOM:
        raise ValueError(f"a Unix socket's path has {PATH_ROOM - 1} bytes at most: {shown(path)}")
    return struct.pack("=H", UNIX) + name


def unpack(data: bytes) -> Any:
    """What `getpeername()` would say of these bytes.

    :raises ValueError: an address of another family, or only a part of one
    """
    if len(data) < 2:
        raise ValueError("no address")
    family = int.from_bytes(data[:2], sys.byteorder)
    if family in SIZES and len(data) < SIZES[socket.AddressFamily(family)]:
        raise ValueError(f"only {len(data)} bytes of an address of family {family}")
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


class Sender(tuple[Any, ...]):
    """The address of who has sent a datagram: a tuple like any other, which knows its bytes. So a
    send to it has nothing to parse."""

    packed: bytes
    """What `pack` makes of it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (tuple(self),)  # of a pickle others are to make something without netpoll


known_senders: Final[dict[bytes, Any]] = {}
"""The addresses of those who have sent something lately: a server hears from the same peers again
and again."""


def sender(data: bytes) -> Any:
    """What `unpack` says of who sent a datagram; `None` if that is not told."""
    address = known_senders.get(data)
    if address is not None or not data:
        return address
    address = unpack(data)
    if len(known_senders) >= MOST_SENDERS:
        known_senders.clear()
    if _goes_back(data):
        address = Sender(address)
        address.packed = data
    known_senders[data] = address
    return address


def _goes_back(data: bytes) -> bool:
    """Whether `pack` would make the same bytes of the address again."""
    family = int.from_bytes(data[:2], sys.byteorder)
    if family == socket.AF_INET:
        return data[8:] == bytes(8)
    return family == socket.AF_INET6 and int.from_bytes(data[4:8], "big") <= MOST_FLOW


def wildcard(family: int) -> Address:
    """Any address of this machine and a port that the system chooses."""
    return ("0.0.0.0" if family == socket.AF_INET else "::", 0)
