"""The event loop: asyncio's own, fed by a completion port instead of a selector."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, TypeVar

from netpoll.asyncio.operations import Operation, Wrapped, settle
from netpoll.asyncio.readiness import Readiness
from netpoll.asyncio.serving import Serving
from netpoll.asyncio.slots import Slots
from netpoll.asyncio.sockets import Sockets
from netpoll.asyncio.transports import ByDescriptor, Transports
from netpoll.asyncio.turns import BATCH, Soon, Turns
from netpoll.overlapped import Overlapped
from netpoll.port import CompletionPort

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from netpoll.overlapped import Completion

if sys.platform == "win32":
    from netpoll.asyncio.windows import System
else:
    from netpoll.asyncio.posix import System

T = TypeVar("T")


class Completions:
    """What `BaseEventLoop` takes for its selector: it waits on the port."""

    def __init__(self, port: CompletionPort) -> None:
        self._get_many = port.get_many
        self._port = port

    def select(self, timeout: float | None = None) -> list[Completion]:
        return self._get_many(BATCH, timeout)

    def close(self) -> None:
        self._port.close()

    def get_map(self) -> dict[int, Any]:
        """What asyncio's debugging aids ask a selector: no file is registered in this one."""
        return {}


class EventLoop(Turns, Readiness, Serving, Sockets, Transports, System):
    """An asyncio event loop on a completion port.

    :param backend: as for `CompletionPort`; `None` leaves it to the configuration
    :param options: of the port and its backend
    """

    _closed = True  # for the finalizer, if the port cannot be made

    def __init__(self, backend: str | None = None, **options: Any) -> None:
        self.port: CompletionPort = CompletionPort(backend, **options)
        """The loop's port. Start operations on it and await them with `wrap`; its packets are the
        loop's."""
        self._dequeue = self.port._dequeue
        self._staging = self.port._backend.staging()
        self._multishot = self.port._backend.multishot(Operation(self._deliver))
        self._slots = Slots()
        self._wrapped: dict[Overlapped[Any], Wrapped[Any]] = {}
        self._watches = {}
        self._acceptors = {}
        self._joined = {}
        self._sweep_joined_at = 64
        try:
            selector: Any = Completions(self.port)
            super().__init__(selector)
            self._transports = ByDescriptor()
        except BaseException:
            self.port.close()
            raise

    def run_forever(self) -> None:
        staging, multishot = self._staging, self._multishot
        if self.is_running() or self.is_closed():  # which is an error
            super().run_forever()
            return
        if staging is not None:
            staging.enable(True)
        if multishot is not None:
            multishot.flush()
        try:
            super().run_forever()
        finally:
            # whoever runs next may wait for what was written, or for the end of a connection
            if staging is not None:
                staging.enable(False)
            if multishot is not None:
                multishot.flush()

    def _deliver(self, _mail: Completion) -> None:
        assert self._multishot is not None
        self._multishot.deliver()

    def _process_events(self, event_list: list[Completion]) -> None:
        # `BaseEventLoop` runs the turn, so the order is what it expects: behind what is ready.
        if event_list:
            self._ready.append(Soon(self._dispatch, (event_list,), self, None))

    def _dispatch(self, completions: list[Completion]) -> None:
        """Each completion to whom it concerns."""
        rest = iter(completions)
        try:
            for completion in rest:
                operation = completion.overlapped
                if operation.__class__ is Operation:
                    try:
                        operation.context(completion)
                    except (SystemExit, KeyboardInterrupt):
                        raise
                    except BaseException as error:
                        self.call_exception_handler(
                            {
                                "message": f"Exception at the end of {operation!r}",
                                "exception": error,
                            }
                        )
                elif isinstance(operation, Overlapped):
                    future = self._wrapped.pop(operation, None)  # pyright: ignore[reportUnknownArgumentType]
                    if future is not None:
                        settle(future, completion)
        except (SystemExit, KeyboardInterrupt):
            # whoever runs the loop again still wants to hear of the others
            self._ready.appendleft(Soon(self._dispatch, (list(rest),), self, None))
            raise

    def future_of(self, operation: Overlapped[T]) -> asyncio.Future[T]:
        """What `wrap` gives."""
        if operation._port is not self.port:
            raise ValueError(f"{operation!r} was not started on this loop's port")
        if operation in self._wrapped:
            raise RuntimeError(f"{operation!r} is awaited already")
        future: Wrapped[T] = Wrapped(loop=self)
        future.operation = operation
        if operation._in_use:
            self._wrapped[operation] = future
        elif (error := operation.exception()) is not None:
            future.set_exception(error)
        else:
            future.set_result(operation.result())
        return future

    def _write_to_self(self) -> None:
        # From any thread, and from signal handlers. A closed loop has nobody to wake.
        if not self.is_closed():
            self.port.post()

    def close(self) -> None:
        """Close the loop and its port: what is still pending ends."""
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        self._close_watches()
        self._close_late()
        super().close()
        self._wrapped.clear()


def new_event_loop(backend: str | None = None) -> EventLoop:
    """A loop on the backend that the configuration names, or the best there is. What
    `asyncio.run(loop_factory=)` and `asyncio.Runner(loop_factory=)` take."""
    return EventLoop(backend)


def run(
    main: Coroutine[Any, Any, T], *, backend: str | None = None, debug: bool | None = None
) -> T:
    """`asyncio.run` on a netpoll loop."""
    factory: Callable[[], EventLoop] = lambda: new_event_loop(backend)  # noqa: E731
    with asyncio.Runner(debug=debug, loop_factory=factory) as runner:
        return runner.run(main)
