"""The event loops of the tests, and what must not be heard of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from netpoll.asyncio import EventLoop
from netpoll.testing import outcome

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from netpoll.testing.backends import Target

T = TypeVar("T")


class Loops:
    """Makes loops on one backend, and hears what they complain of."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._made: list[EventLoop] = []
        self.complaints: list[dict[str, Any]] = []
        """What the exception handlers were given. A test that expects some takes them out."""

    def new(self) -> EventLoop:
        """A loop, closed at the end of the test."""
        loop = EventLoop(self._target.backend, **self._target.options)
        assert loop.port.backend == self._target.backend
        loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        self._made.append(loop)
        return loop

    def running(self) -> EventLoop:
        """The loop that runs now."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, EventLoop)
        return loop

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run `main` on a loop of its own, as `asyncio.run` does."""
        with asyncio.Runner(loop_factory=self.new) as runner:
            return runner.run(main)

    def require(self, *operations: str) -> None:
        """Skip the test where the backend lacks an operation."""
        port = self.new().port
        for operation in operations:
            outcome.require(port, operation)

    def close(self) -> None:
        """Close all of them.

        :raises AssertionError: one of them has complained
        """
        for loop in self._made:
            loop.close()
        assert not self.complaints, self.complaints
