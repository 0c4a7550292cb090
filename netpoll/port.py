"""The completion port: start operations, take their completions."""

from __future__ import annotations

import socket
import warnings
import weakref
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from netpoll import backends, config, debugging
from netpoll.finalizers import finalizer, warns_at_exit
from netpoll.handles import claim, forget, note_use, require_handle, require_socket
from netpoll.operations import Operations
from netpoll.operations.starter import check_count, check_timeout
from netpoll.overlapped import Completion, Opcode, Overlapped

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType
    from typing import Self

    from netpoll.backends.base import Capability, Inflight
    from netpoll.config import Selection
    from netpoll.instruments import Instrument
    from netpoll.operations.starter import HasFileno

T = TypeVar("T")
MOST_POSTED: Final = 0xFFFFFFFF
"""What a posted packet says it moved is a DWORD."""
MOST_NAMES: Final = 10
"""Operations that a warning names."""


class CompletionPort(Operations):
    """A queue of completions, and the operations that end in it. Safe to use from any number of
    threads.

    :param backend: "iocp", "io_uring", "selectors"; `None` leaves it to the configuration
        (`NETPOLL_BACKEND`, `NETPOLL_CONFIG`, `configure`) and then to netpoll. A named backend is
        used or fails
    :param concurrency: how many threads may at once be between taking a packet and their next wait;
        0 does not limit it on software backends, and means the number of processors to Windows
        (PORT-04)
    :param max_inflight: operations in use at most; one more start raises `OSError` with
        `errno.ENOBUFS`
    :param instruments: what is told of everything that happens on the port
        (`netpoll.instruments`); costs every operation some microseconds
    :param backend_options: the backend's own, such as `selector="poll"`; see `netpoll doctor`
    :raises ValueError: a backend or an option's value that is not known
    :raises UnsupportedOperation: the named backend cannot be used here; says why
    """

    def __init__(
        self,
        backend: str | None = None,
        *,
        concurrency: int = 0,
        max_inflight: int | None = None,
        instruments: Sequence[Instrument] = (),
        **backend_options: Any,
    ) -> None:
        self._is_open = self._is_reported = False
        check_count("concurrency", concurrency, 0)
        if max_inflight is not None:
            check_count("max_inflight", max_inflight, 1)
        checks = debugging.enabled(debugging.CHECKS)
        self._selection = config.select(backend, backend_options)
        self._backend = backends.open_backend(
            self._selection.backend,
            concurrency=concurrency,
            max_inflight=max_inflight,
            options=self._selection.options,
        )
        if checks:
            from netpoll.instruments.checks import Checks

            instruments = [*instruments, Checks()]
        if instruments:
            from netpoll.instruments.base import Observed

            self._backend = Observed(self._backend, instruments)
        self._dequeue = self._backend.dequeue
        if type(self).resubmit is CompletionPort.resubmit:
            # a call through the method below costs 70 ns, twice a message
            self.resubmit = self._backend.resubmit  # type: ignore[method-assign]
        self._is_open = True
        _open_ports.add(self)

    # -- what it is ------------------------------------------------------------------------------

    @property
    def backend(self) -> str:
        """The name of the backend in use."""
        return self._selection.backend

    @property
    def selection(self) -> Selection:
        """How the backend was chosen: by whom, what was tried, and why."""
        return self._selection

    def capability(self, operation: str | Opcode) -> Capability:
        """How this port performs `operation` (a method's name): "native", "emulated" or
        "unsupported"; the `reason` attribute says how or why not."""
        return self._backend.capability(str(operation))

    def stats(self) -> dict[str, float]:
        """Counters since the port was made.

        `started`, `taken`, `inflight` (operations); `posted`, `queued` (packets); `waits`,
        `waiting` (threads now); the backend's own; and what the instruments count, see
        `netpoll.instruments.Statistics`.
        """
        return self._backend.stats()

    def inflight(self) -> list[Inflight]:
        """The operations whose completion has not been taken: on what, with which key, for how
        long, and in debug mode (`NETPOLL_DEBUG=1`, `-X dev`) from where."""
        return self._backend.inflight()

    def __repr__(self) -> str:
        state = "" if self._is_open else " closed"
        return f"<CompletionPort {self.backend}{state}>"

    # -- handles ---------------------------------------------------------------------------------

    def associate(
        self, handle: HasFileno, key: Any = None, *, skip_on_success: bool = False
    ) -> None:
        """Bind `handle` to this port: its operations end in packets that carry `key` (ASSOC-05).

        Once per handle, for its life (ASSOC-01, ASSOC-04). A socket becomes non-blocking.

        :param handle: a socket, or what `read_into` and `write` work on
        :param skip_on_success: an operation that finishes within its start queues no packet
            (MODE-03); its `Overlapped` is `done` when the start returns
        :raises AlreadyAssociated: it belongs to a port (87)
        :raises OSError: it is closed (6), or cannot be used with overlapped operations (87,
            ASSOC-02)
        """
        require_handle(handle)
        with claim(handle, self):
            self._backend.associate(handle, key, skip_on_success)

    def report_unreachable(self, sock: socket.socket, on: bool) -> None:
        """Whether receives on a UDP socket fail where an earlier datagram found no port, with 1234
        or, at once, 10054 (SIO_UDP_CONNRESET, UDP-05, UDP-06). Either way the socket stays usable.

        Never asked, sockets behave as their system has it: Windows reports on every socket, Linux
        and the BSDs on connected ones.

        :raises OSError: 10045, this is no UDP socket, or the system reports on connected sockets
            only and this is none
        """
        require_socket(sock)
        note_use(sock, self)
        self._backend.report_unreachable(sock, on)

    def close_handle(self, handle: HasFileno) -> None:
        """Close a handle as Windows does: every operation pending on it ends (995; 1236 of a
        connected TCP socket, CLOSE-01, CLOSE-02; 109 of a pipe, PIPE-03), and a TCP connection with
        a receive pending is reset (CLOSE-07).

        `handle.close()` does so on Windows. Elsewhere nobody tells the port of that: it finds out
        within half a second, and the peer sees an orderly end of stream.
        """
        closable: Any = handle
        self._backend.detach(handle, closable.close)
        forget(handle)

    def shutdown(self, handle: socket.socket, how: int) -> None:
        """Shut down as Winsock does: receives already pending go on (RECV-09), new ones fail with
        10058; the end of stream goes out behind the sends that are pending (SEND-07).

        :param how: `socket.SHUT_RD`, `SHUT_WR` or `SHUT_RDWR`
        :raises OSError: not connected
        """
        if how not in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
            raise ValueError("how is socket.SHUT_RD, socket.SHUT_WR or socket.SHUT_RDWR")
        if handle.fileno() >= 0:  # a closed one has its own failure
            require_socket(handle)
        self._backend.shutdown(handle, how)

    # -- operations ------------------------------------------------------------------------------

    def resubmit(
        self, overlapped: Overlapped[T], size: int | None = None, address: Any = None
    ) -> Overlapped[T]:
        """Start a finished operation of this port again, on the same handle and buffers: the cheap
        path of a hot loop.

        :param size: work on the first `size` bytes of the buffers only
        :param address: where a `sendto` or a `sendmsg` goes from now on, numeric; one that a
            receive has brought costs least
        :raises RuntimeError: its completion has not been taken yet (OVL-06)
        :raises ValueError: it was never started, or `size` does not fit, or `address` does not
        """
        return cast("Overlapped[T]", self._backend.resubmit(overlapped, size, address))

    def resubmit_many(
        self, operations: Iterable[Overlapped[Any]]
    ) -> list[tuple[Overlapped[Any], OSError]]:
        """`resubmit` each of them, in order: cheaper than one by one on io_uring.

        :return: those that failed at once, each with its error; they have no completion, and no
            other operation is harmed by them
        :raises RuntimeError: as `resubmit` for one of them; those before it are started, it and
            those behind it are not
        :raises ValueError: the same
        :raises PortClosed: the port is closed
        """
        return self._backend.resubmit_many(list(operations))

    def cancel(self, target: Overlapped[Any] | HasFileno) -> bool:
        """Ask an operation, or all operations on a handle, to stop (CancelIoEx).

        A request: how an operation ends is in its completion, 995 or what it achieved before
        (CAN-05).

        :return: whether there was anything to stop (CAN-02); `False` too for one already asked
            (CAN-03)
        """
        if isinstance(target, Overlapped):
            port = target._port
            return port is not None and port._backend.cancel(target)
        require_handle(target)
        return self._backend.cancel_all(target)

    def flush(self) -> None:
        """Hand queued starts to the kernel now; a wait does so too. Only batching backends have
        any."""
        self._backend.flush()

    def _wait_for(self, operation: Overlapped[Any], timeout: float | None) -> bool:
        return self._backend.wait_for(operation, check_timeout(timeout))

    # -- packets -----------------------------------------------------------------------------------

    def get(self, timeout: float | None = None, *, alertable: bool = False) -> Completion | None:
        """Take one packet; see `get_many`. `None` on timeout, or when routines ran."""
        batch = self.get_many(1, timeout, alertable=alertable)
        return batch[0] if batch else None

    def get_many(
        self, max_completions: int = 64, timeout: float | None = None, *, alertable: bool = False
    ) -> list[Completion]:
        """Take the packets that are there, `max_completions` at most; wait if there is none, never
        to fill the batch (PORT-21).

        :param timeout: seconds, 0 to look only, `None` for ever; never ends early
        :param alertable: also run the completion routines of this thread, and return when any has
            run
        :return: oldest first; empty on timeout, or when routines ran
        :raises PortClosed: the port was closed while this thread waited (735), or before (6)
        """
        if timeout is not None:
            timeout = check_timeout(timeout)
        if max_completions < 1:
            raise ValueError(f"max_completions is 1 or more, not {max_completions}")
        return self._dequeue(max_completions, timeout, alertable)

    def post(self, transferred: int = 0, key: Any = None, overlapped: Any = None) -> None:
        """Queue a packet of your own; all three values arrive unchanged (PORT-26).

        :param transferred: 0 to 0xFFFFFFFF, a DWORD
        :param overlapped: anything; an `Overlapped` is not touched
        """
        if transferred.__class__ is not int or not 0 <= transferred <= MOST_POSTED:
            check_count("transferred, which is a DWORD,", transferred, 0, MOST_POSTED)
        completion = Completion()
        completion.key = key
        completion.overlapped = overlapped
        completion.transferred = transferred
        self._backend.post(completion)

    # -- the end -----------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the port: waiting threads get `PortClosed` (735, PORT-18), pending operations end
        as cancelled, visible in their `Overlapped`. The handles stay open. Closing twice is
        harmless."""
        self._is_open = False
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @finalizer
    def __del__(self) -> None:
        if not getattr(self, "_is_open", False):
            return
        pending = self.inflight()  # kept until the end: they are warned of here, and not once more
        if not self._is_reported:
            text = f"unclosed {self!r}{_names(pending)}"
            warnings.warn(text, ResourceWarning, source=self, stacklevel=3)
        self.close()
        del pending


def _names(pending: list[Inflight]) -> str:
    names = [
        f"{each.overlapped!r}, started at {each.where}" if each.where else repr(each.overlapped)
        for each in pending[:MOST_NAMES]
    ]
    if len(pending) > MOST_NAMES:
        names.append(f"and {len(pending) - MOST_NAMES} more")
    return f" with operations pending: {'; '.join(names)}" if names else ""


_open_ports: weakref.WeakSet[CompletionPort] = weakref.WeakSet()


@warns_at_exit
def _warn_of_pending() -> None:
    """Operations that are pending when the program ends are dropped unfinished. This is told while
    everything works, and before anything is closed."""
    for port in list(_open_ports):
        pending = port.inflight() if port._is_open else []
        if pending:
            port._is_reported = True
            text = f"the program ends, and leaves {port!r}{_names(pending)}"
            warnings.warn(text, ResourceWarning, source=port, stacklevel=1)
