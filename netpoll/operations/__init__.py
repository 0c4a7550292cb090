"""The methods of a port that start operations, by what they work on."""

from __future__ import annotations

from netpoll.operations.files import Files
from netpoll.operations.messages import Messages
from netpoll.operations.streams import Streams
from netpoll.operations.transfers import Transfers
from netpoll.operations.waits import Waits


class Operations(Files, Streams, Messages, Transfers, Waits):
    """All of them."""
