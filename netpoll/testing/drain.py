"""Gathering exactly the completions that are due, which is what most tests assert."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from netpoll.testing.waiting import DEADLINE

if TYPE_CHECKING:
    from netpoll import Completion, CompletionPort


def collect(
    port: CompletionPort, count: int, *, timeout: float = DEADLINE, batch: int = 64
) -> list[Completion]:
    """Take exactly `count` completions from the port, in the order in which they come.

    :param timeout: seconds for all of them together
    :param batch: how many to ask for at a time
    :raises AssertionError: fewer came, or there is one more
    """
    deadline = time.monotonic() + timeout
    taken: list[Completion] = []
    while len(taken) < count:
        left = deadline - time.monotonic()
        if left < 0:
            raise AssertionError(
                f"{len(taken)} completions of {count} within {timeout:g} s: {taken}; "
                f"still pending: {port.inflight()}"
            )
        taken += port.get_many(min(batch, count - len(taken)), timeout=left)
    nothing_more(port)
    return taken


def take(port: CompletionPort, *, timeout: float = DEADLINE) -> Completion:
    """The one completion that is due.

    :raises AssertionError: there is none, or a second one
    """
    return collect(port, 1, timeout=timeout)[0]


def nothing_more(port: CompletionPort) -> None:
    """Prove that the port has no packet now.

    :raises AssertionError: it has
    """
    extra = port.get(timeout=0)
    if extra is not None:
        raise AssertionError(f"a completion that nobody expects: {extra!r}")
