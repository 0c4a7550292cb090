"""What may be associated, and that it is only once."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

from netpoll import status as nt

_claimed: weakref.WeakSet[socket.socket] = weakref.WeakSet()
_lock = threading.Lock()


@contextlib.contextmanager
def claim(handle: socket.socket) -> Iterator[bool]:
    """Whether no port has the handle yet. It is claimed when the block ends without an exception.

    An association lasts as long as the handle (ASSOC-04), also when its port has been closed: a program that
    relies on anything else fails on Windows, so it shall fail everywhere.
    """
    with _lock:
        free = handle not in _claimed
        yield free
        _claimed.add(handle)


def require_socket(handle: Any) -> None:
    """
    :raises TypeError: not a handle at all, or a TLS socket
    :raises OSError: closed (6), or a handle that overlapped operations do not work on (87)
    """
    if not isinstance(handle, socket.socket):
        if not hasattr(handle, "fileno"):
            raise TypeError(f"a handle is a socket, not {type(handle).__name__}")
        raise nt.make_exception(  # ASSOC-02
            nt.STATUS_INVALID_PARAMETER,
            message=f"only sockets can be used with overlapped operations, not {type(handle).__name__}",
        )
    if handle.fileno() < 0:
        raise nt.make_exception(nt.STATUS_INVALID_HANDLE, message="the socket is closed")
    ssl = sys.modules.get("ssl")
    if ssl is not None and isinstance(handle, ssl.SSLSocket):
        raise TypeError("a TLS socket does its own reading and writing; use ssl.MemoryBIO with a plain socket")
