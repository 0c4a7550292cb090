"""OVERLAPPED, WSABUF, OVERLAPPED_ENTRY, and how an operation of the core becomes one of these."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from netpoll import Overlapped
from netpoll import status as nt
from netpoll.buffers import pin_one
from netpoll.winapi.constants import NULL
from netpoll.winapi.errors import fault, status_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Buffer

    from netpoll.winapi.events import Event, Tagged

    Conclude = Callable[["Operation"], None]

_logger = logging.getLogger("netpoll")

LONGEST: Final = 0x7FFFFFFF
"""Bytes; a longer buffer that is not there was meant to be of a negative length."""


class OVERLAPPED:
    """The record of one operation. Subclass it for an OVERLAPPEDPLUS: `self.s`, `self.OpCode`, ...

    It needs no `__init__`, and may be used again as soon as its completion has been seen.
    """

    Internal: int = 0
    """The NTSTATUS: 0x103 from the start of an operation until its end has been seen, by taking its
    packet (OVL-04) or through GetOverlappedResult and the like."""
    InternalHigh: int = 0
    """Bytes moved."""
    Offset: int = 0
    """The low 32 bits of where in a file to begin."""
    OffsetHigh: int = 0
    hEvent: Event | Tagged | None = NULL

    _operation: Operation | None = None
    """What is under way."""


@dataclass(slots=True)
class OVERLAPPED_ENTRY:
    """One packet of GetQueuedCompletionStatusEx."""

    lpCompletionKey: Any
    lpOverlapped: Any
    Internal: int
    """The NTSTATUS, which no call turns into an error (PORT-23)."""
    dwNumberOfBytesTransferred: int


@dataclass(slots=True)
class WSABUF:
    """The first `len` bytes of `buf`, which may be NULL where those are none."""

    len: int
    buf: Buffer | None


def views_of(buffers: WSABUF | Sequence[WSABUF] | None, count: int, *, writable: bool) -> Any:
    """The first `count` of `buffers`, as the core takes them.

    :raises OSError: NULL instead of them (10022, XFER-09), or in one of them (10014)
    :raises ValueError: there are fewer, or one is shorter than it says: C would read what lies
        behind it
    """
    if buffers is None:
        raise nt.make_exception(nt.STATUS_INVALID_PARAMETER, inline=True)
    several = [buffers] if isinstance(buffers, WSABUF) else buffers
    if not 0 < count <= len(several):
        raise ValueError(f"dwBufferCount is {count}, and there are {len(several)} buffers")
    return [first_bytes(each.buf, each.len, writable=writable) for each in several[:count]]


def first_bytes(buffer: Buffer | None, length: int, *, writable: bool) -> memoryview:
    """What C names by a pointer and a DWORD. Of no bytes the pointer is not looked at (RECV-01).

    :raises OSError: 10014, there is no such memory: NULL, or the length is a negative number
    :raises ValueError: the buffer is shorter: C would read or write what lies behind it
    """
    length &= 0xFFFFFFFF
    if not length:
        return memoryview(bytearray())
    if buffer is None:
        raise fault()
    view = pin_one(buffer, "this", writable=writable)
    if len(view) < length:
        if length > LONGEST:
            raise fault()
        raise ValueError(f"the buffer has {len(view)} bytes, which is shorter than {length}")
    return view[:length]


class Operation(Overlapped[Any]):
    """The core's record of what an OVERLAPPED is used for; a new one for each start, so that no
    buffer stays pinned longer than C would need it."""

    __slots__ = ("_done", "conclude", "ended", "outcome", "owner", "thread")

    def __init__(self, owner: OVERLAPPED, conclude: Conclude | None = None) -> None:
        self._final = self.transferred = 0
        self.owner: OVERLAPPED = owner
        self.conclude: Conclude | None = conclude
        """What is left to be done when its end is seen; may change `outcome`."""
        self.outcome: tuple[int, int] | None = None
        """The status and the bytes moved, once its end has been seen."""
        self.ended: tuple[int, int, int] | None = None
        """In which thread it ended, with what status and how many bytes."""
        self.thread: int = threading.get_ident()
        super().__init__()
        self._done: bool = False  # other threads can see it from before its start

    # A start has to be told from the packet that another thread may take before it returns
    # (PORT-29). If it is this thread that sets `done` within the start, the operation ended there.
    @property
    def done(self) -> bool:
        """As `Overlapped.done`."""
        return self._done

    @done.setter
    def done(self, value: bool) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._done = value
        self.ended = (threading.get_ident(), self._final, self.transferred) if value else None


_seeing = threading.Lock()


def see_end(operation: Operation) -> tuple[int, int]:
    """The end of an operation is seen, by its packet or in another way: write it into the
    OVERLAPPED. Once; its status and the bytes moved."""
    with _seeing:
        if operation.outcome is None:
            operation.outcome = operation._final, operation.transferred
            if operation.conclude is not None:
                operation.outcome = _concluded(operation, operation.conclude)
            owner = operation.owner
            if owner._operation is operation:
                owner.Internal, owner.InternalHigh = operation.outcome
                owner._operation = None
        return operation.outcome


def _concluded(operation: Operation, conclude: Conclude) -> tuple[int, int]:
    """Do what is left to be done; the outcome. What fails there fails this operation, and costs
    neither its packet, nor another one, nor the thread that takes them."""
    try:
        conclude(operation)
    except OSError as error:
        return status_of(error), 0
    except Exception:
        _logger.exception("the end of %r could not be brought to an end", operation)
        return nt.STATUS_UNSUCCESSFUL, 0
    assert operation.outcome is not None
    return operation.outcome


def refresh(overlapped: OVERLAPPED) -> Operation | None:
    """See the end of its operation, if there is one; what is still under way.

    Who asks again and again is to be told: an operation whose end is no packet goes on while it is
    asked about (OVL-03, OVL-08). One with a packet is told of by that (OVL-04).
    """
    operation = overlapped._operation
    if operation is None:
        return None
    by_packet = operation.packet and operation.event is None and operation.routine is None
    started = operation._port is not None  # by the thread that is about to
    if started and not operation.done and not (by_packet and operation._association.associated):
        operation.wait(0)
    if not operation.done:
        return operation
    see_end(operation)
    return None


def HasOverlappedIoCompleted(lpOverlapped: OVERLAPPED) -> bool:
    """Whether the operation has ended (OVL-03). With a port and no event: never before its packet
    is taken (OVL-04)."""
    refresh(lpOverlapped)
    return lpOverlapped.Internal != nt.STATUS_PENDING
