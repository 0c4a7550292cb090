"""Operations of the loop's port: who is told when one ends, and how a coroutine waits for one."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from netpoll.errors import OperationAborted
from netpoll.overlapped import Overlapped

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from netpoll.overlapped import Completion

T = TypeVar("T")


class Operation(Overlapped[T]):
    """One of the loop's own. Its `context` is called with the completion, in the loop's thread."""

    __slots__ = ()


def within(context: Context, finished: Callable[..., object]) -> Callable[[Completion], object]:
    """`finished`, called in `context`."""
    run: Any = context.run
    return partial(run, finished)


class Wrapped(asyncio.Future[T]):
    """A future that a user's operation ends. To cancel it cancels the operation at once: a callback
    of the future's would come a turn later, and data before it."""

    operation: Overlapped[Any]

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the future, and ask the operation to stop."""
        if not super().cancel(msg):
            return False
        self.operation.cancel()
        return True


def settle(future: asyncio.Future[Any], completion: Completion) -> None:
    """Give `future` what the operation has come to, unless nobody waits any more."""
    if future.done():
        return
    if not completion.status:
        future.set_result(completion.result())
        return
    error = completion.exception()
    if isinstance(error, OperationAborted):
        # somebody asked it to stop, so this is the cancellation that asyncio knows
        future.cancel()
    else:
        future.set_exception(cast("OSError", error))


def wrap(overlapped: Overlapped[T]) -> asyncio.Future[T]:
    """A future for an operation that was started on the port of the running loop.

    Its result is the operation's, an operation that was cancelled cancels it, and to cancel the
    future cancels the operation: as ever a request, whose outcome the `Overlapped` tells once it is
    `done`. What an operation had brought by then is in its buffers and in `Overlapped.value`.

    :param overlapped: started with `loop.port`, its packet not taken yet
    :raises ValueError: it belongs to another port, or was never started
    :raises RuntimeError: no loop of netpoll's is running; it is awaited already
    """
    from netpoll.asyncio.loop import EventLoop

    loop = asyncio.get_running_loop()
    if not isinstance(loop, EventLoop):
        raise RuntimeError(f"the running loop is {loop!r}, not one of netpoll's: it has no port")
    return loop.future_of(overlapped)
