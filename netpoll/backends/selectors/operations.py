"""Each operation: how it is performed here, and the function that makes it ready.

A `prepare_...` function chooses, once, the queue, the try that it calls when the operation's turn
has come (`_perform`), what that try calls (`_call`), and what a start does (`_begin`), so that no
try has to ask again what kind of operation it is. A try takes the operation, makes one non-blocking
attempt and answers an outcome of `queues`. What it found out is left in `_final`, `transferred` and
`_value`, which nobody looks at before the completion is taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from netpoll.backends.base import Capability
from netpoll.backends.selectors.connections import prepare_accept, prepare_connect
from netpoll.backends.selectors.polls import prepare_poll, prepare_wait
from netpoll.backends.selectors.streams import prepare_receive, prepare_send
from netpoll.overlapped import Opcode, Overlapped

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll.backends.selectors.engine import Channel, SelectorsEngine

    Operation = Overlapped[Any]
    Prepare = Callable[[SelectorsEngine, Operation, Channel], None]

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
    Opcode.CONNECT: (
        prepare_connect,
        "connect_ex(), then SO_ERROR when the socket is writable",
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
