"""The methods of a port that start operations, by what they work on."""

from __future__ import annotations

from netpoll.operations.streams import Streams
from netpoll.operations.waits import Waits


class Operations(Streams, Waits):
    """All of them."""
