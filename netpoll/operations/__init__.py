"""The methods of a port that start operations, by what they work on."""

from __future__ import annotations

from netpoll.operations.messages import Messages
from netpoll.operations.streams import Streams
from netpoll.operations.transfers import Transfers


class Operations(Streams, Messages, Transfers):
    """All of them."""
