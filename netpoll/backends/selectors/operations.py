"""One try of each operation: the functions that a queue calls when an operation's turn has come.

Each takes the operation, makes one non-blocking attempt and answers an outcome of `queues`. What it
found out is left in `_final`, `transferred` and `_value`, which nobody looks at before the
completion is taken. `prepare` chooses the function once, so that no try has to ask again what kind
of operation it is.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import TYPE_CHECKING, Any, Final, cast

from netpoll import buffers
from netpoll import status as nt
from netpoll.backends import sockets
from netpoll.backends.queues import BLOCKED, DONE, EXHAUSTED, MOVED
from netpoll.backends.sockets import DONTWAIT, IOV_MAX, MSG_TRUNC, NOSIGNAL, SCARCE, TRANSIENT
from netpoll.overlapped import Opcode, Overlapped

if TYPE_CHECKING:
    from netpoll.backends.selectors.engine import Channel, SelectorsEngine

    Operation = Overlapped[Any]

HAS_MSG: Final = hasattr(socket.socket, "recvmsg_into")
"""Whether Python has vectored calls here; on Windows it has not, and the data is copied instead."""

CONNECTING: Final = frozenset(
    getattr(errno, name)
    for name in ("EINPROGRESS", "EALREADY", "EINTR", "WSAEWOULDBLOCK")
    if hasattr(errno, name)
)


def prepare(engine: SelectorsEngine, operation: Operation) -> None:
    """Choose the try and look up what it needs.

    :raises OSError: the state of the handle does not allow the operation
    """
    channel = cast("Channel", operation._association)
    opcode = operation.opcode
    if opcode is Opcode.CONNECT:
        _prepare_connect(engine, operation, channel)
        return
    if opcode is Opcode.ACCEPT:
        operation._queue = channel.reading
        operation._perform = accept
        operation._call = operation.handle.accept
        operation._native = engine
    elif opcode is Opcode.SEND:
        operation._queue = channel.writing
        _prepare_send(operation)
    else:
        operation._queue = channel.reading
        _prepare_receive(operation, channel)
    if operation._perform is receive:
        operation._begin = start_receive
    elif operation._perform is send:
        operation._begin = start_send
    else:
        operation._begin = operation._queue.start


# -- receive
# -----------------------------------------------------------------------------------------


def _prepare_receive(operation: Operation, channel: Channel) -> None:
    sock = operation.handle
    operation._socket_flags = operation.flags | DONTWAIT
    if not channel.stream and HAS_MSG:
        operation._call = sock.recvmsg_into
        operation._perform = receive_message
    elif isinstance(operation._pinned, list):
        operation._call = sock.recvmsg_into if HAS_MSG else sock.recv_into
        operation._perform = receive_scattered if HAS_MSG else receive_copied
    else:
        operation._call = sock.recv_into
        operation._perform = receive


def start_receive(operation: Operation) -> bool:
    """What `Direction.start` does where it can only wait: the receive of a request/response loop,
    which follows one that got less than it had room for. Told apart to save the queue's
    questions."""
    queue = operation._queue
    if queue.ready or queue.head is not None or queue.refusal or not queue.watched:
        unblock(operation)
        return bool(queue.start(operation))
    queue.head = operation
    return False


def receive(operation: Operation) -> int:
    """Into one buffer, with whatever is there (RECV-03)."""
    size = operation._size
    if not size:
        return await_readability(operation)
    try:
        # into a local first: CPython 3.11 calls what stands in a slot 7 ns slower
        call = operation._call
        moved = operation.transferred = call(operation._view, 0, operation._socket_flags)
    except BlockingIOError:
        return BLOCKED
    except TimeoutError:  # see unblock, which this function is too hot for
        operation.transferred = 0
        unblock(operation)
        return BLOCKED
    except OSError as error:
        return fail(operation, error)
    if not moved:
        sockets.end_of_stream(operation)
        return DONE
    operation._final = 0
    # after a short read the next try would block: save the system call
    return DONE if moved == size else EXHAUSTED


def receive_scattered(operation: Operation) -> int:
    """Into several buffers, filled in order (RECV-11)."""
    unblock(operation)
    if not operation._size:
        return await_readability(operation)
    try:
        moved, _, _, _ = operation._call(operation._view[:IOV_MAX], 0, operation._socket_flags)
    except BlockingIOError:
        return BLOCKED
    except OSError as error:
        return fail(operation, error)
    operation.transferred = moved
    if not moved:
        sockets.end_of_stream(operation)
        return DONE
    operation._final = 0
    return DONE


def receive_copied(operation: Operation) -> int:
    """Into several buffers, where Python has no vectored receive."""
    unblock(operation)
    if not operation._size:
        return await_readability(operation)
    data = bytearray(min(operation._size, 1 << 20))
    try:
        moved = operation.transferred = operation._call(data, 0, operation._socket_flags)
    except BlockingIOError:
        return BLOCKED
    except OSError as error:
        outcome = fail(operation, error)
        if operation._final == nt.STATUS_BUFFER_OVERFLOW:
            buffers.scatter(memoryview(data), operation._view)
        return outcome
    if not moved:
        sockets.end_of_stream(operation)
        return DONE
    buffers.scatter(memoryview(data)[:moved], operation._view)
    operation._final = 0
    return DONE


def receive_message(operation: Operation) -> int:
    """One datagram. What does not fit is lost, and said to be (UDP-01, EMU-19)."""
    unblock(operation)
    view: buffers.Pinned = operation._view
    views = view if isinstance(view, list) else [view]
    try:
        moved, _, flags, _ = operation._call(views[:IOV_MAX], 0, operation._socket_flags)
    except BlockingIOError:
        return BLOCKED
    except OSError as error:
        return fail(operation, error)
    operation.transferred = moved
    operation._final = nt.STATUS_BUFFER_OVERFLOW if flags & MSG_TRUNC else 0
    return DONE


def await_readability(operation: Operation) -> int:
    """A stream receive without room: a probe that consumes nothing (RECV-01, EMU-20).

    A receive of nothing would return at once, so look at one byte instead.
    """
    unblock(operation)
    try:
        operation.handle.recv(1, socket.MSG_PEEK | DONTWAIT)
    except BlockingIOError:
        return BLOCKED
    except OSError as error:
        return fail(operation, error)
    operation.transferred = 0
    operation._final = 0
    return DONE


# -- send
# --------------------------------------------------------------------------------------------


def _prepare_send(operation: Operation) -> None:
    sock = operation.handle
    operation._socket_flags = operation.flags | DONTWAIT | NOSIGNAL
    operation._native = None
    several = isinstance(operation._pinned, list)
    operation._call = sock.sendmsg if several and HAS_MSG else sock.send
    operation._perform = send_gathered if several else send


def start_send(operation: Operation) -> bool:
    """What `Direction.start` and `send` would do, in one call where the socket takes everything at
    once: in a request/response loop it always does, and the call costs 60 ns."""
    queue = operation._queue
    if queue.head is None and queue.ready and not queue.refusal:
        if operation.handle.gettimeout() != 0.0:
            unblock(operation)
        try:
            call = operation._call
            # the flags only guard against what has just been checked; two arguments cost 25 ns more
            if operation.flags:
                moved = call(operation._view, operation._socket_flags)
            else:
                moved = call(operation._view)
        except BlockingIOError:
            moved = 0
        except OSError as error:
            fail(operation, error)
            return True
        if moved == operation._size:
            operation.transferred = moved
            operation._final = 0
            return True
        operation._native = operation._view[moved:]
    return bool(queue.start(operation))


def send(operation: Operation) -> int:
    """All of one buffer, however many tries it takes (SEND-04, EMU-04)."""
    unblock(operation)
    # while the send is under way, _native is what is left of the view
    view = operation._native or operation._view
    while True:
        try:
            moved = operation._call(view, operation._socket_flags)
        except BlockingIOError:
            return BLOCKED
        except OSError as error:
            operation._native = None
            return fail(operation, error)
        if moved == len(view):
            operation._native = None
            operation.transferred = operation._size
            operation._final = 0
            return DONE
        view = operation._native = view[moved:]


def send_gathered(operation: Operation) -> int:
    """All of several buffers."""
    unblock(operation)
    left: list[memoryview] = operation._native or operation._view
    while True:
        try:
            if HAS_MSG:
                moved = operation._call(left[:IOV_MAX], (), operation._socket_flags)
            else:
                moved = operation._call(b"".join(left[:IOV_MAX]), operation._socket_flags)
        except BlockingIOError:
            operation._native = left
            return BLOCKED
        except OSError as error:
            operation._native = None
            return fail(operation, error)
        left = buffers.after(left, moved)
        if not left:
            operation._native = None
            operation.transferred = operation._size
            operation._final = 0
            return DONE


# -- accept
# ------------------------------------------------------------------------------------------


def accept(operation: Operation) -> int:
    """One connection; with `receive=`, its first data too (ACC-07, ACC-08)."""
    unblock(operation)
    while True:
        try:
            sock, address = operation._call()
        except BlockingIOError:
            return BLOCKED
        except OSError as error:
            if error.errno in TRANSIENT:
                continue
            if error.errno in SCARCE:
                operation._native.pause(operation._association, error)
                return BLOCKED
            return fail(operation, error)
        operation._value = sock, address
        if operation._view is None:
            operation.transferred = operation._final = 0
            return DONE
        engine: SelectorsEngine = operation._native
        return DONE if engine.start_first_receive(operation, sock) else MOVED


def receive_first(operation: Operation) -> int:
    """The data that an accept waits for: any amount, or the end of the stream (ACC-08, ACC-09)."""
    sock, _ = operation._value
    try:
        operation.transferred = sock.recv_into(operation._view, 0, DONTWAIT)
    except BlockingIOError:
        return BLOCKED
    except OSError as error:
        return fail(operation, error)
    operation._final = 0
    return DONE


# -- connect
# -----------------------------------------------------------------------------------------


def _prepare_connect(engine: SelectorsEngine, operation: Operation, channel: Channel) -> None:
    sock = operation.handle
    operation._queue = channel.writing
    operation._call = sock.connect_ex
    operation._perform = connect
    operation._native = None
    operation._begin = engine.start_connect
    sockets.check_connect(operation)


def connect(operation: Operation) -> int:
    """The first try of a connect: it always has its end in a packet, never here (CON-04)."""
    channel = cast("Channel", operation._association)
    code = operation._call(operation._address)
    if code == errno.ECONNABORTED:
        # Linux: the socket's last connect failed, which this call cleared away (CON-07)
        code = operation._call(operation._address)
    if code in CONNECTING:
        # transfers are refused meanwhile, as on Windows (CON-09)
        channel.reading.refusal = channel.writing.refusal = nt.STATUS_INVALID_CONNECTION
        operation._perform = finish_connect
        return BLOCKED
    return _connected(operation, channel, code)


def finish_connect(operation: Operation) -> int:
    """Writable: the connection stands, or SO_ERROR says why not."""
    channel = cast("Channel", operation._association)
    sock: socket.socket = operation.handle
    try:
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not code:
            sock.getpeername()
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            return BLOCKED  # woken for nothing
        return fail(operation, error)
    operation._perform = connect
    return _connected(operation, channel, code)


def _connected(operation: Operation, channel: Channel, code: int) -> int:
    channel.reading.refusal = channel.writing.refusal = 0
    operation.transferred = 0
    if code:
        operation._final = nt.from_errno(code)
        return DONE
    channel.reading.ready = False  # nothing can have come yet that readiness would not tell
    if not operation._size:
        operation._final = 0
        return DONE
    # the data that goes out with the connection; a copy, taken at the start (CON-02, CON-03)
    operation._socket_flags = DONTWAIT | NOSIGNAL
    operation._call = operation.handle.send
    operation._perform = send
    return send(operation)


# -- failure
# -----------------------------------------------------------------------------------------


def unblock(operation: Operation) -> None:
    """Undo a change of the socket's mode since its association (XFER-05).

    `MSG_DONTWAIT` alone would not do: with a timeout Python itself waits before the call, and
    `accept` takes no flags.
    """
    if operation.handle.gettimeout() != 0.0:
        with contextlib.suppress(OSError):  # closed: the try that follows will say so
            operation.handle.setblocking(False)


def fail(operation: Operation, error: OSError) -> int:
    """End `operation` with what the system said."""
    sockets.fail(operation, error.errno or errno.EIO)
    return DONE
