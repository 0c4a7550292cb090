"""One operation in Windows' hands: its OVERLAPPED with all that belongs to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from netpoll.backends.iocp.library import NULL, ffi
from netpoll.buffers import total

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from netpoll import buffers
    from netpoll.backends.iocp.functions import LPDWORD, LPOVERLAPPED, Handle, Memory
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]
    Begin = Callable[[Operation, int], int]
    """Start on the socket of that number: makes one call, and answers 0 (it finished at once), 997
    (a packet will come) or the Winsock number of a failure. It allocates no memory of cffi's."""
    Finish = Callable[[Operation, int], int]
    """Called with the status of the packet; answers the status that the program sees."""

MAX_BUFFER: Final = 0xFFFFFFFF
"""Bytes in one operation: a WSABUF counts those of one buffer, and the result those of all, with 32
bits."""


class Native:
    """The memory of one operation that Windows writes to.

    It stays where it is, and is kept, until the operation's packet has been taken: by the port's
    table while it is pending, and by the `Overlapped` in between, for the next start.
    """

    __slots__ = (
        "accepting",
        "address",
        "area",
        "armed",
        "begin",
        "buffer_count",
        "cause",
        "event",
        "finish",
        "flags",
        "known",
        "mswsock",
        "overlapped",
        "routine",
        "starts",
        "transferred",
        "wsabufs",
    )

    def __init__(self, begin: Begin, finish: Finish | None = None) -> None:
        self.overlapped: LPOVERLAPPED = ffi.new("OVERLAPPED *")
        self.address: int = int(ffi.cast("ULONG_PTR", self.overlapped))
        self.begin: Begin = begin
        self.finish: Finish | None = finish
        self.known: bool = True
        """Whether it is Windows that works on it; of what the watcher does, packets are posted."""
        self.transferred: LPDWORD = ffi.new("DWORD *")
        """Bytes moved, of a start that finished at once."""
        self.flags: LPDWORD = ffi.new("DWORD *")
        self.wsabufs: Any = NULL
        self.buffer_count: int = 0
        self.armed: int = -1
        """The number of bytes that `wsabufs` offers now."""
        self.cause: int = 0
        """The status that a cancel on behalf of somebody is to end with: 0 while nobody asked."""
        self.starts: list[None] = []
        """One for each thread that is about to give the socket's number to Windows, or does."""
        self.event: Handle | None = None
        """hEvent, of an operation whose end is to be seen without its packet."""
        self.routine: Any = NULL
        self.accepting: socket.socket | None = None
        self.area: Any = None
        """The data and the two addresses of an accept, the address of a connect or a send, or what
        comes beside the data of a receive."""
        self.mswsock: Any = None

    def arm(self, views: buffers.Pinned, size: int) -> None:
        """Offer `size` bytes, the first of the views."""
        if not isinstance(views, list):
            self.wsabufs[0].len = size
        else:
            self.buffer_count = len(views)
            for index, view in enumerate(views):
                self.wsabufs[index].len = len(view)
        self.armed = size


def take_buffers(native: Native, operation: Operation, *, writable: bool) -> None:
    """Point WSABUFs at the pinned views. They die with the operation's memory, not before
    (OVL-07)."""
    pinned = operation._pinned
    if pinned is None:
        return
    views = pinned if isinstance(pinned, list) else [pinned]
    size = total(pinned)
    if size > MAX_BUFFER:
        raise ValueError(
            f"{size} bytes are more than Windows moves at once ({MAX_BUFFER}); "
            f"send or receive them in parts"
        )
    native.wsabufs = ffi.new("WSABUF[]", len(views))
    for index, view in enumerate(views):
        native.wsabufs[index].buf = address_of(view, writable)
    native.buffer_count = len(views)


def address_of(view: memoryview, writable: bool) -> Memory:
    """Where the bytes of a pinned view are. It is the view, kept in `_pinned`, that keeps them
    there.

    Not the object that `from_buffer` makes: once that and its memoryview are garbage in the same
    cycle, as after a failed start whose exception is kept, the collector clears the memoryview
    first and crashes (seen with CPython 3.11 and cffi 2.1, on Linux and under Wine).
    """
    memory = ffi.from_buffer("char[]", view, writable)
    address: Memory = ffi.cast("PVOID", int(ffi.cast("ULONG_PTR", memory)))
    ffi.release(memory)
    return address
