"""What Windows has: pipes, subprocesses and signals, which asyncio's selector loop lacks there."""

from __future__ import annotations

import inspect
import signal
from asyncio import events
from typing import TYPE_CHECKING, Any

from netpoll.asyncio.children import Children, ChildTransport
from netpoll.asyncio.pipes import ReadPipeTransport, WritePipeTransport
from netpoll.asyncio.standard import SystemLoop

if TYPE_CHECKING:
    import socket


class SubprocessTransport(ChildTransport):
    """A child process."""

    def _start(
        self,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: int,
        **kwargs: Any,
    ) -> None:
        from asyncio import windows_utils  # has overlapped pipes for the child's streams

        utils: Any = windows_utils
        self._proc = utils.Popen(
            args, shell=shell, stdin=stdin, stdout=stdout, stderr=stderr, bufsize=bufsize, **kwargs
        )
        self._await_end()


class System(Children, SystemLoop):
    """Part of `EventLoop`: what this system has."""

    _child_transport = SubprocessTransport

    def __init__(self, selector: Any = None) -> None:
        self._signal_handlers: dict[int, events.Handle] = {}
        self._old_signal_handlers: dict[int, Any] = {}
        super().__init__(selector)

    # -- signals -----------------------------------------------------------------------------------

    def run_forever(self) -> None:
        """Run until `stop()`. In the main thread, signals wake the loop meanwhile."""
        self._check_closed()
        try:
            before = signal.set_wakeup_fd(self._csock.fileno(), warn_on_full_buffer=False)
        except ValueError:  # another thread
            super().run_forever()
            return
        try:
            super().run_forever()
        finally:
            signal.set_wakeup_fd(before)

    def add_signal_handler(  # type: ignore[override]
        self, sig: int, callback: Any, *args: Any
    ) -> None:
        """Call `callback` in the loop when the signal comes: SIGINT (Ctrl-C), SIGBREAK, and those
        that the process raises itself.

        :raises ValueError: no signal, or one that Windows does not let a program handle
        :raises RuntimeError: this is not the main thread
        """
        if inspect.iscoroutine(callback) or inspect.iscoroutinefunction(callback):
            raise TypeError("coroutines cannot be used with add_signal_handler()")
        _check_signal(sig)
        self._check_closed()
        handle = events.Handle(callback, args, self, None)

        def on_signal(number: int, frame: object) -> None:
            if not handle._cancelled:
                self._add_callback_signalsafe(handle)

        try:
            before = signal.signal(sig, on_signal)
        except ValueError as error:
            if "main thread" in str(error):
                raise RuntimeError(str(error)) from None
            raise
        self._old_signal_handlers.setdefault(sig, before)
        self._signal_handlers[sig] = handle

    def remove_signal_handler(self, sig: int) -> bool:
        """Back to what was there before; `False` if there was no handler."""
        _check_signal(sig)
        if self._signal_handlers.pop(sig, None) is None:
            return False
        before = self._old_signal_handlers.pop(sig)
        signal.signal(sig, signal.SIG_DFL if before is None else before)
        return True

    def close(self) -> None:
        """Close the loop and its port."""
        if not self.is_running():
            for sig in list(self._signal_handlers):
                self.remove_signal_handler(sig)
        super().close()

    def _remove_path(self, sock: socket.socket) -> None:
        """Python has no Unix sockets here."""

    # -- pipes -------------------------------------------------------------------------------------

    def _make_read_pipe_transport(
        self, pipe: Any, protocol: Any, waiter: Any = None, extra: Any = None
    ) -> ReadPipeTransport:
        return ReadPipeTransport(self, pipe, protocol, waiter, extra)

    def _make_write_pipe_transport(
        self, pipe: Any, protocol: Any, waiter: Any = None, extra: Any = None
    ) -> WritePipeTransport:
        return WritePipeTransport(self, pipe, protocol, waiter, extra)


def _check_signal(sig: Any) -> None:
    if not isinstance(sig, int):
        raise TypeError(f"sig must be an int, not {sig!r}")
    if sig not in signal.valid_signals():
        raise ValueError(f"invalid signal number {sig}")
