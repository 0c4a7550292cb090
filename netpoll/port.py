"""The completion port: start operations, take their completions."""

from __future__ import annotations

import socket
import warnings
from typing import TYPE_CHECKING, Any, TypeVar, cast

from netpoll import backends, config
from netpoll.buffers import BufferList, Pinned, pin, total
from netpoll.handles import claim, forget, note_use, require_socket
from netpoll.overlapped import Completion, Opcode, Overlapped

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from typing_extensions import Buffer

    from netpoll.backends.base import Capability, Inflight
    from netpoll.config import Selection

    Routine = Callable[[int, int, Overlapped[Any], int], object]

A_CENTURY = 3.2e9
T = TypeVar("T")
Address = Any
"""What the `socket` module takes and gives: a tuple for IPv4 and IPv6."""


class CompletionPort:
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
        **backend_options: Any,
    ) -> None:
        self._is_open = False
        _check_count("concurrency", concurrency, 0)
        if max_inflight is not None:
            _check_count("max_inflight", max_inflight, 1)
        self._selection = config.select(backend, backend_options)
        self._backend = backends.open_backend(
            self._selection.backend,
            concurrency=concurrency,
            max_inflight=max_inflight,
            options=self._selection.options,
        )
        self._dequeue = self._backend.dequeue
        if type(self).resubmit is CompletionPort.resubmit:
            # a call through the method below costs 70 ns, twice a message
            self.resubmit = self._backend.resubmit  # type: ignore[method-assign]
        self._is_open = True

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

    def stats(self) -> dict[str, int]:
        """Counters since the port was made.

        `started`, `taken`, `inflight` (operations); `posted`, `queued` (packets); `waits`,
        `waiting` (threads now); and the backend's own.
        """
        return self._backend.stats()

    def inflight(self) -> list[Inflight]:
        """The operations whose completion has not been taken: on what, with which key, for how
        long."""
        return self._backend.inflight()

    def __repr__(self) -> str:
        state = "" if self._is_open else " closed"
        return f"<CompletionPort {self.backend}{state}>"

    # -- handles ---------------------------------------------------------------------------------

    def associate(
        self, handle: socket.socket, key: Any = None, *, skip_on_success: bool = False
    ) -> None:
        """Bind `handle` to this port: its operations end in packets that carry `key` (ASSOC-05).

        Once per handle, for its life (ASSOC-01, ASSOC-04). The socket becomes non-blocking.

        :param skip_on_success: an operation that finishes within its start queues no packet
            (MODE-03); its `Overlapped` is `done` when the start returns
        :raises AlreadyAssociated: it belongs to a port (87)
        :raises OSError: it is closed (6), or cannot be used with overlapped operations (87,
            ASSOC-02)
        """
        require_socket(handle)
        with claim(handle, self):
            self._backend.associate(handle, key, skip_on_success)

    def close_handle(self, handle: socket.socket) -> None:
        """Close a socket as Windows does: every operation pending on it ends (995; 1236 of a
        connected TCP socket, CLOSE-01, CLOSE-02), and a TCP connection with a receive pending is
        reset (CLOSE-07).

        `handle.close()` does so on Windows. Elsewhere nobody tells the port of that: it finds out
        within half a second, and the peer sees an orderly end of stream.
        """
        self._backend.detach(handle, handle.close)
        forget(handle)

    def shutdown(self, handle: socket.socket, how: int) -> None:
        """Shut down as Winsock does: receives already pending go on (RECV-09), new ones fail with
        10058; the end of stream goes out behind the sends that are pending (SEND-07).

        :param how: `socket.SHUT_RD`, `SHUT_WR` or `SHUT_RDWR`
        :raises OSError: not connected
        """
        if how not in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
            raise ValueError("how is socket.SHUT_RD, socket.SHUT_WR or socket.SHUT_RDWR")
        self._backend.shutdown(handle, how)

    # -- operations ------------------------------------------------------------------------------

    def recv_into(
        self,
        sock: socket.socket,
        buffers: BufferList,
        *,
        flags: int = 0,
        overlapped: Overlapped[int] | None = None,
        routine: Routine | None = None,
        timeout: float | None = None,
    ) -> Overlapped[int]:
        """Receive into one buffer or several, filled in order (WSARecv, RECV-11).

        Completes with any data (RECV-03); 0 bytes are the end of the stream (RECV-04), unless there
        was no room: a receive of nothing waits for readability and consumes nothing (RECV-01).

        :param timeout: seconds until it ends as `TimeoutError`
        :raises OSError: it failed at once, so there is no completion
        """
        operation = self._new(Opcode.RECV_INTO, sock, overlapped, routine, timeout)
        return self._begin(operation, buffers, pin(buffers, writable=True), flags)

    def recv(
        self,
        sock: socket.socket,
        size: int,
        *,
        flags: int = 0,
        overlapped: Overlapped[bytes] | None = None,
        routine: Routine | None = None,
        timeout: float | None = None,
    ) -> Overlapped[bytes]:
        """Receive at most `size` bytes; the result is `bytes`, empty at the end of the stream.

        For a loop, `recv_into` and `resubmit` are the cheaper way.
        """
        _check_count("size", size, 0)
        operation = self._new(Opcode.RECV, sock, overlapped, routine, timeout)
        return self._begin(operation, None, memoryview(bytearray(size)), flags)

    def send(
        self,
        sock: socket.socket,
        buffers: BufferList,
        *,
        flags: int = 0,
        size: int | None = None,
        overlapped: Overlapped[int] | None = None,
        routine: Routine | None = None,
        timeout: float | None = None,
    ) -> Overlapped[int]:
        """Send one buffer or several, in order: all of it, or it fails (WSASend, SEND-04).

        :param size: send the first `size` bytes only; a `resubmit` may send more of the buffers
        """
        operation = self._new(Opcode.SEND, sock, overlapped, routine, timeout)
        return self._begin(operation, buffers, pin(buffers, writable=False), flags, size)

    def accept(
        self,
        listener: socket.socket,
        *,
        receive: Buffer | None = None,
        overlapped: Overlapped[tuple[socket.socket, Address]] | None = None,
        routine: Routine | None = None,
        timeout: float | None = None,
    ) -> Overlapped[tuple[socket.socket, Address]]:
        """Accept one connection (AcceptEx); the result is the new socket, not associated
        (ASSOC-11), and the peer's address. The completion carries the listener's key.

        A client that is gone before it is accepted is no error of the listener's (ACC-12).

        :param receive: a buffer: complete only when the connection's first data is in it (ACC-08)
            or its end is reached (ACC-09); `transferred` says how much
        """
        operation = self._new(Opcode.ACCEPT, listener, overlapped, routine, timeout)
        pinned = None if receive is None else pin(receive, writable=True)
        return self._begin(operation, receive, pinned, 0)

    def connect(
        self,
        sock: socket.socket,
        address: Address,
        *,
        data: Buffer | None = None,
        overlapped: Overlapped[None] | None = None,
        routine: Routine | None = None,
        timeout: float | None = None,
    ) -> Overlapped[None]:
        """Connect a stream socket (ConnectEx, bound for you); its end is always a packet (CON-04).

        :param address: numeric: a name would have to be looked up, which blocks
        :param data: sent with the connection; copied (CON-03), `transferred` counts it (CON-02)
        """
        operation = self._new(Opcode.CONNECT, sock, overlapped, routine, timeout)
        require_numeric(sock, address)
        operation._address = address
        pinned = None if data is None else pin(bytes(data), writable=False)
        return self._begin(operation, data, pinned, 0)

    def resubmit(self, overlapped: Overlapped[T], *, size: int | None = None) -> Overlapped[T]:
        """Start a finished operation of this port again, on the same handle and buffers: the cheap
        path of a hot loop.

        :param size: work on the first `size` bytes of the buffers only
        :raises RuntimeError: its completion has not been taken yet (OVL-06)
        :raises ValueError: it was never started, or `size` does not fit
        """
        return cast("Overlapped[T]", self._backend.resubmit(overlapped, size=size))

    def _new(
        self,
        opcode: Opcode,
        handle: socket.socket,
        overlapped: Overlapped[T] | None,
        routine: Routine | None,
        timeout: float | None,
    ) -> Overlapped[T]:
        if overlapped is None:
            overlapped = Overlapped()
        elif not isinstance(overlapped, Overlapped):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"overlapped is an Overlapped, not {type(overlapped).__name__}")
        elif overlapped._in_use:
            overlapped._refuse_use()
        require_socket(handle)
        note_use(handle, self)
        overlapped._unprepare()
        overlapped.opcode = opcode
        overlapped.handle = handle
        overlapped.routine = routine
        overlapped._timeout = check_timeout(timeout)
        overlapped._deadline = 0.0  # an old one must not end the new start
        overlapped._value = overlapped._address = overlapped._native = None
        return overlapped

    def _begin(
        self,
        operation: Overlapped[T],
        buffers: Any,
        pinned: Pinned | None,
        flags: int,
        size: int | None = None,
    ) -> Overlapped[T]:
        operation.buffers = buffers
        operation.flags = flags
        operation._pinned = operation._view = pinned
        operation._size = 0 if pinned is None else total(pinned)
        if size is not None:
            operation._resize(size)
        self._backend.prepare(operation)
        operation._port = self
        self._backend.start(operation)
        return operation

    def cancel(self, target: Overlapped[Any] | socket.socket) -> bool:
        """Ask an operation, or all operations on a handle, to stop (CancelIoEx).

        A request: how an operation ends is in its completion, 995 or what it achieved before
        (CAN-05).

        :return: whether there was anything to stop (CAN-02); `False` too for one already asked
            (CAN-03)
        """
        if isinstance(target, Overlapped):
            port = target._port
            return port is not None and port._backend.cancel(target)
        require_socket(target)
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
        if not 0 <= transferred <= 0xFFFFFFFF:
            raise ValueError(f"transferred is a DWORD, 0 to 0xFFFFFFFF, not {transferred}")
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

    def __del__(self) -> None:
        if getattr(self, "_is_open", False):
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            self.close()


def check_timeout(timeout: float | None) -> float | None:
    """What waits take: seconds, or `None` for ever, which is what a century comes to.

    :raises ValueError: negative or not a number
    """
    if timeout is None:
        return None
    if not timeout >= 0:
        raise ValueError(f"a timeout is a number of seconds, 0 or more, or None; not {timeout!r}")
    return timeout if timeout < A_CENTURY else None


def require_numeric(sock: socket.socket, address: Address) -> None:
    """Refuse a host name, whose look-up would block everybody.

    :raises ValueError: the host is not a numeric address of the socket's family
    :raises TypeError: not an address at all
    """
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    try:
        host, number = address[0], address[1]
    except (TypeError, IndexError, KeyError):
        raise TypeError(f"an address is a tuple of host and port, not {address!r}") from None
    if not isinstance(host, str) or not isinstance(number, int):
        raise TypeError(f"an address is a tuple of host and port, not {address!r}")
    if not 0 <= number <= 65535:
        raise ValueError(f"a port number is 0 to 65535, not {number}")
    try:
        socket.inet_pton(sock.family, host.partition("%")[0])
    except OSError:
        raise ValueError(
            f"{host!r} is not a numeric address of this socket's family; look names up first "
            f"(socket.getaddrinfo), because a look-up blocks"
        ) from None


def _check_count(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{name} is a number of {least} or more, not {value!r}")
