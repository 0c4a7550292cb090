"""The measured programs, by name: how each is started, and what it needs."""

import importlib.util
import sys
from dataclasses import dataclass
from fnmatch import fnmatchcase

from benchmarks import native

BASELINE = "uvloop-protocol"


@dataclass(frozen=True)
class Subject:
    """A server to measure: a module of `benchmarks.servers`, or a C file."""

    name: str
    about: str
    module: str = ""
    arguments: tuple[str, ...] = ()
    source: str = ""
    package: str = ""
    """The PyPI package it needs, which is also the name that it imports."""
    extra: bool = False
    """Part of the full run only."""

    def command(self) -> list[str]:
        """Return the command line that starts it.

        :raises native.CannotCompile: it is a C program, and cannot be built
        """
        if self.source:
            return [str(native.build(self.source))]
        return [sys.executable, "-m", f"benchmarks.servers.{self.module}", *self.arguments]

    def obstacle(self) -> str | None:
        """Return why it cannot run here and what cures that, or None."""
        if self.package and importlib.util.find_spec(self.package) is None:
            cure = f"{sys.executable} -m pip install {self.package}"
            return f"{self.package} is not installed: {cure}"
        if self.module == "netpoll_echo":
            return _backend_obstacle(self.arguments[0])
        try:
            self.command()
        except native.CannotCompile as error:
            return str(error)
        return None


def _backend_obstacle(backend: str) -> str | None:
    try:
        import netpoll
    except ImportError as error:
        return f"{error}: {sys.executable} -m pip install -e . (in the project root)"
    try:
        netpoll.CompletionPort(backend).close()
    except (OSError, ValueError) as error:
        return str(error)
    return None


def _asyncio_like(loop: str, style: str, about: str, *, extra: bool = False) -> Subject:
    """One of the servers that run on any asyncio event loop."""
    return Subject(
        f"{loop}-{style}",
        f"{loop}, {about}",
        f"asyncio_{style}",
        (loop,),
        package=loop if loop != "asyncio" else "",
        extra=extra,
    )


SUBJECTS = (
    Subject("netpoll-io_uring", "netpoll, io_uring backend", "netpoll_echo", ("io_uring",)),
    Subject("netpoll-selectors", "netpoll, selectors backend", "netpoll_echo", ("selectors",)),
    _asyncio_like("asyncio", "protocol", "transports and a Protocol"),
    _asyncio_like("asyncio", "streams", "streams"),
    _asyncio_like("asyncio", "sock", "loop.sock_recv_into and sock_sendall"),
    _asyncio_like("uvloop", "protocol", "transports and a Protocol"),
    _asyncio_like("uvloop", "streams", "streams", extra=True),
    _asyncio_like("uvloop", "sock", "loop.sock_recv_into and sock_sendall"),
    _asyncio_like("rloop", "protocol", "transports and a Protocol", extra=True),
    Subject("trio", "trio, socket streams", "trio_streams", package="trio"),
    Subject("gevent", "gevent, cooperative sockets", "gevent_server", package="gevent"),
    Subject("c-epoll", "C, epoll: the floor", source="echo_epoll.c"),
    Subject("c-io_uring", "C, io_uring through liburing", source="echo_io_uring.c"),
)


def select(patterns: list[str]) -> list[Subject]:
    """Return the subjects whose names match any of the shell patterns.

    :raises ValueError: a pattern matches nothing
    """
    for pattern in patterns:
        if not any(fnmatchcase(subject.name, pattern) for subject in SUBJECTS):
            raise ValueError(f"no subject is called {pattern!r}; --list shows them")
    return [
        subject
        for subject in SUBJECTS
        if any(fnmatchcase(subject.name, pattern) for pattern in patterns)
    ]
