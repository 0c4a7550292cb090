"""The command: ``python -m benchmarks``."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import (
    cells,
    environment,
    loads,
    native,
    plots,
    progress,
    report,
    runner,
    subjects,
)
from benchmarks.cells import Cell
from benchmarks.processes import Placement, raise_file_limit
from benchmarks.results import Results
from benchmarks.runner import Settings
from benchmarks.subjects import Subject

DESCRIPTION = """\
Measures what TCP servers cost in CPU time, message by message: netpoll beside asyncio, uvloop,
rloop, trio, gevent and C. Server and load generator run on one CPU each; the load (in C, compiled
on first use) checks what comes back. In each round every subject has its turn; ratios are taken
within a round, and the median is shown with the smallest and the largest. The tables are Markdown
on standard output, progress is on standard error. Ctrl-C stops, and prints what is there.
"""


WIDTH = 29
"""Of the names in the list."""


@dataclass(frozen=True)
class Preset:
    """A size of run: how long, which cells, which subjects."""

    about: str
    settings: Settings
    cell: Callable[[Cell], bool]
    subject: Callable[[Subject], bool]


PRESETS = {
    "quick": Preset(
        "the main cells, about two minutes (the default)",
        Settings(launches=1, rounds=3, seconds=0.15, warmup=0.1),
        lambda cell: cell.quick,
        lambda subject: not subject.extra,
    ),
    "targets": Preset(
        "the cells and subjects of netpoll's targets, about eight minutes",
        Settings(launches=2, rounds=3, seconds=0.4, warmup=0.2),
        lambda cell: cell.target,
        lambda subject: subject.target,
    ),
    "full": Preset(
        "every cell and subject, about 20 minutes",
        Settings(launches=3, rounds=2, seconds=0.5, warmup=0.2),
        lambda cell: True,
        lambda subject: True,
    ),
}


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m benchmarks", description=DESCRIPTION)
    size = result.add_mutually_exclusive_group()
    for name, preset in PRESETS.items():
        size.add_argument(
            f"--{name}", action="store_const", dest="preset", const=name, help=preset.about
        )
    result.add_argument("--list", action="store_true", help="show the cells and subjects, and exit")
    result.add_argument(
        "--subjects", metavar="NAMES", help="only these, by comma-separated shell patterns"
    )
    result.add_argument(
        "--cells", metavar="NAMES", help="only these, by comma-separated shell patterns"
    )
    result.add_argument(
        "--baseline",
        metavar="NAME",
        default=subjects.BASELINE,
        help="the subject that counts as 1; always measured too (default: %(default)s)",
    )
    result.add_argument("--rounds", type=int, metavar="N", help="windows measured per launch")
    result.add_argument("--launches", type=int, metavar="N", help="fresh starts of every server")
    result.add_argument("--seconds", type=float, metavar="S", help="length of a window")
    result.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="save the samples, and beside them the tables and, with matplotlib, the plots",
    )
    result.add_argument("--plots", type=Path, metavar="DIR", help="draw plots into DIR")
    result.add_argument(
        "--report", type=Path, metavar="FILE", help="measure nothing: show a saved FILE again"
    )
    return result


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.list:
        return show_list()
    try:
        if options.plots:
            plots.require()
        if options.report:
            results = Results.load(options.report)
            print(report.render(results))
            if options.plots:
                plots.draw(results, options.plots, options.report.stem)
            return 0
        return measure(options)
    except (native.CannotCompile, plots.NoPlots, ValueError, OSError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2


def show_list() -> int:
    print("cells (* in --quick, t in --targets):")
    for cell in cells.CELLS:
        marks = f"{'*' if cell.quick else ' '}{'t' if cell.target else ' '}"
        print(f"  {marks} {cell.name:<{WIDTH}} {cell.about()}")
        _show_obstacle(loads.obstacle(cell.kind))
    print("subjects (* in --quick, t in --targets):")
    for subject in subjects.SUBJECTS:
        marks = f"{' ' if subject.extra else '*'}{'t' if subject.target else ' '}"
        print(f"  {marks} {subject.name:<{WIDTH}} {subject.about}")
        _show_obstacle(subject.obstacle())
    return 0


def _show_obstacle(obstacle: str | None) -> None:
    if obstacle:
        print(f"     {'':<{WIDTH}} cannot run here: {obstacle}")


def measure(options: argparse.Namespace) -> int:
    if sys.platform != "linux":
        raise ValueError("Linux only: CPU affinity, epoll, and the CPU clocks of other processes")
    settings = _settings(options)
    chosen_cells, chosen_subjects, skipped = _choose(options)
    if options.json:  # a path that cannot be written to is told before the work, not after it
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.touch()
    native.build("load.c")
    placement = Placement.choose()
    if placement.server == placement.load:
        print("benchmarks: only one CPU: the load disturbs the server's caches", file=sys.stderr)
    results = Results(
        environment=environment.describe(placement),
        settings=vars(settings),
        subjects=[subject.name for subject in chosen_subjects],
        cells=[cell.name for cell in chosen_cells],
        summary_cells=[cell.name for cell in chosen_cells if cell.in_summary],
        baseline=options.baseline,
        kinds={cell.name: cell.kind for cell in chosen_cells},
        partial=[subject.name for subject in chosen_subjects if subject.cells],
        skipped=skipped,
    )
    steps = settings.steps(chosen_cells, chosen_subjects)
    interrupted = False
    try:
        with progress.create(steps) as bar:
            runner.run(
                results, chosen_cells, chosen_subjects, settings, placement, raise_file_limit(), bar
            )
    except KeyboardInterrupt:
        interrupted = True
    finally:
        if options.json:
            results.save(options.json)
    _show(results, options)
    return 130 if interrupted else int(bool(results.failures))


def _show(results: Results, options: argparse.Namespace) -> None:
    tables = report.render(results)
    print(tables)
    path: Path | None = options.json
    if path:
        path.with_suffix(".md").write_text(tables + "\n")
    directory: Path | None = options.plots or (path.parent if path else None)
    if directory is None:
        return
    try:
        plots.draw(results, directory, path.stem if path else "benchmark")
    except plots.NoPlots as error:
        print(f"benchmarks: no plots: {error}", file=sys.stderr)


def _settings(options: argparse.Namespace) -> Settings:
    preset = PRESETS[options.preset or "quick"].settings
    changes: dict[str, Any] = {
        name: value
        for name in ("launches", "rounds", "seconds")
        if (value := getattr(options, name)) is not None
    }
    if any(value <= 0 for value in changes.values()):
        raise ValueError("--launches, --rounds and --seconds must be positive")
    return Settings(**{**vars(preset), **changes})


def _choose(options: argparse.Namespace) -> tuple[list[Cell], list[Subject], dict[str, str]]:
    """Return the cells and the subjects that can run, and why the others cannot."""
    preset = PRESETS[options.preset or "quick"]
    wanted_cells = (
        cells.select(options.cells.split(","))
        if options.cells
        else [cell for cell in cells.CELLS if preset.cell(cell)]
    )
    wanted_subjects = (
        subjects.select([*options.subjects.split(","), options.baseline])
        if options.subjects
        else [subject for subject in subjects.SUBJECTS if preset.subject(subject)]
    )
    obstacles = {cell.name: loads.obstacle(cell.kind) for cell in wanted_cells}
    obstacles |= {subject.name: subject.obstacle() for subject in wanted_subjects}
    skipped = {name: reason for name, reason in obstacles.items() if reason is not None}
    chosen_cells = [cell for cell in wanted_cells if cell.name not in skipped]
    runnable = [subject for subject in wanted_subjects if subject.name not in skipped]
    if not chosen_cells or not runnable:
        raise ValueError("nothing to measure: " + "; ".join(skipped.values()))
    return chosen_cells, runnable, skipped


if __name__ == "__main__":
    sys.exit(main())
