"""Where the conformance suite is, and how it is run.

The suite is a folder of pytest files, `tests/conformance` of the source tree. It is not part of the
wheel: it belongs to people who work on a backend, who have the source. `netpoll conformance` looks
for it

1. where `--suite DIR` says;
2. beside the package, which finds it in a checkout and in an editable installation;
3. in `tests/conformance` of the current directory, for a wheel tested from inside an unpacked
   source archive.

Somebody else's backend runs the same files. They need nothing but netpoll and pytest:

    python -m pytest -p netpoll.testing.plugin --netpoll-backend=NAME DIR

What the options mean is said in `netpoll.testing.plugin`; what a run leaves behind in
`netpoll.testing.report`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import netpoll

PLACE = Path("tests", "conformance")


class SuiteNotFound(LookupError):
    """There is no conformance suite; the message says what to do."""


def find(directory: str | Path | None = None) -> Path:
    """The folder of the suite.

    :param directory: where to look instead of the usual places
    :raises SuiteNotFound: it is not there
    """
    if directory is not None:
        candidates = [Path(directory)]
    else:
        candidates = [Path(netpoll.__file__).resolve().parent.parent / PLACE, Path.cwd() / PLACE]
    for candidate in candidates:
        if any(candidate.glob("test_*.py")):
            return candidate
    places = " nor ".join(map(str, candidates))
    raise SuiteNotFound(
        f"no conformance tests in {places}. The suite comes with netpoll's source, not with the "
        f"wheel: unpack the source of netpoll {netpoll.__version__} and name its folder: "
        f"netpoll conformance --suite netpoll-{netpoll.__version__}/{PLACE.as_posix()}"
    )


def command(suite: Path, report: Path, backends: str | None = None) -> list[str]:
    """The command line that runs `suite` and writes `report`.

    It exits as pytest does: 0 all kept, 1 something failed, more than 1 it did not run.

    :param backends: names of backends or of targets, with commas; `None` is all of them
    """
    line = [sys.executable, "-m", "pytest", "-p", "netpoll.testing.plugin", "-q"]
    line.append(f"--statement-report={report}")
    if backends:
        line.append(f"--netpoll-backend={backends}")
    return [*line, str(suite)]
