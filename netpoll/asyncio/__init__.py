"""asyncio on a completion port: one event loop for every system and backend.

    asyncio.run(main(), loop_factory=netpoll.asyncio.new_event_loop)    # Python 3.12
    netpoll.asyncio.run(main())                                         # 3.11 too

Everything that asyncio's own loops do, on Windows too: completions and readiness (`add_reader`),
signal handlers, subprocesses and pipes. `wrap` awaits any operation of the loop's port.
"""

from netpoll.asyncio.loop import EventLoop, new_event_loop, run
from netpoll.asyncio.operations import wrap

__all__ = ["EventLoop", "new_event_loop", "run", "wrap"]
