"""The two contracts: `Backend`, what a port calls, and `Engine`, what the software port calls.

`iocp` implements `Backend` directly, because there the kernel has the packet queue, the waiters and
the concurrency limit. `selectors` and `io_uring` implement `Engine`; `SoftwarePort` gives them
those three, once.

Both work on the caller's `Overlapped` objects. Between `start` and the moment its completion is
taken, an operation belongs to the backend, which keeps it (and through it the buffers and the
handle) alive.
"""

from __future__ import annotations

import abc
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from netpoll import status as nt
from netpoll.errors import PortClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self

    from netpoll.backends.descriptors import FileState
    from netpoll.overlapped import Completion, Opcode, Overlapped

    AnyOverlapped = Overlapped[Any]


class Capability(str):
    """How a backend performs an operation: `native`, `emulated` or `unsupported`, and why."""

    __slots__ = ("reason",)
    reason: str

    def __new__(cls, level: str, reason: str) -> Self:
        self = super().__new__(cls, level)
        self.reason = reason
        return self

    def __repr__(self) -> str:
        return f"<Capability {self}: {self.reason}>"

    def __reduce__(self) -> tuple[type[Capability], tuple[str, str]]:
        return (type(self), (str(self), self.reason))


class Association:
    """A handle that a port knows: identity is this object, never the descriptor's number (EMU-07).

    The handle is held weakly. While an operation is pending the operation holds it; without one, a
    handle that the program drops is collected and closed as it would be without netpoll.
    """

    __slots__ = ("__weakref__", "associated", "fd", "file", "handle", "key", "skip_on_success")

    def __init__(self, handle: Any, fd: int) -> None:
        self.handle: weakref.ref[Any] = weakref.ref(handle)
        self.fd: int = fd
        self.key: Any = None
        self.associated: bool = False
        """Whether its operations queue packets. Others end by event or routine only (OVL-17)."""
        self.skip_on_success: bool = False
        self.file: FileState | None = None
        """What has to be remembered of a file or a pipe; `None` of a socket."""

    def alive(self) -> bool:
        """Whether the handle is still open under the same descriptor."""
        handle = self.handle()
        try:
            return handle is not None and handle.fileno() == self.fd
        except ValueError:  # how a file says that it is closed
            return False


@dataclass(frozen=True, slots=True)
class Inflight:
    """One pending operation, as `CompletionPort.inflight` lists it."""

    opcode: Opcode
    handle: Any
    key: Any
    age: float
    """Seconds since it was started."""
    overlapped: AnyOverlapped
    where: str | None = None
    """Where it was started, "file:line"; known in debug mode only."""


class Observer(Protocol):
    """Who is told of what neither a call nor a packet tells: `netpoll.instruments` stands behind
    it. Each method is called with the port's lock held, before the program can see what it tells
    of, and raises nothing."""

    def stopping(self, operation: AnyOverlapped, status: int) -> None:
        """A pending operation was asked to end, for a reason that `status` names: 995's, that of a
        time limit, or `STATUS_CONNECTION_ABORTED` where its handle is closed by netpoll."""

    def ended_inline(self, operation: AnyOverlapped) -> None:
        """It has ended within its start, and no packet comes (MODE-03)."""

    def ended(self, operation: AnyOverlapped) -> None:
        """It has ended, and nobody will take a packet of it."""

    def untaken(self, completions: Iterable[Completion]) -> None:
        """These packets were taken from the system, and the port was closed before anybody got
        them."""


class StagingOwner(Protocol):
    """Who has staged a send."""

    def staged_send_failed(self) -> None:
        """Not all of it went out. Called in any thread, with the port's lock held."""


class Staging(Protocol):
    """Sends that are copied, go out with the next wait, and tell of failure only. Not part of what
    a port offers: `netpoll.asyncio` writes with it, see `io_uring/staging.py`."""

    write: Callable[[Any, bytes], bool]

    def enable(self, on: bool) -> None: ...
    def open(self, fd: int, owner: Any) -> Any: ...
    def flush(self, stage: Any) -> None: ...
    def close(self, stage: Any) -> None: ...


class Receiver(Protocol):
    """Whom a multishot receive tells. What raises, but for `SystemExit` and `KeyboardInterrupt`, is
    told to `receiver_failed`."""

    def arrived(self, data: bytes, /) -> object:
        """The next data of the connection."""

    def receive_over(self, result: int, /) -> object:
        """There will be no more, unless it is started again. 0: the end of the stream; otherwise a
        negative errno: ENOBUFS, all buffers are full; ECANCELED, EINTR, EAGAIN, nothing is wrong
        with the connection."""

    def receiver_failed(self, error: BaseException, /) -> object: ...


class MultishotReceives(Protocol):
    """Receives that stay, and tell of all that comes. Not part of what a port offers either:
    `netpoll.asyncio` reads with it, see `io_uring/multishot.py`."""

    def open(self, fd: int, receiver: Any, run: Callable[..., object]) -> Any: ...
    def start(self, receive: Any) -> None: ...
    def stop(self, receive: Any) -> None: ...
    def flush(self) -> None: ...
    def deliver(self) -> None: ...


class Backend(abc.ABC):
    """What `CompletionPort` calls. Every method may be called from any thread."""

    __slots__ = ()
    name: str
    progresses_alone: ClassVar[bool] = False
    """Whether operations go on although no thread waits for them: the kernel works on them."""

    @abc.abstractmethod
    def observe(self, observer: Observer) -> None:
        """Tell `observer` from now on, of operations that are prepared after this."""

    @abc.abstractmethod
    def associate(self, handle: Any, key: Any, skip_on_success: bool) -> None:
        """Bind `handle` and `key` to the port, for the life of the handle (ASSOC-01, 04, 05). Again
        for the same handle: add `skip_on_success`, which Windows allows later too (MODE-01)."""

    @abc.abstractmethod
    def association(self, handle: Any) -> Association | None:
        """The record of a handle that the port knows, associated with it or not."""

    @abc.abstractmethod
    def prepare(self, operation: AnyOverlapped) -> None:
        """Make ready what every start of `operation` needs: whatever can be checked or looked up
        once."""

    @abc.abstractmethod
    def start(self, operation: AnyOverlapped) -> None:
        """Start a prepared operation.

        :raises OSError: it failed at once; there is no completion (XFER-03)
        """

    resubmit: Callable[..., AnyOverlapped]
    """`resubmit(operation, size=None, address=None)`: start again, on the first `size` bytes,
    towards `address`; the port hands it out as its own. Refuses an operation that is in use, as
    every start must."""

    def resubmit_many(self, operations: list[AnyOverlapped]) -> list[tuple[AnyOverlapped, OSError]]:
        """`resubmit` each, in order.

        :return: those that failed at once, each with its error
        """
        failed: list[tuple[AnyOverlapped, OSError]] = []
        started, count = 0, len(operations)
        while started < count:
            started = self.restart(operations, started)
            if started < count:
                operation = operations[started]
                started += 1
                try:
                    self.resubmit(operation)
                except PortClosed:
                    raise
                except OSError as error:
                    failed.append((operation, error))
        return failed

    def restart(self, operations: list[AnyOverlapped], first: int) -> int:
        """Start again, from number `first` on, those that cost less together.

        :return: the number of the one that it has not started
        """
        return first

    @abc.abstractmethod
    def cancel(self, operation: AnyOverlapped) -> bool:
        """Ask `operation` to stop; whether there was anything to ask (CAN-02)."""

    @abc.abstractmethod
    def cancel_all(self, handle: Any) -> bool:
        """Ask every operation on `handle` to stop; whether there was any."""

    @abc.abstractmethod
    def abandon(self, operation: AnyOverlapped) -> None:
        """The thread that started it ends: so does the operation, without its routine (THR-01)."""

    @abc.abstractmethod
    def detach(self, handle: Any, release: Callable[[], object]) -> None:
        """End every operation on `handle` as closing does (CLOSE-01, 02, 04), calling `release`,
        which closes it, at the right moment."""

    @abc.abstractmethod
    def shutdown(self, handle: Any, how: int) -> None:
        """Shut down one direction or both, as Winsock does (RECV-09, SEND-06)."""

    @abc.abstractmethod
    def report_unreachable(self, handle: Any, on: bool) -> None:
        """Whether receives on a UDP socket are told of unreachable ports (UDP-06)."""

    @abc.abstractmethod
    def post(self, completion: Completion) -> None:
        """Queue a packet of the caller's own (PORT-26)."""

    @abc.abstractmethod
    def dequeue(self, limit: int, timeout: float | None, alertable: bool) -> list[Completion]:
        """Wait for packets; empty on timeout, or when routines ran instead.

        :raises PortClosed: the port was closed (735), or already is (6)
        """

    @abc.abstractmethod
    def wait_for(self, operation: AnyOverlapped, timeout: float | None) -> bool:
        """Wait until `operation` has ended, letting operations progress but taking no packet;
        whether it has."""

    @abc.abstractmethod
    def run_until(
        self,
        finished: Callable[[], bool],
        timeout: float | None,
        alert: Callable[[Callable[[], object] | None], object] | None = None,
    ) -> bool:
        """As `wait_for`, until `finished()`, which the end of an operation with a routine of this
        thread makes true.

        :param alert: is given what has `finished()` looked at again, for any thread to call, and
            `None` when the wait is over. A backend whose operations progress by themselves has none
        """

    @abc.abstractmethod
    def flush(self) -> None:
        """Hand queued starts to the kernel now."""

    def staging(self) -> Staging | None:
        """Where sends can be staged; `None`: here a `send()` of its own is the fastest."""
        return None

    def multishot(self, mail: AnyOverlapped) -> MultishotReceives | None:
        """Receives that stay, where there are any.

        :param mail: finishes whenever there is something to deliver; never started by anybody
        """
        return None

    @abc.abstractmethod
    def inflight(self) -> list[Inflight]:
        """What is started and whose completion has not been taken."""

    @abc.abstractmethod
    def stats(self) -> dict[str, float]:
        """Counters since the port was made."""

    @abc.abstractmethod
    def close(self) -> None:
        """Wake the waiters (PORT-18), end what is pending, free everything. Idempotent."""

    @abc.abstractmethod
    def capability(self, opcode: str) -> Capability:
        """How this backend performs an operation."""


class Engine(abc.ABC):
    """What `SoftwarePort` calls: how operations are performed here.

    Every method is called with the port's lock held; `poll` releases it while it blocks. An engine
    never completes an operation to anybody: it returns finished ones, with `_final`, `transferred`
    and `_value` set.
    """

    __slots__ = ()
    name: str

    @abc.abstractmethod
    def attach(self, handle: Any, fd: int) -> Association:
        """A new handle."""

    @abc.abstractmethod
    def detach(self, association: Association) -> list[AnyOverlapped]:
        """Forget a handle that is about to be closed, or already is; what was pending on it, ended
        with the status that closing gives."""

    @abc.abstractmethod
    def shutdown(self, association: Association, how: int) -> None:
        """Shut down one direction or both, as Winsock does."""

    @abc.abstractmethod
    def prepare(self, operation: AnyOverlapped) -> None:
        """Set whatever every start of this operation will use, `_begin` above all: the callable
        that performs it, or begins to, and answers `True` if it finished, one way or the other. (A
        method `start` that looked the right one up would cost each start 60 ns.)

        :raises OSError: the handle's state does not allow it
        """

    @abc.abstractmethod
    def refuse(self, association: Association, status: int) -> None:
        """Let every start on the handle fail with `status`; 0 allows them again."""

    @abc.abstractmethod
    def cancel(self, operation: AnyOverlapped, status: int) -> bool:
        """Stop a pending operation. If `True`, it has ended with `status`, or `poll` will return
        it."""

    def report_unreachable(self, association: Association, on: bool) -> None:
        """Whether receives on a UDP socket are told of unreachable ports (UDP-06).

        :raises OSError: this is no UDP socket, or the system cannot tell
        """
        raise nt.make_exception(nt.STATUS_NOT_SUPPORTED, inline=True)

    @abc.abstractmethod
    def pending(self, association: Association) -> list[AnyOverlapped]:
        """What was started on a handle and not yet returned as finished."""

    @abc.abstractmethod
    def poll(self, timeout: float | None) -> list[AnyOverlapped]:
        """Wait for progress, at most `timeout` seconds; what finished, in order.

        The list is the engine's own: the caller empties it once it has taken care of what is in it,
        so that Ctrl-C in between loses nothing.
        """

    def make_resubmit(
        self, port: Any, general: Callable[..., AnyOverlapped]
    ) -> Callable[..., AnyOverlapped] | None:
        """`Backend.resubmit` for this engine, where it has a faster one than `general`: for the
        usual case written out, and `general` for every other."""
        return None

    def restart(self, port: Any, operations: list[AnyOverlapped], first: int) -> int:
        """`Backend.restart`; the lock is held."""
        return first

    def redirected(self, operation: AnyOverlapped, address: bytes) -> None:
        """The next start of a send goes to another address: change what was made ready for it.

        :param address: as `addresses.pack` makes it
        """
        return

    def flush(self) -> None:
        """Hand queued starts to the kernel now. Only an engine that batches has any."""
        return

    def staging(self) -> Staging | None:
        """As `Backend.staging`."""
        return None

    def multishot(self, mail: AnyOverlapped) -> MultishotReceives | None:
        """As `Backend.multishot`."""
        return None

    def drain(self) -> list[AnyOverlapped]:
        """The port closes, and every operation was cancelled: wait for those that did not end at
        once, with a limit; what ended. Only an engine whose operations are the kernel's has any."""
        return []

    @abc.abstractmethod
    def wake(self) -> None:
        """Make a `poll` that blocks return soon. Wakes coalesce."""

    @abc.abstractmethod
    def interrupt(self) -> None:
        """As `wake`, from a thread that does not hold the lock."""

    @abc.abstractmethod
    def close(self) -> None:
        """Free everything. Nothing is pending any more."""

    @abc.abstractmethod
    def stats(self) -> dict[str, int]:
        """The engine's own counters."""

    @staticmethod
    @abc.abstractmethod
    def capability(opcode: str) -> Capability:
        """How this engine performs an operation."""
