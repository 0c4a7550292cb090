"""One turn of the loop, and `call_soon`: what `BaseEventLoop` does, in fewer Python calls. In debug
mode it is `BaseEventLoop` that does it."""

from __future__ import annotations

import heapq
from asyncio import events
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Final

from netpoll.asyncio.standard import LoopPart, describe_callback

BATCH: Final = 256
"""Completions taken in one turn; what is left comes in the next, after the callbacks."""
LONGEST_WAIT: Final = 24 * 3600
CANCELLED_TIMERS: Final = 50
"""From so many on, `BaseEventLoop` looks whether to sweep them out."""


class Soon(events.Handle):
    """A call that was asked for by `call_soon`."""

    __slots__ = ()

    if TYPE_CHECKING:
        _context: Context
        _loop: Any
        _callback: Any
        _repr: str | None
        _source_traceback: Any


_new = Soon.__new__


class Turns(LoopPart):
    """Part of `EventLoop`: runs callbacks, and takes completions in between."""

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> events.Handle:
        """Call back in the next turn."""
        if self._debug or self._closed:
            made = super().call_soon(callback, *args, context=context)
            traceback: Any = getattr(made, "_source_traceback", None)
            if traceback:
                del traceback[-1]  # this method
            return made
        if context is None:
            context = copy_context()
        # Tasks and futures come here, twice a message of a stream. The constructor takes 0.3 of
        # the 0.8 µs of the standard method, for a check of the debug mode.
        handle = _new(Soon)
        handle._context = context
        handle._loop = self
        handle._callback = callback
        handle._args = args
        handle._cancelled = False
        handle._repr = None
        handle._source_traceback = None
        self._ready.append(handle)
        return handle

    def _run_once(self) -> None:
        scheduled = self._scheduled
        if self._debug or self._timer_cancelled_count > CANCELLED_TIMERS:
            super()._run_once()
            return
        while scheduled and scheduled[0]._cancelled:
            self._timer_cancelled_count -= 1
            heapq.heappop(scheduled)._scheduled = False
        ready = self._ready
        timeout: float | None = None
        if ready or self._stopping:
            timeout = 0
        elif scheduled:
            timeout = min(max(0, scheduled[0]._when - self.time()), LONGEST_WAIT)
        completions = self._dequeue(BATCH, timeout, False)
        if completions:
            if ready:
                # What waits already goes first, as with the standard loops: who has been told of a
                # connection goes on before there is any data.
                self._run_ready()
            self._dispatch(completions)
            completions = []
        if scheduled:
            end = self.time() + self._clock_resolution
            while scheduled and scheduled[0]._when < end:
                timer = heapq.heappop(scheduled)
                timer._scheduled = False
                ready.append(timer)
        if ready:
            self._run_ready()

    def _run_ready(self) -> None:
        """Those that are ready now: what they ask for is for the next time."""
        ready = self._ready
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            if handle.__class__ is not Soon:
                handle._run()
                continue
            try:
                handle._context.run(handle._callback, *handle._args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self.call_exception_handler(
                    {
                        "message": f"Exception in callback {describe_callback(handle)}",
                        "exception": error,
                        "handle": handle,
                    }
                )
        handle = None  # or the last callback's objects live until the next turn
