"""Calls without an OVERLAPPED: they block, or with FIONBIO fail with WSAEWOULDBLOCK.

Each is an operation of the core without a packet, so that it stands in the line of the overlapped
ones of its socket (RECV-12, SEND-05) and the others go on meanwhile. What mode the descriptor is in
does not matter to it: FIONBIO is remembered here, and so are the time limits of a socket.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from netpoll import status as nt
from netpoll.overlapped import RECEIVES, SENDS, Opcode
from netpoll.winapi import constants as c
from netpoll.winapi.errors import winsock_code
from netpoll.winapi.events import Event
from netpoll.winapi.handles import known, port_of, starting_port
from netpoll.winapi.overlapped import OVERLAPPED, WSABUF, Operation, see_end, views_of
from netpoll.winapi.starts import tell
from netpoll.winapi.waits import wait_alertably

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from netpoll import Overlapped
    from netpoll.winapi.overlapped import Conclude
    from netpoll.winapi.starts import Start

    AnyOverlapped = Overlapped[Any]

WSAEWOULDBLOCK: Final = nt.winsock_error(nt.STATUS_DEVICE_NOT_READY)
WSAETIMEDOUT: Final = nt.winsock_error(nt.STATUS_IO_TIMEOUT)
IN_THE_LINE_OF_SENDS: Final = SENDS | {Opcode.SENDFILE, Opcode.DISCONNECT, Opcode.CONNECT}
TIME_LIMITS: Final = c.SO_RCVTIMEO, c.SO_SNDTIMEO


def block(sock: socket.socket, begin: Start, conclude: Conclude | None = None) -> tuple[int, int]:
    """Start an operation and wait for its end (OVL-17), alertably (APC-05). Ctrl-C ends the
    operation, too.

    :return: the Winsock code and the bytes moved; 10035, it had to wait and the socket is
        non-blocking; 10060, SO_RCVTIMEO or SO_SNDTIMEO is over
    """
    operation = Operation(OVERLAPPED(), conclude)
    operation.packet = False
    tell(operation, Event(manual_reset=True, signalled=False))
    try:
        begin(starting_port(sock), operation)
    except OSError as error:
        operation.event = (
            None  # which has the operation itself: it shall not wait for the collector
        )
        return winsock_code(error), 0
    try:
        ended = wait_alertably(operation, _patience(sock, operation))
    except BaseException:
        _end(operation)
        raise
    if not ended:
        _end(operation)
    status, moved = see_end(operation)
    if not ended and status == nt.STATUS_CANCELLED:
        if moved and operation.opcode in RECEIVES:  # a part of MSG_WAITALL (CAN-10)
            return 0, moved
        return WSAEWOULDBLOCK if known(sock).nonblocking else WSAETIMEDOUT, 0
    return nt.winsock_error(status), moved


def _patience(sock: socket.socket, operation: Operation) -> float | None:
    """How many seconds it may take."""
    record = known(sock)
    receives, sends = operation.opcode in RECEIVES, operation.opcode in SENDS
    if record.nonblocking and (receives or sends or operation.opcode is Opcode.ACCEPT):
        return 0.0
    option = c.SO_RCVTIMEO if receives else c.SO_SNDTIMEO if sends else 0
    milliseconds = record.options.get(option, 0)
    return milliseconds / 1000 if milliseconds else None


def _end(operation: Operation) -> None:
    """Nobody waits for it any more. It may have succeeded all the same (CAN-05)."""
    operation.cancel()
    operation.wait()


# -- FIONBIO ---------------------------------------------------------------------------------------


def set_nonblocking(sock: socket.socket, on: bool) -> None:
    """FIONBIO: of the calls here. Overlapped operations do not care (XFER-05)."""
    known(sock).nonblocking = on


def sends_a_part(sock: socket.socket) -> bool:
    """Whether a send takes what there is room for: a stream's, in non-blocking mode. An operation
    of the core is whole or failed (SEND-04)."""
    return known(sock).nonblocking and sock.type == c.SOCK_STREAM


def send_a_part(
    sock: socket.socket, buffers: WSABUF | Sequence[WSABUF] | None, count: int, flags: int
) -> tuple[int, int]:
    """Send what there is room for.

    :return: the Winsock code and the bytes sent; 10035 for none, or while sends are pending, which
        go first (SEND-05)
    """
    for each in port_of(sock).inflight():
        operation: AnyOverlapped = each.overlapped
        before = each.handle is sock and operation.opcode in IN_THE_LINE_OF_SENDS
        if before and not operation.wait(0):  # it may have ended, and its packet not been taken
            return WSAEWOULDBLOCK, 0
    try:
        views: Any = views_of(buffers, count, writable=False) if count else ()
        sock.setblocking(False)
        return 0, sock.send(b"".join(views), flags)
    except BlockingIOError:
        return WSAEWOULDBLOCK, 0
    except OSError as error:
        return winsock_code(error), 0


# -- options that are kept here --------------------------------------------------------------------


def keeps(level: int, option: int) -> bool:
    """Whether this is where an option of a socket has its effect: the time limits, which are
    milliseconds on every system; and outside Windows SO_EXCLUSIVEADDRUSE, which has none, because
    every bind is like that (EMU-25)."""
    if level != c.SOL_SOCKET:
        return False
    exclusive = option == c.SO_EXCLUSIVEADDRUSE and sys.platform != "win32"
    return option in TIME_LIMITS or exclusive


def set_kept(sock: socket.socket, option: int, value: Any) -> None:
    """Set one of those."""
    known(sock).options[option] = value if isinstance(value, int) else number_in(value)


def number_in(value: Any) -> int:
    """What a DWORD or a BOOL is: a number, or its bytes in memory."""
    return value if isinstance(value, int) else int.from_bytes(value, sys.byteorder)
