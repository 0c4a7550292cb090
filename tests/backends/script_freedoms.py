"""What two backends may answer differently to one script: each freedom has its statement, or its
section of docs/contract.md. Everything else has to be the same.

* In which order completions of different operations are seen (RECV-13, "Data keeps its order"): the
  outcomes of one step are sorted by operation. Posted packets keep theirs (PORT-08).
* Whether an operation fails within its start or by its packet (XFER-04): a failure counts as one
  either way, and `ended_later` says which operations may be started again in both cases.
* Whether a success is seen within its start (XFER-04), and so whether its packet is spared on a
  handle of `skip_on_success` (MODE-03).
* How an operation ends whose handle is closed under it (CLOSE-02): `CLOSING`.
* Whether a resubmit on a socket that was closed without netpoll fails at once, or a little later
  ("Closing": it is found out): none is made.
* What a write is told whose reader is gone (EMU-35): `NO_READER`.
* Whether a client that was gone before its accept is passed over (ACC-12): `Listener.client_resets`
  lets the next client decide.
* How much fits before a send or a write pends (SEND-02, EMU-26): `Narrow`, `FullQueue` and `Writer`
  start what surely pends, or does so while something pends.
* How much of a send that was cancelled has gone (SEND-08): nobody reads such a stream any more.
* Several reports of unreachable ports may be one (EMU-18): no more than one is ever due.
* What a poll says beside receives, whether it is early or late, and of a report of an unreachable
  port (EMU-33): none is started there.
* Whether what is started together with the send that finds a reset is told of the reset, or of the
  end that came before it (RECV-13): nothing is.
* Which system can make a connected socket a new one (DIS-04, EMU-21), whether one whose connection
  is gone counts as new (EMU-21): not asked for.
* The flags that a routine is given (APC-04): not compared.
* Whether Python tells who sent a truncated datagram ("Datagrams and messages" in
  docs/platforms.md): not compared on Windows.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from netpoll import status as nt
from netpoll.testing.wine import wine_version

if TYPE_CHECKING:
    from netpoll import Overlapped

CLOSING = frozenset((nt.STATUS_CANCELLED, nt.STATUS_CONNECTION_ABORTED, nt.STATUS_CONNECTION_RESET))
NO_READER = frozenset((nt.STATUS_PIPE_BROKEN, nt.STATUS_PIPE_CLOSING))

TOLD_OF_TRUNCATED = sys.platform != "win32"
"""Whether the sender of a truncated datagram is told everywhere."""

WINE = wine_version() is not None
NOT_WITH_WINE = {
    "client_resets": "RECV-05: through select(), a reset may read as an end of stream",
    "disconnect_for_reuse": "DIS-04: iocp takes it, selectors refuses it",
    "peer_resets": "RECV-05: through select(), a reset may read as an end of stream",
    "peer_vanishes": "UDP-05: select() swallows reports of unreachable ports",
    "receive_whole": "RECV-14: MSG_WAITALL is ignored",
    "report": "UDP-06: SIO_UDP_CONNRESET does nothing",
    "send_much": "SEND-04: a pending send may end as a success of no bytes",
    "send_much_briefly": "SEND-04: a pending send may end as a success of no bytes",
}
"""Steps that Wine is known to get wrong, see netpoll/testing/wine.py."""


ENDED_LATER = frozenset((nt.STATUS_CANCELLED, nt.STATUS_CONNECTION_ABORTED, nt.STATUS_IO_TIMEOUT))


def ended_later(operation: Overlapped[Any]) -> bool:
    """Whether no backend may have let it fail within its start, so that all have it."""
    return nt.is_error(operation.status) <= (operation.status in ENDED_LATER)


def freed(status: int) -> int:
    """One number for all that may be told."""
    return min(NO_READER) if status in NO_READER else status
