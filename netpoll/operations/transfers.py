"""Transfers: files as a whole, the end of sending, connections by the batch, shared buffers."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

from netpoll import status as nt
from netpoll.backends.files import FileTransfer
from netpoll.buffers import pin_one
from netpoll.operations.starter import Starter, check_count
from netpoll.overlapped import Opcode, Overlapped
from netpoll.pools import BufferPool, PooledBuffer

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from netpoll.operations.starter import Routine
    from netpoll.operations.streams import Address

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

    def sendfile(
        self,
        sock: socket.socket,
        file: Any,
        *,
        offset: int = 0,
        count: int | None = None,
        head: Buffer = b"",
        tail: Buffer = b"",
        overlapped: Overlapped[int] | None = None,
        routine: Routine | None = None,
        timeout: float | None = None,
    ) -> Overlapped[int]:
        """Send a file, or a part of it, with `head` before it and `tail` behind it (TransmitFile,
        TXF-02); the result is the number of bytes of all three. In the line of the sends (SEND-05).

        The file's own position is neither used nor moved, and the file may be closed once this
        returns. What the program has written to it must have been flushed.

        :param file: an object with `fileno()`, of a regular file open for reading; `None` sends
            head and tail alone (TXF-01)
        :param offset: bytes from the beginning of the file
        :param count: bytes of the file; `None`, or more than there are, is to its end as it is at
            the start. Where it gets shorter meanwhile, the operation ends with what it has sent:
            compare the result with what was to be sent
        :raises OSError: more than 2,147,483,646 bytes in all, or `offset` outside the file (10022,
            TXF-04); not connected, or not a stream (10057, TXF-01)
        :raises UnsupportedOperation: not a regular file
        """
        operation = self._new(Opcode.SENDFILE, sock, overlapped, routine, timeout)
        check_count("offset", offset, 0)
        if count is not None:
            check_count("count", count, 0)
        if file is None and (offset or count):
            raise ValueError("offset and count are places in a file, and there is none")
        if file is not None and not hasattr(file, "fileno"):
            raise TypeError(f"a file is an object with fileno(), not {type(file).__name__}")
        if sock.type != socket.SOCK_STREAM:
            raise nt.make_exception(nt.STATUS_INVALID_CONNECTION, inline=True)
        operation._address = FileTransfer(
            file,
            offset,
            count,
            pin_one(head, "head", writable=False),
            pin_one(tail, "tail", writable=False),
        )
        return self._begin(operation, (head, tail), None, 0)

    def accept_many(
        self,
        listener: socket.socket,
        *,
        limit: int = 64,
        overlapped: Overlapped[list[tuple[socket.socket, Address]]] | None = None,
        routine: Routine | None = None,
        timeout: float | None = None,
    ) -> Overlapped[list[tuple[socket.socket, Address]]]:
        """Accept the connections that are there, in order: one at least, `limit` at most. The
        result is a list of what `accept` gives one of (AcceptEx, then accept() for the rest).

        A client that is gone already is passed over (ACC-12). Where descriptors run out, those that
        were accepted before are the result. A cancel loses no connection.

        :raises ValueError: `limit` is less than 1
        """
        operation = self._new(Opcode.ACCEPT_MANY, listener, overlapped, routine, timeout)
        check_count("limit", limit, 1)
        operation._address = limit
        return self._begin(operation, None, None, 0)

    def recv_pooled(
        self,
        sock: socket.socket,
        pool: BufferPool,
        *,
        overlapped: Overlapped[PooledBuffer] | None = None,
        routine: Routine | None = None,
        timeout: float | None = None,
    ) -> Overlapped[PooledBuffer]:
        """Receive into a buffer that is taken from `pool` when data is there (RECV-03), so that a
        connection that waits has none. The result is a `PooledBuffer`, of no bytes at the end of
        the stream (RECV-04), which the program gives back; until then the pool has one less.

        Where the pool has none left, the receive waits until one comes back, and is served in
        order.

        :raises UnsupportedOperation: a datagram socket
        :raises ValueError: the pool belongs to another port
        """
        operation = self._new(Opcode.RECV_POOLED, sock, overlapped, routine, timeout)
        if not isinstance(pool, BufferPool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"pool is a BufferPool, not {type(pool).__name__}")
        require_stream(sock, "datagrams are received with buffers of the program's own")
        pool.bind(self)
        operation._address = pool
        return self._begin(operation, pool, None, 0)


def require_stream(sock: socket.socket, why: str) -> None:
    """
    :raises UnsupportedOperation: a socket of datagrams
    """
    if sock.type != socket.SOCK_STREAM:
        raise nt.make_exception(nt.STATUS_NOT_SUPPORTED, inline=True, message=why)
