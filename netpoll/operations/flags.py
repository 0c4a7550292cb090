"""The flags of receives and sends: what they may be combined with, and on which sockets."""

from __future__ import annotations

import socket
from typing import Final

from netpoll import status as nt
from netpoll.errors import shown

MSG_PARTIAL: Final = 0x8000
"""Windows' number. It is for sockets whose provider hands messages out in parts, which no system's
own does: elsewhere it changes nothing (RECV-17)."""
MOST_FLAGS: Final = 0x7FFFFFFF
"""They are a C int."""
MSG_WAITALL: Final = int(socket.MSG_WAITALL)
_NOT_WITH_WAITALL: Final = int(socket.MSG_OOB | socket.MSG_PEEK) | MSG_PARTIAL
_NEVER: Final = {
    name: int(getattr(socket, name, 0))
    for name in ("MSG_TRUNC", "MSG_ERRQUEUE", "MSG_CMSG_CLOEXEC")
}


def check_flags(flags: object) -> None:
    """
    :raises TypeError: no number
    :raises ValueError: none that a system takes
    """
    if not isinstance(flags, int):
        raise TypeError(f"flags are a number such as socket.MSG_PEEK, not {shown(flags)}")
    if not 0 <= flags <= MOST_FLAGS:
        raise ValueError(f"flags are 0 to {MOST_FLAGS:#x}, not {shown(flags)}")


def check_receive_flags(sock: socket.socket, flags: int, *, whole: bool = True) -> None:
    """
    :param whole: whether the operation can wait for all of its buffers to be filled
    :raises TypeError: no number
    :raises ValueError: no flags of any system's
    :raises OSError: 10045, flags that this operation, or this socket, does not take (RECV-14)
    """
    check_flags(flags)
    for name, number in _NEVER.items():
        if flags & number:
            raise _refusal(f"netpoll uses {name} itself: leave it out")
    if not flags & MSG_WAITALL:
        return
    if flags & _NOT_WITH_WAITALL:
        raise _refusal("MSG_WAITALL goes with neither MSG_OOB, MSG_PEEK nor MSG_PARTIAL")
    if sock.type != socket.SOCK_STREAM:
        raise _refusal("MSG_WAITALL is for streams: a datagram comes whole, or is truncated")
    if not whole:
        raise _refusal("recvmsg_into does not take MSG_WAITALL; recv_into does")


def _refusal(message: str) -> OSError:
    return nt.make_exception(nt.STATUS_NOT_SUPPORTED, inline=True, message=message)
