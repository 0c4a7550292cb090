"""The asyncio event loops that the asyncio servers can run on, by name."""

import asyncio
import importlib
import sys
from collections.abc import Callable, Coroutine


def run(main: Callable[[], Coroutine[object, object, None]]) -> None:
    """Run ``main()`` on the loop named by the first argument: asyncio, uvloop, rloop, or that of
    netpoll on a backend, netpoll.asyncio:io_uring."""
    name, _, backend = (sys.argv[1] if len(sys.argv) > 1 else "asyncio").partition(":")
    module = importlib.import_module(name)
    arguments = (backend,) if backend else ()
    with asyncio.Runner(loop_factory=lambda: module.new_event_loop(*arguments)) as runner:
        runner.run(main())
