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

from netpoll.backends.base import Capability
from netpoll.backends.selectors.connections import (
    prepare_accept,
    prepare_accept_many,
    prepare_connect,
)
from netpoll.backends.selectors.streams import prepare_receive, prepare_send
from netpoll.backends.selectors.transfers import prepare_disconnect, prepare_sendfile
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
}


def prepare(engine: SelectorsEngine, operation: Operation) -> None:
    """Choose the try and look up what it needs.

    :raises OSError: the state of the handle does not allow the operation
    """
    ready, _ = OPERATIONS[cast("Opcode", operation.opcode)]
    ready(engine, operation, cast("Channel", operation._association))


def capability(opcode: str) -> Capability:
    """`Engine.capability`."""
    known = OPERATIONS.get(cast("Opcode", opcode))
    if known is None:
        reason = f"there is no operation {opcode!r} in this version of netpoll"
        return Capability("unsupported", reason)
    return Capability("emulated", known[1])
