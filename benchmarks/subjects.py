"""The measured programs, by name: how each is started, and what it needs."""

import importlib.util
import sys
from dataclasses import dataclass
from fnmatch import fnmatchcase

from benchmarks import native
from benchmarks.cells import Cell, Kind

BASELINE = "uvloop-protocol"
STANDARD = "asyncio-protocol"
"""asyncio's own loop: what netpoll's is to be no dearer than."""
FILE_BASELINE = "python-sendfile"
"""What counts as 1 where files are sent: uvloop has no call for that."""
STREAMS = {Kind.STREAM_IN: "in", Kind.STREAM_OUT: "out"}
POOLED = ("16KiB-x1000", "idle10000")
"""The cells where what a connection's own buffer costs can be seen."""


@dataclass(frozen=True)
class Subject:
    """A server to measure: modules of `benchmarks.servers`, or C files."""

    name: str
    about: str
    module: str = ""
    arguments: tuple[str, ...] = ()
    source: str = ""
    package: str = ""
    """The PyPI package it needs, which is also the name that it imports."""
    stream: str = ""
    """The module or C file that streams; without one it has no part in such cells."""
    datagram: str = ""
    """The module that echoes datagrams, if it has a part in such cells."""
    file: str = ""
    """The module that sends files, if it has a part in such cells."""
    tls: str = ""
    """The module that echoes over TLS, if it has a part in such cells."""
    http: str = ""
    """The module that answers HTTP requests, if it has a part in such cells."""
    idle: str = ""
    """The module for idle connections, where that is another one."""
    kinds: tuple[Kind, ...] = tuple(Kind)
    """The kinds of cells that it is there for, and..."""
    cells: tuple[str, ...] = ()
    """... their names, where it is there for some of them only."""
    extra: bool = False
    """Part of the full run only."""
    target: bool = False
    """Whether it is netpoll's, or netpoll has a target that names it."""

    def plays(self, cell: Cell) -> bool:
        """Return whether it has a part in that cell."""
        kind = cell.kind
        if kind in self._special() and not self._special()[kind]:
            return False
        if kind is Kind.COMPUTE and self.source:
            return False
        return kind in self.kinds and (not self.cells or cell.name in self.cells)

    def _special(self) -> dict[Kind, str]:
        """The modules for cells that not every subject has a part in."""
        return {
            Kind.STREAM_IN: self.stream,
            Kind.STREAM_OUT: self.stream,
            Kind.DATAGRAM: self.datagram,
            Kind.FILE: self.file,
            Kind.TLS: self.tls,
            Kind.HTTP: self.http,
        }

    def command(self, kind: Kind = Kind.ECHO) -> list[str]:
        """Return the command line that starts it.

        :raises native.CannotCompile: it is a C program, and cannot be built
        """
        if self.source:
            if kind in STREAMS:
                return [str(native.build(self.stream)), STREAMS[kind]]
            return [str(native.build(self.source))]
        module, arguments = self._special().get(kind, self.module), self.arguments
        if kind in STREAMS:
            arguments = (*arguments, STREAMS[kind])
        elif kind is Kind.IDLE and self.idle:
            module = self.idle
        return [sys.executable, "-m", f"benchmarks.servers.{module}", *arguments]

    def obstacle(self) -> str | None:
        """Return why it cannot run here and what cures that, or None."""
        if self.package and importlib.util.find_spec(self.package) is None:
            cure = f"{sys.executable} -m pip install {self.package}"
            return f"{self.package} is not installed: {cure}"
        if self.module.startswith("netpoll_"):
            return _backend_obstacle(self.arguments[0])
        if self.arguments and self.arguments[0].startswith(OUR_LOOP):
            return _backend_obstacle(self.arguments[0].removeprefix(OUR_LOOP))
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


def _netpoll(backend: str) -> Subject:
    return Subject(
        f"netpoll-{backend}",
        f"netpoll, {backend} backend",
        "netpoll_echo",
        (backend,),
        stream="stream_netpoll",
        datagram="datagram_netpoll",
        file="file_netpoll",
        idle="netpoll_idle",
        target=True,
    )


def _netpoll_pool(backend: str) -> Subject:
    return Subject(
        f"netpoll-{backend}-pool",
        f"netpoll, {backend} backend, receives from a BufferPool",
        "netpoll_pool",
        (backend,),
        cells=POOLED,
        extra=True,
        target=True,
    )


def _asyncio_like(
    loop: str, style: str, about: str, *, extra: bool = False, target: bool = False
) -> Subject:
    """One of the servers that run on any asyncio event loop."""
    return Subject(
        f"{loop}-{style}",
        f"{loop}, {about}",
        f"asyncio_{style}",
        (loop,),
        package=loop if loop != "asyncio" else "",
        stream="" if style == "streams" else f"stream_{style}",
        datagram="datagram_protocol" if style == "protocol" and loop != "rloop" else "",
        tls=TLS if style == "protocol" and loop != "rloop" else "",
        http=HTTP if style == "protocol" and loop != "rloop" else "",
        file="file_asyncio" if loop == "asyncio" and style == "sock" else "",
        extra=extra,
        target=target,
    )


def _on_netpoll(backend: str, style: str, about: str) -> Subject:
    """The same on netpoll's loop."""
    return Subject(
        f"asyncio-on-{backend}-{style}",
        f"netpoll.asyncio on {backend}, {about}",
        f"asyncio_{style}",
        (OUR_LOOP + backend,),
        stream="" if style == "streams" else f"stream_{style}",
        datagram="datagram_protocol" if style == "protocol" else "",
        tls=TLS if style == "protocol" else "",
        http=HTTP if style == "protocol" else "",
        target=True,
    )


OUR_LOOP = "netpoll.asyncio:"
PROTOCOL = "transports and a Protocol"
STREAM_API = "streams"
TLS = "tls_protocol"
HTTP = "http_aiohttp"
SOCK = "loop.sock_recv_into and sock_sendall"

SUBJECTS = (
    _netpoll("io_uring"),
    _netpoll("selectors"),
    _netpoll_pool("io_uring"),
    _netpoll_pool("selectors"),
    *(
        _on_netpoll(backend, style, about)
        for backend in ("io_uring", "selectors")
        for style, about in (("protocol", PROTOCOL), ("streams", STREAM_API), ("sock", SOCK))
    ),
    _asyncio_like("asyncio", "protocol", PROTOCOL, target=True),
    _asyncio_like("asyncio", "streams", STREAM_API),
    _asyncio_like("asyncio", "sock", SOCK, target=True),
    _asyncio_like("uvloop", "protocol", PROTOCOL, target=True),
    _asyncio_like("uvloop", "streams", STREAM_API, extra=True, target=True),
    _asyncio_like("uvloop", "sock", SOCK, target=True),
    _asyncio_like("rloop", "protocol", PROTOCOL, extra=True),
    Subject(
        "trio",
        "trio, socket streams",
        "trio_streams",
        package="trio",
        stream="stream_trio",
        target=True,
    ),
    Subject("gevent", "gevent, cooperative sockets", "gevent_server", package="gevent"),
    Subject(
        "python-epoll",
        "Python sockets in a dict: the floor of memory",
        "python_epoll",
        kinds=(Kind.IDLE,),
        target=True,
    ),
    Subject(
        FILE_BASELINE,
        "socket.sendfile of a blocking socket",
        "file_socket",
        file="file_socket",
        kinds=(Kind.FILE,),
        target=True,
    ),
    Subject(
        "c-epoll",
        "C, epoll: the floor",
        source="echo_epoll.c",
        stream="stream_epoll.c",
        target=True,
    ),
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
