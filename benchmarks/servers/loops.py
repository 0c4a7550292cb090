"""The asyncio event loops that the asyncio servers can run on, by name."""

import asyncio
import importlib
import sys
from collections.abc import Callable, Coroutine


def run(main: Callable[[], Coroutine[object, object, None]]) -> None:
    """Run ``main()`` on the loop named by the first argument: asyncio, uvloop or rloop."""
    module = importlib.import_module(sys.argv[1] if len(sys.argv) > 1 else "asyncio")
    with asyncio.Runner(loop_factory=module.new_event_loop) as runner:
        runner.run(main())
