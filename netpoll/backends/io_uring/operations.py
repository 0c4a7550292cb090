"""Each operation: how it is performed here, and the function that makes it ready.

A `prepare_...` function chooses the line and writes the 64 bytes of the entry once; a start copies
them. A finisher (`_call`) is called with the kernel's result where that is not plain success. It
answers `True` if the operation has ended, one way or the other, and `False` if it goes on: it has
then changed the entry to what comes next. Where a plain system call can tell at the first start
what becomes of the operation, that is `_perform`, which answers the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from netpoll.backends import sockets
from netpoll.backends.base import Capability
from netpoll.backends.io_uring.connections import (
    prepare_accept,
    prepare_accept_many,
    prepare_connect,
)
from netpoll.backends.io_uring.entries import NEVER, Native
from netpoll.backends.io_uring.files import prepare_file
from netpoll.backends.io_uring.messages import (
    prepare_receive_message,
    prepare_send_message,
)
from netpoll.backends.io_uring.polls import prepare_poll, prepare_wait
from netpoll.backends.io_uring.pooled import prepare_pooled
from netpoll.backends.io_uring.streams import prepare_receive, prepare_send
from netpoll.backends.io_uring.transfers import prepare_disconnect, prepare_sendfile
from netpoll.overlapped import Opcode, Overlapped

if TYPE_CHECKING:
    from collections.abc import Callable

    Operation = Overlapped[Any]
    Prepare = Callable[[Operation, sockets.SocketAssociation], None]

OPERATIONS: Final[dict[Opcode, tuple[Prepare, str]]] = {
    Opcode.RECV_INTO: (
        prepare_receive,
        "IORING_OP_RECV, RECVMSG for several buffers, POLL_ADD for none",
    ),
    Opcode.RECV: (
        prepare_receive,
        "IORING_OP_RECV into a buffer of netpoll's",
    ),
    Opcode.RECV_POOLED: (
        prepare_pooled,
        "IORING_OP_RECV with IOSQE_BUFFER_SELECT, from a ring of provided buffers",
    ),
    Opcode.SEND: (
        prepare_send,
        "IORING_OP_SEND with MSG_WAITALL, SENDMSG for several buffers",
    ),
    Opcode.ACCEPT: (
        prepare_accept,
        "IORING_OP_ACCEPT, then RECV where data is waited for",
    ),
    Opcode.ACCEPT_MANY: (
        prepare_accept_many,
        "IORING_OP_ACCEPT, then accept() as often as there is somebody",
    ),
    Opcode.CONNECT: (
        prepare_connect,
        "IORING_OP_CONNECT, then SEND where it carries data",
    ),
    Opcode.DISCONNECT: (
        prepare_disconnect,
        "shutdown(), IORING_OP_SHUTDOWN behind sends that are pending; not with reuse=True",
    ),
    Opcode.SENDFILE: (
        prepare_sendfile,
        "IORING_OP_POLL_ADD, and os.sendfile() while the socket is writable: IORING_OP_SPLICE "
        "takes a pipe and a thread of the kernel's for each 64 KiB",
    ),
    Opcode.RECVFROM_INTO: (
        prepare_receive,
        "IORING_OP_RECVMSG, recvmmsg() where several are pending",
    ),
    Opcode.SENDTO: (
        prepare_send,
        "IORING_OP_SENDMSG, sendmmsg() for several",
    ),
    Opcode.RECVMSG_INTO: (
        prepare_receive_message,
        "IORING_OP_RECVMSG with room for control data",
    ),
    Opcode.SENDMSG: (
        prepare_send_message,
        "IORING_OP_SENDMSG with control data",
    ),
    Opcode.READ_INTO: (
        prepare_file,
        "IORING_OP_READ, READV for several buffers, POLL_ADD for none of a pipe",
    ),
    Opcode.WRITE: (
        prepare_file,
        "IORING_OP_WRITE, WRITEV for several buffers",
    ),
    Opcode.WAIT: (
        prepare_wait,
        "IORING_OP_POLL_ADD of a pidfd, or of a duplicate of the descriptor",
    ),
    Opcode.POLL: (
        prepare_poll,
        "IORING_OP_POLL_ADD",
    ),
}

EMULATED: Final = frozenset((Opcode.SENDFILE,))
"""Those that the kernel only says the moment for."""


def prepare(operation: Operation, native: Native) -> None:
    """Write the entry and choose the finisher; `native` is new.

    :raises OSError: the handle's state does not allow the operation
    :raises ValueError: an address that is none
    """
    operation._native = native
    operation._least = NEVER
    operation._perform = cast("Any", None)
    ready, _ = OPERATIONS[cast("Opcode", operation.opcode)]
    ready(operation, sockets.association_of(operation))


def capability(opcode: str) -> Capability:
    """`Engine.capability`."""
    known = OPERATIONS.get(cast("Opcode", opcode))
    if known is None:
        reason = f"there is no operation {opcode!r} in this version of netpoll"
        return Capability("unsupported", reason)
    return Capability("emulated" if opcode in EMULATED else "native", known[1])
