"""Runs one module of CPython's own `test_asyncio` with netpoll's event loop in place of asyncio's.

    python driver.py --backend selectors test_streams            # all of its cases
    python driver.py --backend io_uring test_streams drain       # those whose name has this
    python driver.py --stock test_streams                        # asyncio's own loop, to compare

Wherever the cases make a loop they get one of netpoll's: by `asyncio.new_event_loop()`, whatever
policy they leave behind, and by `asyncio.SelectorEventLoop(...)`, whatever selector they name.

Each case writes a line of JSON to `--report` when it starts and one when it ends, so that a reader
knows which one never did. The exit code is 0 although cases fail.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import importlib
import json
import os
import sys
import time
import unittest
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    ErrorInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]

FOLDER = os.environ.get("NETPOLL_CPYTHON_TESTS")
"""Where the package `test` of this version of Python is, if the Python came without it: that of
another system will do, for the Pythons for Windows that run under Wine."""
RESOURCES = ("cpu", "subprocess", "walltime")
"""Of `test.support`: everything but what leaves the machine."""


def use_netpoll(backend: str) -> None:
    """Have asyncio make netpoll's loops in this process."""
    import netpoll.asyncio

    class EventLoop(netpoll.asyncio.EventLoop):
        def __init__(self, selector: object = None) -> None:
            super().__init__(backend)

    events: Any = importlib.import_module(
        "asyncio.windows_events" if sys.platform == "win32" else "asyncio.unix_events"
    )
    for module in (asyncio, events):
        for name in ("SelectorEventLoop", "ProactorEventLoop", "EventLoop"):
            if hasattr(module, name):
                setattr(module, name, EventLoop)
    for name in dir(events):
        policy: Any = getattr(events, name)
        if "_loop_factory" in getattr(policy, "__dict__", {}):
            policy._loop_factory = EventLoop


def check(backend: str) -> None:
    """
    :raises RuntimeError: what asyncio makes is not ours
    """
    import netpoll.asyncio

    makers: list[Any] = [asyncio.new_event_loop, asyncio.SelectorEventLoop]
    for make in makers:
        loop = make()
        loop.close()
        if not isinstance(loop, netpoll.asyncio.EventLoop) or loop.port.backend != backend:
            raise RuntimeError(f"{make!r} makes a {loop!r}")


class Result(unittest.TestResult):
    """Writes down each case as it starts and as it ends."""

    def __init__(self, write: Callable[[dict[str, object]], None], patience: float) -> None:
        super().__init__()
        self._write = write
        self._patience = patience
        self._began = 0.0
        self._outcome: str | None = None
        self._text = ""

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        # a case that hangs prints where every thread is, and ends the process
        faulthandler.dump_traceback_later(self._patience, exit=True)
        self._write({"case": test.id(), "outcome": "started"})
        self._outcome, self._text = "passed", ""
        self._began = time.perf_counter()

    def stopTest(self, test: unittest.TestCase) -> None:
        if self._outcome is None:
            return  # Python 3.12.1 stops what was skipped without a start
        took = round(time.perf_counter() - self._began, 3)
        faulthandler.cancel_dump_traceback_later()
        self._write(
            {"case": test.id(), "outcome": self._outcome, "text": self._text, "seconds": took}
        )
        self._outcome = None
        super().stopTest(test)

    def _failed(self, test: unittest.TestCase, text: str) -> None:
        if self._outcome is None:  # of no case, but of setUpClass and its like
            self._write({"case": test.id(), "outcome": "failed", "text": text, "seconds": 0})
        else:
            self._outcome, self._text = "failed", self._text + text

    def addError(self, test: unittest.TestCase, err: ErrorInfo) -> None:
        super().addError(test, err)
        self._failed(test, self.errors[-1][1])

    def addFailure(self, test: unittest.TestCase, err: ErrorInfo) -> None:
        super().addFailure(test, err)
        self._failed(test, self.failures[-1][1])

    def addSubTest(
        self, test: unittest.TestCase, subtest: unittest.TestCase, err: ErrorInfo | None
    ) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._failed(test, f"{subtest}: {err[0]}: {err[1]}\n")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        super().addUnexpectedSuccess(test)
        self._failed(test, "unexpected success")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        if self._outcome is None:
            self._write({"case": test.id(), "outcome": "skipped", "text": reason, "seconds": 0})
        elif self._outcome == "passed":
            self._outcome, self._text = "skipped", reason


def cases(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            yield from cases(each)
        else:
            yield each


def chosen(case: unittest.TestCase, only: list[str], leave: list[str]) -> bool:
    name = case.id()
    if any(fnmatchcase(name, pattern) for pattern in leave):
        return False
    return not only or any(part in name for part in only)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("module", help="of test.test_asyncio: test_streams")
    parser.add_argument("only", nargs="*", help="part of a case's name, or the whole")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--backend")
    which.add_argument("--stock", action="store_true")
    parser.add_argument("--leave", action="append", default=[], help="pattern of names not to run")
    parser.add_argument("--patience", type=float, default=60, help="seconds for one case")
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()

    if FOLDER:
        sys.path.append(FOLDER)  # behind all else: it may be the library of another system
    if not options.stock:
        use_netpoll(options.backend)
        check(options.backend)
    support: Any = importlib.import_module("test.support")
    support.use_resources = dict.fromkeys(RESOURCES)
    if options.report is None:
        return run(options, sys.stdout)
    with options.report.open("w", encoding="utf-8") as report:
        return run(options, report)


def run(options: argparse.Namespace, report: TextIO) -> int:
    def write(line: dict[str, object]) -> None:
        report.write(json.dumps(line) + "\n")
        report.flush()

    name = f"test.test_asyncio.{options.module}"
    try:
        module = importlib.import_module(name)
    except unittest.SkipTest as skip:
        write({"case": name, "outcome": "skipped", "text": str(skip), "seconds": 0})
        return 0
    suite = unittest.defaultTestLoader.loadTestsFromModule(module)
    suite = unittest.TestSuite(
        case for case in cases(suite) if chosen(case, options.only, options.leave)
    )
    suite.run(Result(write, options.patience))
    return 0


if __name__ == "__main__":
    sys.exit(main())
