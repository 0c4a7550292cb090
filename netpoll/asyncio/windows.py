"""What Windows has: pipes, subprocesses and signals, which asyncio's selector loop lacks there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netpoll.port import CompletionPort


class System(asyncio.SelectorEventLoop):
    """Part of `EventLoop`: what this system has."""

    port: CompletionPort
