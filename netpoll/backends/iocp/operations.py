"""Each operation: the function of Windows that performs it, and the one that makes it ready."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from netpoll.backends.base import Capability
from netpoll.backends.iocp.alone import prepare_timer, prepare_wait
from netpoll.backends.iocp.connections import (
    prepare_accept,
    prepare_accept_many,
    prepare_connect,
)
from netpoll.backends.iocp.files import prepare_read, prepare_write
from netpoll.backends.iocp.messages import (
    prepare_receive_from,
    prepare_receive_message,
    prepare_send_message,
    prepare_send_to,
)
from netpoll.backends.iocp.polls import prepare_poll
from netpoll.backends.iocp.pooled import prepare_pooled
from netpoll.backends.iocp.streams import prepare_receive, prepare_send
from netpoll.backends.iocp.transfers import prepare_disconnect, prepare_sendfile
from netpoll.overlapped import Opcode, Overlapped

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll.backends.iocp.library import Library
    from netpoll.backends.iocp.native import Native

    Operation = Overlapped[Any]
    Prepare = Callable[[Operation, Library], Native]

OPERATIONS: Final[dict[Opcode, tuple[Prepare, str]]] = {
    Opcode.RECV_INTO: (prepare_receive, "WSARecv"),
    Opcode.RECV: (prepare_receive, "WSARecv into a buffer of netpoll's"),
    Opcode.RECV_POOLED: (
        prepare_pooled,
        "WSARecv of nothing, then into a buffer; on associated sockets, without event and routine",
    ),
    Opcode.SEND: (prepare_send, "WSASend"),
    Opcode.ACCEPT: (prepare_accept, "AcceptEx with SO_UPDATE_ACCEPT_CONTEXT"),
    Opcode.ACCEPT_MANY: (
        prepare_accept_many,
        "AcceptEx, then accept() as often as there is somebody",
    ),
    Opcode.CONNECT: (prepare_connect, "ConnectEx with SO_UPDATE_CONNECT_CONTEXT"),
    Opcode.DISCONNECT: (prepare_disconnect, "DisconnectEx, with TF_REUSE_SOCKET for reuse=True"),
    Opcode.SENDFILE: (prepare_sendfile, "TransmitFile"),
    Opcode.RECVFROM_INTO: (prepare_receive_from, "WSARecvFrom"),
    Opcode.SENDTO: (prepare_send_to, "WSASendTo"),
    Opcode.RECVMSG_INTO: (prepare_receive_message, "WSARecvMsg; WSARecv on streams"),
    Opcode.SENDMSG: (prepare_send_message, "WSASendMsg; WSASend on streams"),
    Opcode.POLL: (
        prepare_poll,
        "an AFD poll of the socket's base handle, one for all of its polls",
    ),
    Opcode.READ_INTO: (prepare_read, "ReadFile, by way of a copy into several buffers"),
    Opcode.WRITE: (prepare_write, "WriteFile, by way of a copy of several buffers"),
    Opcode.WAIT: (prepare_wait, "WaitForMultipleObjects in the watcher's thread, which posts"),
    Opcode.TIMER: (prepare_timer, "a heap of deadlines in the watcher's thread, which posts"),
}
EMULATED: Final = frozenset({Opcode.POLL, Opcode.TIMER, Opcode.WAIT})
"""Those that Windows has no overlapped function for: their ends are posted by ourselves."""


def prepare(operation: Operation, library: Library) -> Native:
    """What every start of `operation` will use.

    :raises ValueError: a buffer is too large
    :raises OSError: the socket's provider lacks a function
    """
    ready, _ = OPERATIONS[cast("Opcode", operation.opcode)]
    return ready(operation, library)


def capability(opcode: str) -> Capability:
    """`Backend.capability`."""
    known = OPERATIONS.get(cast("Opcode", opcode))
    if known is None:
        reason = f"there is no operation {opcode!r} in this version of netpoll"
        return Capability("unsupported", reason)
    level = "emulated" if opcode in EMULATED else "native"
    return Capability(level, known[1])
