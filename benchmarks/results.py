"""What a run found: the samples, and the statistics over them. Saved and loaded as JSON."""

import dataclasses
import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

FORMAT = 1


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

    @property
    def cost(self) -> float:
        """The server's CPU time per message, in microseconds."""
        return self.server_cpu / self.messages * 1e6


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
    samples: list[Sample] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    """Subjects that cannot run here, and why."""
    failures: dict[str, str] = field(default_factory=dict)
    """`cell / subject`, and what happened."""
    complete: bool = False

    def costs(self, cell: str, subject: str) -> dict[int, float]:
        """Return microseconds of the server's CPU per message, by round."""
        return {
            sample.round: sample.cost
            for sample in self.samples
            if sample.cell == cell and sample.subject == subject
        }

    def cost(self, cell: str, subject: str) -> Spread | None:
        return Spread.of(list(self.costs(cell, subject).values()))

    def rate(self, cell: str, subject: str) -> float | None:
        """Return the median messages per second."""
        rates = [
            sample.messages / sample.seconds
            for sample in self.samples
            if sample.cell == cell and sample.subject == subject
        ]
        return statistics.median(rates) if rates else None

    def ratio(self, cell: str, subject: str, other: str) -> Spread | None:
        """Compare two subjects round by round: only what ran side by side is comparable."""
        own, others = self.costs(cell, subject), self.costs(cell, other)
        return Spread.of(
            [cost / others[number] for number, cost in own.items() if number in others]
        )

    def overall(self, subject: str, other: str) -> Spread | None:
        """Return the median ratio over the summary cells, with the best and the worst cell."""
        ratios = (self.ratio(cell, subject, other) for cell in self.summary_cells)
        return Spread.of([ratio.median for ratio in ratios if ratio is not None])

    def save(self, path: Path) -> None:
        text = json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=1)
        path.write_text(text + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """:raises ValueError: not a file that `save` wrote"""
        document = json.loads(path.read_text())
        if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
            raise ValueError(f"{path} is not a result of this benchmark (format {FORMAT})")
        samples = [Sample(**sample) for sample in document.pop("samples")]
        return cls(**document, samples=samples)
