"""What scripts work on: each class is a kind of handle, each public method a step, which takes a
number from 1 to `MOST`.

Sockets are in `script_streams.py`, `script_datagrams.py` and `script_listeners.py`, the rest is in
`script_pipes.py`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from backends.script_datagrams import (
    ConnectedDatagrams,
    Datagrams,
    Datagrams6,
    SkippingDatagrams,
    UnixDatagrams,
    UnixPeer,
)
from backends.script_listeners import Listener, SkippingListener
from backends.script_pipes import (
    File,
    Pipe,
    Port,
    Process,
    SkippingFile,
    SkippingPipe,
    Waits,
    Writer,
)
from backends.script_streams import (
    Alone,
    Connecting,
    Narrow,
    Pooled,
    Skipping,
    Stream,
    Stream6,
    UnixStream,
)

from netpoll.testing.pairs import has_ipv6

if TYPE_CHECKING:
    from collections.abc import Callable

    from backends.script_sockets import Handle
    from backends.scripts import World

    Kind = Callable[[World, str], Handle]

POSIX = sys.platform != "win32"
IPV6 = has_ipv6()

THEMES: dict[str, dict[str, Kind]] = {
    "streams": {
        "stream": Stream,
        **({"stream6": Stream6} if IPV6 else {}),
        "skipping": Skipping,
        "alone": Alone,
        **({"unix": UnixStream} if POSIX else {}),
    },
    "flow": {"narrow": Narrow, "pooled": Pooled, "writer": Writer},
    "connections": {
        "connecting": Connecting,
        "listener": Listener,
        "skipping-listener": SkippingListener,
    },
    "datagrams": {
        "datagrams": Datagrams,
        **({"datagrams6": Datagrams6} if IPV6 else {}),
        "skipping-datagrams": SkippingDatagrams,
        "connected": ConnectedDatagrams,
        **({"unix-datagrams": UnixDatagrams, "unix-peer": UnixPeer} if POSIX else {}),
    },
    "others": {
        "pipe": Pipe,
        "skipping-pipe": SkippingPipe,
        "file": File,
        "skipping-file": SkippingFile,
        "event": Waits,
        # on Windows it takes so long to start one that little else would be done
        **({"process": Process} if POSIX else {}),
    },
}
"""The kinds of handles by what they have to do with each other."""
KINDS: dict[str, Kind] = {name: kind for theme in THEMES.values() for name, kind in theme.items()}
KINDS["port"] = Port
THEMES["everything"] = {name: kind for name, kind in KINDS.items() if name != "port"}

NEEDS = {
    "receive_from": "recvfrom_into",
    "receive_message": "recvmsg_into",
    "send_to": "sendto",
    "send_message": "sendmsg",
    "send_file": "sendfile",
    "read": "read_into",
    "read_briefly": "read_into",
    "read_on": "read_into",
    "write": "write",
    "write_much": "write",
    "write_much_briefly": "write",
    "write_on": "write",
}
"""The operations of steps that not every backend has."""
OFTEN = frozenset(
    (
        "accept",
        "cancel",
        "client_comes",
        "connect",
        "fill",
        "hold",
        "peer_sends",
        "receive",
        "send_much",
        "send_to",
        "write_much",
    )
)
"""Without these not much happens."""
SELDOM = frozenset(
    (
        "close_bare",
        "close_handle",
        "close_port",
        "close_reader",
        "close_writer",
        "disconnect",
        "disconnect_for_reuse",
        "finishes",
        "peer_resets",
        "peer_shuts_down",
        "peer_vanishes",
        "send_much_briefly",
        "stop_receiving",
        "stop_sending",
        "write_much_briefly",
    )
)
"""After these not much happens."""
FRAME = frozenset(("close", "count_due", "end", "forget", "goes_on"))
"""What is no step."""


def steps(kind: str) -> list[str]:
    """The names of what can be done with that kind of handle."""
    made: Any = KINDS[kind]
    public = [name for name in dir(made) if not name.startswith("_") and name not in FRAME]
    return [name for name in public if callable(getattr(made, name))]


def weight(step: str) -> int:
    """How often a step is taken, among others."""
    return 6 if step in OFTEN else 1 if step in SELDOM else 2
