"""A server and its load: two processes, each on a CPU of its own."""

import contextlib
import json
import os
import resource
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO, Any, Self

from benchmarks import latencies, loads
from benchmarks.cells import Cell, Kind
from benchmarks.servers.common import COMPUTE
from benchmarks.subjects import Subject

ROOT = Path(__file__).parent.parent
PATIENCE = 60.0
"""Seconds of silence after which a process counts as hung. The load gives up earlier itself."""


class Failed(Exception):
    """A server or its load ended or went silent; the message is what it said last."""


@dataclass(frozen=True)
class Window:
    """What the load measured in one go."""

    messages: int
    seconds: float
    server_cpu: float
    """Seconds on the server's CPU clock, user and system, all threads."""
    load_cpu: float
    latency: dict[str, float] = field(default_factory=dict)
    """Microseconds, by name of the quantile, where messages were sent by the clock."""
    loops: float = 0.0
    """How far a computing thread came, a second."""

    @classmethod
    def parse(cls, answer: dict[str, Any], loops: float = 0.0) -> Self:
        """Read the line that the load prints."""
        histogram = answer.pop("histogram", [])
        latency = latencies.quantiles(histogram) if histogram else {}
        return cls(**answer, latency=latency, loops=loops / answer["seconds"])


@dataclass(frozen=True)
class Placement:
    """Which CPUs the two processes run on; a server that computes besides has both."""

    server: int
    load: int

    @classmethod
    def choose(cls) -> Self:
        """Take two CPUs that this process may use, if possible not two threads of one core."""
        assert sys.platform == "linux"
        cpus = sorted(os.sched_getaffinity(0))
        server = cpus[0]
        siblings = _threads_of_core(server)
        others = [cpu for cpu in cpus if cpu not in siblings] or cpus[1:] or cpus
        return cls(server, others[0])


def _threads_of_core(cpu: int) -> set[int]:
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        text = path.read_text()
    except OSError:
        return {cpu}
    threads: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        threads.update(range(int(first), int(last or first) + 1))
    return threads


def raise_file_limit() -> int:
    """Allow us and our children as many open files as the system lets us; return how many."""
    assert sys.platform == "linux"
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


@contextlib.contextmanager
def file_in_memory(size: int) -> Iterator[str]:
    """Make a file of that many bytes for the servers to open; it cannot outlive this process.

    :raises OSError: not that much memory
    """
    assert sys.platform == "linux"
    fd = os.memfd_create("netpoll-benchmark")
    try:
        os.posix_fallocate(fd, 0, size)  # pages of its own, as a file that has been read has them
        yield f"/proc/{os.getpid()}/fd/{fd}"
    finally:
        os.close(fd)


@contextlib.contextmanager
def _on_cpus(cpus: set[int]) -> Iterator[None]:
    """A process started in here begins, and stays, on those CPUs: affinity is inherited."""
    assert sys.platform == "linux"
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class _Child:
    """A process that answers with lines of JSON."""

    def __init__(self, command: list[str], cpus: set[int], environment: Mapping[str, str]) -> None:
        self._errors: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by close())
        with _on_cpus(cpus):
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                cwd=ROOT,
                env={**os.environ, **environment},
                process_group=0,  # Ctrl-C is for the benchmark, which then ends its children
            )
        self.pid = self._process.pid

    def read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], PATIENCE)[0]:
            raise Failed(f"no answer for {PATIENCE:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise Failed(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def write(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._process.wait()
            raise Failed(self._last_words()) from None

    def memory(self) -> int:
        """Return the bytes of memory that it has now."""
        try:
            statm = Path(f"/proc/{self.pid}/statm").read_text()
        except OSError:
            raise Failed(self._last_words()) from None
        return int(statm.split()[1]) * resource.getpagesize()

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = [line for line in self._errors.read().splitlines() if line.strip()]
        return lines[-1] if lines else f"it ended with status {self._process.returncode}"

    def close(self) -> None:
        self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()
        self._errors.close()


class Pair:
    """A running server with its load, connected and proven. A context manager.

    :raises Failed: on the way up
    """

    def __init__(
        self,
        subject: Subject,
        cell: Cell,
        placement: Placement,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """
        :param environment: variables for the server and the load
        """
        self._children: list[_Child] = []
        self._cell = cell
        computes = cell.kind is Kind.COMPUTE
        both = {placement.server, placement.load}
        try:
            self._server = self._start(
                subject.command(cell.kind),
                both if computes else {placement.server},
                {**environment, **({COMPUTE: "1"} if computes else {})},
            )
            port = self._server.read()["port"]
            before = self._server.memory()
            self._load = self._start(
                loads.command(cell, port, self._server.pid),
                both if computes else {placement.load},
                environment,
            )
            self._load.read()
            self.memory = (self._server.memory() - before) / cell.connections
            """Bytes that a connection takes in the server."""
        except BaseException:
            self.close()
            raise

    def _start(self, command: list[str], cpus: set[int], environment: Mapping[str, str]) -> _Child:
        child = _Child(command, cpus, environment)
        self._children.append(child)
        return child

    def measure(self, seconds: float) -> Window:
        """Keep every active connection busy for `seconds`.

        :raises Failed: one of the two processes ended, or the load found a fault
        """
        self._compute("on")
        self._load.write(f"seconds {seconds}")
        answer = self._load.read()
        return Window.parse(answer, self._compute("off"))

    def _compute(self, order: str) -> int:
        """Start or stop the computing thread, where there is one; return how far it came."""
        if self._cell.kind is not Kind.COMPUTE:
            return 0
        self._server.write(order)
        loops: int = self._server.read()["loops"]
        return loops

    def close(self) -> None:
        # The server first: then the closed connections linger in TIME_WAIT under its one port, and
        # thousands of ephemeral ports are free at once.
        for child in self._children:
            child.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
