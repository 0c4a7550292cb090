"""The command: ``python -m benchmarks``."""

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks import cells, environment, native, progress, report, runner, subjects
from benchmarks.processes import Placement, raise_file_limit
from benchmarks.results import Results
from benchmarks.runner import Settings

QUICK = Settings(launches=1, rounds=3, seconds=0.25, warmup=0.1)
FULL = Settings(launches=3, rounds=3, seconds=0.7, warmup=0.3)

DESCRIPTION = """\
Measures what one message of a TCP echo costs the server in CPU time: netpoll beside asyncio,
uvloop, trio, gevent and C. Server and load generator run on one CPU each; the load (in C, compiled
on first use) checks every byte that comes back. In each round every subject has its turn; ratios
are taken within a round, and the median is shown with the smallest and the largest. The tables are
Markdown on standard output, progress is on standard error. Ctrl-C stops, and prints what is there.
"""


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m benchmarks", description=DESCRIPTION)
    size = result.add_mutually_exclusive_group()
    size.add_argument(
        "--quick", action="store_true", help="the main cells, about two minutes (the default)"
    )
    size.add_argument(
        "--full", action="store_true", help="every cell and subject, about half an hour"
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
    result.add_argument("--json", type=Path, metavar="FILE", help="save the samples as well")
    result.add_argument(
        "--report", type=Path, metavar="FILE", help="measure nothing: show a saved FILE again"
    )
    return result


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.list:
        return show_list()
    try:
        if options.report:
            print(report.render(Results.load(options.report)))
            return 0
        return measure(options)
    except (native.CannotCompile, ValueError, OSError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2


def show_list() -> int:
    print("cells (* in --quick):")
    for cell in cells.CELLS:
        idle = f", {cell.idle:,} idle besides" if cell.idle else ""
        mark = "*" if cell.quick else " "
        print(f"  {mark} {cell.name:<18} {cell.size:,} bytes, {cell.active:,} busy{idle}")
    print("subjects (* in --quick):")
    for subject in subjects.SUBJECTS:
        obstacle = subject.obstacle()
        mark = " " if subject.extra else "*"
        print(f"  {mark} {subject.name:<18} {subject.about}")
        if obstacle:
            print(f"    {'':<18} cannot run here: {obstacle}")
    return 0


def measure(options: argparse.Namespace) -> int:
    if sys.platform != "linux":
        raise ValueError("Linux only: CPU affinity, epoll, and the CPU clocks of other processes")
    settings = _settings(options)
    chosen_cells, chosen_subjects, skipped = _choose(options)
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
        skipped=skipped,
    )
    steps = settings.steps(len(chosen_cells), len(chosen_subjects))
    interrupted = False
    try:
        with progress.create(steps) as bar:
            runner.run(
                results, chosen_cells, chosen_subjects, settings, placement, raise_file_limit(), bar
            )
    except KeyboardInterrupt:
        interrupted = True
    print(report.render(results))
    if options.json:
        results.save(options.json)
    return 130 if interrupted else int(bool(results.failures))


def _settings(options: argparse.Namespace) -> Settings:
    preset = FULL if options.full else QUICK
    changes: dict[str, Any] = {
        name: value
        for name in ("launches", "rounds", "seconds")
        if (value := getattr(options, name)) is not None
    }
    if any(value <= 0 for value in changes.values()):
        raise ValueError("--launches, --rounds and --seconds must be positive")
    return Settings(**{**vars(preset), **changes})


def _choose(
    options: argparse.Namespace,
) -> tuple[list[cells.Cell], list[subjects.Subject], dict[str, str]]:
    """Return the cells, the subjects that can run, and why the others cannot."""
    chosen_cells = (
        cells.select(options.cells.split(","))
        if options.cells
        else [cell for cell in cells.CELLS if cell.quick or options.full]
    )
    wanted = (
        subjects.select([*options.subjects.split(","), options.baseline])
        if options.subjects
        else [subject for subject in subjects.SUBJECTS if not subject.extra or options.full]
    )
    obstacles = {subject.name: subject.obstacle() for subject in wanted}
    skipped = {name: reason for name, reason in obstacles.items() if reason is not None}
    runnable = [subject for subject in wanted if subject.name not in skipped]
    if not runnable:
        raise ValueError("nothing to measure: " + "; ".join(skipped.values()))
    return chosen_cells, runnable, skipped


if __name__ == "__main__":
    sys.exit(main())
