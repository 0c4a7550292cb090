"""Each operation: how it is performed here, and the function that makes it ready.

A `prepare_...` function chooses, once, the queue, the try that it calls when the operation's turn
has come (`_perform`), what that try calls (`_call`), and what a start does (`_begin`), so that no
try has to ask again what kind of operation it is. A try takes the operation, makes one non-blocking
attempt and answers an outcome of `queues`. What it found out is left in `_final`, `transferred` and
`_value`, which nobody looks at before the completion is taken.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, cast

from netpoll import status as nt
from netpoll.backends.base import Capability
from netpoll.backends.selectors.connections import (
    prepare_accept,
    prepare_accept_many,
    prepare_connect,
)
from netpoll.backends.selectors.files import prepare_file
from netpoll.backends.selectors.messages import prepare_receive_message, prepare_send_message
from netpoll.backends.selectors.polls import prepare_poll, prepare_wait
from netpoll.backends.selectors.pooled import prepare_pooled
from netpoll.backends.selectors.streams import prepare_receive, prepare_send
from netpoll.backends.selectors.transfers import prepare_disconnect, prepare_sendfile
from netpoll.backends.selectors.tries import HAS_MSG
from netpoll.overlapped import Opcode, Overlapped

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll.backends.selectors.engine import Channel, SelectorsEngine

    Operation = Overlapped[Any]
    Prepare = Callable[[SelectorsEngine, Operation, Channel], None]

SENDING: Final = (
    "os.sendfile()" if hasattr(os, "sendfile") else "the file is read in chunks, and those are sent"
)

OPERATIONS: Final[dict[Opcode, tuple[Prepare, str]]] = {
    Opcode.RECV_INTO: (
        prepare_receive,
        "recv_into() or recvmsg_into() when the socket is readable",
    ),
    Opcode.RECV: (
        prepare_receive,
        "recv_into() a buffer of netpoll's when the socket is readable",
    ),
    Opcode.RECV_POOLED: (
        prepare_pooled,
        "recv_into() a buffer that is chosen when the socket is readable",
    ),
    Opcode.SEND: (
        prepare_send,
        "send() or sendmsg() as often as it takes, while the socket is writable",
    ),
    Opcode.ACCEPT: (
        prepare_accept,
        "accept() when the listener is readable",
    ),
    Opcode.ACCEPT_MANY: (
        prepare_accept_many,
        "accept() as often as there is somebody, when the listener is readable",
    ),
    Opcode.CONNECT: (
        prepare_connect,
        "connect_ex(), then SO_ERROR when the socket is writable",
    ),
    Opcode.DISCONNECT: (
        prepare_disconnect,
        "shutdown() when the sends before it are out; not with reuse=True",
    ),
    Opcode.SENDFILE: (
        prepare_sendfile,
        f"{SENDING} while the socket is writable",
    ),
    Opcode.RECVFROM_INTO: (
        prepare_receive,
        "recvmsg_into() or recvfrom_into() when the socket is readable",
    ),
    Opcode.SENDTO: (
        prepare_send,
        "sendto() or sendmsg() when the socket is writable",
    ),
    Opcode.WAIT: (
        prepare_wait,
        "a pidfd, or a duplicate of the descriptor, that becomes readable; a thread without pidfds",
    ),
    Opcode.POLL: (
        prepare_poll,
        "what the selector says of the socket",
    ),
}
if HAS_MSG:
    OPERATIONS[Opcode.RECVMSG_INTO] = (
        prepare_receive_message,
        "recvmsg_into() when the socket is readable",
    )
    OPERATIONS[Opcode.SENDMSG] = (
        prepare_send_message,
        "sendmsg() as often as it takes, while the socket is writable",
    )
if hasattr(os, "preadv") and hasattr(os, "pwritev"):
    OPERATIONS[Opcode.READ_INTO] = (
        prepare_file,
        "of files preadv() within the start, under the port's lock; of pipes readv() when readable",
    )
    OPERATIONS[Opcode.WRITE] = (
        prepare_file,
        "of files pwritev() within the start, under the port's lock; of pipes writev() as often as "
        "it takes, while writable",
    )
NO_FILES: Final = (
    "select() of Windows takes sockets only; the iocp backend works on files and pipes"
    if os.name == "nt"
    else "this system has no preadv() and pwritev()"
)
LACKING: Final[dict[Opcode, str]] = {
    Opcode.READ_INTO: NO_FILES,
    Opcode.WRITE: NO_FILES,
    Opcode.RECVMSG_INTO: "Python has no recvmsg_into() on this system; the iocp backend has one",
    Opcode.SENDMSG: "Python has no sendmsg() on this system; the iocp backend has one",
}
"""Why an operation is not in the table."""


def prepare(engine: SelectorsEngine, operation: Operation) -> None:
    """Choose the try and look up what it needs.

    :raises OSError: the state of the handle does not allow the operation, or it is unsupported
    """
    opcode = cast("Opcode", operation.opcode)
    if opcode not in OPERATIONS:
        reason = capability(opcode).reason
        raise nt.make_exception(nt.STATUS_NOT_SUPPORTED, inline=True, message=reason)
    ready, _ = OPERATIONS[opcode]
    ready(engine, operation, cast("Channel", operation._association))


def capability(opcode: str) -> Capability:
    """`Engine.capability`."""
    known = OPERATIONS.get(cast("Opcode", opcode))
    if known is None:
        missing = f"there is no operation {opcode!r} in this version of netpoll"
        return Capability("unsupported", LACKING.get(cast("Opcode", opcode), missing))
    return Capability("emulated", known[1])
