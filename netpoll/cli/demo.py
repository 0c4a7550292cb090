"""`netpoll demo`: one OVERLAPPED program on every backend, its completions side by side."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import netpoll
from netpoll import backends
from netpoll.cli.errors import CommandError
from netpoll.cli.options import explain, open_port
from netpoll.cli.program import RESET, Outcome, Program
from netpoll.cli.tables import Table, show
from netpoll.testing.wine import SWALLOWED, wine_version

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

SUMMARY = "one OVERLAPPED program on every backend, its completions side by side"
DESCRIPTION = """\
Runs one program on every backend that this machine has: accept, receive into several buffers, send
from several, cancel, post a packet, run into a time limit, see an end of stream, a reset and a
refusal. Then it shows the completions side by side. Where there is only the backend 'selectors',
each of the machine's selectors has a column.

Exit code 0 if all agree, 1 where two of them disagree. Under Wine, what Wine alone gets wrong is
named and does not count.
"""
EXAMPLES = """\
examples:
  netpoll demo
  netpoll demo --backend selectors            that backend, on each selector
  netpoll demo --json
"""


@dataclass
class Column:
    """What the program saw on one backend."""

    name: str
    outcomes: list[Outcome] = field(default_factory=list[Outcome])
    failure: str = ""
    """Why the program ended early; empty if it did not."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend",
        metavar="NAME",
        action="append",
        default=[],
        help="only this one; may be given several times (default: all that can be used here)",
    )
    parser.add_argument("--json", action="store_true", help="the same as one JSON object")


def run(options: argparse.Namespace) -> int:
    """Run the program everywhere, and compare."""
    columns = [_run_on(*place) for place in _places(options.backend)]
    differing = disagreements(columns)
    excused = wines_own(columns, differing)
    differing = [number for number in differing if number not in excused]
    if options.json:
        print(json.dumps(_as_json(columns, differing, excused), indent=1))
    else:
        show(make_table(columns, differing, excused))
        print(verdict(columns, differing, excused))
    return 1 if differing else 0


def _places(wanted: Sequence[str]) -> list[tuple[str, str, str | None]]:
    """Where to run: column, backend, selector.

    :raises CommandError: there is no such backend, or it cannot be used here
    """
    unknown = [name for name in wanted if name not in backends.NAMES]
    if unknown:
        raise CommandError(
            f"there is no backend {unknown[0]!r}; choose from {', '.join(backends.NAMES)}"
        )
    for name in wanted:
        open_port(name).close()  # a named backend is used or fails
    names = list(dict.fromkeys(wanted)) or [
        name for name in backends.NAMES if backends.probe(name).usable
    ]
    if names == ["selectors"]:
        from netpoll.backends.selectors import readiness

        return [(f"selectors/{each}", "selectors", each) for each in readiness.available()]
    return [(name, name, None) for name in names]


def _run_on(column: str, backend: str, selector: str | None) -> Column:
    with open_port(backend, selector) as port:
        program = Program(port)
        try:
            program.run()
        except (OSError, ValueError, TypeError, AssertionError) as error:
            what = explain(error) or "an assertion does not hold"
            return Column(column, program.outcomes, f"{type(error).__name__}: {what}")
        return Column(column, program.outcomes)


def disagreements(columns: Sequence[Column]) -> list[int]:
    """The numbers of the steps, from 0, that are not the same in all columns."""
    rows = list(zip_longest(*(column.outcomes for column in columns)))
    differing = [number for number, row in enumerate(rows) if len(set(row)) > 1]
    if any(column.failure for column in columns):
        differing.append(len(rows))
    return differing


def wines_own(columns: Sequence[Column], differing: Sequence[int]) -> dict[int, str]:
    """Of the steps that differ, those in which Wine is not like Windows, each with the reason."""
    version = wine_version()
    if version is None:
        return {}
    rows = list(zip_longest(*(column.outcomes for column in columns)))
    reason = f"Wine {version}, {SWALLOWED.statement}: {SWALLOWED.why}"
    return {
        number: reason for number in differing if number < len(rows) and _swallowed(rows[number])
    }


def _swallowed(row: Sequence[Outcome | None]) -> bool:
    """Whether the outcomes are a reset, and the same as the end of a stream."""
    resets = [each for each in row if each is not None and each.step == RESET and each.error]
    if not resets:
        return False
    as_end = replace(resets[0], error=0, meaning="", transferred=0)
    return all(each in (resets[0], as_end) for each in row)


def make_table(
    columns: Sequence[Column], differing: Sequence[int], excused: Mapping[int, str]
) -> Table:
    """One row for each step, one column for each backend."""
    title = f"One OVERLAPPED program, netpoll {netpoll.__version__}"
    table = Table(title, ("step", "operation", "key", *(column.name for column in columns)))
    for number, row in enumerate(zip_longest(*(column.outcomes for column in columns))):
        first = next(outcome for outcome in row if outcome is not None)
        cells = [_cell(outcome, first) for outcome in row]
        step = f"{first.step}\n(Wine differs)" if number in excused else first.step
        table.rows.append((step, first.operation, first.key, *cells))
    if any(column.failure for column in columns):
        table.rows.append(("ended early", "", "", *(column.failure for column in columns)))
    table.emphasis.update(differing)
    return table


def _cell(outcome: Outcome | None, first: Outcome) -> str:
    if outcome is None:
        return "nothing"
    lines = [f"{outcome.transferred} transferred"]
    if outcome.error:
        lines[0] = f"error {outcome.error}, {outcome.meaning}"
        if outcome.transferred:
            lines.append(f"{outcome.transferred} transferred")
    if outcome.key != first.key:
        lines.append(f"key {outcome.key}")
    if outcome.data:
        lines.append(outcome.data)
    return "\n".join(lines)


def verdict(columns: Sequence[Column], differing: Sequence[int], excused: Mapping[int, str]) -> str:
    """The result: one line, and one more for each step that Wine alone gets wrong."""
    steps = len(columns[0].outcomes)
    reasons = [
        f"expected here, step {number + 1} of {steps}: {excused[number]}" for number in excused
    ]
    return "\n".join([_verdict(columns, differing, steps - len(excused)), *reasons])


def _verdict(columns: Sequence[Column], differing: Sequence[int], steps: int) -> str:
    names = ", ".join(column.name for column in columns)
    if differing:
        return f"{len(differing)} of the steps differ between {names}"
    if len(columns) == 1:
        return f"{steps} steps on {names}; nothing to compare it with"
    every = "all" if steps == len(columns[0].outcomes) else "the other"
    return f"{names}: {every} {steps} completions agree"


def _as_json(
    columns: Sequence[Column], differing: Sequence[int], excused: Mapping[int, str]
) -> dict[str, Any]:
    return {
        "netpoll": netpoll.__version__,
        "columns": [asdict(column) for column in columns],
        "disagreements": list(differing),
        "wine": [{"step": number, "why": why} for number, why in excused.items()],
    }
