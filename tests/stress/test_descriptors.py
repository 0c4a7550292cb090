"""Out of descriptors: accepting pauses, says so once, goes on when one is free, never spins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from netpoll.testing.backends import Target

PROGRAM = Path(__file__).with_name("scarce.py")
POLLS = 30
"""In one second of waiting, at most: a try every tenth of a second, and some to spare."""


@pytest.fixture(params=["accept-first", "accept-later"])
def report(target: Target, request: pytest.FixtureRequest) -> dict[str, Any]:
    if sys.platform == "win32":
        pytest.skip("Windows has no limit of open files to lower")
    if request.param == "accept-first" and target.backend == "io_uring":
        pytest.skip("the kernel accepts the first client before the descriptors run out")
    done = subprocess.run(
        [sys.executable, PROGRAM, target.backend, json.dumps(dict(target.options)), request.param],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_accepting_out_of_descriptors_pauses_and_goes_on(report: dict[str, Any]) -> None:
    # nothing is accepted, nothing fails, and hardly anything is done
    for episode in ("while_scarce", "while_scarce_again"):
        seen = report[episode]
        assert seen["completion"] == "None"
        assert seen["polls"] <= POLLS
        assert seen["processor_seconds"] < 0.3
    # one warning, which tells the cure
    assert len(report["warnings"]) == 1
    assert "descriptor" in report["warnings"][0]
    # everybody else goes on
    assert report["others"] == "alive"
    # one descriptor is one client, all of them are all
    assert report["after_one"] == 1
    assert report["after_all"] == 4
    assert report["pending"] == 0
    assert len(report["all_warnings"]) == 1
