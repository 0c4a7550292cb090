"""The suite that every backend has to pass; `netpoll.testing.suite` says how to run it on its own.

Its files import netpoll and pytest and nothing else, so that the folder can be run from anywhere.
"""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
LIMIT = 90
"""Seconds for one test: enough for two waits to reach their deadline and say so."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.pluginmanager.hasplugin("timeout"):
        return  # somebody else's environment may lack pytest-timeout
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(LIMIT))
