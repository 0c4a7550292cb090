"""What POSIX systems have: asyncio's own pipes, signals and Unix sockets, over this loop's
readiness; and subprocesses that are waited for by an operation."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from asyncio import base_subprocess, unix_events
from asyncio.log import logger
from typing import TYPE_CHECKING, Any

from netpoll.asyncio.children import ChildTransport
from netpoll.asyncio.operations import Operation
from netpoll.asyncio.standard import SystemLoop

if TYPE_CHECKING:
    import socket

    from netpoll.overlapped import Completion


standard: Any = unix_events
if TYPE_CHECKING:

    class UnixSubprocessTransport(base_subprocess.BaseSubprocessTransport):
        """As asyncio has it, by a private name."""

else:
    UnixSubprocessTransport = standard._UnixSubprocessTransport


class SubprocessTransport(ChildTransport, UnixSubprocessTransport):
    """A child process. The base sees to its standard input."""

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


class System(SystemLoop):
    """Part of `EventLoop`: what this system has."""

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

    async def _make_subprocess_transport(
        self,
        protocol: Any,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: int,
        extra: Any = None,
        **kwargs: Any,
    ) -> Any:
        waiter = self.create_future()
        transport: Any = SubprocessTransport(
            self, protocol, args, shell, stdin, stdout, stderr, bufsize,
            waiter=waiter, extra=extra, **kwargs,
        )  # fmt: skip

        def ended(completion: Completion) -> None:
            if not completion.status:
                transport._process_exited(completion.result())

        # a pidfd: no thread, and no SIGCHLD handler that must be shared
        self.port.wait(transport._proc, overlapped=Operation(ended))
        try:
            await waiter
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            await asyncio.shield(transport._wait())
            raise
        return transport
