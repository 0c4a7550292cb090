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

UNDECIDED = "undecided"
NOT_COVERED = "not covered"
OUTCOMES = (
    *("passed", "failed", "expected failure", "unsupported", "skipped"),
    *(UNDECIDED, NOT_COVERED),
)


def _undecided() -> dict[str, str]:
    known = statements.load().values()
    return {each.id: f"{each.undecided}: {each.why}" for each in known if each.undecided}


@dataclass
class Sheet:
    """Statement × column: what is known."""

    columns: list[str]
    """Backends; where they run under Wine, with that."""
    rows: dict[str, dict[str, Cell]]
    netpoll: str
    python: str
    platform: str
    undecided: dict[str, str] = field(default_factory=_undecided)
    """Statements that no test can decide, and why."""
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
        return UNDECIDED if statement in self.undecided else NOT_COVERED

    def failed(self, statement: str) -> bool:
        """Whether it is not kept somewhere."""
        return any(cell.outcome == "failed" for cell in self.rows.get(statement, {}).values())

    def counts(self, outcome: str, statements: Iterable[str]) -> list[int]:
        """In how many of the statements each column has this outcome."""
        names = list(statements)
        return [
            sum(self.outcome(name, column) == outcome for name in names) for column in self.columns
        ]

    def _why_not(self, statement: str) -> list[str]:
        return [self.undecided[statement]] if statement in self.undecided else []

    def as_json(self, statements: Mapping[str, str]) -> dict[str, Any]:
        """
        :param statements: those to tell of, each with its text
        """
        rows: dict[str, Any] = {}
        for name, text in statements.items():
            cells: dict[str, Any] = {}
            for column in self.columns:
                cell = self.rows.get(name, {}).get(column)
                cells[column] = {
                    "outcome": self.outcome(name, column),
                    "reasons": cell.reasons if cell is not None else self._why_not(name),
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
