"""What every try of an operation uses: its socket kept non-blocking, and its failures told."""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import TYPE_CHECKING, Any, Final

from netpoll.backends import sockets
from netpoll.backends.queues import DONE

if TYPE_CHECKING:
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]

HAS_MSG: Final = hasattr(socket.socket, "recvmsg_into")
"""Whether Python has vectored calls here; on Windows it has not, and the data is copied instead."""


def unblock(operation: Operation) -> None:
    """Undo a change of the socket's mode since its association (XFER-05).

    `MSG_DONTWAIT` alone would not do: with a timeout Python itself waits before the call, and
    `accept` takes no flags.
    """
    if operation.handle.gettimeout() != 0.0:
        with contextlib.suppress(OSError):  # closed: the try that follows will say so
            operation.handle.setblocking(False)


def fail(operation: Operation, error: OSError) -> int:
    """End `operation` with what the system said."""
    sockets.fail(operation, error.errno or errno.EIO)
    return DONE
