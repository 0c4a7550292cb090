"""Messages: datagrams with their addresses, and what travels beside the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netpoll.backends import addresses
from netpoll.buffers import BufferList, pin
from netpoll.messages import Message, check_ancillary
from netpoll.operations.flags import check_flags, check_receive_flags
from netpoll.operations.starter import Starter, check_count
from netpoll.overlapped import Opcode, Overlapped

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

    from typing_extensions import Buffer

    from netpoll.operations.starter import Routine
    from netpoll.operations.streams import Address

MOST_ANCILLARY = 1 << 20
"""Bytes of control data; systems have lower limits of their own."""


class Messages(Starter):
    """Part of `CompletionPort`: operations that know of addresses and control data."""

    def recvfrom_into(
        self,
        sock: socket.socket,
        buffers: BufferList,
        *,
        flags: int = 0,
        overlapped: Overlapped[tuple[int, Address]] | None = None,
        routine: Routine | None = None,
        timeout: float | None = None,
    ) -> Overlapped[tuple[int, Address]]:
        """Receive one datagram (WSARecvFrom); the result is its size and the sender's address,
        which is `None` on a stream (RECV-20).

        What does not fit is lost, and said to be: error 234, with the bytes that fitted (UDP-01);
        `Overlapped.value` has the address then. An empty datagram is a success of 0 bytes (UDP-04).
        An earlier datagram that found no port fails one receive, with 1234 or, at once, 10054
        (UDP-05); the socket is as good as before, so start the next.

        :raises OSError: it failed at once; 10022 on a socket that is not bound (UDP-08)
        """
        if flags != 0:
            check_receive_flags(sock, flags)
        operation = self._new(Opcode.RECVFROM_INTO, sock, overlapped, routine, timeout)
        return self._begin(operation, buffers, pin(buffers, writable=True), flags)

    def sendto(
        self,
        sock: socket.socket,
        buffers: BufferList,
        address: Address,
        *,
        flags: int = 0,
        size: int | None = None,
        overlapped: Overlapped[int] | None = None,
        routine: Routine | None = None,
        timeout: float | None = None,
    ) -> Overlapped[int]:
        """Send one datagram to `address` (WSASendTo), which binds the socket if need be (UDP-08).
        A `resubmit` goes to the same address, or to another one. On a connected stream the address
        is ignored.

        :param address: numeric: a name would have to be looked up, which blocks
        :param size: send the first `size` bytes only; a `resubmit` may send more of the buffers
        :raises OSError: it failed at once; 10040, it is longer than a datagram can be (UDP-10)
        """
        if flags != 0:
            check_flags(flags)
        operation = self._new(Opcode.SENDTO, sock, overlapped, routine, timeout)
        operation._address, _ = addresses.check(sock.family, address)
        return self._begin(operation, buffers, pin(buffers, writable=False), flags, size)

    def recvmsg_into(
        self,
        sock: socket.socket,
        buffers: BufferList,
        ancillary_size: int = 0,
        *,
        flags: int = 0,
        overlapped: Overlapped[Message] | None = None,
        routine: Routine | None = None,
        timeout: float | None = None,
    ) -> Overlapped[Message]:
        """Receive data with what travels beside it (WSARecvMsg), as `socket.recvmsg_into`.

        As `recvfrom_into` on datagrams and as `recv_into` on streams; Windows has control data for
        datagrams only. Descriptors that come (SCM_RIGHTS) are closed if there is no room for them,
        or if nobody asks for the result.

        :param ancillary_size: room for control data in bytes, as `socket.CMSG_SPACE` counts it: 16
            and the data rounded up to 8 for each message, on 64-bit systems
        """
        if flags != 0:
            check_receive_flags(sock, flags, whole=False)
        check_count("ancillary_size", ancillary_size, 0, MOST_ANCILLARY)
        operation = self._new(Opcode.RECVMSG_INTO, sock, overlapped, routine, timeout)
        operation._ancillary = ancillary_size
        return self._begin(operation, buffers, pin(buffers, writable=True), flags)

    def sendmsg(
        self,
        sock: socket.socket,
        buffers: BufferList,
        ancillary: Iterable[tuple[int, int, Buffer]] = (),
        address: Address | None = None,
        *,
        flags: int = 0,
        overlapped: Overlapped[int] | None = None,
        routine: Routine | None = None,
        timeout: float | None = None,
    ) -> Overlapped[int]:
        """Send data with control data beside it (WSASendMsg), as `socket.sendmsg`: one datagram,
        or all of it on a stream, the control data with its first bytes (SEND-04).

        :param ancillary: (level, type, data) triples, copied; descriptors in them stay yours, and
            have to be open until the completion
        :param address: as `sendto` takes it; `None` on a connected socket
        """
        if flags != 0:
            check_flags(flags)
        operation = self._new(Opcode.SENDMSG, sock, overlapped, routine, timeout)
        if address is not None:
            operation._address, _ = addresses.check(sock.family, address)
        operation._ancillary = check_ancillary(ancillary)
        return self._begin(operation, buffers, pin(buffers, writable=False), flags)
