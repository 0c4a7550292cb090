"""The suite that every backend has to pass; `netpoll.testing.suite` says how to run it on its own.

Its files import netpoll and pytest and nothing else, so that the folder can be run from anywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import netpoll

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netpoll.testing.backends import Target
    from netpoll.testing.pairs import Loopback

HERE = Path(__file__).parent
LIMIT = 90
"""Seconds for one test: enough for two waits to reach their deadline and say so."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.pluginmanager.hasplugin("timeout"):
        return  # somebody else's environment may lack pytest-timeout
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(LIMIT))


@pytest.fixture
def winapi(target: Target, net: Loopback, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The names of the C documentation make their ports on the backend under test."""
    monkeypatch.delenv("NETPOLL_BACKEND", raising=False)
    monkeypatch.delenv("NETPOLL_CONFIG", raising=False)
    netpoll.configure(target.backend, **{target.backend: dict(target.options)})
    from netpoll.winapi.handles import forget_portless

    yield
    forget_portless()
    netpoll.configure()
