"""What `import netpoll` brings along: next to nothing, for a program that may do one thing only."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import netpoll

REPORT = """
import json, sys
before = set(sys.modules)
import netpoll
names = set(sys.modules) - before
with netpoll.CompletionPort("selectors"):
    pass
print(json.dumps([sorted(names), sorted(set(sys.modules) - before - names)]))
"""
UNWANTED = {
    "asyncio",
    "cffi",
    "ssl",
    "rich",
    "logging",
    "subprocess",
    "concurrent",
    "multiprocessing",
}
"""What costs milliseconds, or a dependency, and is not needed before somebody asks for it."""
MOST_MODULES = 150
"""Of the standard library and netpoll together, in a bare interpreter."""


@pytest.fixture(scope="module")
def imported() -> tuple[set[str], set[str]]:
    """The modules that the import brings, and those that the first port adds."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))
    }
    done = subprocess.run(
        # -S: what site and its .pth files import is not ours
        [sys.executable, "-S", "-c", REPORT],
        env=environment | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    at_import, at_first_port = json.loads(done.stdout)
    return set(at_import), set(at_first_port)


def top(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def test_importing_netpoll_brings_nothing_heavy(imported: tuple[set[str], set[str]]) -> None:
    assert top(imported[0]) & UNWANTED == set()


def test_opening_a_port_brings_no_dependency(imported: tuple[set[str], set[str]]) -> None:
    assert top(imported[1]) & (UNWANTED - {"logging"}) == set()


def test_nothing_comes_from_outside_the_standard_library(
    imported: tuple[set[str], set[str]],
) -> None:
    # CPython 3.15 has a module of its own that is not on its list
    own = {*sys.stdlib_module_names, "_missing_stdlib_info"}
    foreign = top(imported[0] | imported[1]) - own
    assert foreign == {"netpoll"}


def test_a_backend_is_imported_with_its_first_port(imported: tuple[set[str], set[str]]) -> None:
    engines = {"netpoll.backends.software", "netpoll.backends.selectors.engine"}
    assert engines & imported[0] == set()
    assert engines <= imported[1]


def test_the_suite_the_command_and_the_names_of_c_are_not_part_of_it(
    imported: tuple[set[str], set[str]],
) -> None:
    both = imported[0] | imported[1]
    rest = ("netpoll.testing", "netpoll.cli", "netpoll.winapi")
    assert not [name for name in both if name.startswith(rest)]


def test_the_import_stays_small(imported: tuple[set[str], set[str]]) -> None:
    assert len(imported[0]) <= MOST_MODULES, sorted(imported[0])


def test_every_public_name_is_there_and_documented() -> None:
    for name in netpoll.__all__:
        assert getattr(netpoll, name).__doc__, name
    assert netpoll.__version__
