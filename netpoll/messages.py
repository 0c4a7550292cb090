"""Messages: the data with what travels beside it, and who owns the descriptors in that."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from netpoll import buffers
from netpoll.errors import shown
from netpoll.finalizers import finalizer

if TYPE_CHECKING:
    from collections.abc import Iterable

Ancillary: TypeAlias = list[tuple[int, int, bytes]]
"""Control messages: level, type and data of each, as `socket.sendmsg` takes them."""

HEADER: Final = struct.Struct("@Nii")
"""struct cmsghdr, WSACMSGHDR: the length with this header, level, type."""
ALIGNMENT: Final = struct.calcsize("@N")
_CARRIERS: Final = frozenset(
    (socket.SOL_SOCKET, kind)
    for kind in (getattr(socket, "SCM_RIGHTS", None), 4 if sys.platform == "linux" else None)
    if kind is not None
)
"""Control messages that bring descriptors: SCM_RIGHTS, and SCM_PIDFD, which only Linux has."""
_INT: Final = struct.Struct("@i")


class Message(NamedTuple):
    """What `CompletionPort.recvmsg_into` has received; `socket.recvmsg_into` answers the same."""

    size: int
    """Bytes of data."""
    ancillary: Ancillary
    """Control messages. Descriptors in them (SCM_RIGHTS) belong to whoever asked for the result,
    and are not inheritable; nobody asks, and netpoll closes them."""
    flags: int
    """The system's `MSG_TRUNC`, `MSG_CTRUNC` (control data did not fit), `MSG_EOR` and so on."""
    address: Any
    """The sender's; `None` where there is none to tell, as on a stream."""


class Received:
    """What came beside the data of one message, until somebody asks for it."""

    __slots__ = ("_address", "_ancillary", "_flags", "_unclaimed")

    def __init__(self, ancillary: Ancillary, flags: int, address: Any) -> None:
        self._ancillary = ancillary
        self._flags = flags
        self._address = address
        self._unclaimed: list[int] = [] if not ancillary else descriptors(ancillary)

    def message(self, size: int) -> Message:
        """All of it, with the data's size. From now on the descriptors are the caller's."""
        self._unclaimed = []
        return Message(size, list(self._ancillary), self._flags, self._address)

    @finalizer
    def __del__(self) -> None:
        for number in self._unclaimed:
            with contextlib.suppress(OSError):
                os.close(number)


def descriptors(ancillary: Ancillary) -> list[int]:
    """The descriptors that control messages have brought."""
    found: list[int] = []
    for level, kind, data in ancillary:
        if (level, kind) in _CARRIERS:
            whole = len(data) - len(data) % _INT.size
            found += (number for (number,) in _INT.iter_unpack(data[:whole]))
    return found


def check_ancillary(ancillary: Iterable[tuple[int, int, Any]]) -> Ancillary:
    """A copy of what is to go out beside data.

    :raises TypeError: not a sequence of (level, type, bytes-like) triples
    :raises ValueError: data that is not contiguous; a level or type that is no C int
    """
    try:
        triples = [
            (level.__index__(), kind.__index__(), memoryview(data))
            for level, kind, data in ancillary
        ]
    except (TypeError, ValueError, AttributeError):
        raise TypeError(
            f"ancillary data is a sequence of (level, type, bytes-like) triples, "
            f"not {shown(ancillary)}"
        ) from None
    copied = [(level, kind, buffers.copy(data).tobytes()) for level, kind, data in triples]
    pack(copied)
    return copied


def pack(ancillary: Ancillary) -> bytes:
    """Control messages as the system takes them.

    :raises ValueError: a level or type that is no C int
    """
    parts: list[bytes] = []
    try:
        for level, kind, data in ancillary:
            parts.append(HEADER.pack(HEADER.size + len(data), level, kind))
            parts.append(data + bytes(-len(data) % ALIGNMENT))
    except struct.error:
        raise ValueError(
            f"a control message's level and type are C ints: {shown(ancillary)}"
        ) from None
    return b"".join(parts)


def unpack(data: bytes) -> Ancillary:
    """Control messages as the system gives them. One that was cut off (MSG_CTRUNC) has what is
    left of it; what makes no sense ends the list."""
    found: Ancillary = []
    start = 0
    while start + HEADER.size <= len(data):
        length, level, kind = HEADER.unpack_from(data, start)
        if length < HEADER.size:
            break
        found.append((level, kind, data[start + HEADER.size : start + length]))
        start += length + -length % ALIGNMENT
    return found
