"""Receives whose buffer is taken from a pool when data is there: WSARecv of nothing tells when,
and WSARecv into a buffer follows.

Windows has one of a socket's at a time, because two that wait for nothing would end at the same
time, and then race for the data. Where the pool has no buffer, the operation waits outside of
Windows until it has: whoever gives one back posts a packet, with the operation's address.
"""

from __future__ import annotations

import functools
import select
import socket
from typing import TYPE_CHECKING, Any, Final, cast

from netpoll import status as nt
from netpoll.backends.iocp import constants as win
from netpoll.backends.iocp.library import ffi
from netpoll.backends.iocp.native import Native, address_of
from netpoll.pools import PooledBuffer, Starved

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll.backends.iocp.handles import Socket
    from netpoll.backends.iocp.library import Library
    from netpoll.backends.iocp.packets import PacketQueue
    from netpoll.overlapped import Overlapped
    from netpoll.pools import BufferPool

    Operation = Overlapped[Any]

NONE: Final = -1
NOT_HERE: Final = (
    "recv_pooled on iocp ends by a packet and nothing else: associate the socket with the port, "
    "and use no event and no routine"
)


class Pooled(Native):
    """What Windows has of such a receive, if it is that one's turn."""

    __slots__ = ("index", "last_error", "outcome", "receive", "starved")

    def __init__(self, library: Library) -> None:
        super().__init__(begin_pooled, end)
        self.receive: Any = library.ws2_32.WSARecv
        self.last_error: Any = library.kernel32.GetLastError
        self.wsabufs: Any = ffi.new("WSABUF *")
        self.index: int = -1
        """The buffer that it has."""
        self.starved: Starved | None = None
        """Set while there is none for it."""
        self.outcome: int = NONE
        """The status of a step that ended without a packet of Windows'."""


def prepare_pooled(operation: Operation, library: Library) -> Native:
    record = operation._association
    if not (record.associated and operation.packet) or operation.event is not None:
        raise nt.make_exception(nt.STATUS_NOT_SUPPORTED, inline=True, message=NOT_HERE)
    return Pooled(library)


def begin_pooled(operation: Operation, number: int) -> int:
    native: Pooled = operation._native
    operation._value = None  # the last start's buffer is the program's alone
    native.index, native.starved, native.outcome = -1, None, NONE
    line = _line(operation)
    with cast("PacketQueue", operation._owner)._lock:
        line.append(operation)
        if line[0] is not operation:
            return win.ERROR_IO_PENDING
    code = _receive(operation, number)
    if code == 0 and operation._skips:
        code = _receive_something(operation, number)
    if code not in (0, win.ERROR_IO_PENDING):
        _leave(operation)
    return code


def _line(operation: Operation) -> list[Operation]:
    record = cast("Socket", operation._association)
    if record.pooled is None:
        record.pooled = []
    return record.pooled


def _receive(operation: Operation, number: int) -> int:
    """Into the buffer that it has, or into none."""
    native: Pooled = operation._native
    pool: BufferPool = operation._address
    native.wsabufs[0].len = 0
    if native.index >= 0:
        native.wsabufs[0].buf = address_of(pool.buffer(native.index), True)
        native.wsabufs[0].len = pool.size
    native.flags[0] = 0
    failed = native.receive(
        *(number, native.wsabufs, 1, native.transferred, native.flags),
        *(native.overlapped, native.routine),
    )
    return int(native.last_error()) if failed else 0


def _receive_something(operation: Operation, number: int) -> int:
    """There is something to receive: take a buffer for it, or wait for one."""
    native: Pooled = operation._native
    pool: BufferPool = operation._address
    port = cast("PacketQueue", operation._owner)
    while native.index < 0:
        native.index = pool.take()
        if native.index < 0:
            native.starved = starved = Starved(functools.partial(port.post_fed, native.address))
            if pool.wait(starved):
                return win.ERROR_IO_PENDING
            native.starved = None
    return _receive(operation, number)


# -- what a packet means ---------------------------------------------------------------------------


def settle(operation: Operation, status: int, fed: bool) -> int | None:
    """A packet of the operation's was taken. The status with which it has ended, or `None`: it goes
    on. The port's lock is held.

    :param fed: it is one of netpoll's own
    """
    native: Pooled = operation._native
    if fed:
        starved, native.starved = native.starved, None
        if starved is not None and not native.cause:
            native.index = starved.index
            _step(operation, _receive_something)
            return None
        if native.outcome == NONE:
            return end(operation, native.cause)
        status, native.outcome = native.outcome, NONE
        operation.transferred = native.transferred[0]
    if status or native.index >= 0:
        return end(operation, status)
    if native.cause:
        return end(operation, native.cause)  # what there is stays in the socket
    pool: BufferPool = operation._address
    if not pool.free and _at_end(operation.handle):
        return end(operation, 0)  # which needs no buffer
    _step(operation, _receive_something)
    return None


def _at_end(sock: socket.socket) -> bool:
    """Whether nothing but the end of the stream is there. The socket may be one that waits."""
    try:
        return bool(select.select([sock], [], [], 0)[0]) and not sock.recv(1, socket.MSG_PEEK)
    except (OSError, ValueError):
        return False  # an error, or closed meanwhile: the receive will tell


def _step(operation: Operation, receive: Callable[[Operation, int], int]) -> None:
    """Go on with it; its packet comes in any case."""
    native: Pooled = operation._native
    port = cast("PacketQueue", operation._owner)
    port._table[native.address] = operation
    native.starts.append(None)
    number = operation.handle.fileno()  # the one to use, see IocpPort.detach()
    code = receive(operation, number) if number >= 0 else win.WSAENOTSOCK
    native.starts.pop()
    if code == win.ERROR_IO_PENDING or (code == 0 and not operation._skips):
        return
    # one that stood in the line has been pending when the socket was closed (CLOSE-02)
    closed = code == win.WSAENOTSOCK
    status = nt.STATUS_CONNECTION_ABORTED if closed else nt.from_winsock(code, receiving=True)
    native.outcome = status
    port.post_fed(native.address)


def end(operation: Operation, status: int) -> int:
    """It has ended; `status` as the program sees it."""
    native: Pooled = operation._native
    pool: BufferPool = operation._address
    index, native.index = native.index, -1
    if not status and operation.transferred:
        operation._value = PooledBuffer(pool, index, operation.transferred)
    else:
        operation.transferred = 0
        operation._value = None if status else PooledBuffer(pool, -1, 0)
        if index >= 0:
            pool.give(index)
    _leave(operation)
    return status


def _leave(operation: Operation) -> None:
    """The next of its line gets its turn."""
    line = _line(operation)
    with cast("PacketQueue", operation._owner)._lock:
        if line and line[0] is operation:
            del line[0]
            if line:
                _step(line[0], _receive)


def withdraw(operation: Operation) -> bool:
    """The operation is to end: whether Windows has nothing of it. Then its packet is netpoll's."""
    native: Pooled = operation._native
    if native.starved is not None:
        if operation._address.leave(native.starved):
            cast("PacketQueue", operation._owner).post_fed(native.address)
        native.starved = None
        return True
    line = _line(operation)
    if operation is line[0]:
        return False
    line.remove(operation)
    cast("PacketQueue", operation._owner).post_fed(native.address)
    return True
