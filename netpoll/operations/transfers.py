"""Transfers: what moves more than a buffer, and the end of sending."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from netpoll import status as nt
from netpoll.operations.starter import Starter
from netpoll.overlapped import Opcode, Overlapped

if TYPE_CHECKING:
    from netpoll.operations.starter import Routine

REUSE: Final = 2
"""TF_REUSE_SOCKET, in an operation's flags."""


class Transfers(Starter):
    """Part of `CompletionPort`."""

    def disconnect(
        self,
        sock: socket.socket,
        *,
        reuse: bool = False,
        overlapped: Overlapped[None] | None = None,
        routine: Routine | None = None,
        timeout: float | None = None,
    ) -> Overlapped[None]:
        """End this side's stream behind the sends that are pending, and tell when it has been
        (DisconnectEx, DIS-02). The peer reads its end; receiving goes on, sending fails with 10058
        (DIS-03).

        :param reuse: also make the socket one that accepts or connects again (TF_REUSE_SOCKET,
            DIS-04): Windows only, and it may have to wait for the connection's last packets
        :raises UnsupportedOperation: `reuse` where the system cannot, or not a stream socket
        :raises OSError: not connected (10057, DIS-01)
        """
        operation = self._new(Opcode.DISCONNECT, sock, overlapped, routine, timeout)
        require_stream(sock, "a datagram socket has no stream to end")
        return self._begin(operation, None, None, REUSE if reuse else 0)


def require_stream(sock: socket.socket, why: str) -> None:
    """
    :raises UnsupportedOperation: a socket of datagrams
    """
    if sock.type != socket.SOCK_STREAM:
        raise nt.make_exception(nt.STATUS_NOT_SUPPORTED, inline=True, message=why)
