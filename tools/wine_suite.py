#!/usr/bin/env python3
"""The suite in CPythons for Windows under Wine.

    python3 tools/wine_suite.py DIST [PYTEST ARGUMENTS]

DIST is the folder with the wheel to test. Of the Pythons that tools/wine_python.py can build here,
the oldest runs what Windows has of the suite, and the others run the conformance tests. With
arguments of your own, or with NETPOLL_WINE_PYTHON=3.12 in the environment, there is one Python
only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WINE_PYTHON = [sys.executable, str(ROOT / "tools" / "wine_python.py")]

# tests/stress is not among them yet: under Wine its threads meet swallowed resets (RECV-05) as
# 10057, and test_clients_that_reset_at_every_moment[accept-iocp] leaves accepted sockets to the
# collector.
WHOLE = ["tests/unit", "tests/backends", "tests/conformance"]
CONFORMANCE = ["tests/conformance"]
INTERRUPTED = (2, 130, 137, 143)  # pytest's own code, and those of signals


def say(text: str) -> None:
    print(f"wine_suite: {text}", flush=True)


def versions() -> list[str]:
    """Those to run, the oldest first."""
    if version := os.environ.get("NETPOLL_WINE_PYTHON"):
        return [version]
    where = subprocess.run(
        [*WINE_PYTHON, "where", "--python", "all"], stdout=subprocess.PIPE, text=True, check=False
    )
    if where.returncode:  # it has said why
        sys.exit(where.returncode)
    return [Path(line).parent.name for line in where.stdout.splitlines()]


def runs(arguments: list[str]) -> list[tuple[str, list[str]]]:
    """Which Python runs what."""
    oldest, *others = versions()
    if arguments:
        return [(oldest, arguments)]
    return [(oldest, WHOLE), *((version, CONFORMANCE) for version in others)]


def run(command: list[str]) -> int:
    """Its exit code. A request to end is passed on: it knows how to end what runs under Wine."""
    child = subprocess.Popen(command, cwd=ROOT)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _frame: child.send_signal(number))
    return child.wait()


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return 2
    wheels = list(Path(sys.argv[1]).glob("netpoll-*.whl"))
    if len(wheels) != 1:
        say(f"{sys.argv[1]} has {len(wheels)} wheels of netpoll, not one")
        return 2
    failed: list[str] = []
    for version, arguments in runs(sys.argv[2:]):
        command = [*WINE_PYTHON, "run", "--python", version, "--wheel", str(wheels[0].resolve())]
        command += ["--", "-m", "pytest", "-p", "no:cacheprovider", *arguments]
        say(f"Python {version}: pytest {' '.join(arguments)}")
        if code := run(command):
            failed.append(f"Python {version}, exit code {code}")
        if code in INTERRUPTED:
            break
    if failed:
        say(f"failed: {'; '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
