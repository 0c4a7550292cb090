"""What the suite runs on: each backend of this machine, with each set of options worth a run.

A `Target` opens ports. The methods of `CompletionPort` are one face of a backend; a later face (the
names of the C documentation) is a target with another `open`.
"""

from __future__ import annotations

import selectors
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from netpoll import CompletionPort, backends

if TYPE_CHECKING:
    from collections.abc import Mapping

SELECTOR_CLASSES = {
    "epoll": "EpollSelector",
    "kqueue": "KqueueSelector",
    "poll": "PollSelector",
    "select": "SelectSelector",
}
"""The `selector=` options of the `selectors` backend, and the class that each one needs."""


@dataclass(frozen=True)
class Target:
    """One way to open a port on this machine."""

    id: str
    """The end of the test id: `selectors-epoll`."""
    backend: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    emulated: bool = True
    """Whether packets and waiters are netpoll's own, and not the kernel's completion port.

    What real Windows and Wine decide differently is asserted only where this is true.
    """
    readiness: bool = False
    """Whether data stays in the socket until somebody waits on the port; elsewhere the kernel takes
    it for the pending receive."""

    def open(self, **options: Any) -> CompletionPort:
        """A new port on exactly this backend.

        :param options: of `CompletionPort`: `concurrency`, `max_inflight`
        """
        port = CompletionPort(self.backend, **self.options, **options)
        if port.backend != self.backend:
            # must never happen: a suite that quietly tests another backend is worth nothing
            chosen = port.backend
            port.close()
            raise AssertionError(f"asked for {self.backend}, got {chosen}")
        return port

    def __str__(self) -> str:
        return self.id


@cache
def targets() -> tuple[Target, ...]:
    """What this machine has. Asked once: a probe may have to set up a ring or a port."""
    found: list[Target] = []
    for name in backends.NAMES:
        if not backends.probe(name).usable:
            continue
        if name == "selectors":
            found += [
                Target(f"selectors-{option}", name, {"selector": option}, readiness=True)
                for option, needed in SELECTOR_CLASSES.items()
                if hasattr(selectors, needed)
            ]
        else:
            found.append(Target(name, name, emulated=name != "iocp"))
    return tuple(found)


def select(wanted: str | None) -> list[Target]:
    """The targets that `wanted` names: backends or target ids, with commas; all without it.

    :raises ValueError: a name is unknown, or its backend does not work here; the message says why
    """
    available = targets()
    if not wanted:
        return list(available)
    chosen: list[Target] = []
    for name in filter(None, map(str.strip, wanted.split(","))):
        matching = [target for target in available if name in (target.id, target.backend)]
        if not matching:
            raise ValueError(_unknown(name, available))
        chosen += [target for target in matching if target not in chosen]
    return chosen


def _unknown(name: str, available: tuple[Target, ...]) -> str:
    names = ", ".join(target.id for target in available)
    if name in backends.NAMES:
        reason = backends.probe(name).reason
        return f"backend {name} does not work here: {reason}. This machine has: {names}"
    return f"no backend is called {name!r}. This machine has: {names}"
