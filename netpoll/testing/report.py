"""What a run of the suite leaves behind: a JSON file, and the table made from it.

The file holds one object:

* `format`: 1
* `netpoll`, `python`, `platform`: versions, as text
* `wine`: its version, or null
* `backends`: the ids of what the suite ran on, in the order of the columns
* `tests`: a list of objects with `test` (its id), `statements`, `backend` (an id, or null for a
  test that needs none), `outcome` and `reason`

Outcomes are `passed`, `failed`, `expected failure` (Wine gets it wrong, `reason` says what),
`unsupported` (the backend cannot keep the statement, `reason` says why) and `skipped` (this machine
cannot tell, `reason` says why). A statement of which nothing is recorded is *undecided* where
`netpoll.testing.statements` has a reason, else *not covered*.
"""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import netpoll
from netpoll.testing import statements
from netpoll.testing.wine import wine_version

if TYPE_CHECKING:
    from pathlib import Path

Outcome = Literal["skipped", "passed", "unsupported", "expected failure", "failed"]
"""In rising order of weight: of several tests of one statement, the gravest outcome counts."""
_WEIGHT = {outcome: weight for weight, outcome in enumerate(get_args(Outcome))}


@dataclass
class Record:
    """What one test said about its statements."""

    test: str
    statements: list[str]
    backend: str | None
    outcome: Outcome
    reason: str = ""


@dataclass
class Cell:
    """What is known of one statement on one backend."""

    outcome: Outcome
    reasons: list[str]
    """Why it failed, is unsupported or was skipped; without repetitions."""
    tests: list[str]


@dataclass
class Report:
    """One run of the suite."""

    backends: list[str] = field(default_factory=list[str])
    tests: list[Record] = field(default_factory=list[Record])
    netpoll: str = netpoll.__version__
    python: str = field(default_factory=platform.python_version)
    platform: str = field(default_factory=platform.platform)
    wine: str | None = field(default_factory=wine_version)

    def write(self, path: Path) -> None:
        """Store it as JSON."""
        path.write_text(json.dumps({"format": 1, **asdict(self)}, indent=1) + "\n", "utf-8")

    @classmethod
    def read(cls, path: Path) -> Report:
        """Load what `write` stored.

        :raises ValueError: the file is not such a report
        """
        try:
            content: dict[str, Any] = json.loads(path.read_text("utf-8"))
            if content.pop("format") != 1:
                raise ValueError("another format")
            records = [Record(**record) for record in content.pop("tests")]
            return cls(tests=records, **content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is not a statement report of format 1: {error}") from None

    def table(self) -> dict[str, dict[str, Cell]]:
        """statement id → backend id → what is known; a test without a backend speaks for all.

        Where a statement has a reason why no test decides it, none does, marked or not: what is a
        rule of one backend says nothing of the others, though the same test runs there.
        """
        known = statements.load()
        table: dict[str, dict[str, Cell]] = {}
        for record in self.tests:
            columns = [record.backend] if record.backend is not None else self.backends
            for statement in record.statements:
                about = known.get(statement)
                for column in columns:
                    if about is not None and about.reason(column) is not None:
                        continue
                    _merge(table.setdefault(statement, {}), column, record)
        return table


def _merge(row: dict[str, Cell], column: str, record: Record) -> None:
    cell = row.get(column)
    if cell is None or _WEIGHT[record.outcome] > _WEIGHT[cell.outcome]:
        tests = cell.tests if cell is not None else []
        cell = row[column] = Cell(record.outcome, [], tests)
    if record.outcome == cell.outcome and record.reason and record.reason not in cell.reasons:
        cell.reasons.append(record.reason)
    cell.tests.append(record.test)
