"""How a test waits: for a condition, for a thread, never for a length of time.

Every wait here has the same generous deadline, which only a failing test ever reaches.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from netpoll import CompletionPort

T = TypeVar("T")

DEADLINE: Final = 30.0
"""Seconds. Long enough for a loaded machine, a slow emulator and a refused connect on Windows."""


def wait_until(condition: Callable[[], object], what: str = "the condition") -> None:
    """Return as soon as `condition()` is true.

    :raises AssertionError: it still is not after `DEADLINE`
    """
    deadline = time.monotonic() + DEADLINE
    pause = threading.Event()
    while not condition():
        if time.monotonic() >= deadline:
            raise AssertionError(f"{what} did not come true within {DEADLINE:g} s")
        pause.wait(0.001)


@contextlib.contextmanager
def at_least(seconds: float) -> Generator[None, None, None]:
    """What is done inside takes no less time.

    A step of the clock, 15.6 ms on Windows, may fall between the two looks at it, and a difference
    of two times is rounded.

    :raises AssertionError: it was early
    """
    started = time.monotonic()
    yield
    took = time.monotonic() - started
    if took < seconds - time.get_clock_info("monotonic").resolution:
        raise AssertionError(f"{took:g} s, not {seconds:g}")


def wait_for_waiters(port: CompletionPort, count: int) -> None:
    """Return as soon as exactly `count` threads wait inside the port's `get` or `get_many`."""
    wait_until(lambda: port.stats()["waiting"] == count, f"{count} threads waiting on the port")


class Running(Generic[T]):
    """A function that runs in a thread of its own; see `run`."""

    def __init__(self, function: Callable[..., T], arguments: tuple[Any, ...]) -> None:
        self._function = function
        self._arguments = arguments
        self._value: list[T] = []
        self._error: BaseException | None = None
        # daemonic: a test that hangs fails at its deadline and must not stop the interpreter's exit
        self.thread: threading.Thread = threading.Thread(target=self._main, daemon=True)
        self.thread.start()

    def _main(self) -> None:
        try:
            self._value.append(self._function(*self._arguments))
        except BaseException as error:
            self._error = error

    def result(self, timeout: float = DEADLINE) -> T:
        """What the function returned, once it has; or raise what it raised.

        :raises AssertionError: it has not ended within `timeout` seconds
        """
        self.thread.join(timeout)
        if self.thread.is_alive():
            raise AssertionError(f"{self._function!r} still runs after {timeout:g} s")
        if self._error is not None:
            raise self._error
        return self._value[0]

    @property
    def running(self) -> bool:
        """Whether the function has not ended yet."""
        return self.thread.is_alive()


def run(function: Callable[..., T], *arguments: Any) -> Running[T]:
    """Start `function(*arguments)` in a thread. What it raises appears in its `result()`."""
    return Running(function, arguments)
