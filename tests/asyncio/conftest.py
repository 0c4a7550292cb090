"""Every test here runs on each backend of the machine, like those of the conformance suite."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from loops import Loops

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netpoll.testing.backends import Target
    from netpoll.testing.pairs import Loopback


@pytest.fixture
def loops(target: Target, net: Loopback) -> Iterator[Loops]:
    """Loops on the backend under test. The test fails if one has complained, or left a descriptor
    open."""
    made = Loops(target)
    yield made
    made.close()
