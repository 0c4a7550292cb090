"""What a run found: the samples, and the statistics over them. Saved and loaded as JSON."""

import dataclasses
import json
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from benchmarks.cells import Kind

FORMAT = 2
OLD_FORMATS = (1,)
"""They have only echo cells, and less in a sample."""


@dataclass(frozen=True)
class Sample:
    """One measured window of one subject."""

    cell: str
    subject: str
    round: int
    messages: int
    seconds: float
    server_cpu: float
    """Seconds."""
    load_cpu: float
    latency: dict[str, float] = field(default_factory=dict)
    """Microseconds, by name of the quantile; only where messages were sent by the clock."""
    loops: float = 0.0
    """How far the server's computing thread came, a second."""
    size: int = 0
    """Bytes of a message or of its answer, whichever is more."""

    @property
    def rate(self) -> float:
        """Messages per second."""
        return self.messages / self.seconds

    @property
    def cost(self) -> float:
        """The server's CPU time per message, in microseconds."""
        return self.server_cpu / self.messages * 1e6


Value = Callable[[Sample], float]


@dataclass(frozen=True)
class Memory:
    """What a connection took in a freshly started server."""

    cell: str
    subject: str
    bytes: float


@dataclass(frozen=True)
class Spread:
    """A median with its extremes, over rounds or over cells."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Self | None:
        if not values:
            return None
        return cls(statistics.median(values), min(values), max(values))


@dataclass
class Results:
    """A run, complete or interrupted."""

    environment: dict[str, str]
    settings: dict[str, Any]
    subjects: list[str]
    cells: list[str]
    summary_cells: list[str]
    baseline: str
    kinds: dict[str, str] = field(default_factory=dict)
    """By cell: what it is about; those that are not here are echo cells."""
    partial: list[str] = field(default_factory=list)
    """Subjects that are there for some cells only: the summary would not be one."""
    about: dict[str, str] = field(default_factory=dict)
    """By cell: what the load did, in words."""
    samples: list[Sample] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    """Cells and subjects that cannot run here, and why."""
    failures: dict[str, str] = field(default_factory=dict)
    """`cell / subject`, and what happened."""
    complete: bool = False

    def kind(self, cell: str) -> Kind:
        return Kind(self.kinds.get(cell, Kind.ECHO))

    def cells_of(self, *kinds: Kind) -> list[str]:
        """Return the cells of those kinds that have samples."""
        seen = {sample.cell for sample in self.samples}
        return [cell for cell in self.cells if cell in seen and self.kind(cell) in kinds]

    def measured(self) -> list[str]:
        """Return the subjects that have samples, the baseline first."""
        seen = {sample.subject for sample in self.samples}
        return sorted(
            (name for name in self.subjects if name in seen),
            key=lambda name: (name != self.baseline, self.subjects.index(name)),
        )

    def values(self, cell: str, subject: str, value: Value) -> dict[int, float]:
        """Return what `value` makes of each sample, by round."""
        return {
            sample.round: value(sample)
            for sample in self.samples
            if sample.cell == cell and sample.subject == subject
        }

    def spread(self, cell: str, subject: str, value: Value) -> Spread | None:
        return Spread.of(list(self.values(cell, subject, value).values()))

    def cost(self, cell: str, subject: str) -> Spread | None:
        """Return microseconds of the server's CPU per message."""
        return self.spread(cell, subject, lambda sample: sample.cost)

    def rate(self, cell: str, subject: str) -> float | None:
        """Return the median messages per second."""
        spread = self.spread(cell, subject, lambda sample: sample.rate)
        return spread.median if spread else None

    def ratio(
        self, cell: str, subject: str, other: str, value: Value = lambda sample: sample.cost
    ) -> Spread | None:
        """Compare two subjects round by round: only what ran side by side is comparable."""
        own, others = self.values(cell, subject, value), self.values(cell, other, value)
        return Spread.of(
            [each / others[number] for number, each in own.items() if others.get(number)]
        )

    def connection_memory(self, cell: str, subject: str) -> Spread | None:
        """Return the bytes that a connection takes in the server."""
        return Spread.of(
            [each.bytes for each in self.memory if each.cell == cell and each.subject == subject]
        )

    def overall(self, subject: str, other: str) -> Spread | None:
        """Return the median ratio over the summary cells, with the best and the worst cell."""
        return self.over(self.summary_cells, subject, other)

    def over(
        self,
        cells: Iterable[str],
        subject: str,
        other: str,
        value: Value = lambda sample: sample.cost,
    ) -> Spread | None:
        """Return the median of the cells' ratios, with the smallest and the largest."""
        ratios = (self.ratio(cell, subject, other, value) for cell in cells)
        return Spread.of([ratio.median for ratio in ratios if ratio is not None])

    def save(self, path: Path) -> None:
        """Write it as JSON, a line for each sample."""
        document = {"format": FORMAT, **dataclasses.asdict(self)}
        lines = []
        for name, value in document.items():
            if isinstance(value, list) and value and isinstance(value[0], dict):
                rows = ",\n".join(f"  {json.dumps(row)}" for row in value)
                lines.append(f" {json.dumps(name)}: [\n{rows}\n ]")
            else:
                lines.append(f" {json.dumps(name)}: {json.dumps(value)}")
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """:raises ValueError: not a file that `save` wrote"""
        document = json.loads(path.read_text())
        known = (FORMAT, *OLD_FORMATS)
        if not isinstance(document, dict) or document.pop("format", None) not in known:
            raise ValueError(f"{path} is not a result of this benchmark (format {FORMAT})")
        samples = [Sample(**sample) for sample in document.pop("samples")]
        memory = [Memory(**each) for each in document.pop("memory", [])]
        return cls(**document, samples=samples, memory=memory)
