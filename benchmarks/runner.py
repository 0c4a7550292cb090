"""Runs the matrix. In each round every subject has its turn: they share the machine's moods."""

import contextlib
import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks import certificates
from benchmarks.cells import SPARE_FILES, Cell, Kind
from benchmarks.processes import Failed, Pair, Placement, file_in_memory
from benchmarks.progress import Progress
from benchmarks.results import Memory, Results, Sample
from benchmarks.servers.common import FILE
from benchmarks.subjects import Subject


@dataclass(frozen=True)
class Settings:
    """How long and how often."""

    launches: int
    """Fresh starts of every server: a process is lucky or unlucky with its memory layout."""
    rounds: int
    """Measured windows of each launch."""
    seconds: float
    """Length of a window."""
    warmup: float
    """Seconds of unmeasured traffic after each launch."""

    def steps(self, cells: Iterable[Cell], subjects: list[Subject]) -> int:
        pairs = sum(subject.plays(cell) for cell in cells for subject in subjects)
        return pairs * self.launches * (1 + self.rounds)


def run(
    results: Results,
    cells: list[Cell],
    subjects: list[Subject],
    settings: Settings,
    placement: Placement,
    file_limit: int,
    progress: Progress,
) -> None:
    """Measure and add to `results`, which is usable at any moment, also after Ctrl-C."""
    for wanted in cells:
        cell = wanted.within(file_limit)
        if cell is None:
            results.failures[wanted.name] = (
                f"needs {wanted.connections} open files a process, the limit is {file_limit}: "
                f"ulimit -Hn {wanted.connections + SPARE_FILES} (as root)"
            )
            progress.advance(settings.steps([wanted], subjects))
            continue
        results.about[cell.name] = cell.about()
        players = [subject for subject in subjects if subject.plays(cell)]
        for launch in range(settings.launches):
            _run_launch(results, cell, players, settings, launch, placement, progress)
    results.complete = True


def _run_launch(
    results: Results,
    cell: Cell,
    subjects: Iterable[Subject],
    settings: Settings,
    launch: int,
    placement: Placement,
    progress: Progress,
) -> None:
    """Start all the servers, which sleep while it is not their turn, and measure them in turn."""
    with contextlib.ExitStack() as stack:
        pairs: dict[str, Pair] = {}
        environment: dict[str, str] = {}
        if cell.kind is Kind.FILE:
            environment[FILE] = stack.enter_context(file_in_memory(cell.reply))
        elif cell.kind is Kind.TLS:
            environment = stack.enter_context(certificates.make())
        for subject in subjects:
            progress.say(f"{cell.name}: starting {subject.name}")
            try:
                pair = stack.enter_context(Pair(subject, cell, placement, environment))
                pair.measure(settings.warmup)
                pairs[subject.name] = pair
                results.memory.append(Memory(cell.name, subject.name, pair.memory))
                progress.advance(1)
            except Failed as error:
                results.failures[f"{cell.name} / {subject.name}"] = str(error)
                progress.advance(1 + settings.rounds)
        for number in range(settings.rounds):
            progress.say(f"{cell.name}: round {launch * settings.rounds + number + 1}")
            for name, pair in list(pairs.items()):
                try:
                    window = pair.measure(settings.seconds)
                except Failed as error:
                    results.failures[f"{cell.name} / {name}"] = str(error)
                    del pairs[name]
                    progress.advance(settings.rounds - number)
                    continue
                results.samples.append(
                    Sample(
                        cell.name,
                        name,
                        launch * settings.rounds + number,
                        **dataclasses.asdict(window),
                        size=max(cell.size, cell.reply),
                    )
                )
                progress.advance(1)
