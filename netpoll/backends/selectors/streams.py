"""Receives and sends: one try of each."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

from netpoll import buffers
from netpoll.backends import sockets
from netpoll.backends.queues import BLOCKED, DONE, EXHAUSTED
from netpoll.backends.selectors import datagrams
from netpoll.backends.selectors.tries import HAS_MSG, fail, unblock
from netpoll.backends.sockets import DONTWAIT, IOV_MAX, NOSIGNAL

if TYPE_CHECKING:
    from netpoll.backends.selectors.engine import Channel, SelectorsEngine
    from netpoll.overlapped import Overlapped

    Operation = Overlapped[Any]

MSG_WAITALL: Final = int(socket.MSG_WAITALL)


# -- receive ---------------------------------------------------------------------------------------


def prepare_receive(engine: SelectorsEngine, operation: Operation, channel: Channel) -> None:
    sock = operation.handle
    if not channel.stream:
        datagrams.prepare_receive(engine, operation, channel)
        return
    operation._queue = channel.reading
    operation._socket_flags = operation.flags & ~MSG_WAITALL | DONTWAIT
    if operation.flags & MSG_WAITALL:
        operation._native = 0
        operation._call = sock.recv_into
        operation._perform = receive_whole
    elif isinstance(operation._pinned, list):
        operation._call = sock.recvmsg_into if HAS_MSG else sock.recv_into
        operation._perform = receive_scattered if HAS_MSG else receive_copied
    else:
        operation._call = sock.recv_into
        operation._perform = receive
    hot = operation._perform is receive
    operation._begin = start_receive if hot else operation._queue.start


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
        return fail(operation, error)
    if not moved:
        sockets.end_of_stream(operation)
        return DONE
    buffers.scatter(memoryview(data)[:moved], operation._view)
    operation._final = 0
    return DONE


def receive_whole(operation: Operation) -> int:
    """Until the buffers are full, or the stream ends (RECV-14)."""
    unblock(operation)
    if not operation._size:
        return await_readability(operation)
    view: buffers.Pinned = operation._view
    views = view if isinstance(view, list) else [view]
    while True:
        # while the receive is under way, _native is how much has come
        left = buffers.after(views, operation._native)
        try:
            moved = operation._call(left[0], 0, operation._socket_flags)
        except BlockingIOError:
            return BLOCKED
        except OSError as error:
            if operation._native and operation.handle.fileno() < 0:
                end_whole(operation)  # closed meanwhile, which loses nothing that has come (CAN-10)
                return DONE
            operation._native = 0
            return fail(operation, error)
        operation._native += moved
        if moved and operation._native < operation._size:
            continue
        end_whole(operation)
        return DONE


def end_whole(operation: Operation) -> None:
    """What has come by now is all that will."""
    moved, operation._native = operation._native, 0
    if not moved:
        sockets.end_of_stream(operation)
        return
    operation.transferred = moved
    operation._final = 0


def await_readability(operation: Operation) -> int:
    """A stream receive without room: a probe that consumes nothing (RECV-01, EMU-20).

    A receive of nothing would return at once, so look at one byte instead.
    """
    unblock(operation)
    try:
        data = operation.handle.recv(1, socket.MSG_PEEK | DONTWAIT)
    except BlockingIOError:
        return BLOCKED
    except OSError as error:
        return fail(operation, error)
    if data:
        operation.transferred = 0
        operation._final = 0
    else:
        sockets.end_of_stream(operation)
    return DONE


# -- send ------------------------------------------------------------------------------------------


def prepare_send(engine: SelectorsEngine, operation: Operation, channel: Channel) -> None:
    if not channel.stream:
        datagrams.prepare_send(engine, operation, channel)
        return
    sock = operation.handle
    operation._queue = channel.writing
    operation._socket_flags = operation.flags | DONTWAIT | NOSIGNAL
    operation._native = None
    several = isinstance(operation._pinned, list)
    operation._call = sock.sendmsg if several and HAS_MSG else sock.send
    operation._perform = send_gathered if several else send
    operation._begin = operation._queue.start if several else start_send


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
