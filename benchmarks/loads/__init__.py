"""Which program is the load of a cell, and what that needs. `load.c` makes all but two kinds."""

import importlib.util
import shutil
import sys

from benchmarks import native
from benchmarks.cells import Cell, Kind

MODULES = {Kind.TLS: "tls", Kind.HTTP: "http"}
"""Loads in Python, in this package; they obey the same lines as `load.c`, and answer as it does."""
PACKAGES = {Kind.TLS: ("trustme",), Kind.HTTP: ("aiohttp",)}
"""What these kinds of cells need besides, in the server or in the benchmark itself."""
WRK = "wrk"


def command(cell: Cell, port: int, server: int) -> list[str]:
    """Return the command line of the load for a server.

    :param server: its process, whose CPU clock the load reads
    """
    if cell.kind in MODULES:
        options = {"--port": port, "--active": cell.active, "--size": cell.size, "--server": server}
        program = [sys.executable, "-m", f"{__name__}.{MODULES[cell.kind]}"]
    else:
        options = {
            "--port": port,
            "--active": cell.active,
            "--idle": cell.idle,
            "--size": cell.size,
            "--reply": cell.reply,
            "--rate": cell.rate,
            "--server": server,
        }
        program = [str(native.build("load.c"))]
    special = {Kind.CHURN: ["--churn"], Kind.DATAGRAM: ["--udp"]}
    words = [str(word) for option in options.items() for word in option]
    return program + words + special.get(cell.kind, [])


def obstacle(kind: Kind) -> str | None:
    """Return why cells of that kind cannot run here and what cures that, or None."""
    for package in PACKAGES.get(kind, ()):
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed: {sys.executable} -m pip install {package}"
    if kind is Kind.HTTP and shutil.which(WRK) is None:
        return f"{WRK} is not installed (Debian: apt-get install {WRK})"
    return None
