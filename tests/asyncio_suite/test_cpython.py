"""CPython's own tests of asyncio, on netpoll's event loop: what passes on asyncio's passes on ours.

A case that fails is run once more, by itself, on netpoll's loop and on asyncio's: some measure
time, and some need what a machine lacks. It counts if it fails again and asyncio's own loop passes
it. `exclusions.toml` has what does not speak of netpoll's loop.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from netpoll.testing.plugin import chosen_targets

HERE = Path(__file__).parent
PACKAGE = "test.test_asyncio"
EXCLUDED: dict[str, Any] = tomllib.loads((HERE / "exclusions.toml").read_text("utf-8"))
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
FOLDER = os.environ.get("NETPOLL_CPYTHON_TESTS")  # see driver.py
LIMIT = 240
"""Seconds for one module. The longest take 25 on an idle machine."""

pytestmark = pytest.mark.timeout(2 * LIMIT + 60)


def modules() -> list[str]:
    """Those of this Python that are run; none if it was installed without its tests."""
    folders = [str(Path(FOLDER, *PACKAGE.split(".")))] if FOLDER else []
    with contextlib.suppress(ModuleNotFoundError):
        package = importlib.util.find_spec(PACKAGE)
        folders += (package and package.submodule_search_locations) or []
    found = {path.stem for folder in folders for path in Path(folder).glob("test_*.py")}
    return sorted(found - set(EXCLUDED["modules"]))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    backends = list(dict.fromkeys(each.backend for each in chosen_targets(metafunc.config)))
    if "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", backends)
    if "module" in metafunc.fixturenames:
        absent = pytest.mark.skip(reason=f"Python {VERSION} is here without its {PACKAGE}")
        metafunc.parametrize("module", modules() or [pytest.param("test_asyncio", marks=absent)])


@dataclass
class Case:
    """What became of one case."""

    name: str
    outcome: str
    text: str = ""


def run(options: list[str], module: str, only: list[str], report: Path) -> dict[str, Case]:
    """The cases by name, without those that the driver was told to leave."""
    command = [sys.executable, str(HERE / "driver.py"), *options, f"--report={report}"]
    endless = [each["name"] for each in EXCLUDED["cases"] if not each.get("run", True)]
    leave = [*EXCLUDED["repeats"], *([] if "--stock" in options else endless)]
    command += [f"--leave={PACKAGE}.{pattern}" for pattern in leave]
    environment = {name: value for name, value in os.environ.items() if name not in _FORCED}
    child = subprocess.run(
        [*command, module, *only],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=LIMIT,
        env=environment,
        cwd=report.parent,
        check=False,
    )
    cases: dict[str, Case] = {}
    for line in report.read_text("utf-8").splitlines() if report.exists() else []:
        told = json.loads(line)
        cases[told["case"]] = Case(
            told["case"].removeprefix(f"{PACKAGE}."), told["outcome"], told.get("text", "")
        )
    stuck = [case.name for case in cases.values() if case.outcome == "started"]
    assert not stuck, f"{stuck} never ended:\n{child.stdout}"
    assert not child.returncode, child.stdout
    return cases


_FORCED = ("NETPOLL_BACKEND", "NETPOLL_CONFIG", "PYTHONASYNCIODEBUG")


def expected(backend: str) -> list[dict[str, Any]]:
    """The exclusions that hold here, one for each pattern of a name."""
    here: list[dict[str, Any]] = []
    for each in EXCLUDED["cases"]:
        if VERSION in each.get("pythons", [VERSION]) and backend in each.get("backends", [backend]):
            names = [each["name"].replace("*", part) for part in each.get("only", [])]
            here += [{**each, "name": name} for name in names or [each["name"]]]
    return here


def test_what_passes_on_asyncios_loop_passes_on_ours(
    module: str, backend: str, tmp_path: Path
) -> None:
    cases = run([f"--backend={backend}"], module, [], tmp_path / "first.json")
    assert cases
    exclusions = [each for each in expected(backend) if each["name"].startswith(f"{module}.")]
    known = {each["name"] for each in exclusions}
    firm = {each["name"] for each in exclusions if not each.get("sometimes")}
    failed = [
        name
        for name, case in cases.items()
        if case.outcome == "failed" and not any(fnmatchcase(case.name, each) for each in known)
    ]
    worse: list[str] = []
    if failed:
        again = run([f"--backend={backend}"], module, failed, tmp_path / "again.json")
        stock = run(["--stock"], module, failed, tmp_path / "stock.json")
        for name in failed:
            ours, theirs = again.get(name, cases[name]), stock.get(name)
            print(f"{name}: {ours.outcome} the second time, {theirs and theirs.outcome} on asyncio")
            if ours.outcome == "failed" and (theirs is None or theirs.outcome != "failed"):
                worse.append(f"{name}\n{ours.text}")
    assert not worse, "\n".join(worse)
    passing = [
        case.name
        for case in cases.values()
        if case.outcome == "passed" and any(fnmatchcase(case.name, each) for each in firm)
    ]
    assert not passing, f"exclusions.toml has what passes: {passing}"


def test_the_driver_gives_what_asyncio_makes(backend: str, tmp_path: Path) -> None:
    """A suite that quietly tests asyncio's own loop is worth nothing."""
    program = (
        f"import asyncio, sys\nsys.path.insert(0, {str(HERE)!r})\nimport driver\n"
        f"driver.use_netpoll({backend!r})\ndriver.check({backend!r})\n"
        "asyncio.run(asyncio.sleep(0))\nprint('checked')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.stdout == "checked\n", done.stderr
