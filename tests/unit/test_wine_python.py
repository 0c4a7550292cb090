"""`tools/wine_python.py`: what it decides before it builds or runs anything."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tools" / "wine_python.py"

if sys.platform != "linux":
    pytest.skip("Wine is for Linux here", allow_module_level=True)
if not SCRIPT.exists():
    pytest.skip("the tools are not part of what is installed here", allow_module_level=True)


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The modules of the tool, which are not part of any package that is installed."""
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    return importlib.import_module


@pytest.fixture
def build(tools: Any) -> Any:
    return tools("tools.wine.build")


@pytest.fixture
def prefix(tools: Any) -> Any:
    return tools("tools.wine.prefix")


def script(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    env = None if path is None else {"PATH": path, "HOME": path}
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


def test_the_requirements_are_those_of_the_project(build: Any) -> None:
    project = {
        "project": {"dependencies": ["a>=1"], "optional-dependencies": {"cli": ["b"], "no": ["x"]}},
        "dependency-groups": {
            "test": [{"include-group": "more"}, "c; sys_platform == 'win32'"],
            "more": ["d"],
            "web": ["e"],
            "docs": ["y"],
        },
    }
    found = build.requirements(project)
    assert found == ["a>=1", "b", "d", "c; sys_platform == 'win32'", "e", *build.UNMARKED]


def test_paths_are_those_of_the_drive_that_is_linux(prefix: Any) -> None:
    assert prefix.windows_path("/work/a folder/x.py") == "Z:\\work\\a folder\\x.py"


def test_the_environment_is_ours_less_what_is_for_linux(
    prefix: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETPOLL_BACKEND", "iocp")
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    monkeypatch.setenv("PYTHONPATH", "/usr/lib/python3")
    monkeypatch.setenv("PYTHONHOME", "/usr")
    monkeypatch.setenv("DISPLAY", ":0")
    env = prefix.environment(Path("/there"))
    assert (env["NETPOLL_BACKEND"], env["PYTHONSAFEPATH"]) == ("iocp", "1")
    assert (env["WINEPREFIX"], env["WINEDEBUG"]) == ("/there", "-all")
    assert not {"PYTHONPATH", "PYTHONHOME", "DISPLAY"} & env.keys()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"NETPOLL_WINE_CACHE": "/mine", "XDG_CACHE_HOME": "/cache"}, "/mine"),
        ({"XDG_CACHE_HOME": "/cache"}, "/cache/netpoll-wine"),
        ({}, "/me/.cache/netpoll-wine"),
    ],
)
def test_where_the_cache_is(
    prefix: Any, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str
) -> None:
    for name in ("NETPOLL_WINE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/me", **variables}.items():
        monkeypatch.setenv(name, value)
    assert prefix.cache() == Path(expected)


def test_another_requirement_or_library_is_another_build(
    build: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NETPOLL_WINE_CACHE", str(tmp_path))
    linux = build.LinuxPython((3, 12, 1), Path("/usr/lib/python3.12"), Path("/usr/bin/python3.12"))
    newer = build.LinuxPython((3, 12, 2), linux.stdlib, linux.executable)
    made = build.Build(linux, ["a"])
    assert not made.fresh()
    made.folder.mkdir()
    (made.folder / "stamp").write_text(made.stamp(), encoding="utf-8")
    assert made.fresh()
    assert not build.Build(linux, ["a", "b"]).fresh()
    assert not build.Build(newer, ["a"]).fresh()


def test_a_version_that_cannot_be_built_is_refused_with_those_that_can(
    build: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    linux = build.LinuxPython((3, 12, 1), Path("/usr/lib/python3.12"), Path("/usr/bin/python3.12"))
    monkeypatch.setattr(build, "linux_pythons", lambda: {"3.12": linux})
    assert [one.minor for one in build.choose([])] == ["3.12"]
    assert [one.minor for one in build.choose(["all"])] == ["3.12"]
    with pytest.raises(SystemExit) as caught:
        build.choose(["3.11"])
    assert caught.value.code == 2
    assert "3.12 (/usr/bin/python3.12)" in capsys.readouterr().err


def test_without_wine_it_says_what_to_install(tmp_path: Path) -> None:
    result = script("run", "--", "-c", "", path=str(tmp_path))
    assert result.returncode == 2
    assert "apt-get install --no-install-recommends" in result.stderr
    assert " gcc-mingw-w64-x86-64-win32 wine wine64" in result.stderr
    assert "wine" in script("packages", path=str(tmp_path)).stdout.split()


FAKE_WINE = """#!/bin/sh
echo started
exec sleep 600
"""
FAKE_SERVER = """#!/bin/sh
# The server dies as soon as the program runs.
case $1 in
--wait) while [ ! -e "$WINEPREFIX/started" ]; do sleep 0.05; done ;;
esac
"""


@pytest.fixture
def fake_wine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for programs to be found in instead of Wine's."""
    for name, text in (("wine", FAKE_WINE), ("wineserver", FAKE_SERVER)):
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_a_program_whose_wine_server_died_is_ended(fake_wine: Path) -> None:
    """Wine 8's dies of an assertion now and then, and the program hangs."""
    (fake_wine / "prefix").mkdir()
    code = """if True:
        import sys
        from pathlib import Path
        sys.path.insert(0, sys.argv[1])
        from tools.wine.prefix import environment, run_to_end
        sys.exit(run_to_end(Path("python.exe"), [], environment(Path(sys.argv[2]))))
    """
    with subprocess.Popen(
        [sys.executable, "-c", code, str(ROOT), str(fake_wine / "prefix")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "started\n"
        (fake_wine / "prefix" / "started").touch()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "Wine's server has died" in errors


@pytest.mark.parametrize(("crashes", "expected"), [(0, 0), (1, 0), (2, 75)])
def test_the_suite_starts_once_more_after_a_crash_of_wine(
    tools: Any, tmp_path: Path, crashes: int, expected: int
) -> None:
    run = tools("tools.wine_suite").Run("3.11", [], tmp_path)
    code = """if True:
        import sys
        from pathlib import Path
        starts = Path(sys.argv[1])
        with starts.open("a") as log:
            print("started", file=log)
        sys.exit(75 if len(starts.read_text().split()) <= int(sys.argv[2]) else 0)
    """
    run.command = [sys.executable, "-c", code, str(tmp_path / "starts"), str(crashes)]
    assert run() == expected
    assert len((tmp_path / "starts").read_text(encoding="utf-8").split()) == min(crashes + 1, 2)


def test_help_says_what_there_is() -> None:
    result = script("--help")
    assert result.returncode == 0
    for word in ("build", "run", "where", "packages", "clean", "NETPOLL_WINE_CACHE"):
        assert word in result.stdout
