"""The methods of a port that start operations, by what they work on."""

from __future__ import annotations

from netpoll.operations.streams import Streams


class Operations(Streams):
    """All of them."""
