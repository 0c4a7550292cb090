"""Error numbers that differ between systems where each of them is right.

A portable test compares with these sets and never with one number of them: real Windows, Wine and
the emulations disagree about them, and so do versions of Windows (section 10 of the reference).
"""

from __future__ import annotations

from typing import Final

RESET: Final = frozenset({64, 10054})
"""The peer reset the connection (RECV-05)."""

CLOSED_HERE: Final = frozenset({1236, 64, 995, 10053})
"""The handle was closed on this side while the operation was pending (CLOSE-01, CLOSE-02)."""

REFUSED: Final = frozenset({1225, 10061})
"""Nobody listens there (CON-04)."""


def winerror_of(error: BaseException | None) -> int | None:
    """The `winerror` of an exception, which the type of `OSError` has on Windows only."""
    return getattr(error, "winerror", None)
