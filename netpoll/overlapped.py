"""The per-operation record, and the packet that ends it."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, SupportsIndex, TypeVar, cast

from netpoll import status as nt
from netpoll.buffers import Pinned, first, total
from netpoll.errors import shown

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from netpoll.backends.base import Association, Backend
    from netpoll.backends.queues import Try
    from netpoll.backends.routines import RoutineQueue
    from netpoll.port import CompletionPort

T = TypeVar("T")

Routine = "Callable[[int, int, Overlapped[Any], int], object]"
"""A completion routine: `routine(error, transferred, overlapped, flags)`; `error` is a Winsock
number."""


class Opcode(enum.StrEnum):
    """What an operation does. The value is the name of the method that starts it."""

    RECV_INTO = "recv_into"
    RECV = "recv"
    SEND = "send"
    ACCEPT = "accept"
    CONNECT = "connect"
    DISCONNECT = "disconnect"
    SENDFILE = "sendfile"
    ACCEPT_MANY = "accept_many"
    RECV_POOLED = "recv_pooled"
    RECVFROM_INTO = "recvfrom_into"
    SENDTO = "sendto"
    RECVMSG_INTO = "recvmsg_into"
    SENDMSG = "sendmsg"
    POLL = "poll"
    READ_INTO = "read_into"
    TIMER = "timer"
    WAIT = "wait"
    WRITE = "write"


FILES: Final = frozenset((Opcode.READ_INTO, Opcode.WRITE))
"""Those that work on files and pipes, whose failures at once have Win32 numbers."""


RECEIVES: Final = frozenset(
    (Opcode.RECV_INTO, Opcode.RECV, Opcode.RECVFROM_INTO, Opcode.RECVMSG_INTO)
)
SENDS: Final = frozenset((Opcode.SEND, Opcode.SENDTO, Opcode.SENDMSG))


class Event(Protocol):
    """What stands for `hEvent`; a `threading.Event` is one."""

    def set(self) -> object: ...
    def clear(self) -> object: ...


class Overlapped(Generic[T]):
    """One operation: what it works on, and how it ended (the OVERLAPPEDPLUS of Windows code).

    The methods of `CompletionPort` that start an operation make one, or reuse the one given as
    `overlapped=`. It can be used again as soon as its completion has been taken from the port;
    until then a second start raises, because Windows would not notice it and the results would be
    meaningless (OVL-06). Subclass it to carry more than `context`.

    :param context: the user's own; netpoll never looks at it
    :param event: set when the operation finishes and cleared when it starts, as `hEvent` is
        (OVL-16); `status` and `transferred` are then valid from that moment on (OVL-05)
    :param packet: `False` is the low bit of `hEvent`: no packet is queued (ASSOC-15)
    """

    __slots__ = (
        "__weakref__",
        # what belongs to the port and its backend; set in the hot path, hence slots of this object
        # and not of a second one (a dict or a wrapper costs 80 ns an operation)
        "_address",
        "_ancillary",
        "_association",
        "_begin",
        "_call",
        "_deadline",
        "_final",
        "_in_use",
        "_issuer",
        "_least",
        "_native",
        "_owner",
        "_perform",
        "_pinned",
        "_plain_on",
        "_port",
        "_queue",
        "_routines",
        "_since",
        "_size",
        "_skips",
        "_socket_flags",
        "_timeout",
        "_value",
        "_view",
        "buffers",
        "context",
        "done",
        "event",
        "flags",
        "handle",
        "opcode",
        "packet",
        "routine",
        "transferred",
    )

    def __init__(
        self, context: Any = None, *, event: Event | None = None, packet: bool = True
    ) -> None:
        self.context: Any = context
        self.event: Event | None = event
        self.packet: bool = packet
        self.opcode: Opcode | None = None
        self.handle: Any = None
        self.buffers: Any = None
        self.flags: int = 0
        self.routine: Callable[[int, int, Overlapped[Any], int], object] | None = None
        self.transferred: int = 0
        """Bytes moved (`InternalHigh`); valid once `done`."""
        # a slot and not a property, which costs 50 ns: a loop that skips packets of successes
        # (MODE-03) asks after every start
        self.done: bool = True
        """`HasOverlappedIoCompleted`: whether `status` is final; for reading only.

        Of an operation that queues a packet it turns true when the packet is taken from the port,
        not before (OVL-04): wait on the port, never on this.
        """

        self._port: CompletionPort | None = None
        self._association: Association = cast("Association", None)
        self._queue: Any = None
        self._perform: Try = cast("Try", None)
        self._call: Callable[..., Any] = cast("Callable[..., Any]", None)
        self._least = 0
        """The kernel's smallest result that is plain success; io_uring's."""
        self._socket_flags = 0
        self._pinned: Pinned | None = None
        """Everything this operation may touch."""
        self._view: Any = None
        """What this start works on: all of it, or its first bytes."""
        self._size = 0
        """The number of bytes in `_view`."""
        self._begin: Callable[[Any], bool] = cast("Callable[[Any], bool]", None)
        """Performs it, or begins to; `True` if it finished. The engine's choice."""
        self._final = nt.STATUS_SUCCESS  # a zeroed OVERLAPPED reads as done (OVL-09)
        """How it ended, before anybody may see it, or 0x103."""
        self._owner: Backend | None = None
        """The backend that prepared it."""
        self._plain_on: Backend | None = None
        """The same, if its end is a packet and nothing else: the usual case, told apart once."""
        self._skips = False
        """Whether a success within its start queues no packet (MODE-03)."""
        self._in_use = False
        """From the start until the completion is taken."""
        self._issuer: object = None
        """The mark of the thread that it ends with."""
        self._value: Any = None
        self._address: Any = None
        """Where to: of a connect or a send."""
        self._ancillary: Any = None
        """What a sendmsg sends beside the data, or how many bytes of it a recvmsg_into takes."""
        self._timeout: float | None = None
        self._deadline = 0.0
        self._since = 0.0
        self._routines: RoutineQueue | None = None
        self._native: Any = None

    @property
    def status(self) -> int:
        """The NTSTATUS (`Internal`): 0x103 while the operation is pending (OVL-01), and until its
        packet is taken unless it has an event (OVL-04, OVL-05)."""
        return self._final if self.done else nt.STATUS_PENDING

    def result(self) -> T:
        """The value of the finished operation, or raise what it failed with.

        :raises OSError: the operation failed; or 996 (`errno.EINPROGRESS`) if it is pending
            (OVL-08)
        """
        status = self.status
        if status:
            raise nt.make_exception(status)
        return cast("T", self._value_of(self.transferred))

    @property
    def value(self) -> T | None:
        """What it has brought, where `result()` raises all the same: of a truncated datagram the
        size and the address (UDP-01). `None` of an operation that is pending or has failed."""
        status = self.status
        if nt.is_error(status) or status == nt.STATUS_PENDING or self.opcode is None:
            return None
        return cast("T", self._value_of(self.transferred))

    def exception(self) -> OSError | None:
        """What `result()` would raise, or `None`."""
        status = self.status
        return nt.make_exception(status) if status else None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the operation has finished; not alertable (OVL-13). `False` on timeout.

        It takes no packet from the port: with one to come, `done` follows when that is taken
        (OVL-04).

        :param timeout: seconds; `None` is forever
        """
        return self._port is None or self._port._wait_for(self, timeout)

    def cancel(self) -> bool:
        """Ask the operation to stop, see `CompletionPort.cancel`."""
        return self._port is not None and self._port.cancel(self)

    def release(self) -> None:
        """Let go of the pinned buffers, so that their owners may resize them again.

        A finished operation keeps them for `CompletionPort.resubmit`; dropping it has the same
        effect.

        :raises RuntimeError: the operation is pending
        """
        self._refuse_use()
        self._unprepare()

    def _unprepare(self) -> None:
        self._pinned = self._view = self._native = self._address = None
        self._port = self._owner = self._plain_on = None

    def _refuse_use(self) -> None:
        if self._in_use:
            raise RuntimeError(
                f"{self!r} is in use: take its completion from the port before using it again "
                f"(OVL-06)"
            )

    def _resize(self, size: int) -> None:
        """Work on the first `size` bytes of the buffers from the next start on."""
        pinned = self._pinned
        if size.__class__ is not int:
            size = _whole(size)
        if pinned is None or not 0 <= size <= total(pinned):
            room = "no buffers" if pinned is None else f"{total(pinned)} bytes of buffers"
            raise ValueError(f"size {shown(size)} does not fit the operation, which has {room}")
        self._view = first(pinned, size)
        self._size = size

    def _value_of(self, transferred: int) -> Any:
        value = _VALUES.get(self.opcode)  # type: ignore[arg-type]
        return transferred if value is None else value(self, transferred)

    def __repr__(self) -> str:
        name = type(self).__name__
        if self.opcode is None:
            return f"<{name} unused>"
        state = "pending" if self.status == nt.STATUS_PENDING else nt.name_of(self.status)
        if self.handle is None:
            return f"<{name} {self.opcode} {state}>"
        return f"<{name} {self.opcode} {describe(self.handle)} {state} {self.transferred} bytes>"


def _whole(size: object) -> int:
    """What counts as an `int` without being one.

    :raises ValueError: it does not
    """
    if isinstance(size, SupportsIndex) and not isinstance(size, bool):
        return size.__index__()
    raise ValueError(f"size is a number of bytes, not {shown(size)}")


_VALUES: Final[dict[Opcode, Callable[[Overlapped[Any], int], Any]]] = {
    Opcode.RECV: lambda operation, transferred: bytes(
        cast("memoryview", operation._pinned)[:transferred]
    ),
    Opcode.ACCEPT: lambda operation, transferred: operation._value,
    Opcode.ACCEPT_MANY: lambda operation, transferred: operation._value,
    Opcode.RECV_POOLED: lambda operation, transferred: operation._value,
    Opcode.CONNECT: lambda operation, transferred: None,
    Opcode.DISCONNECT: lambda operation, transferred: None,
    Opcode.RECVFROM_INTO: lambda operation, transferred: (transferred, operation._value),
    Opcode.RECVMSG_INTO: lambda operation, transferred: operation._value.message(transferred),
    Opcode.POLL: lambda operation, transferred: operation._value,
    Opcode.TIMER: lambda operation, transferred: None,
    Opcode.WAIT: lambda operation, transferred: operation._value,
}
"""The value of an operation that has ended well, of those with another one than the number of bytes
that moved."""


_RECVFROM_INTO: Final = Opcode.RECVFROM_INTO


class Completion:
    """One packet taken from a port.

    Built once per operation in the hot loop, hence plain slots and no `__init__`: the port sets
    them (a named tuple costs 100 ns more, an `__init__` 150). A success sets three; the numbers of
    a failure have slots only in `FailedCompletion`.
    """

    __slots__ = ("key", "overlapped", "transferred")

    key: Any
    """The key of the handle's association, or of the posted packet."""
    overlapped: Any
    """The `Overlapped` that finished, or what was posted."""
    transferred: int
    """Bytes moved; of a failed stream operation 0 (PORT-16)."""
    status: int = nt.STATUS_SUCCESS
    """How it ended, an NTSTATUS."""
    error: int = 0
    """The Win32 number that `GetQueuedCompletionStatus` would give; 0 is success."""

    def result(self) -> Any:
        """The operation's value, or raise what it failed with; `transferred` of a posted packet.

        Ask before the operation is started again: the value is kept in the `Overlapped`.

        :raises OSError: the mapped exception of `status`
        """
        operation: Any = self.overlapped
        if operation.__class__ is Overlapped and operation.opcode is _RECVFROM_INTO:
            # what a server of datagrams asks for each time: half of what it takes below
            return self.transferred, operation._value
        if isinstance(operation, Overlapped):
            finished: Overlapped[Any] = operation  # pyright: ignore[reportUnknownVariableType]
            value = _VALUES.get(finished.opcode)  # type: ignore[arg-type]  # None has none
            if value is not None:
                return value(finished, self.transferred)
        return self.transferred

    def exception(self) -> OSError | None:
        """What `result()` would raise, or `None`."""
        return nt.make_exception(self.status) if self.status else None

    def __repr__(self) -> str:
        end = nt.name_of(self.status) if self.status else f"{self.transferred} bytes"
        return f"<Completion key={self.key!r} {self.overlapped!r} {end}>"


class FailedCompletion(Completion):
    """The packet of an operation that failed, or that succeeded with a warning (PORT-17)."""

    __slots__ = ("error", "status")

    def result(self) -> Any:
        raise nt.make_exception(self.status)


def describe(handle: socket.socket | Any) -> str:
    """A handle in few words, for messages."""
    try:
        return f"fd {handle.fileno()}"
    except (AttributeError, OSError, ValueError):
        return repr(handle)
