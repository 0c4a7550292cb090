"""Libraries that are not ours, which run on our loop as they are."""

from __future__ import annotations

import warnings
from typing import Any

import pytest


def library(name: str) -> Any:
    """A module of the dependency group `programs`; where it is missing, the test is skipped."""
    with warnings.catch_warnings():
        # what a library thinks of another is not ours to mend
        warnings.simplefilter("ignore", DeprecationWarning)
        return pytest.importorskip(name, reason=f"{name} is not installed: group `programs`")
