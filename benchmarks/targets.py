"""What netpoll is to reach, beside what was measured. Nothing fails here: a table is shown."""

from dataclasses import dataclass

from benchmarks.cells import KIB
from benchmarks.results import Results, Sample, Spread
from benchmarks.subjects import FILE_BASELINE, STANDARD
from benchmarks.tables import NOTHING, spread, table

IO_URING = "netpoll-io_uring"
SELECTORS = "netpoll-selectors"
LOOP = "asyncio-on-"
POOL = "netpoll-io_uring-pool"
SELECTORS_POOL = "netpoll-selectors-pool"
SMALL = tuple(f"{size}-x{count}" for size in ("64B", "1KiB") for count in (10, 100, 1000))
SINGLE = ("64B-x1", "1KiB-x1")


def rate(sample: Sample) -> float:
    return sample.rate


def cost(sample: Sample) -> float:
    return sample.cost


@dataclass(frozen=True)
class Target:
    """A ratio of CPU times per message, or of messages per second."""

    where: str
    cells: tuple[str, ...]
    subject: str
    other: str
    bound: float
    at_least: bool = False
    """Of messages per second; other targets are of CPU time, at most."""

    def measured(self, results: Results) -> Spread | None:
        value = rate if self.at_least else cost
        if len(self.cells) == 1:
            return results.ratio(self.cells[0], self.subject, self.other, value)
        return results.over(self.cells, self.subject, self.other, value)

    def row(self, results: Results) -> list[str]:
        what = "messages/s" if self.at_least else "CPU time"
        bound = f"{'≥' if self.at_least else '≤'} {self.bound:.2f}"
        value = spread(self.measured(results))
        return [f"{self.subject} ÷ {self.other}, {what}", self.where, bound, value]


TARGETS = (
    Target("64 B and 1 KiB, x10 to x1000", SMALL, IO_URING, "uvloop-protocol", 0.88),
    Target("64 B and 1 KiB, x10 to x1000", SMALL, IO_URING, "c-epoll", 1.12),
    Target("16 KiB, x100", ("16KiB-x100",), IO_URING, "uvloop-protocol", 0.92),
    Target("16 KiB, x1000", ("16KiB-x1000",), IO_URING, "uvloop-protocol", 1.0),
    Target("one connection", SINGLE, IO_URING, "uvloop-protocol", 1.10),
    Target("64 B and 1 KiB, x10 to x1000", SMALL, IO_URING, "asyncio-sock", 0.32),
    Target("64 B and 1 KiB, x10 to x1000", SMALL, IO_URING, "uvloop-sock", 0.32),
    Target("64 B and 1 KiB, x10 to x1000", SMALL, IO_URING, "trio", 0.32),
    Target(
        "a computing thread", ("compute-x100",), IO_URING, "uvloop-protocol", 1.3, at_least=True
    ),
    Target("UDP echo", ("udp-x100",), IO_URING, "uvloop-protocol", 0.9),
    Target("churn", ("churn-x100",), IO_URING, "uvloop-protocol", 1.0),
    Target("streaming in", ("stream-in-x10",), IO_URING, "uvloop-protocol", 1.0),
    Target("sendfile", ("sendfile-1GiB",), IO_URING, FILE_BASELINE, 1.0, at_least=True),
    Target("sendfile", ("sendfile-1GiB",), SELECTORS, FILE_BASELINE, 1.0, at_least=True),
    Target("streaming out", ("stream-out-x10",), IO_URING, "uvloop-protocol", 1.0),
    Target("64 B and 1 KiB, x10 to x1000", SMALL, SELECTORS, "uvloop-protocol", 1.10),
    Target(
        "64 B and 1 KiB, x10 to x1000", SMALL, f"{LOOP}io_uring-protocol", "uvloop-protocol", 1.0
    ),
    Target("64 B and 1 KiB, x10 to x1000", SMALL, f"{LOOP}selectors-protocol", STANDARD, 0.95),
    Target("64 B and 1 KiB, x10 to x1000", SMALL, f"{LOOP}io_uring-streams", "uvloop-streams", 0.9),
    Target("64 B and 1 KiB, x10 to x1000", SMALL, f"{LOOP}io_uring-sock", "uvloop-sock", 0.6),
    *(
        Target(where, (cell,), f"{LOOP}{backend}-protocol", STANDARD, 1.0)
        for where, cell in (("TLS", "tls-x100"), ("HTTP", "http-x100"), ("churn", "churn-x100"))
        for backend in ("io_uring", "selectors")
    ),
)
IDLE = "idle10000"
BARE = "python-epoll"
MEMORY = {IO_URING: 2 * KIB, POOL: 1.5 * KIB, SELECTORS_POOL: 1.5 * KIB}
"""Bytes of a connection, at most."""


def render(results: Results) -> str:
    """Return the table, without what was not measured; empty where nothing was."""
    rows = [each.row(results) for each in TARGETS]
    rows += [_memory_row(results, subject, most) for subject, most in MEMORY.items()]
    rows = [row for row in rows if row[-1] != NOTHING]
    if not rows:
        return ""
    return (
        "### Targets\n\n"
        "Measured: the median of the cells' ratios (best to worst), in a single cell that of the "
        "rounds'.\n\n" + table(["", "where", "target", "measured"], rows)
    )


def _memory_row(results: Results, subject: str, most: float) -> list[str]:
    """A connection's memory, less that of a server with nothing but sockets."""
    own = results.connection_memory(IDLE, subject)
    bare = results.connection_memory(IDLE, BARE)
    measured = f"{(own.median - bare.median) / KIB:.2f} KiB" if own and bare else NOTHING
    what = f"{subject} less {BARE}, memory of a connection"
    return [what, "idle", f"≤ {most / KIB:.2f} KiB", measured]
