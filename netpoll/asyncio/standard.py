"""The private parts of asyncio that this package builds on, with their types: the one place to look
at when a new Python comes. All of them are the same from CPython 3.11 to 3.15.
"""

from __future__ import annotations

import asyncio
from asyncio import base_events, constants, format_helpers, futures, protocols, transports
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from collections import deque
    from collections.abc import Callable

    from netpoll.overlapped import Completion
    from netpoll.port import CompletionPort

    class LoopPart(asyncio.SelectorEventLoop):
        """What the parts of `EventLoop` know of the loop, and of each other."""

        port: CompletionPort
        _dequeue: Callable[[int, float | None, bool], list[Completion]]
        _debug: bool
        _closed: bool
        _stopping: bool
        _ready: deque[Any]
        _scheduled: list[Any]
        _timer_cancelled_count: int
        _clock_resolution: float
        _csock: socket.socket
        _transports: Any

        def _run_once(self) -> None: ...
        def _process_events(self, event_list: list[Any]) -> None: ...
        def _dispatch(self, completions: list[Any]) -> None: ...
        def _add_callback(self, handle: asyncio.Handle) -> None: ...
        def _add_callback_signalsafe(self, handle: asyncio.Handle) -> None: ...
        def _check_closed(self) -> None: ...
        def _ensure_fd_no_transport(self, fd: Any) -> None: ...
        async def _ensure_resolved(
            self, address: Any, *, family: int, type: int, proto: int, loop: Any
        ) -> list[Any]: ...
        def _remove_reader(self, fd: Any) -> bool: ...
        def _start_serving(self, *arguments: Any, **options: Any) -> None: ...
        def _make_datagram_transport(self, *arguments: Any, **options: Any) -> Any: ...
        def _make_socket_transport(self, *arguments: Any, **options: Any) -> Any: ...
        def _remove_path(self, sock: socket.socket) -> None: ...
        def _accept_connection2(self, *arguments: Any, **options: Any) -> Any: ...

    class FlowControl(transports.Transport):
        """Write limits, and telling the protocol of them."""

        _loop: Any
        _protocol: Any
        _extra: dict[str, Any]

        def __init__(self, extra: dict[str, Any] | None, loop: Any) -> None: ...
        def _maybe_pause_protocol(self) -> None: ...
        def _maybe_resume_protocol(self) -> None: ...

    SystemLoop = LoopPart

else:
    SystemLoop = asyncio.SelectorEventLoop
    # The parts are mixed into a loop; only the last one of them is a class of asyncio's.
    LoopPart = object
    FlowControl = transports._FlowControlMixin

_futures: Any = futures
_protocols: Any = protocols
_base_events: Any = base_events
_format_helpers: Any = format_helpers

set_result_unless_cancelled: Callable[[Any, Any], None] = _futures._set_result_unless_cancelled
feed_buffered: Callable[[Any, bytes], None] = _protocols._feed_data_to_buffered_proto
BYTES = (bytes, bytearray, memoryview)
"""What may be written."""
TRY_NATIVE_SENDFILE: Any = constants._SendfileMode.TRY_NATIVE
WRITES_BEFORE_WARNING: int = constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES
SERVER_KNOWS_TRANSPORTS: bool = _base_events.Server._attach.__code__.co_argcount > 1
"""From Python 3.13 on: a server is told which connection comes and goes."""


def describe_callback(handle: Any) -> str:
    """What is called, and with what, for messages."""
    text: str = _format_helpers._format_callback_source(handle._callback, handle._args)
    return text
