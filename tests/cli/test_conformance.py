"""`netpoll conformance`, on small suites made for the purpose."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING

import pytest
from cli.running import Result, run

from netpoll.testing import backends

if TYPE_CHECKING:
    from pathlib import Path

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


def conform(folder: Path, *tests: str, arguments: tuple[str, ...] = ()) -> Result:
    for number, test in enumerate(tests):
        (folder / f"test_{number}.py").write_text(textwrap.dedent(test))
    return run("conformance", "--suite", str(folder), *arguments, environment=UNSET)


def test_every_statement_kept(tmp_path: Path) -> None:
    result = conform(tmp_path, KEPT)
    assert result.code == 0, result
    assert "Traceback" not in result.err
    for target in backends.targets():
        assert target.id in result.out
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
    assert found["backends"] == [target.id for target in backends.targets()]
    statements = found["statements"]
    outcomes = {
        name: statements[name]["backends"]["selectors-select"]["outcome"]
        for name in ("RECV-03", "RECV-04", "SEND-04", "ACC-01")
    }
    assert outcomes == {
        "RECV-03": "passed",
        "RECV-04": "failed",
        "SEND-04": "unsupported",
        "ACC-01": "not covered",
    }
    assert statements["SEND-04"]["backends"]["selectors-select"]["reasons"] == ["it is too hard"]


def test_one_variant_of_a_backend(tmp_path: Path) -> None:
    arguments = ("--backend", "selectors-select", "--json")
    result = conform(tmp_path, KEPT, arguments=arguments)
    assert result.code == 0
    assert json.loads(result.out)["backends"] == ["selectors-select"]


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
    from cli.running import Running

    with Running("-c", code, environment=UNSET) as running:
        result = running.ended()
    assert (result.code, result.out) == (2, "")
    assert len(result.err.splitlines()) == 1
    assert "-m pip install pytest" in result.err
