"""Debug mode: whether ports look out for mistakes, and run with limits so small that they are met.

`NETPOLL_DEBUG` is `1` for all of it, `0` for none, or names parts of it: `checks`, `limits`.
Without it, Python's own development mode (`-X dev`) turns the checks on.
"""

from __future__ import annotations

import os
import sys
from typing import Final

CHECKS: Final = "checks"
"""Remember where operations were started, and warn of mistakes (`netpoll.instruments.checks`)."""
LIMITS: Final = "limits"
"""One event or completion a turn, and rings of a few entries: what a busy port meets now and then,
a test meets all the time. Programs see no difference, unless they rely on one."""


def enabled(part: str) -> bool:
    """Whether ports made now have `CHECKS`, or `LIMITS`.

    :raises ValueError: `NETPOLL_DEBUG` says something that is not known
    """
    said = os.environ.get("NETPOLL_DEBUG", "")
    if not said:
        return part == CHECKS and sys.flags.dev_mode
    if said in ("0", "1"):
        return said == "1"
    parts = [each.strip() for each in said.split(",")]
    for each in parts:
        if each not in (CHECKS, LIMITS):
            raise ValueError(f"NETPOLL_DEBUG is 0, 1, {CHECKS!r} or {LIMITS!r}, not {said!r}")
    return part in parts
