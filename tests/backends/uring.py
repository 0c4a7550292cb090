"""What the tests of the io_uring backend share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netpoll import backends

if TYPE_CHECKING:
    from netpoll import CompletionPort

_candidate = backends.probe("io_uring")
needs_io_uring = pytest.mark.skipif(
    not _candidate.usable, reason=f"io_uring does not work here: {_candidate.reason}"
)


def grown(port: CompletionPort, before: dict[str, float]) -> dict[str, float]:
    """What the counters of a port have counted since `before`."""
    return {name: value - before[name] for name, value in port.stats().items()}
