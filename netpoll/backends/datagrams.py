"""What Winsock would say of a POSIX datagram socket: whose an error is, and who is told of it.

An error that an earlier datagram met elsewhere (its port was unreachable) comes out of whatever
call is made next. Winsock tells a receive of it, and never a send (UDP-05, EMU-18).

Linux tells sockets that are not connected only with IP_RECVERR, and then also keeps each error in
a queue of its own. One entry is taken out for each call that failed: the system makes the next
entry the socket's error by that, so that each is told of, and none twice.
"""

from __future__ import annotations

import errno
import socket
import sys
from typing import TYPE_CHECKING, Any, Final

from netpoll import status as nt
from netpoll.backends import addresses
from netpoll.backends.sockets import DONTWAIT, INTERNET, IOV_MAX, association_of
from netpoll.overlapped import Opcode

if TYPE_CHECKING:
    from netpoll.backends.sockets import SocketAssociation
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]

OWN: Final = 0
"""The error is the operation's."""
AGAIN: Final = 1
"""It is none of the program's: try again."""
REPORT: Final = 2
"""A send has met it: try again, and let the next receive fail."""
UNREACHABLE: Final = frozenset(
    (errno.ECONNREFUSED, errno.ECONNRESET) if sys.platform == "win32" else (errno.ECONNREFUSED,)
)
MSG_ERRQUEUE: Final = 0x2000
RECVERR: Final[dict[int, tuple[tuple[int, int], ...]]] = {
    socket.AF_INET: ((0, 11),),
    socket.AF_INET6: ((0, 11), (41, 25)),
}
"""Linux' IP_RECVERR and IPV6_RECVERR, level and option; IPv6 sockets may talk IPv4 too."""
LOCAL: Final = 1
"""SO_EE_ORIGIN_LOCAL: an entry about a send that has failed with this error itself."""


def check_bound(sock: socket.socket) -> None:
    """
    :raises OSError: 10022, nothing can ever be received by a socket without a port (UDP-08)
    """
    if sock.family not in INTERNET or sock.type == socket.SOCK_STREAM:
        return
    try:
        bound = sock.getsockname()[1] != 0
    except OSError:  # how Windows says it
        bound = False
    if not bound and sock.fileno() >= 0:
        raise nt.make_exception(
            nt.STATUS_INVALID_PARAMETER,
            inline=True,
            message="a socket that is not bound receives nothing: bind() it, to port 0 if any will "
            "do, or send something first",
        )


def check_buffers(operation: Operation) -> None:
    """
    :raises ValueError: more buffers than one call takes, and a datagram has to go in one
    """
    pinned = operation._pinned
    if isinstance(pinned, list) and len(pinned) > IOV_MAX:
        raise ValueError(
            f"a datagram has {IOV_MAX} buffers at most, and not {len(pinned)}; join them first"
        )


def redirect(operation: Operation, address: Any) -> bytes:
    """Let the next start of a send go to `address`.

    :return: its bytes
    :raises ValueError: the operation sends nothing to an address, or it is none of the socket's
        family, or its host is not numeric
    :raises TypeError: no address at all
    """
    if operation.opcode not in (Opcode.SENDTO, Opcode.SENDMSG):
        raise ValueError(f"{operation!r} takes no address: only a sendto or a sendmsg does")
    operation._address, data = addresses.check(operation.handle.family, address)
    return data


def whose(operation: Operation, number: int) -> int:
    """Whose the error is that a call for `operation` has met: `OWN`, `AGAIN` or `REPORT`."""
    sock: socket.socket = operation.handle
    if sock.family not in INTERNET:
        return OWN
    record = association_of(operation)
    queued = record.reports and sys.platform == "linux"
    origin = _take_report(sock) if queued else None
    sending = operation._queue is record.writing
    if number in UNREACHABLE:
        if record.reports is False:
            return AGAIN
        return REPORT if sending else OWN
    if number == errno.EMSGSIZE and not sending and sys.platform != "win32":
        return AGAIN  # about the way to a peer (path MTU); truncation is told by a flag
    return AGAIN if origin not in (None, LOCAL) else OWN


def _take_report(sock: Any) -> int | None:
    """Take one entry out of the socket's queue of errors; its origin, if there was one."""
    try:
        _, ancillary, _, _ = sock.recvmsg(1, 512, MSG_ERRQUEUE | DONTWAIT)
    except OSError:
        return None
    known = RECVERR[socket.AF_INET6]
    origins: list[int] = [data[4] for level, kind, data in ancillary if (level, kind) in known]
    return origins[0] if origins else None


def is_told_of_room(operation: Operation) -> bool:
    """Whether readiness tells when a send that found no room is worth another try. Of a Unix socket
    it is the queue of the receiver that is full, and poll() looks at the peer's of a connected one
    only."""
    return operation._address is None or operation.handle.family != addresses.UNIX


def switch_reports(record: SocketAssociation, on: bool) -> None:
    """Whether receives are told of unreachable ports (SIO_UDP_CONNRESET, UDP-06).

    :raises OSError: this is no UDP socket, or the system cannot tell
    """
    sock: socket.socket | None = record.handle()
    assert sock is not None
    check_udp(sock)
    if sys.platform == "linux":
        for level, option in RECVERR[sock.family]:
            sock.setsockopt(level, option, int(on))
    elif on and sys.platform != "win32":
        try:
            sock.getpeername()
        except OSError:
            raise nt.make_exception(
                nt.STATUS_NOT_SUPPORTED,
                inline=True,
                message="this system tells connected sockets only of unreachable ports",
            ) from None
    record.reports = on
    if not on and record.reading.refusal == nt.STATUS_PORT_UNREACHABLE:
        record.reading.refusal = 0


def check_udp(sock: socket.socket) -> None:
    """
    :raises OSError: 10045, this is no UDP socket
    """
    if sock.family not in INTERNET or sock.type != socket.SOCK_DGRAM:
        raise nt.make_exception(
            nt.STATUS_NOT_SUPPORTED,
            inline=True,
            message="only UDP sockets are told of unreachable ports",
        )
