"""The benchmark's load and netpoll's servers, a moment of each kind of cell."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BACKENDS = ("io_uring", "selectors")
FILES = 400
"""As if so many were allowed: three hundred connections idle, not ten thousand."""

if sys.platform != "linux":
    pytest.skip("the benchmark is for Linux", allow_module_level=True)
if not (ROOT / "benchmarks").exists():
    pytest.skip("the benchmark is not part of what is installed here", allow_module_level=True)

pytestmark = pytest.mark.real_programs


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The benchmark's modules; its servers are started as ``python -m`` in the tree."""
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "compiled"))
    native = importlib.import_module("benchmarks.native")
    try:
        native.compiler()
    except native.CannotCompile as error:
        pytest.skip(str(error))
    return functools.partial(importlib.import_module, package="benchmarks")


@pytest.mark.parametrize("subject", [f"netpoll-{name}" for name in BACKENDS])
@pytest.mark.parametrize(
    "name",
    [
        "16KiB-x100",
        "churn-x100",
        "stream-in-x10",
        "stream-out-x10",
        "idle10000",
        "compute-x100",
        "latency-x100",
    ],
)
def test_a_moment_of_each_kind(module: Any, name: str, subject: str) -> None:
    cells, processes, subjects = module(".cells"), module(".processes"), module(".subjects")
    (server,) = subjects.select([subject])
    obstacle = server.obstacle()
    if obstacle is not None:
        pytest.skip(obstacle)
    cell = cells.select([name])[0].within(FILES)
    with processes.Pair(server, cell, processes.Placement.choose()) as pair:
        window = pair.measure(0.02)
    # the load has compared what came back with what it sent, or counted it
    assert window.messages > 0
    assert window.server_cpu > 0
    assert bool(window.latency) == (cell.kind is cells.Kind.LATENCY)
    assert bool(window.loops) == (cell.kind is cells.Kind.COMPUTE)


@pytest.mark.parametrize("subject", [f"asyncio-on-{name}-protocol" for name in BACKENDS])
@pytest.mark.parametrize("name", ["tls-x100", "http-x100"])
def test_a_moment_of_the_loop(module: Any, name: str, subject: str) -> None:
    """The loads in Python check what comes back too; wrk takes a second at least."""
    cells, processes, subjects = module(".cells"), module(".processes"), module(".subjects")
    (server,), (cell,) = subjects.select([subject]), cells.select([name])
    obstacle = server.obstacle() or module(".loads").obstacle(cell.kind)
    if obstacle is not None:
        pytest.skip(obstacle)
    with contextlib.ExitStack() as stack:
        environment: dict[str, str] = {}
        if cell.kind is cells.Kind.TLS:
            environment = stack.enter_context(module(".certificates").make())
        placement = processes.Placement.choose()
        pair = stack.enter_context(processes.Pair(server, cell, placement, environment))
        windows = [pair.measure(0.02) for _ in range(2)]
    assert all(window.messages >= cell.active for window in windows)
    assert all(window.server_cpu > 0 and window.load_cpu > 0 for window in windows)


def test_a_late_message_counts_from_when_it_was_due(module: Any) -> None:
    """Ten times what one connection can carry is due within the window, and takes ten windows."""
    seconds, rate = 0.01, 200_000
    (cell,) = module(".cells").select(["latency-x100"])
    (server,) = module(".subjects").select(["netpoll-selectors"])
    processes = module(".processes")
    cell = dataclasses.replace(cell, active=1, rate=rate)
    with processes.Pair(server, cell, processes.Placement.choose()) as pair:
        window = pair.measure(seconds)
    assert window.messages == seconds * rate
    longest = window.latency["max"] / 1e6
    rounding = 1.05
    # the last reply is the end of the window, and was due within its first part
    assert window.seconds - seconds <= longest <= window.seconds * rounding
    assert 0 < window.latency["p50"] < window.latency["p99"] <= window.latency["max"]
