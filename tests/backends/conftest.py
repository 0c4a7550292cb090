"""How many scripts the differential tests run:
`python -m pytest tests/backends/test_differential.py --scripts=5000 \
    --scripts-shrink --scripts-patience=3 --timeout=0`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netpoll.testing.waiting import DEADLINE

if TYPE_CHECKING:
    from typing import Any

SCRIPTS = 60
"""Of each theme. In all of them they take some thirty seconds."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("differential")
    group.addoption(
        "--scripts",
        type=int,
        default=SCRIPTS,
        help=f"scripts of each theme that are run on all backends (default {SCRIPTS})",
    )
    group.addoption(
        "--scripts-patience",
        type=float,
        default=DEADLINE,
        help=f"seconds that a completion may take (default {DEADLINE:g})",
    )
    group.addoption(
        "--scripts-shrink",
        action="store_true",
        help="look for a shorter script that fails; most failures are waits to their end, so give "
        "them little patience",
    )


def _option(request: pytest.FixtureRequest, name: str, default: Any) -> Any:
    """An option's value; the default where pytest read this file too late to know the option, as
    where this folder is not named on the command line."""
    value = request.config.getoption(name, default)
    return default if value is None else value


@pytest.fixture
def scripts(request: pytest.FixtureRequest) -> int:
    """How many to run."""
    return int(_option(request, "--scripts", SCRIPTS))


@pytest.fixture
def patience(request: pytest.FixtureRequest) -> float:
    """How long to wait for a completion that is due, in seconds."""
    return float(_option(request, "--scripts-patience", DEADLINE))


@pytest.fixture
def shrinking(request: pytest.FixtureRequest) -> bool:
    """Whether to look for shorter scripts."""
    return bool(_option(request, "--scripts-shrink", False))
