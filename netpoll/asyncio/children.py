"""What the transports of child processes share on all systems."""

from __future__ import annotations

import warnings
from asyncio import base_subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class ChildTransport(base_subprocess.BaseSubprocessTransport):
    """A child whose finalizer calls no closed loop."""

    if TYPE_CHECKING:
        _closed: bool
        _loop: Any
        _proc: Any
        _returncode: int | None

        def _check_proc(self) -> None: ...

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
