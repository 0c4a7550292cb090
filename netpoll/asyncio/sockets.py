"""The `sock_*` methods: one operation each. No byte and no connection is lost to a cancel: what an
operation brought although its task was cancelled is what the next call on that socket gets."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

from netpoll import status as nt
from netpoll.asyncio.operations import Operation
from netpoll.asyncio.slots import SIZE
from netpoll.asyncio.standard import LoopPart
from netpoll.backends.addresses import KNOWN
from netpoll.backends.sockets import INTERNET
from netpoll.errors import AlreadyAssociated, OperationAborted
from netpoll.handles import port_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from netpoll.asyncio.slots import Slots
    from netpoll.overlapped import Completion, Overlapped


class Joined:
    """A socket that belongs to the loop's port."""

    __slots__ = ("cancelled", "late", "receive", "reference", "sending")

    def __init__(self, sock: socket.socket) -> None:
        self.reference: weakref.ref[socket.socket] = weakref.ref(sock)
        self.late: deque[Any] = deque()
        """What cancelled receives and accepts have brought after all, in order."""
        self.cancelled: list[asyncio.Future[None]] = []
        """One for each cancelled operation that goes on: done when it has ended."""
        self.receive: Operation[int] | None = None
        """Of `sock_recv` and `sock_recv_into`, to be started again."""
        self.sending: int = 0
        """How many `sock_sendall` are waiting."""


class Sockets(LoopPart):
    """Part of `EventLoop`: coroutines over plain sockets."""

    _slots: Slots
    _joined: dict[int, Joined]
    _sweep_joined_at: int

    # -- receiving ---------------------------------------------------------------------------------

    async def sock_recv(self, sock: socket.socket, n: int) -> bytes:
        joined = self._join(sock)
        if joined is None:
            return await super().sock_recv(sock, n)
        if joined.cancelled or joined.late:
            data = await self._late_data(joined, n, sock)
            if data is not None:
                return data[0]
        operation, view = self._start_receive(sock, joined, n)
        if not operation.done:
            # _end_of() in place, here and below: a coroutine less is a tenth of the time
            future = operation.context.future = self.create_future()
            try:
                await future
            except asyncio.CancelledError:
                self._give_up(operation, joined, lambda size: (bytes(view[:size]), None))
                raise
            if operation.status:
                _check(operation)
        joined.receive = operation
        return view[: operation.transferred].tobytes()

    async def sock_recv_into(self, sock: socket.socket, buf: Buffer) -> int:
        # _join() in place, and in sock_sendall(): with views made only where they are needed,
        # 0.6 of the 11.4 µs that a message of an echo takes
        joined = self._joined.get(id(sock))
        if joined is None or self._debug or joined.reference() is not sock:
            joined = self._join(sock)
            if joined is None:
                return await super().sock_recv_into(sock, buf)
        target = memoryview(buf)
        if buf.__class__ is not bytearray:
            target = target.cast("B")
        if joined.cancelled or joined.late:
            data = await self._late_data(joined, len(target), sock)
            if data is not None:
                target[: len(data[0])] = data[0]
                return len(data[0])
        # By way of a buffer of ours, which stays pinned: to pin the caller's costs more than to
        # copy 64 KiB, and the operation would keep it pinned after the call.
        operation, view = self._start_receive(sock, joined, min(len(target), SIZE))
        if not operation.done:
            future: asyncio.Future[None] = asyncio.Future(loop=self)
            operation.context.future = future
            try:
                await future
            except asyncio.CancelledError:
                self._give_up(operation, joined, lambda size: (bytes(view[:size]), None))
                raise
            if operation._final:
                _check(operation)
        joined.receive = operation
        size = operation.transferred
        target[:size] = view[:size]
        return size

    def _start_receive(
        self, sock: socket.socket, joined: Joined, size: int
    ) -> tuple[Operation[int], memoryview]:
        """Start a receive of at most `size` bytes: that of the last call again if it was such a
        one."""
        last = joined.receive
        if last is not None and len(last.buffers) == size:
            joined.receive = None  # nobody else uses it meanwhile
            self.port.resubmit(last)
            return last, last.buffers
        operation: Operation[int] = Operation(Awaiting())
        view = self._slots.take()[:size] if 0 < size <= SIZE else memoryview(bytearray(size))
        self.port.recv_into(sock, view, overlapped=operation)
        return operation, view

    async def sock_recvfrom(self, sock: socket.socket, bufsize: int) -> tuple[bytes, Any]:
        joined = self._join(sock)
        if joined is None:
            return await super().sock_recvfrom(sock, bufsize)
        buffer = bytearray(bufsize)
        size, address = await self._recvfrom_into(joined, sock, memoryview(buffer))
        return bytes(memoryview(buffer)[:size]), address

    async def sock_recvfrom_into(
        self, sock: socket.socket, buf: Buffer, nbytes: int = 0
    ) -> tuple[int, Any]:
        joined = self._join(sock)
        if joined is None:
            return await super().sock_recvfrom_into(sock, buf, nbytes)
        view = memoryview(buf).cast("B")
        if nbytes < 0 or nbytes > len(view):
            raise ValueError(f"nbytes is 0 to {len(view)}, the size of the buffer, not {nbytes}")
        return await self._recvfrom_into(joined, sock, view[:nbytes] if nbytes else view)

    async def _recvfrom_into(
        self, joined: Joined, sock: socket.socket, view: memoryview
    ) -> tuple[int, Any]:
        if joined.cancelled or joined.late:
            data = await self._late_data(joined, len(view), sock)
            if data is not None:
                view[: len(data[0])] = data[0]
                return len(data[0]), data[1]
        operation: Operation[Any] = Operation(_nobody)
        self.port.recvfrom_into(sock, view, overlapped=operation)
        if not operation.done:
            await self._end_of(operation, joined, lambda value: (bytes(view[: value[0]]), value[1]))
        # a truncated datagram is one, as for recvfrom()
        size, address = _value(operation)
        return size, address

    # -- sending -----------------------------------------------------------------------------------

    async def sock_sendall(self, sock: socket.socket, data: Buffer) -> None:
        joined = self._joined.get(id(sock))
        if joined is None or self._debug or joined.reference() is not sock:
            joined = self._join(sock)
            if joined is None:
                await super().sock_sendall(sock, data)
                return
        sent = 0
        if not joined.sending:
            # A plain call: an operation that succeeds at once costs four times the Python.
            try:
                sent = sock.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            if type(data) is bytes and sent == len(data):
                return
        view = memoryview(data)
        if sent == view.nbytes and not joined.sending:
            return
        view = view.cast("B")[sent:]
        operation: Operation[int] = Operation(_nobody)
        self.port.send(sock, view, overlapped=operation)
        if not operation.done:
            joined.sending += 1
            try:
                await self._end_of(operation, joined, None)
            finally:
                joined.sending -= 1

    async def sock_sendto(self, sock: socket.socket, data: Buffer, address: Any) -> int:
        joined = self._join(sock)
        if joined is None:
            return await super().sock_sendto(sock, data, address)
        if not joined.sending:
            try:
                return sock.sendto(data, address)
            except (BlockingIOError, InterruptedError):
                pass  # no room just now: it waits, below
        operation: Operation[int] = Operation(_nobody)
        self.port.sendto(sock, data, address, overlapped=operation)
        if not operation.done:
            joined.sending += 1
            try:
                await self._end_of(operation, joined, None)
            finally:
                joined.sending -= 1
        return operation.result()

    # -- connections -------------------------------------------------------------------------------

    async def sock_accept(self, sock: socket.socket) -> tuple[socket.socket, Any]:
        joined = self._join(sock)
        if joined is None:
            return await super().sock_accept(sock)
        while joined.cancelled:
            await asyncio.shield(joined.cancelled[0])
        if joined.late:
            late: tuple[socket.socket, Any] = joined.late.popleft()
            return late
        operation: Operation[tuple[socket.socket, Any]] = Operation(_nobody)
        self.port.accept(sock, overlapped=operation)
        if not operation.done:
            await self._end_of(operation, joined, _nonblocking)
        return _nonblocking(operation.result())

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        joined = self._join(sock)
        if joined is None:
            await super().sock_connect(sock, address)
            return
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            address = await self._resolved(sock, address)
        if sock.type != socket.SOCK_STREAM:
            sock.connect(address)  # waits for nothing
            return
        operation: Operation[None] = Operation(_nobody)
        try:
            self.port.connect(sock, address, overlapped=operation)
            if not operation.done:
                await self._end_of(operation, joined, None)
            operation.result()
        except OSError as error:
            if isinstance(error, OperationAborted):
                raise
            raise type(error)(error.errno, f"Connect call failed {address}") from None

    async def _resolved(self, sock: socket.socket, address: Any) -> Any:
        resolved = await self._ensure_resolved(
            address, family=sock.family, type=sock.type, proto=sock.proto, loop=self
        )
        return resolved[0][4]

    # -- sendfile ----------------------------------------------------------------------------------

    async def _sock_sendfile_native(
        self, sock: socket.socket, file: Any, offset: int, count: int | None
    ) -> int:
        joined = self._join(sock)
        try:
            number = file.fileno()
            size = os.fstat(number).st_size
        except (AttributeError, OSError, ValueError) as error:
            raise asyncio.SendfileNotAvailableError("not a regular file") from error
        if joined is None:
            raise asyncio.SendfileNotAvailableError("the socket belongs to another port")
        length = max(size - offset, 0) if count is None else min(count, max(size - offset, 0))
        if not length:
            os.lseek(number, offset, os.SEEK_SET)
            return 0
        operation: Operation[int] = Operation(_nobody)
        try:
            self.port.sendfile(sock, file, offset=offset, count=length, overlapped=operation)
        except ConnectionError:
            raise
        except (OSError, TypeError, ValueError) as error:
            raise asyncio.SendfileNotAvailableError(f"sendfile refused it: {error}") from error
        sent = 0
        try:
            if not operation.done:
                await self._end_of(operation, joined, None)
            sent = operation.result()
        except OSError:
            transfer: Any = operation._address
            sent = transfer.moved  # where the system tells: the operation itself says 0
            raise
        finally:
            if sent:
                os.lseek(number, offset + sent, os.SEEK_SET)
        return sent

    # -- waiting -----------------------------------------------------------------------------------

    async def _end_of(
        self, operation: Overlapped[Any], joined: Joined, late: Callable[[Any], Any] | None
    ) -> None:
        """Wait for the end of the operation.

        :param late: makes of its result what is kept for the next call if the task is cancelled
        :raises OSError: it failed
        """
        operation.context = Awaiting()
        future = operation.context.future = self.create_future()
        try:
            await future
        except asyncio.CancelledError:
            if late is not None:
                self._give_up(operation, joined, late)
            elif operation._in_use:
                operation.context = _nobody
                operation.cancel()
            raise
        _check(operation)

    def _give_up(
        self, operation: Overlapped[Any], joined: Joined, late: Callable[[Any], Any]
    ) -> None:
        """The task was cancelled: what the operation brings all the same is for the next call."""
        if not operation._in_use:
            # it had come, and the task was cancelled before it could know
            _keep(joined, operation, late)
            return
        gone = self.create_future()
        joined.cancelled.append(gone)

        def finished(completion: Completion) -> None:
            _keep(joined, completion.overlapped, late)
            joined.cancelled.remove(gone)
            gone.set_result(None)

        operation.context = finished
        operation.cancel()

    async def _late_data(
        self, joined: Joined, size: int, sock: socket.socket
    ) -> tuple[bytes, Any] | None:
        """What a cancelled receive has brought after all: `size` bytes at most."""
        while joined.cancelled:
            await asyncio.shield(joined.cancelled[0])
        if not joined.late:
            return None
        data, address = joined.late.popleft()
        if sock.type == socket.SOCK_STREAM and len(data) > size:
            joined.late.appendleft((data[size:], address))
        return data[:size], address

    def _close_late(self) -> None:
        """Close the connections that cancelled accepts have brought and nobody took."""
        for joined in self._joined.values():
            for value in joined.late:
                if isinstance(value[0], socket.socket):
                    value[0].close()
        self._joined.clear()

    # -- which sockets are ours --------------------------------------------------------------------

    def _join(self, sock: socket.socket) -> Joined | None:
        """Associate the socket with the loop's port, the first time. `None`: it belongs to another,
        for as long as it is open, or has addresses that not every backend reads (Bluetooth and the
        like); it is served by readiness.

        :raises TypeError: a TLS socket
        :raises ValueError: in debug mode, a blocking socket
        """
        joined = self._joined.get(id(sock))
        if joined is None or joined.reference() is not sock:
            joined = self._associate(sock)
        if self._debug and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        return joined

    def _associate(self, sock: socket.socket) -> Joined | None:
        _check_ssl(sock)
        if self._debug and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        self._check_closed()
        if sock.family not in KNOWN:
            return None
        if port_of(sock) is not self.port:
            try:
                self.port.associate(sock, skip_on_success=True)
            except AlreadyAssociated:
                return None
        bind_datagrams(sock)
        joined = self._joined[id(sock)] = Joined(sock)
        if len(self._joined) > self._sweep_joined_at:
            self._joined = {
                number: each
                for number, each in self._joined.items()
                if each.reference() is not None
            }
            self._sweep_joined_at = 2 * len(self._joined) + 64
        return joined


def _keep(joined: Joined, operation: Overlapped[Any], late: Callable[[Any], Any]) -> None:
    """Keep what an operation has brought that nobody waits for any more."""
    if nt.is_error(operation.status):
        return
    value = late(_value(operation))
    if value != (b"", None):  # an end of stream is told by the next receive once more
        joined.late.append(value)


def _value(operation: Overlapped[Any]) -> Any:
    """Its result. A truncated datagram is one, as for recvfrom()."""
    if not operation.status:
        return operation.result()
    return operation.transferred if operation.value is None else operation.value


def _check(operation: Overlapped[Any]) -> None:
    """
    :raises OSError: it has failed. A new exception each time, which no future holds: those make
        cycles with their tracebacks
    """
    error = operation.exception()
    if error is not None and nt.is_error(operation.status):
        try:
            raise error
        finally:
            del error


class Awaiting:
    """What wakes the coroutine when its operation has ended."""

    __slots__ = ("future",)

    future: asyncio.Future[None]

    def __call__(self, completion: Completion) -> None:
        if not self.future.done():
            self.future.set_result(None)


def _nonblocking(accepted: tuple[socket.socket, Any]) -> tuple[socket.socket, Any]:
    accepted[0].setblocking(False)
    return accepted


def _nobody(completion: Completion) -> None:
    """Nobody waits for it any more."""


def bind_datagrams(sock: socket.socket) -> None:
    """Give a datagram socket an address: a receive on one without fails (UDP-08)."""
    if sock.type != socket.SOCK_DGRAM or sock.family not in INTERNET:
        return
    try:
        bound = sock.getsockname()[1] != 0
    except OSError:  # how Windows says it
        bound = False
    if not bound:
        sock.bind(("", 0))


def _check_ssl(sock: socket.socket) -> None:
    ssl = sys.modules.get("ssl")
    if ssl is not None and isinstance(sock, ssl.SSLSocket):
        raise TypeError("Socket cannot be of type SSLSocket")
