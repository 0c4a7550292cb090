"""What POSIX systems have: asyncio's own pipes, signals and Unix sockets, over this loop's
readiness; and subprocesses that are waited for by an operation."""

from __future__ import annotations

import asyncio
from asyncio import unix_events
from typing import TYPE_CHECKING, Any

from netpoll.asyncio.operations import Operation
from netpoll.asyncio.standard import SystemLoop

if TYPE_CHECKING:
    from netpoll.overlapped import Completion


class System(SystemLoop):
    """Part of `EventLoop`: what this system has."""

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
        standard: Any = unix_events
        transport = standard._UnixSubprocessTransport(
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
