"""How long and how hard: `python -m pytest tests/stress --stress-seconds=30 --stress-full`."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from netpoll.testing.waiting import run

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
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
        help="as many repetitions as the promises speak of: 10,000 resetting clients, "
        "20,000 cancels",
    )
    group.addoption(
        "--stress-seed", type=int, default=SEED, help=f"for what is random (default {SEED})"
    )


def option(config: pytest.Config, name: str, default: float) -> float:
    """An option's value; its default too where pytest read this file too late to know the option.

    It does so unless this folder is named on the command line.
    """
    value: float | None = config.getoption(name, default)
    return default if value is None else value


@pytest.fixture
def seconds(request: pytest.FixtureRequest) -> float:
    """How long a race is run."""
    return option(request.config, "--stress-seconds", SECONDS)


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """Whether every repetition is wanted."""
    return bool(option(request.config, "--stress-full", 0))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """What random numbers start from, so that a failure can be repeated as far as threads allow."""
    return int(option(request.config, "--stress-seed", SEED))


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """Collects garbage beside each test, all the time."""
    gc.freeze()  # or what pytest holds would take most of it

    def collect() -> None:
        while not over.wait(0.001):
            gc.collect()

    over = threading.Event()
    collecting = run(collect)
    yield
    over.set()
    collecting.result()
    gc.unfreeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    limit = 120 + 2 * option(config, "--stress-seconds", SECONDS)
    if option(config, "--stress-full", 0):
        limit += 600
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.stress)
            item.add_marker(pytest.mark.timeout(limit))
