"""What the tests of the io_uring backend share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netpoll import backends
from netpoll.backends.io_uring import multishot

if TYPE_CHECKING:
    from netpoll import CompletionPort

_candidate = backends.probe("io_uring")
needs_io_uring = pytest.mark.skipif(
    not _candidate.usable, reason=f"io_uring does not work here: {_candidate.reason}"
)
needs_multishot = pytest.mark.skipif(
    not (_candidate.usable and multishot._kernel_has_limits()),
    reason="needs multishot receives with a limit: Linux 6.17 or newer",
)


def grown(port: CompletionPort, before: dict[str, float]) -> dict[str, float]:
    """What the counters of a port have counted since `before`."""
    return {name: value - before[name] for name, value in port.stats().items()}
