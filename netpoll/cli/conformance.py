"""`netpoll conformance`: runs the conformance suite, and shows statement × backend."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from netpoll.cli.errors import CommandError
from netpoll.cli.sheets import OUTCOMES, PARTLY, UNDECIDED, Sheet
from netpoll.cli.tables import Table, show

if TYPE_CHECKING:
    import argparse

    from netpoll.testing.report import Report

SUMMARY = "runs the conformance suite: which statement each backend keeps"
DESCRIPTION = """\
Runs the conformance suite on each backend of this machine and shows what it decided: one row for
each statement of the contract, one column for each backend.

  passed            every test of the statement passed
  failed            one did not
  expected failure  one did not, where Wine is known not to be like Windows
  unsupported       the backend cannot keep it, and says so
  skipped           this machine cannot tell
  undecided         no test can decide it on this backend; the reasons say why
  not covered       no test of this suite decides it

What --json prints on one machine, --with shows beside the columns of another. The suite is pytest
files: it needs pytest and pytest-timeout. They come with netpoll's source, not with the wheel: run
this in a checkout, or see --suite.
Exit code 0 if no statement failed, 1 if one did.
"""
EXAMPLES = """\
examples:
  netpoll conformance
  netpoll conformance --backend selectors-poll --only-failures
  netpoll conformance --suite netpoll-0.1.0/tests/conformance --json
  netpoll conformance --with windows.json
"""

WIDTH = 80
"""Of running text, in characters."""
RAN = (0, 1)
"""Exit codes of pytest that mean that it ran: all passed, some failed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--backend",
        metavar="NAME",
        action="append",
        default=[],
        help="only this backend, or one of its variants such as selectors-poll; "
        "may be given several times",
    )
    add("--suite", metavar="DIR", help="the folder of the suite (default: that of the source tree)")
    add("--json", action="store_true", help="the table as one JSON object")
    add(
        "--with",
        dest="others",
        metavar="FILE",
        action="append",
        default=[],
        help="show the columns of FILE too, which --json has printed elsewhere; "
        "may be given several times",
    )
    add("--only-failures", action="store_true", help="only the statements that failed")


def run(options: argparse.Namespace) -> int:
    """Run the suite and show what came out."""
    others = [Sheet.read(path) for path in options.others]
    report = run_suite(options.suite, options.backend)
    sheet = Sheet.of(report)
    for other in others:
        sheet.add(other)
    statements = _statements(sheet)
    if options.only_failures:
        statements = {name: text for name, text in statements.items() if sheet.failed(name)}
    if options.json:
        print(json.dumps(sheet.as_json(statements), indent=1))
    else:
        _print(sheet, statements, options.only_failures)
    unmarked = any(record.outcome == "failed" for record in report.tests)
    return 1 if unmarked or any(map(sheet.failed, sheet.rows)) else 0


def run_suite(directory: str | None, wanted: list[str]) -> Report:
    """Run the suite; its output goes to stderr, so that stdout has the result alone.

    :raises CommandError: pytest or the suite is not here, or it did not run
    """
    missing = [
        package
        for package, module in (("pytest", "pytest"), ("pytest-timeout", "pytest_timeout"))
        if importlib.util.find_spec(module) is None
    ]
    if missing:
        raise CommandError(
            f"the suite needs {' and '.join(missing)}, not installed here: "
            f"{sys.executable} -m pip install {' '.join(missing)}"
        )
    from netpoll.testing import report, suite

    try:
        where = suite.find(directory)
    except suite.SuiteNotFound as error:
        raise CommandError(str(error)) from None
    with tempfile.TemporaryDirectory(prefix="netpoll-") as folder:
        path = Path(folder, "report.json")
        line = suite.command(where, path, ",".join(wanted) or None)
        code = subprocess.run(
            line, stdout=sys.stderr, stdin=subprocess.DEVNULL, check=False
        ).returncode
        if code not in RAN or not path.exists():
            raise CommandError(
                f"the suite did not run: pytest ended with exit code {code}, see above"
            )
        return report.Report.read(path)


def _statements(sheet: Sheet) -> dict[str, str]:
    """The known statements in reading order, then those of a suite that has more, each with its
    text.
    """
    from netpoll.testing import statements

    known = {name: statement.text for name, statement in statements.load().items()}
    return {**known, **{name: "" for name in sheet.rows if name not in known}}


# -- for people ------------------------------------------------------------------------------------


def _print(sheet: Sheet, statements: dict[str, str], only_failures: bool) -> None:
    title = f"Conformance of netpoll {sheet.netpoll}, Python {sheet.python}"
    grid = Table(title, ("statement", *sheet.columns))
    for name in (each for each in statements if each in sheet.rows):
        grid.rows.append((name, *(sheet.outcome(name, column) for column in sheet.columns)))
        if sheet.failed(name):
            grid.emphasis.add(len(grid.rows) - 1)
    if grid.rows:
        show(grid)
    _print_reasons(sheet, statements)
    if not only_failures:
        text = f"Not covered by any test: {', '.join(sheet.missing(statements)) or 'none'}"
        print(textwrap.fill(text, WIDTH) + "\n")
        _print_decided(sheet)
        _print_totals(sheet, statements)
        print(*sheet.others, sep="\n", end="\n" * bool(sheet.others))
    elif not grid.rows:
        print("no statement failed")


def _print_decided(sheet: Sheet) -> None:
    """How much of Windows' behaviour is decided at all."""
    decided, all_of_them, each = sheet.decided()
    columns = ", ".join(
        f"{count} on {name}" for count, name in zip(each, sheet.columns, strict=True)
    )
    text = (
        f"Of the {all_of_them} statements about Windows' ports, operations and cancels (PORT to "
        f"CAN, without pipes, files and waits), {decided} are decided by a test on one backend at "
        f"least ({decided / all_of_them:.0%}), unsupported ones left out: {columns}."
    )
    print(textwrap.fill(text, WIDTH) + "\n")


def _print_totals(sheet: Sheet, statements: dict[str, str]) -> None:
    totals = Table("Totals", ("outcome", *sheet.columns))
    for outcome in OUTCOMES:
        totals.rows.append((outcome, *map(str, sheet.counts(outcome, statements))))
    show(totals)


def _print_reasons(sheet: Sheet, statements: dict[str, str]) -> None:
    """Why a statement failed, is unsupported, was skipped, or is not decided or not wholly."""
    seen: dict[tuple[str, str, str], list[str]] = {}
    for name in statements:
        for column, cell in sheet.rows.get(name, {}).items():
            for reason in cell.reasons:
                seen.setdefault((name, cell.outcome, reason), []).append(column)
        for column in sheet.columns:
            undecided = sheet.undecided(name, column)
            if undecided is not None and sheet.outcome(name, column) == UNDECIDED:
                seen.setdefault((name, UNDECIDED, undecided), []).append(column)
        about = sheet.known.get(name)
        if about is not None and about.rest is not None and name in sheet.rows:
            seen[(name, PARTLY, str(about.rest))] = list(sheet.rows[name])
    if not seen:
        return
    reasons = Table("Reasons", ("statement", "outcome", "on", "why"))
    for (name, outcome, reason), places in seen.items():
        why = textwrap.fill(reason, WIDTH)
        on = "all" if places == sheet.columns else "\n".join(places)
        reasons.rows.append((name, outcome, on, why))
    show(reasons)
