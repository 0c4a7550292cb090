"""Streams: receive and send, accept and connect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from netpoll.backends import addresses
from netpoll.buffers import BufferList, copy, pin, pin_one
from netpoll.operations.flags import check_flags, check_receive_flags
from netpoll.operations.starter import Starter, check_count
from netpoll.overlapped import Opcode, Overlapped

if TYPE_CHECKING:
    import socket

    from typing_extensions import Buffer

    from netpoll.operations.starter import Routine

Address = Any
"""What the `socket` module takes and gives: a tuple for IPv4 and IPv6."""


MOST_BYTES: Final = 0xFFFFFFFF
"""In one receive: a WSABUF counts them with a ULONG. Said before the memory is asked for."""


class Streams(Starter):
    """Part of `CompletionPort`: operations on stream sockets."""

    def recv_into(
        self,
        sock: socket.socket,
        buffers: BufferList,
        *,
        flags: int = 0,
        overlapped: Overlapped[int] | None = None,
        routine: Routine | None = None,
        timeout: float | None = None,
    ) -> Overlapped[int]:
        """Receive into one buffer or several, filled in order (WSARecv, RECV-11).

        Completes with any data (RECV-03); 0 bytes are the end of the stream (RECV-04), unless there
        was no room: a receive of nothing waits for readability and consumes nothing (RECV-01).

        :param flags: of the `socket` module; `MSG_WAITALL` waits until the buffers are full, or the
            stream ends, and is for streams (RECV-14)
        :param timeout: seconds until it ends as `TimeoutError`
        :raises OSError: it failed at once, so there is no completion
        """
        if flags != 0:
            check_receive_flags(sock, flags)
        operation = self._new(Opcode.RECV_INTO, sock, overlapped, routine, timeout)
        return self._begin(operation, buffers, pin(buffers, writable=True), flags)

    def recv(
        self,
        sock: socket.socket,
        size: int,
        *,
        flags: int = 0,
        overlapped: Overlapped[bytes] | None = None,
        routine: Routine | None = None,
        timeout: float | None = None,
    ) -> Overlapped[bytes]:
        """Receive at most `size` bytes; the result is `bytes`, empty at the end of the stream.

        For a loop, `recv_into` and `resubmit` are the cheaper way.

        :param size: 0 to 0xFFFFFFFF, which is what Windows moves at once; the memory is taken now
        """
        check_count("size", size, 0, MOST_BYTES)
        if flags != 0:
            check_receive_flags(sock, flags)
        operation = self._new(Opcode.RECV, sock, overlapped, routine, timeout)
        return self._begin(operation, None, memoryview(bytearray(size)), flags)

    def send(
        self,
        sock: socket.socket,
        buffers: BufferList,
        *,
        flags: int = 0,
        size: int | None = None,
        overlapped: Overlapped[int] | None = None,
        routine: Routine | None = None,
        timeout: float | None = None,
    ) -> Overlapped[int]:
        """Send one buffer or several, in order: all of it, or it fails (WSASend, SEND-04).

        :param size: send the first `size` bytes only; a `resubmit` may send more of the buffers
        """
        if flags != 0:
            check_flags(flags)
        operation = self._new(Opcode.SEND, sock, overlapped, routine, timeout)
        return self._begin(operation, buffers, pin(buffers, writable=False), flags, size)

    def accept(
        self,
        listener: socket.socket,
        *,
        receive: Buffer | None = None,
        overlapped: Overlapped[tuple[socket.socket, Address]] | None = None,
        routine: Routine | None = None,
        timeout: float | None = None,
    ) -> Overlapped[tuple[socket.socket, Address]]:
        """Accept one connection (AcceptEx); the result is the new socket, not associated
        (ASSOC-11), and the peer's address. The completion carries the listener's key.

        A client that is gone before it is accepted is no error of the listener's (ACC-12).

        :param receive: one buffer: complete only when the connection's first data is in it (ACC-08)
            or its end is reached (ACC-09); `transferred` says how much
        """
        operation = self._new(Opcode.ACCEPT, listener, overlapped, routine, timeout)
        pinned = None if receive is None else pin_one(receive, "receive", writable=True)
        return self._begin(operation, receive, pinned, 0)

    def connect(
        self,
        sock: socket.socket,
        address: Address,
        *,
        data: BufferList | None = None,
        overlapped: Overlapped[None] | None = None,
        routine: Routine | None = None,
        timeout: float | None = None,
    ) -> Overlapped[None]:
        """Connect a stream socket (ConnectEx, bound for you); its end is always a packet (CON-04).

        :param address: numeric: a name would have to be looked up, which blocks
        :param data: one buffer or several, sent with the connection; copied (CON-03),
            `transferred` counts it (CON-02)
        """
        operation = self._new(Opcode.CONNECT, sock, overlapped, routine, timeout)
        operation._address, _ = addresses.check(sock.family, address)
        return self._begin(operation, data, None if data is None else copy(data), 0)
