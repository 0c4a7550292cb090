"""A descriptor that turns readable once a process has ended or an event is set.

Each wait has one of its own, which is closed with it: nothing else is registered under its number,
and the process's or the event's owner may close what is theirs at any time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import threading
from typing import TYPE_CHECKING, Any, Final

from netpoll import status as nt
from netpoll.handles import is_process

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

_os: Any = os
"""For names that are declared on some systems only."""
NO_PIDFD: Final = frozenset((errno.ENOSYS, errno.EPERM, errno.EINVAL))
"""What an old kernel, or a sandbox, says to pidfd_open."""
SLICE_MS: Final = 100


class Waitable:
    """What a selector or a ring is given of it."""

    __slots__ = ("__weakref__", "_close", "_number")

    def __init__(self, number: int, close: Callable[[], object]) -> None:
        self._number = number
        self._close = close

    def fileno(self) -> int:
        return self._number

    def close(self) -> None:
        self._number = -1
        self._close()


def open_waitable(handle: Any) -> Waitable:
    """
    :raises OSError: there is no descriptor to be had; closed; or a file, which is always readable
    """
    try:
        if is_process(handle):
            return _of_process(handle)
        return _of_object(handle)
    except ValueError:  # a closed file
        raise nt.make_exception(nt.STATUS_INVALID_HANDLE, inline=True) from None
    except OSError as error:
        if hasattr(error, "status"):
            raise
        raise nt.make_exception(nt.from_errno(error.errno or 0), inline=True) from None


def _of_object(handle: Any) -> Waitable:
    if os.name == "nt":
        return _of_handle(handle.handle)
    mode = os.fstat(handle.fileno()).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        raise nt.make_exception(
            nt.STATUS_INVALID_PARAMETER,
            inline=True,
            message="a file is always readable: there is nothing to wait for",
        )
    return _of_number(os.dup(handle.fileno()))


def result_of(handle: Any) -> int | None:
    """What a wait that has ended well gives: the return code of a process."""
    if not is_process(handle):
        return None
    # not poll(): that gives up while another thread is just about to collect the return code
    process: subprocess.Popen[Any] = handle
    return process.wait()


def _of_process(process: subprocess.Popen[Any]) -> Waitable:
    if process.poll() is not None:
        return _by_thread(None)
    if hasattr(os, "pidfd_open"):
        try:
            return _of_number(_os.pidfd_open(process.pid))
        except ProcessLookupError:  # another thread has just collected its return code
            return _by_thread(None)
        except OSError as error:
            if error.errno not in NO_PIDFD:
                raise
    return _by_thread(lambda near: process.wait())


def _of_number(number: int) -> Waitable:
    return Waitable(number, lambda: os.close(number))


def _by_thread(wait: Callable[[socket.socket], object] | None) -> Waitable:
    """Readable, by the end of a stream, when `wait` returns; with `None` at once.

    A thread that waits for a process cannot be called off: after a cancel it stays until that ends.
    """
    near, far = socket.socketpair()
    if wait is None:
        far.close()
    else:
        threading.Thread(
            target=_wait_and_close, args=(wait, near, far), name="netpoll wait", daemon=True
        ).start()
    return Waitable(near.fileno(), near.close)


def _wait_and_close(
    wait: Callable[[socket.socket], object], near: socket.socket, far: socket.socket
) -> None:
    with far, contextlib.suppress(OSError):
        wait(near)


def _of_handle(number: int) -> Waitable:
    """Windows without completion ports: a thread that waits in slices, and ends with a cancel."""
    import _winapi  # what subprocess waits with

    api: Any = _winapi
    this = api.GetCurrentProcess()
    same = api.DUPLICATE_SAME_ACCESS
    own = api.DuplicateHandle(this, number, this, 0, False, same)

    def wait(near: socket.socket) -> None:
        try:
            while near.fileno() >= 0 and api.WaitForSingleObject(own, SLICE_MS):
                continue
        finally:
            api.CloseHandle(own)

    return _by_thread(wait)
