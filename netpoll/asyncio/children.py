"""Child processes: what is the same on all systems."""

from __future__ import annotations

import asyncio
import warnings
from asyncio import base_subprocess
from typing import TYPE_CHECKING, Any

from netpoll.asyncio.operations import Operation
from netpoll.asyncio.standard import LoopPart

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll.overlapped import Completion


class ChildTransport(base_subprocess.BaseSubprocessTransport):
    """A child whose end is the end of an operation, and whose finalizer calls no closed loop."""

    if TYPE_CHECKING:
        _closed: bool
        _loop: Any
        _pipes: dict[int, Any]
        _proc: Any
        _returncode: int | None

        def _check_proc(self) -> None: ...
        def _process_exited(self, returncode: int) -> None: ...

    ended: asyncio.Future[None]
    """Done once the child has ended, whatever becomes of its pipes: `_wait()` waits for these too,
    before Python 3.13."""

    def _await_end(self) -> None:
        """To be called once there is a child."""
        end = self.ended = self._loop.create_future()

        def ended(completion: Completion) -> None:
            if not completion.status:
                self._process_exited(completion.result())
                end.set_result(None)

        # on POSIX by a pidfd: no thread, and no SIGCHLD handler that must be shared
        self._loop.port.wait(self._proc, overlapped=Operation(ended))

    async def _connect_pipes(self, waiter: Any) -> None:
        child = self._proc
        await super()._connect_pipes(waiter)  # type: ignore[misc, unused-ignore]
        if not self._closed and None not in self._pipes.values():
            return
        # one of them could not be connected, or close() came before there were any to close
        for number, pipe in self._pipes.items():
            if pipe is None:
                (child.stdin, child.stdout, child.stderr)[number].close()
            else:
                pipe.pipe.close()

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if self._closed:
            return
        if not self._loop.is_closed():
            super().__del__(_warn)  # type: ignore[call-arg, unused-ignore]
            return
        # close() closes the pipes' transports, which would tell their protocols by way of the loop.
        # They close their own descriptors; what is left is the child.
        self._closed = True
        _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
        if self._proc is not None and self._returncode is None and self._proc.poll() is None:
            self._proc.kill()


class Children(LoopPart):
    """Part of `EventLoop`: subprocesses."""

    _child_transport: type[Any]
    """A `ChildTransport` that starts a child in the way of this system."""

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
        transport = self._child_transport(
            self, protocol, args, shell, stdin, stdout, stderr, bufsize,
            waiter=waiter, extra=extra, **kwargs,
        )  # fmt: skip
        try:
            await waiter
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            await asyncio.shield(transport.ended)
            raise
        return transport
