"""A table for each cell that is not about the CPU time of an echo: a row for each subject."""

from collections.abc import Callable

from benchmarks.cells import KIB, Kind
from benchmarks.results import Results, Sample
from benchmarks.subjects import FILE_BASELINE, STANDARD
from benchmarks.tables import NOTHING, median, spread, table

Column = tuple[str, Callable[[str], str]]
GIGA = 1e9


def render(results: Results) -> list[str]:
    """Return the tables."""
    return [
        _render_cell(results, cell)
        for cell in results.cells_of(*(kind for kind in Kind if kind in HEADINGS))
    ]


def _render_cell(results: Results, cell: str) -> str:
    kind = results.kind(cell)
    title, notes, make = HEADINGS[kind]
    columns = make(results, cell)
    rows = [[name, *(entry(name) for _, entry in columns)] for name in results.measured()]
    rows = [row for row in rows if any(text != NOTHING for text in row[1:])]
    about = results.about.get(cell, "")
    text = " ".join(filter(None, (f"{cell}: {about}." if about else f"{cell}.", notes)))
    return f"### {title}\n\n{text}\n\n" + table(["", *(head for head, _ in columns)], rows)


def throughput(sample: Sample) -> float:
    """Gigabytes per second."""
    return sample.rate * sample.size / GIGA


def per_gigabyte(sample: Sample) -> float:
    """Seconds of the server's CPU time per gigabyte."""
    return sample.server_cpu / (sample.messages * sample.size) * GIGA


def rate(sample: Sample) -> float:
    return sample.rate


def loops(sample: Sample) -> float:
    return sample.loops


def _ratio(results: Results, cell: str) -> Column:
    head = f"CPU ÷ {results.baseline}"
    return head, lambda name: spread(results.ratio(cell, name, results.baseline))


def _ratios(results: Results, cell: str) -> list[Column]:
    """To the baseline and to asyncio's own loop."""
    columns = [_ratio(results, cell)]
    if results.baseline != STANDARD:
        column = f"CPU ÷ {STANDARD}"
        columns.append((column, lambda name: spread(results.ratio(cell, name, STANDARD))))
    return columns


def _churn(results: Results, cell: str) -> list[Column]:
    return [
        *_ratios(results, cell),
        ("CPU µs/connection", lambda name: median(results.cost(cell, name), ".1f")),
        (
            "thousand connections/s",
            lambda name: median(results.spread(cell, name, rate), ".1f", 1e-3),
        ),
    ]


def _datagrams(results: Results, cell: str) -> list[Column]:
    return [
        _ratio(results, cell),
        ("CPU µs/message", lambda name: median(results.cost(cell, name), ".2f")),
        ("thousand messages/s", lambda name: median(results.spread(cell, name, rate), ".1f", 1e-3)),
    ]


def _tls(results: Results, cell: str) -> list[Column]:
    return [*_ratios(results, cell), *_datagrams(results, cell)[1:]]


def _http(results: Results, cell: str) -> list[Column]:
    return [
        *_ratios(results, cell),
        ("CPU µs/request", lambda name: median(results.cost(cell, name), ".1f")),
        ("thousand requests/s", lambda name: median(results.spread(cell, name, rate), ".1f", 1e-3)),
    ]


def _stream(results: Results, cell: str) -> list[Column]:
    return [
        _ratio(results, cell),
        ("CPU s/GB", lambda name: median(results.spread(cell, name, per_gigabyte), ".3f")),
        ("GB/s", lambda name: median(results.spread(cell, name, throughput), ".2f")),
    ]


def _files(results: Results, cell: str) -> list[Column]:
    other = FILE_BASELINE
    return [
        (f"GB/s ÷ {other}", lambda name: spread(results.ratio(cell, name, other, rate))),
        (f"CPU ÷ {other}", lambda name: spread(results.ratio(cell, name, other))),
        *_stream(results, cell)[1:],
    ]


def _idle(results: Results, cell: str) -> list[Column]:
    return [
        (
            "KiB/connection",
            lambda name: median(results.connection_memory(cell, name), ".2f", 1 / KIB),
        ),
        _ratio(results, cell),
        ("CPU µs/message", lambda name: median(results.cost(cell, name), ".2f")),
    ]


def _compute(results: Results, cell: str) -> list[Column]:
    other = results.baseline
    return [
        (f"messages/s ÷ {other}", lambda name: spread(results.ratio(cell, name, other, rate))),
        ("messages/s", lambda name: median(results.spread(cell, name, rate), ",.0f")),
        (f"computed ÷ {other}", lambda name: spread(results.ratio(cell, name, other, loops))),
        (
            "million loops/s",
            lambda name: median(results.spread(cell, name, loops), ".1f", 1e-6),
        ),
    ]


def _latency(results: Results, cell: str) -> list[Column]:
    def quantile(key: str) -> Column:
        def value(sample: Sample) -> float:
            return sample.latency[key]

        return f"{key} µs", lambda name: spread(results.spread(cell, name, value), ".0f")

    return [
        *map(quantile, ("p50", "p99", "p99.9")),
        ("messages/s", lambda name: median(results.spread(cell, name, rate), ",.0f")),
    ]


HEADINGS: dict[Kind, tuple[str, str, Callable[[Results, str], list[Column]]]] = {
    Kind.CHURN: ("Connection churn", "", _churn),
    Kind.DATAGRAM: ("Datagrams", "", _datagrams),
    Kind.TLS: ("TLS", "The connections are made before the first window.", _tls),
    Kind.HTTP: (
        "HTTP",
        "wrk makes its connections anew in each window, of which a second is the shortest.",
        _http,
    ),
    Kind.STREAM_IN: ("Streaming to the server", "", _stream),
    Kind.STREAM_OUT: ("Streaming from the server", "", _stream),
    Kind.FILE: (
        "Files",
        "One under way at a time; the load counts the bytes and does not copy them.",
        _files,
    ),
    Kind.IDLE: (
        "Idle connections",
        "Memory is what the server's resident set grew by. netpoll waits with a receive of zero "
        "bytes on each connection, or with one from a pool, which is part of the memory; "
        "python-epoll has only the sockets.",
        _idle,
    ),
    Kind.COMPUTE: (
        "A computing thread in the server",
        "Server and load share both CPUs. What the thread computed is the other side of the coin.",
        _compute,
    ),
    Kind.LATENCY: (
        "Latency",
        "From when a message was due to its reply. A server that cannot keep up falls behind ever "
        "further, and the figures only say so.",
        _latency,
    ),
}
