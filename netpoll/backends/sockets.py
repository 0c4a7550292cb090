"""What Windows would say of a POSIX socket: the state and the verdicts that engines share.

A POSIX socket forgets what Winsock remembers (that it was reset, that it was shut down), and says
in one errno what are several things there. So each handle's record keeps what has to be remembered,
and the functions here turn an errno into the status of Windows.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import sys
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from netpoll import status as nt
from netpoll.backends import descriptors
from netpoll.backends.base import Association
from netpoll.overlapped import Opcode, Overlapped

if TYPE_CHECKING:
    from collections.abc import Generator

    from netpoll.backends.descriptors import FileState

    Operation = Overlapped[Any]

DONTWAIT: Final = int(getattr(socket, "MSG_DONTWAIT", 0))
NOSIGNAL: Final = int(getattr(socket, "MSG_NOSIGNAL", 0))
MSG_TRUNC: Final = int(getattr(socket, "MSG_TRUNC", 0))
IOV_MAX: Final = 1024
"""Buffers in one system call; longer lists go out in several."""
INTERNET: Final = (socket.AF_INET, socket.AF_INET6)
MSG_PEEK: Final = int(socket.MSG_PEEK)
WSAENOTSOCK: Final = 10038
"""What Windows calls a descriptor that is closed."""

TRANSIENT: Final = frozenset(
    getattr(errno, name)
    for name in ("ECONNABORTED", "EPROTO", "WSAECONNRESET", "WSAENOTCONN")
    if hasattr(errno, name)
)
"""A client that went away before it was accepted. The accept goes on; the listener is fine
(ACC-12). Windows has a number of its own for it, and Wine another one."""
SCARCE: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
"""Nothing wrong with the listener, but there is no room for another connection now."""
ACCEPTS: Final = frozenset((Opcode.ACCEPT, Opcode.ACCEPT_MANY))
"""Operations of a listener."""
FULL_QUEUE_PAUSE: Final = 0.01
"""Seconds between tries of what waits for room in the queue of a Unix socket, of which poll() does
not tell: a datagram's receiver, or a listener."""
ROUND_TRIP: Final = slice(68, 72)
"""Of a struct tcp_info: tcpi_rtt, in microseconds."""
SCARCITY_PAUSE: Final = 0.1
"""Seconds between tries to accept while the process is out of descriptors: nothing tells when one
is free."""


class Line(Protocol):
    """The operations of one direction of a handle."""

    head: Any
    """The one whose turn it is."""
    refusal: int
    """The status with which every start fails: a reset is sticky (EMU-15), so is a shutdown."""


ALONE: Final = (Opcode.POLL, Opcode.WAIT)
"""Operations that stand in no line, beside all others (EMU-33). So do those on files."""


def unblock(handle: Any) -> None:
    """Have no system call on a socket wait, also where somebody has changed that since
    (XFER-05)."""
    if isinstance(handle, socket.socket) and handle.gettimeout() != 0:
        handle.setblocking(False)


class SocketAssociation(Association):
    """A socket with what has to be remembered of it."""

    __slots__ = (
        *("closing", "first_receives", "polls", "reading", "reports", "reset", "stream", "writing"),
    )

    def __init__(self, handle: socket.socket, fd: int, reading: Line, writing: Line) -> None:
        super().__init__(handle, fd)
        self.file: FileState | None = descriptors.state_of(handle)
        # past the property of socket.socket, which makes an enum: half a microsecond
        self.stream: bool = (
            self.file is None and super(socket.socket, handle).type == socket.SOCK_STREAM
        )
        self.reading: Any = reading
        self.writing: Any = writing
        self.reports: bool | None = None
        """Whether receives are told of unreachable ports; `None`: as the system does by itself."""
        self.reset: bool = False
        self.closing: bool = False
        """Sending was shut down while sends were pending: the FIN goes out behind them
        (SEND-07)."""
        self.first_receives: list[Operation] = []
        """Accepts that have their connection and wait for its first data (ACC-08)."""
        self.polls: tuple[Operation, ...] = ()
        """Operations that stand in no line: those that wait for readiness (EMU-33)."""

    def forget_poll(self, operation: Operation) -> bool:
        """It has ended; `False` if it is none that waits here."""
        before = self.polls
        self.polls = tuple(each for each in before if each is not operation)
        return len(self.polls) != len(before)

    def waits_for_data(self, operation: Operation) -> bool:
        """Whether it is an accept that has its connection."""
        # by identity: an Overlapped subclass may define equality
        return any(each is operation for each in self.first_receives)

    def forget_first_receive(self, operation: Operation) -> None:
        """That accept has ended."""
        self.first_receives[:] = [each for each in self.first_receives if each is not operation]

    def refuse(self, status: int) -> None:
        """Let every start fail with `status`; 0 allows them again."""
        self.reading.refusal = self.writing.refusal = status

    def report(self) -> None:
        """An earlier datagram found no port: let the next receive fail (UDP-05, EMU-18)."""
        self.reading.refusal = self.reading.refusal or nt.STATUS_PORT_UNREACHABLE


def association_of(operation: Operation) -> SocketAssociation:
    """The record of the operation's handle."""
    return cast("SocketAssociation", operation._association)


# -- failures --------------------------------------------------------------------------------------


def fail(operation: Operation, number: int) -> None:
    """End `operation` with what the system said, an errno."""
    record = association_of(operation)
    operation.transferred = 0
    closed = number == errno.EBADF or (number == WSAENOTSOCK and operation.handle.fileno() < 0)
    if closed and operation.opcode is Opcode.SENDMSG and operation._ancillary:
        closed = not _is_open(record.fd)  # it may have been about a descriptor to be sent along
    if closed and operation._queue.head is operation:
        status = status_of_close(operation)  # closed while it was pending
    elif number == errno.EPIPE:
        status = _what_epipe_means(operation)
    else:
        status = nt.from_errno(
            number,
            datagram=not record.stream,
            receiving=operation._queue is record.reading,
        )
    operation._final = status
    if status == nt.STATUS_PORT_UNREACHABLE and operation.flags & MSG_PEEK:
        record.report()  # the system has forgotten it, although this only peeked (UDP-07)
    if status == nt.STATUS_BUFFER_OVERFLOW:
        operation.transferred = operation._size  # Windows raises, and has filled the buffers
    if status == nt.STATUS_CONNECTION_RESET and record.stream and operation.opcode not in ACCEPTS:
        # Linux says it once and then pretends an end of stream: remember (EMU-15, RECV-07)
        record.reset = True
        record.refuse(status)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def status_of_close(operation: Operation) -> int:
    """How an operation ends when its handle is closed under it (CLOSE-01, CLOSE-02, CLOSE-04)."""
    if operation._association.file is not None:
        return descriptors.status_of_close(operation)
    transfer = operation.opcode not in (*ACCEPTS, Opcode.CONNECT, *ALONE)
    if transfer and association_of(operation).stream:
        return nt.STATUS_CONNECTION_ABORTED
    return nt.STATUS_CANCELLED


def _what_epipe_means(operation: Operation) -> int:
    """This side shut down sending (10058), or the peer is gone (10054), or never was there (10057).
    EMU-16.

    After shutdown() a socket still has a peer. After a reset it has none, but remembers how long
    its handshake took.
    """
    sock: socket.socket = operation.handle
    if has_peer(sock):
        return nt.STATUS_PIPE_DISCONNECTED
    try:
        name = sock.getsockname()
        if isinstance(name, tuple) and (not name[1] or _never_connected(sock)):
            return nt.STATUS_INVALID_CONNECTION
    except OSError:  # closed meanwhile, in another thread
        return status_of_close(operation)
    return nt.STATUS_CONNECTION_RESET


def _never_connected(sock: socket.socket) -> bool:
    """Of one that has no peer."""
    if is_listening(sock):
        return True
    if sys.platform != "linux":
        return False
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, ROUND_TRIP.stop)
    return not int.from_bytes(info[ROUND_TRIP], sys.byteorder)


def end_of_stream(operation: Operation) -> None:
    """A stream receive of nothing: the peer's FIN (RECV-04), unless a reset went before
    (EMU-15)."""
    operation.transferred = 0
    record = association_of(operation)
    if not record.reset and record.writing.head is not None and not has_peer(operation.handle):
        # the system has told a pending send of the reset, which comes to us after this
        fail(operation, errno.ECONNRESET)
    else:
        operation._final = nt.STATUS_CONNECTION_RESET if record.reset else nt.STATUS_SUCCESS


# -- accepting -------------------------------------------------------------------------------------


def accept_there(
    listener: socket.socket, accepted: list[tuple[socket.socket, Any]], limit: int
) -> int:
    """Accept what is there without waiting, until `accepted` has `limit` connections.

    :return: the errno that ended it: 0 at the limit, EAGAIN where nobody is left
    """
    if listener.gettimeout() != 0.0:
        listener.setblocking(False)  # somebody changed it (XFER-05)
    while len(accepted) < limit:
        try:
            sock, address = listener.accept()
        except BlockingIOError:
            return errno.EAGAIN
        except OSError as error:
            if error.errno in TRANSIENT:
                continue
            return error.errno or errno.EIO
        if sys.platform != "linux":
            sock.settimeout(socket.getdefaulttimeout())  # the listener's mode is inherited there
        accepted.append((sock, address))
    return 0


# -- connecting ------------------------------------------------------------------------------------


def check_connect(operation: Operation) -> None:
    """Whether the socket can be connected now; it starts afresh.

    :raises OSError: it is no stream (CON-10), listens or has something pending (CON-01), or is
        connected
    """
    record = association_of(operation)
    sock = operation.handle
    if not record.stream:
        raise nt.make_exception(
            nt.STATUS_NOT_SUPPORTED,
            inline=True,
            message="datagram sockets are connected at once: call the socket's own connect()",
        )
    if record.writing.head is not None or is_listening(sock):
        raise nt.make_exception(
            nt.STATUS_INVALID_PARAMETER,
            inline=True,
            message="the socket is listening, or has a send or connect pending",
        )
    if has_peer(sock):
        # connect() itself says so only the second time, after a connect that did not block
        raise nt.make_exception(nt.STATUS_CONNECTION_ACTIVE, inline=True)
    record.reset = False
    record.refuse(0)


def is_verdict(status: int) -> bool:
    """Whether a connect ended because of the network, and not because it was asked wrongly."""
    return status in (
        0,
        nt.STATUS_CONNECTION_REFUSED,
        nt.STATUS_CONNECTION_RESET,
        nt.STATUS_IO_TIMEOUT,
        nt.STATUS_NETWORK_UNREACHABLE,
        nt.STATUS_HOST_UNREACHABLE,
    )


def has_peer(sock: socket.socket) -> bool:
    """Whether it is connected."""
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def is_listening(sock: socket.socket, untold: bool = False) -> bool:
    """Whether it listens.

    :param untold: the answer where the system does not tell
    """
    try:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except (OSError, AttributeError):
        return untold  # macOS and Windows cannot always tell; connect() and accept() will


def check_accept(operation: Operation) -> None:
    """
    :raises OSError: the socket does not listen (ACC-02), which is told at once, whatever it waits
        for besides
    """
    sock: socket.socket = operation.handle
    if sock.fileno() >= 0 and not is_listening(sock, untold=True):
        raise nt.make_exception(
            nt.STATUS_INVALID_PARAMETER, inline=True, message="the socket does not listen"
        )


# -- disconnecting ---------------------------------------------------------------------------------

NO_REUSE: Final = (
    "only Windows can make a connected socket new again (TF_REUSE_SOCKET, DIS-04); "
    "disconnect it without reuse=True, close it, and take another"
)


def check_disconnect(operation: Operation) -> None:
    """Whether the socket can be disconnected now.

    :raises OSError: it is not connected (DIS-01), or shall be used again afterwards
    """
    if operation.flags:
        raise nt.make_exception(nt.STATUS_NOT_SUPPORTED, inline=True, message=NO_REUSE)
    record = association_of(operation)
    if record.reset or record.writing.refusal != nt.STATUS_PIPE_DISCONNECTED:
        check_connected(operation)


def check_connected(operation: Operation) -> None:
    """
    :raises OSError: it is not, or was reset
    """
    record = association_of(operation)
    if record.reset:
        raise nt.make_exception(nt.STATUS_CONNECTION_RESET, inline=True)
    sock: socket.socket = operation.handle
    if record.writing.refusal == nt.STATUS_INVALID_CONNECTION or not has_peer(sock):
        # what nobody has asked for so far: it may have been reset
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or errno.ENOTCONN
        raise nt.make_exception(nt.from_errno(number), inline=True)


@contextlib.contextmanager
def disconnecting(operation: Operation) -> Generator[None]:
    """For its start: that sending is over refuses sends, not another disconnect (DIS-02)."""
    line: Line = association_of(operation).writing
    refusal = line.refusal
    if refusal == nt.STATUS_PIPE_DISCONNECTED:
        line.refusal = 0
    try:
        yield
    finally:
        line.refusal = line.refusal or refusal


def disconnected(operation: Operation, number: int) -> None:
    """The end of stream is out, or was refused with an errno."""
    record = association_of(operation)
    if number == errno.ENOTCONN and not record.reset:
        # it was connected: POSIX forgets the peer once both ends are over, or after a reset;
        # Windows ends the stream again, to no effect
        number = operation.handle.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if number:
        fail(operation, number)
        return
    line: Line = record.writing
    line.refusal = line.refusal or nt.STATUS_PIPE_DISCONNECTED
    operation.transferred = operation._final = 0


# -- ending ----------------------------------------------------------------------------------------


def shutdown(record: SocketAssociation, how: int) -> None:
    """Shut down one direction or both as Winsock does; the end of stream waits for pending sends.

    :raises OSError: not connected
    """
    sock = cast("socket.socket", record.handle())
    if not record.stream and sock.family in INTERNET:
        _shut_lines(record, how)  # without a connection there is nobody to tell (UDP-09)
        return
    done = nt.STATUS_PIPE_DISCONNECTED
    # POSIX forgets the peer once both ends are shut down; Windows shuts down again, to no effect
    before = done in (record.reading.refusal, record.writing.refusal)
    try:
        if how != socket.SHUT_WR:
            # the system's own would wake the pending receives and hide later data from them
            # (EMU-17)
            if not before:
                sock.getpeername()  # not connected: say so, as shutdown() would
            record.reading.refusal = record.reading.refusal or done
        if how != socket.SHUT_RD and record.writing.refusal != done:
            if record.writing.head is None:
                sock.shutdown(socket.SHUT_WR)
            else:
                record.closing = True
            record.writing.refusal = record.writing.refusal or done
    except OSError as error:
        status = nt.from_errno(error.errno or 0)
        if record.reset:
            status = nt.STATUS_CONNECTION_RESET
        raise nt.make_exception(status, inline=True) from None


def _shut_lines(record: SocketAssociation, how: int) -> None:
    """Let every start in one direction or both fail."""
    if how != socket.SHUT_WR:
        record.reading.refusal = nt.STATUS_PIPE_DISCONNECTED
    if how != socket.SHUT_RD:
        record.writing.refusal = nt.STATUS_PIPE_DISCONNECTED


def send_fin(record: SocketAssociation) -> None:
    """The last send is out: now the end of stream that `shutdown` held back."""
    record.closing = False
    sock = record.handle()
    if sock is not None:
        with contextlib.suppress(OSError):  # the connection is gone, and its FIN with it
            sock.shutdown(socket.SHUT_WR)


def about_to_close(record: SocketAssociation) -> None:
    """Closing with a receive pending resets the connection (CLOSE-07)."""
    sock: socket.socket | None = record.handle()
    receiving = record.stream and record.reading.head is not None
    if sock is None or not receiving:
        return
    if record.writing.refusal == nt.STATUS_PIPE_DISCONNECTED:
        return  # its end of stream is out, or on its way
    with contextlib.suppress(OSError):  # closed already
        sock.getpeername()
        linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
