"""The table of `netpoll conformance`: what it holds, and as JSON, written and read."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from netpoll.cli.errors import CommandError
from netpoll.testing import statements
from netpoll.testing.report import Cell, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from netpoll.testing.report import Report
    from netpoll.testing.statements import Statement

UNDECIDED = "undecided"
NOT_COVERED = "not covered"
OUTCOMES = (
    *("passed", "failed", "expected failure", "unsupported", "skipped"),
    *(UNDECIDED, NOT_COVERED),
)


PARTLY = "in part"
"""Of a reason: what of a statement no test decides, where tests decide the others."""


@dataclass
class Sheet:
    """Statement × column: what is known."""

    columns: list[str]
    """Backends; where they run under Wine, with that."""
    rows: dict[str, dict[str, Cell]]
    netpoll: str
    python: str
    platform: str
    known: dict[str, Statement] = field(default_factory=statements.load)
    """The statements, which say why no test decides some of them."""
    others: list[str] = field(default_factory=list[str])
    """Where the columns of `add` come from, a line each."""

    @classmethod
    def of(cls, report: Report) -> Sheet:
        """What a run has decided."""
        names = {each: f"{each} (Wine {report.wine})" for each in report.backends}
        if report.wine is None:
            names = {each: each for each in report.backends}
        rows = {
            statement: {names[backend]: cell for backend, cell in row.items()}
            for statement, row in report.table().items()
        }
        return cls(list(names.values()), rows, report.netpoll, report.python, report.platform)

    @classmethod
    def read(cls, path: str) -> Sheet:
        """What `as_json` made.

        :raises CommandError: the file is not there, or it is something else
        """
        try:
            content: dict[str, Any] = json.loads(Path(path).read_text("utf-8"))
            rows: dict[str, dict[str, Cell]] = {}
            for name, row in content["statements"].items():
                for column, cell in row["backends"].items():
                    if cell["outcome"] in get_args(Outcome):
                        rows.setdefault(name, {})[column] = Cell(**cell)
            about = (content[name] for name in ("netpoll", "python", "platform"))
            return cls(list(content["backends"]), rows, *about)
        except OSError as error:
            raise CommandError(f"--with {path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise CommandError(
                f"--with {path}: not what 'netpoll conformance --json' prints"
            ) from None

    def add(self, other: Sheet) -> None:
        """Put the columns of another machine beside these.

        :raises CommandError: there is one of that name
        """
        for column in other.columns:
            if column in self.columns:
                raise CommandError(f"--with: there are two columns {column!r}")
            self.columns.append(column)
            self.others.append(
                f"{column}: netpoll {other.netpoll}, Python {other.python}, {other.platform}"
            )
        for name, row in other.rows.items():
            self.rows.setdefault(name, {}).update(row)

    def outcome(self, statement: str, column: str) -> str:
        """One cell, in a word or two."""
        cell = self.rows.get(statement, {}).get(column)
        if cell is not None:
            return cell.outcome
        return NOT_COVERED if self.undecided(statement, column) is None else UNDECIDED

    def undecided(self, statement: str, column: str) -> str | None:
        """Why no test decides it there; `None` if nothing is known against one."""
        about = self.known.get(statement)
        reason = about.reason(column) if about is not None else None
        return str(reason) if reason is not None else None

    def missing(self, statements: Iterable[str]) -> list[str]:
        """Those that are silently absent, with the columns where they are so if not in all."""
        found: list[str] = []
        for name in statements:
            where = [each for each in self.columns if self.outcome(name, each) == NOT_COVERED]
            if where == self.columns:
                found.append(name)
            elif where:
                found.append(f"{name} on {' and '.join(where)}")
        return found

    def decided(self) -> tuple[int, int, list[int]]:
        """Of the statements about Windows' ports, operations and cancels: how many a test decides
        on one backend at least, how many there are, and how many are decided in each column.

        What is only reported as unsupported does not count.
        """
        core = [name for name, each in self.known.items() if each.core]
        open_ones = (UNDECIDED, NOT_COVERED, "skipped", "unsupported")
        rows = [
            [self.outcome(name, each) not in open_ones for each in self.columns] for name in core
        ]
        return sum(map(any, rows)), len(core), [sum(column) for column in zip(*rows, strict=True)]

    def failed(self, statement: str) -> bool:
        """Whether it is not kept somewhere."""
        return any(cell.outcome == "failed" for cell in self.rows.get(statement, {}).values())

    def counts(self, outcome: str, statements: Iterable[str]) -> list[int]:
        """In how many of the statements each column has this outcome."""
        names = list(statements)
        return [
            sum(self.outcome(name, column) == outcome for name in names) for column in self.columns
        ]

    def as_json(self, statements: Mapping[str, str]) -> dict[str, Any]:
        """
        :param statements: those to tell of, each with its text
        """
        rows: dict[str, Any] = {}
        for name, text in statements.items():
            cells: dict[str, Any] = {}
            for column in self.columns:
                cell = self.rows.get(name, {}).get(column)
                undecided = self.undecided(name, column)
                cells[column] = {
                    "outcome": self.outcome(name, column),
                    "reasons": cell.reasons if cell is not None else [undecided] * bool(undecided),
                    "tests": cell.tests if cell is not None else [],
                }
            rows[name] = {"text": text, "backends": cells}
        return {
            "netpoll": self.netpoll,
            "python": self.python,
            "platform": self.platform,
            "backends": self.columns,
            "statements": rows,
        }
