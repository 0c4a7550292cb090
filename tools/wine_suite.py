#!/usr/bin/env python3
"""The suite in CPythons for Windows under Wine.

    python3 tools/wine_suite.py DIST [PYTEST ARGUMENTS]

DIST is the folder with the wheel to test. Of the Pythons that tools/wine_python.py can build here,
the oldest runs what Windows has of the suite, and the newest the conformance tests on iocp: over
select(), and in the Pythons between them, that would say once more what the oldest has said. Each
runs in several processes, since much of it is waiting (with `-n 0` among the arguments, in one).
With arguments, or with NETPOLL_WINE_PYTHON=3.12 in the environment, there is one Python only.
If Wine's own server crashes, which it does now and then, its Pythons start once more.

Of tests/real_programs it has what runs on the event loop, on iocp: curl, nc, socat and wrk are
programs of Linux. CPython's own tests of asyncio are those of the Linux installation that the
standard library comes from, where that has them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.wine.prefix import SERVER_CRASHED

ROOT = Path(__file__).resolve().parent.parent
WINE_PYTHON = [sys.executable, str(ROOT / "tools" / "wine_python.py")]

PARTS = ("unit", "backends", "conformance", "asyncio", "cli", "stress")
WHOLE = [f"tests/{part}" for part in PARTS]
PROGRAMS = [f"tests/real_programs/test_{name}.py" for name in ("web", "libraries")]
CPYTHON = ["tests/asyncio_suite"]
ONLY_IOCP = ["--netpoll-backend=iocp"]
CONFORMANCE = ["tests/conformance", *ONLY_IOCP]
PROCESSES = ["-n", "auto", "--dist", "worksteal"]
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
    newest = [(version, CONFORMANCE) for version in others[-1:]]
    return [(oldest, WHOLE), (oldest, [*PROGRAMS, *CPYTHON, *ONLY_IOCP]), *newest]


class Run:
    """One Python's part."""

    def __init__(self, version: str, arguments: list[str], wheel: Path) -> None:
        self.name = f"Python {version}"
        self.command = [*WINE_PYTHON, "run", "--python", version, "--wheel", str(wheel), "--"]
        self.command += ["-m", "pytest", "-p", "no:cacheprovider", *PROCESSES, *arguments]
        self.arguments = arguments
        self.child: subprocess.Popen[bytes] | None = None
        self.stopped = 0

    def __call__(self) -> int:
        """Its exit code. A second crash of Wine's own server is one; the first is tried again."""
        code = self.once()
        if code == SERVER_CRASHED:
            say(f"{self.name}: Wine's server crashed, which says nothing of netpoll; once more")
            code = self.once()
        return code

    def once(self) -> int:
        if self.stopped:
            return 128 + self.stopped
        say(f"{self.name}: pytest {' '.join(self.arguments)}")
        self.child = subprocess.Popen(self.command, cwd=ROOT)
        code = self.child.wait()
        say(f"{self.name}: exit code {code}")
        return code

    def stop(self, number: int) -> None:
        """A request to end is passed on: it knows how to end what runs under Wine."""
        self.stopped = number
        if self.child is not None:
            self.child.send_signal(number)


def run_all(parts: list[Run]) -> list[str]:
    """Which of them failed."""
    failed: list[str] = []

    def stop(number: int, _frame: object) -> None:
        for part in parts:
            part.stop(number)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    for part in parts:
        code = part()
        if code:
            failed.append(f"{part.name}, exit code {code}")
        if code in INTERRUPTED:
            stop(signal.SIGINT, None)
    return failed


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return 2
    wheels = list(Path(sys.argv[1]).resolve().glob("netpoll-*.whl"))
    if len(wheels) != 1:
        say(f"{sys.argv[1]} has {len(wheels)} wheels of netpoll, not one")
        return 2
    parts = [Run(version, arguments, wheels[0]) for version, arguments in runs(sys.argv[2:])]
    failed = run_all(parts)
    if failed:
        say(f"failed: {'; '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
