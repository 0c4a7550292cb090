"""`netpoll conformance`, on small suites made for the purpose."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path

import pytest
from cli.running import Result, Running, run

from netpoll.testing import backends
from netpoll.testing.wine import wine_version

SUITE = Path(__file__).parents[1] / "conformance"
UNSET = {"NETPOLL_BACKEND": None, "NETPOLL_CONFIG": None, "PYTEST_ADDOPTS": None}
KEPT = """
    import pytest

    @pytest.mark.statement("RECV-03", "RECV-04")
    def test_kept(port):
        assert port.post(1) is None
        assert port.get().transferred == 1
"""
BROKEN = """
    import pytest

    @pytest.mark.statement("RECV-04")
    def test_broken(target):
        assert target.id != "selectors-select", "select is no good"
"""
UNSUPPORTED = """
    import pytest
    from netpoll.testing.outcome import unsupported

    @pytest.mark.statement("SEND-04")
    def test_unsupported(target):
        unsupported("it is too hard")
"""


EXPECTED = """
    import pytest

    @pytest.mark.statement("RECV-05")
    @pytest.mark.xfail(reason="Wine 8.0, RECV-05: swallowed", strict=True)
    def test_expected(target):
        assert target is None
"""


def columns() -> list[str]:
    """Those of this machine."""
    where = f" (Wine {wine_version()})" if wine_version() else ""
    return [f"{target.id}{where}" for target in backends.targets()]


SELECT = next(name for name in columns() if name.startswith("selectors-select"))


def conform(folder: Path, *tests: str, arguments: tuple[str, ...] = ()) -> Result:
    folder.mkdir(exist_ok=True)
    for number, test in enumerate(tests):
        (folder / f"test_{number}.py").write_text(textwrap.dedent(test))
    return run("conformance", "--suite", str(folder), *arguments, environment=UNSET)


def test_every_statement_kept(tmp_path: Path) -> None:
    result = conform(tmp_path, KEPT)
    assert result.code == 0, result
    assert "Traceback" not in result.err
    for column in columns():
        assert column in result.out
    assert "RECV-03" in result.out
    assert "Not covered by any test" in result.out


def test_a_statement_that_is_not_kept(tmp_path: Path) -> None:
    result = conform(tmp_path, KEPT, BROKEN, UNSUPPORTED)
    assert result.code == 1
    assert "! RECV-04" in result.out
    assert "select is no good" in result.out
    assert "it is too hard" in result.out


def test_only_failures(tmp_path: Path) -> None:
    result = conform(tmp_path, KEPT, BROKEN, UNSUPPORTED, arguments=("--only-failures",))
    assert result.code == 1
    assert "RECV-04" in result.out
    assert "RECV-03" not in result.out
    assert "SEND-04" not in result.out


def test_only_failures_where_there_are_none(tmp_path: Path) -> None:
    result = conform(tmp_path, KEPT, arguments=("--only-failures",))
    assert (result.code, result.out) == (0, "no statement failed\n")


def test_json(tmp_path: Path) -> None:
    result = conform(tmp_path, KEPT, BROKEN, UNSUPPORTED, arguments=("--json",))
    assert result.code == 1
    found = json.loads(result.out)
    assert found["backends"] == columns()
    statements = found["statements"]
    outcomes = {
        name: statements[name]["backends"][SELECT]["outcome"]
        for name in ("RECV-03", "RECV-04", "SEND-04", "ACC-01")
    }
    assert outcomes == {
        "RECV-03": "passed",
        "RECV-04": "failed",
        "SEND-04": "unsupported",
        "ACC-01": "not covered",
    }
    assert statements["SEND-04"]["backends"][SELECT]["reasons"] == ["it is too hard"]


RULE_OF_ONE = """
    import pytest

    @pytest.mark.statement("EMU-30", "CLOSE-05")
    def test_kept(port):
        pass
"""


def test_what_no_test_decides_on_this_backend(tmp_path: Path) -> None:
    arguments = ("--backend", "selectors-select")
    result = conform(tmp_path, RULE_OF_ONE, arguments=(*arguments, "--json"))
    found = json.loads(result.out)["statements"]
    cell = found["EMU-30"]["backends"][SELECT]
    assert cell == {
        "outcome": "undecided",
        "reasons": ["cannot be observed: a rule for io_uring"],
        "tests": [],
    }
    assert found["MODE-08"]["backends"][SELECT]["outcome"] == "undecided"
    assert found["CLOSE-05"]["backends"][SELECT]["outcome"] == "passed"
    result = conform(tmp_path, RULE_OF_ONE, arguments=arguments)
    assert re.search(r"^CLOSE-05 +in part +all +platform cannot: NtClose", result.out, re.MULTILINE)
    assert re.search(r"^EMU-30 +undecided +all +cannot be observed", result.out, re.MULTILINE)
    assert "Of the 193 statements about Windows" in " ".join(result.out.split())
    assert "1 are decided by a test" in " ".join(result.out.split())


def test_what_is_silently_absent_in_one_column_is_said(tmp_path: Path) -> None:
    other = elsewhere(tmp_path, "iocp (Wine 0.1)", KEPT, EXPECTED)
    result = conform(tmp_path / "here", KEPT, arguments=("--with", other))
    absent = " ".join(result.out.split("Not covered by any test: ")[1].split("\n\n")[0].split())
    assert f"RECV-05 on {' and '.join(columns())}," in absent
    assert "ACC-01," in absent
    assert "RECV-03" not in absent


def test_one_variant_of_a_backend(tmp_path: Path) -> None:
    arguments = ("--backend", "selectors-select", "--json")
    result = conform(tmp_path, KEPT, arguments=arguments)
    assert result.code == 0
    assert json.loads(result.out)["backends"] == [SELECT]


def test_what_wine_gets_wrong_is_no_failure(tmp_path: Path) -> None:
    result = conform(tmp_path, KEPT, EXPECTED)
    assert result.code == 0
    assert re.search(r"^RECV-05 +expected failure", result.out, re.MULTILINE)
    assert "Wine 8.0, RECV-05: swallowed" in result.out


def elsewhere(folder: Path, name: str, *tests: str) -> str:
    """A file with what another machine decided, in a column of that name."""
    printed = conform(
        folder / "elsewhere", *tests, arguments=("--json", "--backend", "selectors-select")
    )
    path = folder / "elsewhere.json"
    path.write_text(printed.out.replace(SELECT, name), "utf-8")
    return str(path)


def test_the_columns_of_another_machine(tmp_path: Path) -> None:
    other = elsewhere(tmp_path, "iocp (Wine 0.1)", KEPT, EXPECTED)
    result = conform(tmp_path / "here", KEPT, arguments=("--with", other, "--json"))
    assert result.code == 0, result
    found = json.loads(result.out)
    assert found["backends"] == [*columns(), "iocp (Wine 0.1)"]
    row = found["statements"]["RECV-05"]["backends"]
    assert row["iocp (Wine 0.1)"]["outcome"] == "expected failure"
    assert row["iocp (Wine 0.1)"]["reasons"] == ["Wine 8.0, RECV-05: swallowed"]
    assert row[SELECT]["outcome"] == "not covered"
    result = conform(tmp_path / "here", KEPT, arguments=("--with", other))
    assert "RECV-05" in result.out
    assert "iocp (Wine 0.1): netpoll" in result.out


def test_a_failure_on_another_machine(tmp_path: Path) -> None:
    other = elsewhere(tmp_path, "iocp (Wine 0.1)", KEPT, BROKEN)
    result = conform(tmp_path / "here", KEPT, arguments=("--with", other))
    assert result.code == 1
    assert "! RECV-04" in result.out


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("there.json", '{"statements": 1}', "not what"),
        ("there.json", "not JSON", "not what"),
        ("not-there.json", "", "No such file"),
    ],
)
def test_a_file_that_is_no_table(name: str, content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "there.json").write_text(content)
    result = run("conformance", "--with", str(tmp_path / name), environment=UNSET)
    assert (result.code, result.out) == (2, "")
    assert len(result.err.splitlines()) == 1
    assert words in result.err


def test_the_same_column_twice(tmp_path: Path) -> None:
    other = elsewhere(tmp_path, SELECT, KEPT)
    result = conform(tmp_path / "here", KEPT, arguments=("--with", other))
    assert (result.code, result.out) == (2, "")
    assert "two columns" in result.err


@pytest.mark.parametrize("arguments", [("--backend", "nonsense")])
def test_an_unknown_backend(arguments: tuple[str, ...], tmp_path: Path) -> None:
    result = conform(tmp_path, KEPT, arguments=arguments)
    assert (result.code, result.out) == (2, "")
    assert "nonsense" in result.err
    assert "selectors-select" in result.err


def test_no_suite(tmp_path: Path) -> None:
    result = run("conformance", "--suite", str(tmp_path), environment=UNSET)
    assert (result.code, result.out) == (2, "")
    assert len(result.err.splitlines()) == 1
    assert "--suite" in result.err


def test_a_suite_that_cannot_run(tmp_path: Path) -> None:
    result = conform(tmp_path, "import nonsense_that_is_not_there")
    assert (result.code, result.out) == (2, "")
    assert "nonsense_that_is_not_there" in result.err
    assert "did not run" in result.err


def test_without_pytest(tmp_path: Path) -> None:
    # a module that is None in sys.modules cannot be imported, nor found
    code = (
        "import sys; sys.modules['pytest'] = None; from netpoll.cli import main; "
        "sys.exit(main(['conformance']))"
    )
    with Running("-c", code, environment=UNSET) as running:
        result = running.ended()
    assert (result.code, result.out) == (2, "")
    assert len(result.err.splitlines()) == 1
    assert "-m pip install pytest" in result.err


@pytest.mark.parametrize("missing", [["pytest"], ["pytest_timeout"], ["pytest", "pytest_timeout"]])
def test_all_that_is_missing_is_named_at_once(missing: list[str]) -> None:
    names = [name.replace("_", "-") for name in missing]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({missing})); from netpoll.cli import main; "
        "sys.exit(main(['conformance']))"
    )
    with Running("-c", code, environment=UNSET) as running:
        result = running.ended()
    assert (result.code, result.out) == (2, "")
    assert result.err.strip().endswith(f"-m pip install {' '.join(names)}")


def test_the_source_s_own_suite_needs_no_xdist() -> None:
    """It is enough to have what the command asks for."""
    result = run(
        *("conformance", "--suite", str(SUITE), "--backend", "selectors-select"),
        environment={**UNSET, "PYTEST_ADDOPTS": "-p no:xdist --collect-only"},
    )
    assert result.code == 0, result
    assert "Not covered by any test" in result.out
