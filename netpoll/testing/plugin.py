"""The pytest plugin of the conformance suite: `python -m pytest -p netpoll.testing.plugin ...`.

It adds

* the mark `statement("RECV-05", ...)`: the test decides these statements of the behaviour
  reference. An id that does not exist is an error;
* the fixtures of `netpoll.testing.fixtures`; a test that uses `port`, `make_port` or `target` runs
  once on each backend of the machine, whose name ends the test's id;
* `--netpoll-backend=NAME[,NAME]`, or the environment variable NETPOLL_BACKEND: only these. A name
  is a backend (`selectors`) or one target (`selectors-epoll`); one that does not work here is an
  error;
* `--statement-report=FILE`: what each test said of its statements, as JSON
  (`netpoll.testing.report`).

pytest is not imported here: netpoll can be imported whole without it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from netpoll.testing import statements, wine
from netpoll.testing.report import Record, Report

if TYPE_CHECKING:
    import pytest

    from netpoll.testing.backends import Target
    from netpoll.testing.report import Outcome

pytest_plugins: list[str] = ["netpoll.testing.fixtures"]

_PROPERTY = "netpoll"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("netpoll")
    group.addoption(
        "--netpoll-backend",
        metavar="NAME[,NAME]",
        help="run only on these backends or targets (default: NETPOLL_BACKEND, else all that work)",
    )
    group.addoption(
        "--statement-report",
        metavar="FILE",
        type=Path,
        help="write what each test decided about its statements to FILE, as JSON",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "statement(*ids): decides these statements of the behaviour reference"
    )
    targets = chosen_targets(config)
    path: Path | None = config.getoption("statement_report")
    if path is not None:
        report = Report(backends=[target.id for target in targets])
        config.pluginmanager.register(_Recorder(report, path), "netpoll-statement-report")


def chosen_targets(config: pytest.Config) -> list[Target]:
    """What the options let the suite run on.

    :raises pytest.UsageError: a name is unknown, or does not work on this machine
    """
    import pytest

    from netpoll.testing import backends

    option: str | None = config.getoption("netpoll_backend")
    wanted = option or os.environ.get("NETPOLL_BACKEND")
    try:
        return backends.select(wanted)
    except ValueError as error:
        source = "--netpoll-backend" if option else "NETPOLL_BACKEND"
        raise pytest.UsageError(f"{source}: {error}") from None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    import pytest

    known = statements.load()
    problems = [
        f"{item.nodeid}: no statement is called {name!r}"
        for item in items
        for name in _statements_of(item)
        if name not in known
    ]
    if problems:
        raise pytest.UsageError("\n".join(problems))
    wine.expect_differences(items)


def _statements_of(item: pytest.Item) -> list[str]:
    found: dict[str, None] = {}
    for mark in item.iter_markers("statement"):
        found.update(dict.fromkeys(mark.args))
    return list(found)


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Have what the test is about travel with its report, which may cross a process (xdist)."""
    names = _statements_of(item)
    if not names:
        return
    callspec = getattr(item, "callspec", None)
    target: Target | None = callspec.params.get("target") if callspec is not None else None
    backend = target.id if target is not None else None
    reason = ""
    if call.excinfo is not None:
        refusal = vars(call.excinfo.value).get("netpoll_unsupported")
        if refusal is not None:
            reason, ids = refusal
            names = [name for name in names if name in ids] if ids else names
    # of a test that is set up, called and torn down, the last report that matters has the last word
    item.user_properties[:] = [entry for entry in item.user_properties if entry[0] != _PROPERTY]
    about = {"statements": names, "backend": backend, "unsupported": reason}
    item.user_properties.append((_PROPERTY, about))


class _Recorder:
    """Collects the reports of a run and writes them."""

    def __init__(self, report: Report, path: Path) -> None:
        self._report = report
        self._path = path
        self._records: dict[str, Record] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        about = cast("dict[str, Any] | None", dict(report.user_properties).get(_PROPERTY))
        if about is None or (report.when != "call" and report.passed):
            return
        record = self._records.get(report.nodeid)
        if record is not None and record.outcome == "failed":
            return  # a failed test may fail in its teardown as well
        outcome, reason = _verdict(report, about["unsupported"])
        self._records[report.nodeid] = Record(
            report.nodeid, about["statements"], about["backend"], outcome, reason
        )

    def pytest_sessionfinish(self) -> None:
        self._report.tests = list(self._records.values())
        self._report.write(self._path)


def _verdict(report: pytest.TestReport, unsupported: str) -> tuple[Outcome, str]:
    if report.passed:
        return "passed", ""
    if unsupported:
        return "unsupported", unsupported
    if report.skipped and hasattr(report, "wasxfail"):
        return "expected failure", str(report.wasxfail)
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        return "skipped", reason.removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    return "failed", str(crash.message if crash is not None else report.longrepr).partition("\n")[0]
