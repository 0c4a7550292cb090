"""What POSIX systems have: asyncio's own pipes, signals and Unix sockets, over this loop's
readiness; and its way to start a child."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from asyncio import base_subprocess, unix_events
from asyncio.log import logger
from typing import TYPE_CHECKING, Any

from netpoll.asyncio.children import Children, ChildTransport
from netpoll.asyncio.standard import SystemLoop

if TYPE_CHECKING:
    import socket


standard: Any = unix_events
if TYPE_CHECKING:

    class UnixSubprocessTransport(base_subprocess.BaseSubprocessTransport):
        """As asyncio has it, by a private name."""

else:
    UnixSubprocessTransport = standard._UnixSubprocessTransport


class SubprocessTransport(ChildTransport, UnixSubprocessTransport):
    """A child process. The base sees to its standard input."""

    def _start(self, *args: Any, **kwargs: Any) -> None:
        super()._start(*args, **kwargs)
        self._await_end()

    def send_signal(self, signal: int) -> None:
        """Send it a signal, unless it has ended."""
        self._check_proc()
        # which signals nobody who has been waited for, whether or not that has been told yet
        self._proc.send_signal(signal)


class Wakeup:
    """The descriptor that is told of signals, which is one for the whole process."""

    def __init__(self, own: int) -> None:
        self._before = signal.set_wakeup_fd(own)
        self._identity = os.fstat(self._before) if self._before >= 0 else None

    def restore(self) -> None:
        """Give it back to whoever had it, if that is still there."""
        # its owner may have closed it, and the number may be another file's by now
        with contextlib.suppress(OSError, ValueError):
            if self._identity and os.path.samestat(self._identity, os.fstat(self._before)):
                signal.set_wakeup_fd(self._before)


class System(Children, SystemLoop):
    """Part of `EventLoop`: what this system has."""

    _child_transport = SubprocessTransport
    _wakeup: Wakeup | None = None
    _signal_handlers: dict[int, Any]

    def add_signal_handler(  # type: ignore[override]
        self, sig: int, callback: Any, *args: Any
    ) -> None:
        """Call `callback` in the loop when the signal comes.

        :raises ValueError: no signal, or one that cannot be caught
        :raises RuntimeError: this is not the main thread
        """
        main = threading.current_thread() is threading.main_thread()
        if main and self._wakeup is None and not self._closed:
            self._wakeup = Wakeup(self._csock.fileno())
        try:
            super().add_signal_handler(sig, callback, *args)
        finally:
            self._restore_wakeup()

    def remove_signal_handler(self, sig: int) -> bool:
        """Back to what the system does; `False` if there was no handler."""
        try:
            return super().remove_signal_handler(sig)
        finally:
            self._restore_wakeup()

    def _restore_wakeup(self) -> None:
        """Without handlers the loop wants to know of no signals."""
        if self._wakeup is not None and not self._signal_handlers:
            self._wakeup.restore()
            self._wakeup = None

    def _remove_path(self, sock: socket.socket) -> None:
        """From 3.13 on, the end of a server is the end of its Unix socket's file, if it is still
        the same file."""
        made: dict[socket.socket, int] = getattr(self, "_unix_server_sockets", {})
        inode = made.pop(sock, None)
        if inode is None:
            return
        path = sock.getsockname()
        try:
            if os.stat(path).st_ino == inode:
                os.unlink(path)
        except FileNotFoundError:
            pass  # somebody else has removed it
        except OSError as error:
            logger.error("Unable to clean up listening UNIX socket %r: %r", path, error)
