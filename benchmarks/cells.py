"""The cells of the matrix: what the load does in each, and what is asked of the servers."""

from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
SPARE_FILES = 100
"""Descriptors that a server or a load needs besides its connections."""


class Kind(StrEnum):
    """What a cell is about; each kind has tables of its own."""

    ECHO = "echo"
    CHURN = "churn"
    STREAM_IN = "stream-in"
    STREAM_OUT = "stream-out"
    IDLE = "idle"
    COMPUTE = "compute"
    LATENCY = "latency"
    DATAGRAM = "datagram"
    FILE = "file"
    TLS = "tls"
    HTTP = "http"


@dataclass(frozen=True)
class Cell:
    """One row of the tables: TCP, one message under way on each active connection."""

    name: str
    size: int
    """Bytes of a message."""
    active: int
    """Connections that exchange messages; with churn, how many at a time."""
    idle: int = 0
    """Connections that are open and silent besides."""
    kind: Kind = Kind.ECHO
    reply: int = 0
    """Bytes of the answer, which with files is one; 0 is an echo."""
    rate: int = 0
    """Messages a second, by the clock; 0 is the next one after each reply."""
    quick: bool = False
    """Whether it is part of the quick run."""
    target: bool = False
    """Whether netpoll has a target there."""

    @property
    def connections(self) -> int:
        return self.active + self.idle

    @property
    def in_summary(self) -> bool:
        """The summary is over 10 to 1,000 connections, all of them busy."""
        return self.kind is Kind.ECHO and self.idle == 0 and 10 <= self.active <= 1000

    def within(self, file_limit: int) -> "Cell | None":
        """Return the cell as far as so many open files allow it; None where they do not."""
        excess = self.connections + SPARE_FILES - file_limit
        if excess <= 0:
            return self
        if self.kind is Kind.IDLE and excess < self.idle:
            return replace(self, idle=self.idle - excess)
        return None

    def about(self) -> str:
        """Return it in words."""
        size = f"{self.size:,} bytes"
        idle = f", {self.idle:,} idle besides" if self.idle else ""
        match self.kind:
            case Kind.ECHO:
                return f"{size}, {self.active:,} busy{idle}"
            case Kind.CHURN:
                return f"connect, {size} there and back, close; {self.active:,} at a time"
            case Kind.STREAM_IN:
                return f"64 KiB writes to the server, which drops them; {self.active:,} connections"
            case Kind.STREAM_OUT:
                return f"64 KiB writes by the server; {self.active:,} connections"
            case Kind.IDLE:
                return f"{size}, {self.active:,} busy{idle}; memory too"
            case Kind.COMPUTE:
                return f"{size}, {self.active:,} busy, a thread of the server computes"
            case Kind.DATAGRAM:
                return f"UDP, {size} there and back, {self.active:,} peers"
            case Kind.TLS:
                return f"TLS, {size}, {self.active:,} busy"
            case Kind.HTTP:
                return f"aiohttp answers wrk with a few words, {self.active:,} connections"
            case Kind.FILE:
                return f"a file of {self.reply // MIB:,} MiB, from memory, for each byte"
            case Kind.LATENCY:
                return f"{size}, {self.active:,} connections, {self.rate:,} messages a second"


def _echo(name: str, size: int, active: int, *, quick: bool = False, target: bool = True) -> Cell:
    return Cell(name, size, active, quick=quick, target=target)


CELLS = (
    _echo("64B-x1", 64, 1, quick=True),
    _echo("64B-x10", 64, 10, quick=True),
    _echo("64B-x100", 64, 100, quick=True),
    _echo("64B-x1000", 64, 1000, quick=True),
    _echo("1KiB-x1", KIB, 1),
    _echo("1KiB-x10", KIB, 10),
    _echo("1KiB-x100", KIB, 100),
    _echo("1KiB-x1000", KIB, 1000),
    _echo("16KiB-x1", 16 * KIB, 1, target=False),
    _echo("16KiB-x10", 16 * KIB, 10, target=False),
    _echo("16KiB-x100", 16 * KIB, 100, quick=True),
    _echo("16KiB-x1000", 16 * KIB, 1000),
    Cell("64B-x50-idle5000", 64, 50, idle=5000),
    Cell("churn-x100", 64, 100, kind=Kind.CHURN, quick=True, target=True),
    Cell("stream-in-x10", MIB, 10, kind=Kind.STREAM_IN, reply=1, quick=True, target=True),
    Cell("stream-out-x10", 1, 10, kind=Kind.STREAM_OUT, reply=MIB, quick=True, target=True),
    Cell("idle10000", 64, 50, idle=10_000, kind=Kind.IDLE, target=True),
    Cell("compute-x100", 64, 100, kind=Kind.COMPUTE, quick=True, target=True),
    Cell("udp-x100", 64, 100, kind=Kind.DATAGRAM, quick=True, target=True),
    Cell("tls-x100", 64, 100, kind=Kind.TLS, quick=True, target=True),
    Cell("http-x100", 1, 100, kind=Kind.HTTP, target=True),
    Cell("sendfile-1GiB", 1, 1, kind=Kind.FILE, reply=GIB, quick=True, target=True),
    Cell("latency-x100", 64, 100, kind=Kind.LATENCY, rate=20_000, quick=True, target=True),
)


def select(patterns: list[str]) -> list[Cell]:
    """Return the cells whose names match any of the shell patterns.

    :raises ValueError: a pattern matches nothing
    """
    for pattern in patterns:
        if not any(fnmatchcase(cell.name, pattern) for cell in CELLS):
            raise ValueError(f"no cell is called {pattern!r}; --list shows them")
    return [cell for cell in CELLS if any(fnmatchcase(cell.name, pattern) for pattern in patterns)]
