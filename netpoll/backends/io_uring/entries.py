"""A submission entry, ready-made, and the memory that it points to."""

from __future__ import annotations

import socket
import struct
import sys
from typing import TYPE_CHECKING, Any, Final, cast

from netpoll.backends import sockets
from netpoll.backends.io_uring import constants as uring
from netpoll.backends.io_uring.library import address_of
from netpoll.operations.flags import MSG_PARTIAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll import buffers
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]

SQE: Final = struct.Struct("=BBHiQQIIQ24x")
"""struct io_uring_sqe: opcode, flags, ioprio, fd, off, addr, len, the operation's flags, user_data;
the rest is zero."""
ADDRESS_AND_LENGTH: Final = struct.Struct("=QI")
ADDRESS: Final = 16
"""Where those are in an entry."""
IOVEC: Final = struct.Struct("=QQ")
MSGHDR: Final = struct.Struct("=QIxxxxQQQQIxxxxIxxxx")
"""struct mmsghdr: name, its length, iov, their number, control, its length, flags (so far it is a
struct msghdr), and the number of bytes that moved."""
UNUSED: Final = 0xFFFFFFFF
"""As that number: the kernel has not come to this message."""
MSGHDR_NAME_LENGTH: Final = 8
MSGHDR_CONTROL_LENGTH: Final = 40
MSGHDR_FLAGS: Final = 48
NOTHING: Final = bytearray()
MSG_WAITALL: Final = int(getattr(socket, "MSG_WAITALL", 0))
OTHER_FLAGS: Final = ~(sockets.DONTWAIT | MSG_WAITALL | MSG_PARTIAL)
"""DONTWAIT would end a receive at once where there is nothing; the others are netpoll's to see
to."""
FULL_QUEUE_PAUSE: Final = bytearray(
    struct.pack("=qq", 0, int(sockets.FULL_QUEUE_PAUSE * 1_000_000_000))
)
"""As a struct __kernel_timespec."""
NEVER: Final = sys.maxsize
"""As the least result that is plain success: there is none."""


class Native:
    """What the kernel is given for one operation, and keeps until its completion is taken."""

    __slots__ = (
        "cause",
        "entry",
        "flags",
        "kept",
        "moved",
        "rewrite",
        "size",
        "token",
        "tokens",
    )

    # What only DatagramNative has of its own: these three would cost an idle connection 48 bytes.
    vector: bytes | None = None
    """The struct iovec, of what may share a system call with others."""
    name: bytes = b""
    """The address, of a send that may."""
    room: int = 0
    """Bytes of an address of the socket's family, of one that may share a system call."""

    def __init__(self, token: int, tokens: list[int]) -> None:
        self.token: int = token
        self.tokens: list[int] = tokens
        """Where the token goes back to."""
        self.entry: bytearray = bytearray(uring.SQE_SIZE)
        self.rewrite: Callable[[Operation], None] = cast("Callable[[Operation], None]", None)
        """Makes the entry for what the operation is to do next: on another number of bytes, or from
        the beginning again."""
        self.kept: Any = None
        """Memory of ours that the entry points to."""
        self.size: int = -1
        """How many bytes of the buffers the entry speaks of."""
        self.moved: int = 0
        """What went out so far, of a send that took more than one entry."""
        self.flags: int = 0
        """Those of the completion, of a receive from a pool."""
        self.cause: int = 0
        """Why it was cancelled: the status that it is to end with."""

    def __del__(self) -> None:
        self.tokens.append(self.token)

    def write(
        self,
        opcode: int,
        fd: int,
        *,
        address: int = 0,
        length: int = 0,
        flags: int = 0,
        offset: int = 0,
    ) -> None:
        """Make the entry."""
        SQE.pack_into(self.entry, 0, opcode, 0, 0, fd, offset, address, length, flags, self.token)

    def write_pause(self) -> None:
        """Make it one that waits for the next try, where nothing tells when that is worth it."""
        self.write(uring.IORING_OP_TIMEOUT, -1, address=address_of(FULL_QUEUE_PAUSE), length=1)


class DatagramNative(Native):
    """The same of an operation on a socket of datagrams, which may share system calls."""

    __slots__ = ("name", "room", "vector")

    def __init__(self, token: int, tokens: list[int]) -> None:
        super().__init__(token, tokens)
        self.vector: bytes | None = None
        self.name: bytes = b""
        self.room: int = 0


def write_message(
    operation: Operation,
    opcode: int,
    flags: int,
    name: bytearray = NOTHING,
    control: bytearray = NOTHING,
) -> None:
    """An entry with a msghdr, for several buffers or for what only that tells."""
    native: Native = operation._native
    view: buffers.Pinned = operation._view
    views = view if isinstance(view, list) else [view]
    header = message_header(views[: sockets.IOV_MAX], name, control)
    native.kept = header
    fd = sockets.association_of(operation).fd
    native.write(opcode, fd, address=address_of(header[0]), length=1, flags=flags)


def iovecs(views: list[memoryview]) -> bytearray:
    """An array of struct iovec."""
    vectors = bytearray(IOVEC.size * len(views))
    for index, view in enumerate(views):
        IOVEC.pack_into(vectors, IOVEC.size * index, address_of(view), len(view))
    return vectors


def message_header(
    views: list[memoryview], name: bytearray = NOTHING, control: bytearray = NOTHING
) -> tuple[bytearray, ...]:
    """An mmsghdr, and behind it what it points to: vectors, name and control data."""
    vectors = iovecs(views)
    header = bytearray(
        MSGHDR.pack(
            address_of(name) if name else 0,
            len(name),
            address_of(vectors),
            len(views),
            address_of(control) if control else 0,
            len(control),
            0,
            UNUSED,
        )
    )
    return header, vectors, name, control
