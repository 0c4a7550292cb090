"""The documentation agrees with the code: statement ids, error numbers, backends."""

from __future__ import annotations

import errno
import re
import sys
from pathlib import Path

import pytest

import netpoll
from netpoll import status as nt
from netpoll.backends import base
from netpoll.testing import statements

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
