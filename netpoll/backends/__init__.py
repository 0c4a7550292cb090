"""The backends by name: which there are, which of them this machine can use, and how one is
opened."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll.backends.base import Backend, Capability

NAMES: Final = ("iocp", "io_uring", "selectors")
"""Every backend, in the order in which automatic choice tries them."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A backend that was looked at, whether this machine can use it, and why or why not."""

    name: str
    usable: bool
    reason: str


def probe(name: str) -> Candidate:
    """Whether this machine can use the backend `name`.

    :raises ValueError: there is no backend of that name
    :raises OSError: it could, but the process has no descriptor left to find out
    """
    if name == "selectors":
        from netpoll.backends.selectors.readiness import available

        return Candidate(name, True, f"selectors here: {', '.join(available())}")
    if name == "iocp":
        if sys.platform == "win32":
            return _probe_iocp()
        return Candidate(name, False, "needs Windows, or Wine with a Python for Windows")
    if name == "io_uring":
        from netpoll.backends.io_uring.library import probe as probe_io_uring

        support = probe_io_uring()
        return Candidate(name, support.usable, support.reason)
    known = ", ".join(repr(each) for each in NAMES)
    raise ValueError(f"there is no backend {name!r}; choose from {known}")


def _probe_iocp() -> Candidate:
    try:
        importlib.import_module("netpoll.backends.iocp._ffi")
    except ImportError as error:
        return Candidate("iocp", False, f"needs cffi: {error}")
    return Candidate("iocp", True, "the completion ports of Windows")


def options_of(name: str) -> dict[str, str]:
    """The options that the backend `name` takes, each with what it means."""
    if name == "selectors":
        return {"selector": "epoll, kqueue, poll, select, or default: the best of them here"}
    if name == "io_uring":
        return {
            "single_issuer": "True: only the thread that makes the port waits on it, which saves "
            "the kernel some work (SINGLE_ISSUER, DEFER_TASKRUN)"
        }
    return {}


def open_backend(
    name: str, *, concurrency: int, max_inflight: int | None, options: dict[str, Any]
) -> Backend:
    """A new port's backend.

    :raises TypeError: an option that the backend does not have
    :raises ValueError: an option with an impossible value
    """
    known = options_of(name)
    for option in options:
        if option not in known:
            takes = ", ".join(known) or "none"
            raise TypeError(f"the backend {name!r} has no option {option!r}; it takes: {takes}")
    # imported here, so that a backend costs nothing where another one is used
    if name == "iocp":
        from netpoll.backends.iocp.port import IocpPort

        return IocpPort(concurrency, max_inflight)
    from netpoll.backends.software import SoftwarePort

    if name == "io_uring":
        from netpoll.backends.io_uring.engine import IoUringEngine

        return SoftwarePort(lambda lock: IoUringEngine(lock, **options), concurrency, max_inflight)
    from netpoll.backends.selectors.engine import SelectorsEngine

    return SoftwarePort(lambda lock: SelectorsEngine(lock, **options), concurrency, max_inflight)


def capabilities(name: str) -> Callable[[str], Capability]:
    """`Backend.capability` of the backend `name`, without opening a port."""
    from netpoll.backends.base import Capability

    candidate = probe(name)
    if not candidate.usable:
        return lambda operation: Capability("unsupported", candidate.reason)
    return _capabilities_of(name)


def capabilities_elsewhere(name: str) -> Callable[[str], Capability] | None:
    """The same where the machine can use it, which this one may not; nothing of the system's is
    loaded. `None` if even its description needs what is missing here (cffi)."""
    try:
        return _capabilities_of(name)
    except ImportError:
        return None


def _capabilities_of(name: str) -> Callable[[str], Capability]:
    operations = importlib.import_module(f"netpoll.backends.{name}.operations")
    of_backend = cast("Callable[[str], Capability]", operations.capability)
    if name == "iocp":
        return of_backend
    from netpoll.backends import software

    return lambda operation: software.capability(operation, of_backend)
