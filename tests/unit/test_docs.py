"""The documentation agrees with the code: statement ids, error numbers, backends."""

from __future__ import annotations

import ast
import errno
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import netpoll
from netpoll import status as nt
from netpoll.backends import NAMES, base, probe
from netpoll.testing import statements
from netpoll.testing.wine import DIFFERENCES

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).resolve().parents[2] / "docs"
WRITTEN = ("contract.md", "platforms.md", "architecture.md", "winapi.md")
ID = re.compile(r"\b(?:[A-Z]{2,5})-\d\d\b")

pytestmark = pytest.mark.skipif(
    not DOCS.is_dir(), reason="the documentation comes with the source, which is not here"
)


def text(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def test_every_statement_that_is_mentioned_exists() -> None:
    known = statements.load()
    for path in sorted(DOCS.glob("*.md")):
        unknown = set(ID.findall(text(path.name))) - set(known)
        assert not unknown, f"{path.name} mentions {sorted(unknown)}"


@pytest.mark.parametrize("name", WRITTEN)
def test_every_id_is_a_link_to_its_statement(name: str) -> None:
    body = text(name)
    linked = dict(re.findall(r"^\[([A-Z]+-\d\d)\]: (.*)$", body, re.MULTILINE))
    assert linked == {each: f"statements.md#{each.lower()}" for each in linked}
    prose = re.sub(r"^\[[A-Z]+-\d\d\]: .*$|`[^`\n]*`", "", body, flags=re.MULTILINE)
    assert set(re.findall(rf"\[({ID.pattern})\]", prose)) == set(linked)


def test_every_promise_names_a_statement() -> None:
    promises = re.split(r"^### ", text("contract.md").split("\n## ")[1], flags=re.MULTILINE)[1:]
    assert [promise.split(".")[0] for promise in promises] == [str(n) for n in range(1, 11)]
    for promise in promises:
        assert ID.search(promise), promise.splitlines()[0]


def error_rows() -> list[tuple[str, str, str, str, str]]:
    row = r"^\| [^|]+ \| (\d+) \| (\d*) \| (E\w+) \| `(\w+)` \| (STATUS_\w+) \|$"
    return re.findall(row, text("contract.md"), re.MULTILINE)


def test_the_table_of_errors_is_not_overlooked() -> None:
    assert len(error_rows()) > 15


@pytest.mark.parametrize("row", error_rows() if DOCS.is_dir() else [], ids=lambda row: row[-1])
def test_the_table_of_errors_is_that_of_the_code(row: tuple[str, str, str, str, str]) -> None:
    win32, winsock, name, kind, status_name = row
    status: int = getattr(nt, status_name)
    assert nt.win32_error(status) == int(win32)
    assert nt.winsock_error(status, inline=True) == int(winsock or 0)
    assert type(nt.make_exception(status)).__name__ == kind
    if sys.platform == "linux":
        assert nt.errno_of(status) == getattr(errno, name)


def test_the_architecture_names_every_method_of_the_contracts_that_was_added() -> None:
    added = text("architecture.md").split("## Beyond the first plan")[1]
    planned = {
        base.Backend: {"associate", "start", "cancel", "post", "dequeue", "close", "capability"},
        base.Engine: {"attach", "detach", "cancel", "poll", "wake", "close", "capability"},
    }
    for contract, methods in planned.items():
        for method in contract.__abstractmethods__ - methods:
            assert f"`{method}`" in added, f"{contract.__name__}.{method}"


def test_files_that_the_architecture_names_exist() -> None:
    package = Path(netpoll.__file__).parent
    table = text("architecture.md").split("## The two contracts")[0]
    for cell in re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE):
        for name in re.findall(r"`([^`]+)`", cell):
            assert (package / name).exists(), name


def test_each_complaint_names_tests_that_there_are() -> None:
    named = re.findall(r"`(test_\w+)`", text("complaints.md"))
    tests = DOCS.parent / "tests"
    there = {
        name
        for path in tests.rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert len(named) > 40
    assert set(named) - there == set()


# -- verdicts --------------------------------------------------------------------------------------


def verdicts() -> dict[str, dict[str, str]]:
    """Statement → column → verdict, as docs/verdicts.md shows them."""
    lines = text("verdicts.md").splitlines()
    (head,) = (
        number for number, line in enumerate(lines) if line.startswith("statement  io_uring")
    )
    columns = re.split(r"\s{2,}", lines[head].strip())[1:]
    rows: dict[str, dict[str, str]] = {}
    for line in lines[head + 2 :]:
        name, *cells = re.split(r"\s{2,}", line.strip())
        if not ID.fullmatch(name):
            break
        rows[name] = dict(zip(columns, cells, strict=True))
    return rows


def test_the_verdicts_are_about_the_statements_that_there_are() -> None:
    stale = "make docs/verdicts.md again, by the commands at its head"
    shown, known = verdicts(), statements.load()
    nowhere = {name for name, each in known.items() if statements.OTHERS in each.undecided}
    assert set(shown) == set(known) - nowhere, stale
    body = text("verdicts.md")
    for name, row in shown.items():
        for column, verdict in row.items():
            undecided = known[name].reason(column) is not None
            assert (verdict == "undecided") is undecided, f"{name} on {column}: {stale}"
            assert verdict not in {"not covered", "failed"}, f"{name} on {column}"
    for each in known.values():
        for reason in (*each.undecided.values(), *filter(None, [each.rest])):
            assert str(reason)[:50] in body, f"{each.id}: {stale}"  # the first line of a cell


def test_most_of_what_windows_does_with_sockets_is_decided_somewhere() -> None:
    core = [name for name, each in statements.load().items() if each.core]
    shown = verdicts()
    decided = {"passed", "expected failure"}
    count = sum(bool(decided & set(shown.get(name, {}).values())) for name in core)
    assert count >= 0.85 * len(core)
    assert f"{count} are decided" in " ".join(text("verdicts.md").split())


def unsupported_in_tests() -> Iterator[tuple[str, str]]:
    """Each statement that a conformance test can report as unsupported, and the test.

    Not where an operation is missing altogether (`require`): that is a row of its own there.
    """
    for path in sorted((DOCS.parent / "tests" / "conformance").glob("test_*.py")):
        for test in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(test, ast.FunctionDef):
                continue
            calls = [each for each in ast.walk(test) if isinstance(each, ast.Call)]
            marks = [each for each in calls if ast.unparse(each.func) == "pytest.mark.statement"]
            for call in calls:
                if ast.unparse(call.func) == "unsupported":
                    ids = call.args[1:] or [name for mark in marks for name in mark.args]
                    yield from ((ast.literal_eval(name), test.name) for name in ids)


def kept_not_by(column: str) -> set[str]:
    """What the table of docs/platforms.md says that a backend cannot keep."""
    part = text("platforms.md").split("\n## What is not kept\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\[[^|]+) \| ([^|]+) \|", part, re.MULTILINE)
    assert len(rows) > 15
    named = [(ID.findall(ids), set(where.split(", "))) for ids, where in rows]
    assert all(where <= {*NAMES, "all"} for _, where in named)
    return {name for ids, where in named if where & {column, "all"} for name in ids}


@pytest.mark.parametrize(
    ("backend", "column"),
    [
        ("io_uring", "io_uring"),
        ("selectors", "selectors-epoll"),
        ("iocp", "iocp (Wine 8.0)"),
    ],
)
def test_what_a_backend_does_not_keep_is_what_its_verdicts_say(backend: str, column: str) -> None:
    unsupported = {name for name, row in verdicts().items() if row[column] == "unsupported"}
    assert kept_not_by(backend) == unsupported


def test_what_a_test_can_report_as_unsupported_is_documented() -> None:
    # in the table, or with the system that differs beside its backend's others
    listed = set(re.findall(rf"\[({ID.pattern})\]", text("platforms.md")))
    undecided = {name for name, each in statements.load().items() if each.undecided}
    for name, test in unsupported_in_tests():
        assert name in listed | undecided, f"{test}: {name} is not in docs/platforms.md"


def test_what_wine_gets_wrong_is_listed() -> None:
    (listed,) = re.findall(
        r"^Under Wine 8 these differ(.*?)\.\s", text("platforms.md"), re.M | re.S
    )
    assert set(ID.findall(listed)) == {each.statement for each in DIFFERENCES}


def test_how_operations_are_done_is_what_the_backends_say() -> None:
    """The row of docs/platforms.md against `capability()`, where a backend works here."""
    (row,) = re.findall(r"^\| operations \| (.+) \|$", text("platforms.md"), re.MULTILINE)
    cells = dict(zip(("selectors", "iocp", "io_uring"), row.split(" | "), strict=True))
    for name, cell in cells.items():
        if not probe(name).usable:
            continue
        port = netpoll.CompletionPort(name)
        emulated = {each for each in netpoll.Opcode if port.capability(each) == "emulated"}
        port.close()
        if name == "selectors":
            assert cell == "all emulated"
            assert all(port.capability(each) != "native" for each in netpoll.Opcode)
        else:
            assert emulated == set(re.findall(r"`(\w+)`", cell)), name
