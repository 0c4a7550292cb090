"""How long and how hard: `python -m pytest tests/stress --stress-seconds=30 --stress-full`."""

from __future__ import annotations

import pytest

SECONDS = 2.0
SEED = 1


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("stress")
    group.addoption(
        "--stress-seconds",
        type=float,
        default=SECONDS,
        help=f"how long each race is run on each backend (default {SECONDS:g})",
    )
    group.addoption(
        "--stress-full",
        action="store_true",
        help="as many repetitions as the promises speak of: 10,000 resetting clients",
    )
    group.addoption(
        "--stress-seed", type=int, default=SEED, help=f"for what is random (default {SEED})"
    )


# With a default here as well: pytest reads this file too late for its options when it is not given
# the folder, and then they are unknown to it.
@pytest.fixture
def seconds(request: pytest.FixtureRequest) -> float:
    """How long a race is run."""
    return float(request.config.getoption("--stress-seconds", SECONDS))


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """Whether every repetition is wanted."""
    return bool(request.config.getoption("--stress-full", False))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """What random numbers start from, so that a failure can be repeated as far as threads allow."""
    return int(request.config.getoption("--stress-seed", SEED))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    limit = 120 + 2 * float(config.getoption("--stress-seconds", SECONDS))
    if config.getoption("--stress-full", False):
        limit += 600
    for item in items:
        if "tests/stress" in item.path.as_posix():
            item.add_marker(pytest.mark.stress)
            item.add_marker(pytest.mark.timeout(limit))
