"""`netpoll demo`."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace

import pytest
from cli.running import run

from netpoll import backends
from netpoll.backends.selectors import readiness
from netpoll.cli import demo
from netpoll.cli.demo import Column, disagreements, make_table, verdict
from netpoll.cli.program import Outcome
from netpoll.cli.tables import plain
from netpoll.testing.wine import wine_version

OUTCOMES = [
    Outcome("accept a client", "accept", "listener", 0, "", 0, ""),
    Outcome("receive", "recv", "client", 0, "", 5, "'hello'"),
    Outcome("cancel", "recv", "client", 995, "OperationAborted", 0, ""),
]


def expected_columns() -> list[str]:
    usable = [name for name in backends.NAMES if backends.probe(name).usable]
    if usable == ["selectors"]:
        return [f"selectors/{name}" for name in readiness.available()]
    return usable


def test_every_backend_agrees() -> None:
    result = run("demo")
    assert result.err == ""
    assert result.code == 0, result.out
    for column in expected_columns():
        assert column in result.out
    for word in ("OperationAborted", "ConnectionResetError", "'HEAD' | 'a body'", "posted"):
        assert word in result.out
    assert "completions agree" in result.out
    if wine_version() is not None:
        assert "(Wine differs)" in result.out
        assert "RECV-05" in result.out


def test_json() -> None:
    result = run("demo", "--json")
    found = json.loads(result.out)
    assert result.code == 0
    assert [column["name"] for column in found["columns"]] == expected_columns()
    assert found["disagreements"] == []
    first = found["columns"][0]
    assert first["failure"] == ""
    errors = [outcome["error"] for outcome in first["outcomes"]]
    assert [error for error in errors if error] == [995, 121, 64, 1225]
    assert [entry["step"] for entry in found["wine"]] == ([10] if wine_version() else [])


def test_one_backend_on_each_selector() -> None:
    result = run("demo", "--backend", "selectors")
    assert result.code == 0
    for name in readiness.available():
        assert f"selectors/{name}" in result.out


def test_an_unknown_backend() -> None:
    result = run("demo", "--backend", "nonsense")
    assert result.code == 2
    assert result.out == ""
    assert len(result.err.splitlines()) == 1
    assert "selectors" in result.err


@pytest.mark.skipif(
    all(backends.probe(name).usable for name in backends.NAMES),
    reason="every backend can be used on this machine",
)
def test_an_unusable_backend() -> None:
    name = next(name for name in backends.NAMES if not backends.probe(name).usable)
    result = run("demo", "--backend", name)
    assert result.code == 2
    assert result.out == ""
    assert len(result.err.splitlines()) == 1
    assert backends.probe(name).reason in result.err


def run_with(columns: list[Column], monkeypatch: pytest.MonkeyPatch) -> int:
    """The command, where the program has these results."""
    remaining = iter(columns)

    def places(_wanted: list[str]) -> list[tuple[str, str, None]]:
        return [(column.name, "", None) for column in columns]

    def run_on(*_place: str | None) -> Column:
        return next(remaining)

    monkeypatch.setattr(demo, "_places", places)
    monkeypatch.setattr(demo, "_run_on", run_on)
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    return demo.run(parser.parse_args([]))


def test_exit_code_where_all_agree(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_with([Column("a", OUTCOMES), Column("b", list(OUTCOMES))], monkeypatch) == 0
    assert "a, b: all 3 completions agree" in capsys.readouterr().out


@pytest.mark.parametrize(
    "changed",
    [
        {"error": 64, "meaning": "ConnectionResetError"},
        {"meaning": "TimeoutError"},
        {"transferred": 1},
        {"data": "'other'"},
        {"key": "other"},
        {"operation": "send"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_exit_code_where_two_disagree(
    changed: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = [*OUTCOMES[:2], replace(OUTCOMES[2], **changed)]  # type: ignore[arg-type]
    assert run_with([Column("a", OUTCOMES), Column("b", other)], monkeypatch) == 1
    out = capsys.readouterr().out
    assert "! cancel" in out
    assert "! receive" not in out
    assert "1 of the steps differ" in out


RESET = Outcome("the client resets", "recv", "client", 64, "ConnectionResetError", 0, "")
END = replace(RESET, error=0, meaning="")


@pytest.mark.parametrize(
    ("version", "other", "code"),
    [
        ("8.0", END, 0),
        ("8.0", replace(END, transferred=1), 1),
        ("8.0", replace(END, key="another"), 1),
        (None, END, 1),
    ],
    ids=["wine", "wine-not-quite", "wine-another-key", "windows"],
)
def test_a_reset_that_wine_swallows_is_named_and_does_not_count(
    version: str | None,
    other: Outcome,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(demo, "wine_version", lambda: version)
    columns = [Column("a", [*OUTCOMES, RESET]), Column("b", [*OUTCOMES, other])]
    assert run_with(columns, monkeypatch) == code
    out = capsys.readouterr().out
    assert ("Wine 8.0, RECV-05" in out) == (not code)
    assert ("(Wine differs)" in out) == (not code)
    assert ("! the client resets" in out) == bool(code)
    assert ("the other 3 completions agree" in out) == (not code)


def test_a_reset_in_another_step_counts_under_wine_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "wine_version", lambda: "8.0")
    columns = [Column(each.meaning, [replace(each, step="send")]) for each in (RESET, END)]
    assert run_with(columns, monkeypatch) == 1


def test_a_column_that_ends_early() -> None:
    columns = [Column("a", OUTCOMES), Column("b", OUTCOMES[:2], "TimeoutError: no completion")]
    differing = disagreements(columns)
    assert differing == [2, 3]
    text = plain(make_table(columns, differing, {}))
    assert "nothing" in text
    assert "no completion" in text
    assert "differ" in verdict(columns, differing, {})


def test_a_column_that_fails_differs_even_alone() -> None:
    assert disagreements([Column("a", OUTCOMES, "OSError: broken")]) == [3]


def test_one_column_says_that_it_was_not_compared() -> None:
    assert "nothing to compare" in verdict([Column("a", OUTCOMES)], [], {})
