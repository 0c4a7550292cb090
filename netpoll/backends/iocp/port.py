"""A completion port of Windows: the packet queue, the waiters, the concurrency limit and the
cancellation are the kernel's.

What is kept here is what a kernel cannot: the Python objects behind keys and addresses. Each
operation is in a table, by the address of its OVERLAPPED, from before it is started until its
packet has been taken; the address in a packet is looked up there and never followed.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import math
import socket
import threading
import time
import weakref
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

from netpoll import status as nt
from netpoll.backends import descriptors, routines
from netpoll.backends.base import Association, Backend, Capability, Inflight
from netpoll.backends.datagrams import check_udp
from netpoll.backends.iocp import constants as win
from netpoll.backends.iocp import operations, pooled
from netpoll.backends.iocp.connections import CLIENT_GONE
from netpoll.backends.iocp.library import (
    ENTRY,
    INVALID_HANDLE_VALUE,
    NULL,
    Library,
    ffi,
    load,
)
from netpoll.backends.iocp.library import handle as as_handle
from netpoll.backends.iocp.polls import Polled, Polls
from netpoll.backends.iocp.watcher import Watcher
from netpoll.backends.sockets import ACCEPTS
from netpoll.backends.threads import end_with_this_thread
from netpoll.errors import PortClosed
from netpoll.handles import OnlyPolled
from netpoll.overlapped import (
    FILES,
    RECEIVES,
    SENDS,
    Completion,
    FailedCompletion,
    Opcode,
    Overlapped,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll.backends.iocp.functions import LPOVERLAPPED, Handle, Routine
    from netpoll.backends.iocp.native import Native

    Operation = Overlapped[Any]

_logger = logging.getLogger("netpoll")

WAKE_KEY: Final = 1
"""The key of a packet that only ends a wait."""
POSTED_KEY: Final = 2
"""The key of the program's own packets; the address is a number in the table of those."""
POLL_KEY: Final = 3
"""The key of what the port itself asks of the AFD driver."""
FED_KEY: Final = 4
"""The key of a packet of netpoll's own for an operation, by its address."""
FIRST_KEY: Final = 16
"""From here on, a key is the number of an association."""

FAILURES: Final = 0xC0000000
STATUSES_CLOSED: Final = frozenset((0x8000000A, 0xC0000008, 0xC0000024))
"""What Wine says of an operation whose socket was closed (CLOSE-02, CLOSE-04): a warning, as if it
had brought something, or that there is no such handle any more, or none of a socket."""

HANGING: Final = SENDS | FILES | {Opcode.SENDFILE}
"""What Wine lets pend for ever when its handle is closed (CLOSE-09)."""
MESSAGE_TOO_LONG: Final = 10040
UNREACHABLE: Final = frozenset((win.WSAECONNRESET, win.WSAECONNREFUSED))
"""What Windows and Wine say of a datagram socket whose earlier datagram found no port."""
SLICE: Final = 0.1
"""Seconds that the main thread waits at a time. Ctrl-C does not end a wait in the kernel, and
nothing but `signal.set_wakeup_fd`, which belongs to the program, tells of it."""
LONGEST_WAIT: Final = 86400.0
"""Seconds; a wait takes milliseconds in a DWORD. The loop around it goes on."""
DRAINING: Final = 5.0
"""Seconds that closing waits for what it has cancelled."""
DRAIN_SLICE: Final = 0.02
"""Seconds between two looks at what is left then."""

_open_ports: weakref.WeakSet[IocpPort] = weakref.WeakSet()
_with_routine: dict[int, tuple[IocpPort, Operation]] = {}
"""Operations whose routine Windows has yet to call, by address: those outlive their port."""
_abandoned: list[Operation] = []
"""What did not come back when its port was closed. Windows may still write to it."""


class Socket(Association):
    """A socket that a port knows, with its number as the kernel returns it."""

    __slots__ = ("number", "polled", "pooled")

    def __init__(self, sock: Any, fd: int, number: int) -> None:
        super().__init__(sock, fd)
        self.number: int = number
        self.polled: Polled | None = None
        """Who waits for its readiness."""
        self.pooled: list[Operation] | None = None
        """Its receives from a pool; Windows works on the first."""


class _Thread(threading.local):
    """What a waiting thread needs, for as long as it lives."""

    def __init__(self) -> None:
        self.room = 0
        self.entries: Any = None
        self.taken = ffi.new("ULONG *")

    def entries_for(self, limit: int) -> Any:
        """An array of `limit` packets or more."""
        if self.room < limit:
            self.room = max(limit, 64)
            self.entries = ffi.new("OVERLAPPED_ENTRY[]", self.room)
        return self.entries


class IocpPort(Backend):
    """`Backend` over CreateIoCompletionPort."""

    name = "iocp"

    def __init__(
        self, concurrency: int, max_inflight: int | None, *, library: Library | None = None
    ) -> None:
        """
        :param library: what is called instead of Windows, for tests that count calls
        :raises OSError: this is not Windows, or it has no port for us
        """
        self._library = library or load()
        self._kernel32 = self._library.kernel32
        self._max_inflight = max_inflight
        self._lock = threading.RLock()
        self._table: dict[int, Operation] = {}
        """What Windows works on, by the address of its OVERLAPPED."""
        self._posted_packets: dict[int, Completion] = {}
        self._numbers = count(FIRST_KEY)
        self._sockets: dict[int, Socket] = {}
        """By descriptor; closed ones are swept out now and then."""
        self._sweep_at = 64
        self._keys: weakref.WeakValueDictionary[int, Socket] = weakref.WeakValueDictionary()
        self._without_port: weakref.WeakValueDictionary[int, Operation] = (
            weakref.WeakValueDictionary()
        )
        """Operations on handles that are not associated. One of a duplicate's queues a packet all
        the same (ASSOC-08)."""
        self._nowhere = Socket(self, -1, next(self._numbers))
        """What operations that work on no handle belong to: their packets carry no key."""
        self._nowhere.associated = True
        self._early: deque[Completion] = deque()
        """Packets that were taken from the kernel and not delivered yet: by `Overlapped.wait`, or
        by a wait that Ctrl-C broke off."""
        self._thread = _Thread()
        self._settled = threading.Condition(self._lock)
        """Notified when an operation has ended; for `Overlapped.wait`."""
        self._watcher = Watcher(self._library, self._expire)
        self.polls: Polls = Polls(self, self._library)
        self._waiting = 0
        self._taken = 0
        self._posted = 0
        self._waits = 0
        self._unknown = 0
        self._closed = False
        self._freed = False
        self._port: Handle = self._kernel32.CreateIoCompletionPort(
            INVALID_HANDLE_VALUE, NULL, 0, concurrency
        )
        if self._port == NULL:
            raise nt.make_exception(nt.from_win32(self._kernel32.GetLastError()))
        self.resubmit: Callable[..., Operation] = self._make_resubmit()
        _open_ports.add(self)

    # -- handles -----------------------------------------------------------------------------------

    def associate(self, handle: Any, key: Any, skip_on_success: bool) -> None:
        with self._lock:
            self._check_open()
            sock = self._look_up(handle)
            win_handle = as_handle(handle.fileno())
            if not sock.associated and not isinstance(handle, OnlyPolled):
                self._bind(win_handle, sock.number)
            sock.key = key
            sock.associated = True
            # elsewhere success is reported by a packet although an inline one was asked for; a
            # program that looks at `done` sees no difference
            if skip_on_success and (sock.file or self._library.has_ifs_handles(handle)):
                modes = win.FILE_SKIP_COMPLETION_PORT_ON_SUCCESS | win.FILE_SKIP_SET_EVENT_ON_HANDLE
                sock.skip_on_success = bool(
                    self._kernel32.SetFileCompletionNotificationModes(win_handle, modes)
                )

    def _bind(self, win_handle: Handle, number: int) -> None:
        if self._kernel32.CreateIoCompletionPort(win_handle, self._port, number, 0) == NULL:
            raise nt.make_exception(
                nt.from_win32(self._kernel32.GetLastError()),
                message="this handle cannot be associated with a completion port",
            )

    def _look_up(self, handle: Any) -> Socket:
        """The record of `handle`, made on first sight."""
        fd = handle.fileno()
        if fd < 0:
            raise nt.make_exception(nt.STATUS_INVALID_HANDLE, inline=True)
        sock = self._sockets.get(fd)
        if sock is None or sock.handle() is not handle:
            sock = Socket(handle, fd, next(self._numbers))
            sock.file = descriptors.state_of(handle)
            self._sockets[fd] = self._keys[sock.number] = sock
            if len(self._sockets) > self._sweep_at:
                self._sockets = {fd: each for fd, each in self._sockets.items() if each.alive()}
                self._sweep_at = 64 + 2 * len(self._sockets)
        return sock

    def detach(self, handle: Any, release: Callable[[], object]) -> None:
        number = handle.detach()
        # From now on a start finds no socket. One that has found it must have made its call before
        # the number can become another socket's: it would receive that one's data.
        deadline = time.monotonic() + DRAINING
        while self._is_starting(handle) and time.monotonic() < deadline:
            time.sleep(0)
        with self._lock:
            # Wine lets a pending send of a closed socket hang for ever (CLOSE-09)
            for operation in list(self._table.values()):
                if operation.handle is not handle:
                    continue
                if operation.opcode is Opcode.POLL:
                    self._stop(operation, nt.STATUS_CANCELLED)
                elif operation.opcode in HANGING:
                    if operation.opcode in FILES:
                        operation._native.cause = descriptors.status_of_close(operation)
                    self._kernel32.CancelIoEx(as_handle(number), operation._native.overlapped)
                elif operation.opcode is Opcode.RECV_POOLED and not operation._native.cause:
                    operation._native.cause = nt.STATUS_CONNECTION_ABORTED
                    pooled.withdraw(operation)
            if number >= 0:
                if isinstance(handle, socket.socket):
                    socket.close(number)
                else:
                    self._kernel32.CloseHandle(as_handle(number))
            sock = self._sockets.get(number)
            if sock is not None and sock.handle() is handle:
                del self._sockets[number]
        release()

    def _is_starting(self, handle: Any) -> bool:
        """Whether some thread is about to give the number of this socket to Windows."""
        pending = list(self._table.values())
        return any(each.handle is handle and each._native.starts for each in pending)

    def shutdown(self, handle: Any, how: int) -> None:
        self._check_open()
        if handle.fileno() < 0:
            raise nt.make_exception(nt.STATUS_INVALID_HANDLE, inline=True)
        try:
            handle.shutdown(how)
        except OSError as error:
            raise nt.make_exception(nt.from_winsock(error.errno or 0), inline=True) from None

    def report_unreachable(self, handle: Any, on: bool) -> None:
        check_udp(handle)
        with self._lock:
            self._check_open()
            failed = self._library.ws2_32.WSAIoctl(
                handle.fileno(),
                win.SIO_UDP_CONNRESET,
                *(ffi.new("BOOL *", int(on)), ffi.sizeof("BOOL")),
                *(NULL, 0),
                ffi.new("DWORD *"),
                NULL,
                NULL,
            )
            if failed:
                status = nt.from_winsock(self._kernel32.GetLastError())
                raise nt.make_exception(status, inline=True)

    # -- starts ------------------------------------------------------------------------------------

    def prepare(self, operation: Operation) -> None:
        with self._lock:
            self._check_open()
            operation._owner = self
            if operation.opcode in operations.EMULATED:
                self._prepare_emulated(operation)
                return
            sock = operation._association = self._look_up(operation.handle)
            if operation.routine is not None:
                self._check_routine(operation, sock)
            native = operation._native = operations.prepare(operation, self._library)
            by_event = operation.event is not None or not operation.packet or not sock.associated
            if operation.routine is not None:
                native.routine = _routine()
            elif by_event:
                native.event = self._new_event()
                # the low bit keeps the packet away (ASSOC-15)
                bit = 0 if operation.packet else 1
                native.overlapped.hEvent = ffi.cast(
                    "HANDLE", int(ffi.cast("ULONG_PTR", native.event)) | bit
                )
            plain = (
                sock.associated
                and not by_event
                and operation.routine is None
                and operation._timeout is None
                and self._max_inflight is None
            )
            operation._plain_on = self if plain else None
            operation._skips = sock.skip_on_success

    def _prepare_emulated(self, operation: Operation) -> None:
        """What our own threads find out, and post a packet of."""
        operation._association = self._nowhere
        if operation.opcode is Opcode.POLL:
            sock = operation._association = self._look_up(operation.handle)
            if operation.routine is not None and sock.associated:
                self._refuse_routine()
        operation._native = operations.prepare(operation, self._library)
        operation._skips = False

    @staticmethod
    def _refuse_routine() -> NoReturn:
        raise nt.make_exception(  # ASSOC-12
            nt.STATUS_INVALID_PARAMETER,
            inline=True,
            message="a handle that is associated with a port takes no completion routine",
        )

    def _check_routine(self, operation: Operation, sock: Socket) -> None:
        if sock.associated:
            self._refuse_routine()
        opcode = operation.opcode
        if opcode not in RECEIVES and opcode not in SENDS:
            function = operations.capability(str(opcode)).reason.partition(" ")[0].strip(",")
            raise nt.make_exception(
                nt.STATUS_NOT_SUPPORTED,
                inline=True,
                message=f"{function} takes no completion routine; associate the handle with a "
                "port, or use Overlapped.wait()",
            )

    def _new_event(self) -> Handle:
        event = self._kernel32.CreateEventW(NULL, 1, 0, NULL)
        if event == NULL:
            raise nt.make_exception(nt.from_win32(self._kernel32.GetLastError()))
        return ffi.gc(event, self._kernel32.CloseHandle)

    def start(self, operation: Operation) -> None:
        self.resubmit(operation)

    def _make_resubmit(self) -> Callable[..., Operation]:
        table, special, ended = self._table, self._start_special, self._ended_inline
        pending, now, io_pending = nt.STATUS_PENDING, time.monotonic, win.ERROR_IO_PENDING
        not_a_socket = win.WSAENOTSOCK

        def resubmit(overlapped: Operation, size: int | None = None) -> Operation:
            if overlapped._in_use:
                overlapped._refuse_use()
            if size is not None and size != overlapped._size:
                overlapped._resize(size)
            if overlapped._plain_on is not self:
                special(overlapped)
                return overlapped
            if overlapped.handle.fileno() < 0 or self._closed:
                self._check_handle(overlapped)
            native: Native = overlapped._native
            native.cause = 0
            overlapped._in_use = True
            overlapped.done = False
            overlapped._final = pending
            overlapped._since = now()
            table[native.address] = overlapped
            starts = native.starts
            starts.append(None)
            try:
                number = overlapped.handle.fileno()  # the one to use, see detach()
                code = native.begin(overlapped, number) if number >= 0 else not_a_socket
                starts.pop()
            except BaseException:
                starts.pop()
                self._withdraw_unless_started(overlapped)
                raise
            # from here on it may have ended, and been started again, by another thread (PORT-29)
            if code != io_pending and (code or overlapped._skips):
                ended(overlapped, code)
            return overlapped

        return resubmit

    def _check_handle(self, operation: Operation) -> None:
        """Refuse a start on a closed handle or port."""
        self._check_open()
        if operation.handle.fileno() < 0:
            inline = operation.opcode not in FILES
            raise nt.make_exception(
                nt.STATUS_INVALID_HANDLE, inline=inline, message="the handle is closed"
            )

    def _start_special(self, operation: Operation) -> None:
        """Start an operation that has more to it than a packet at its end."""
        if operation._owner is not self:
            raise ValueError(
                f"{operation!r} is not prepared on this port; "
                f"start it with one of the port's operations first"
            )
        native: Native = operation._native
        if native.known:
            self._check_handle(operation)
        else:
            self._check_open()
        with self._lock:
            limit = self._max_inflight
            if limit is not None and len(self._table) >= limit:
                raise nt.make_exception(
                    nt.STATUS_QUOTA_EXCEEDED,
                    inline=True,
                    message=f"max_inflight: {limit} operations are in use; take completions first",
                )
            operation._in_use = True
            operation.done = False
            operation._final = nt.STATUS_PENDING
            operation._since = time.monotonic()
            native.cause = 0
            self._table[native.address] = operation
        if operation.routine is not None:
            operation._routines = routines.current()
            operation._routines.expect(self)
            end_with_this_thread(operation, self)
            if native.known:
                _with_routine[native.address] = self, operation
        else:
            if operation.event is not None:
                operation.event.clear()  # OVL-16
            if not operation._association.associated:
                self._without_port[native.address] = operation
            if not (
                native.known or (operation.event is None and operation._association.associated)
            ):
                end_with_this_thread(operation, self)  # what Windows works on, it ends itself
        deadline = 0.0
        if operation._timeout is not None:
            deadline = operation._deadline = operation._since + operation._timeout
        native.starts.append(None)
        try:
            # the one to use, see detach()
            number = operation.handle.fileno() if native.known else 0
            code = native.begin(operation, number) if number >= 0 else win.WSAENOTSOCK
            native.starts.pop()
        except BaseException:
            native.starts.pop()
            self._withdraw_unless_started(operation)
            raise
        if code != win.ERROR_IO_PENDING and (code or operation._skips):
            self._ended_inline(operation, code)
            if operation._skips:
                return
        if native.event is not None:
            self._watcher.when_set(native.address, native.event, lambda: self._on_event(operation))
        if operation._timeout is not None:
            self._watcher.at(deadline, operation)

    def _ended_inline(self, operation: Operation, code: int) -> None:
        """A start did not answer that it is pending: it failed, or succeeded without a packet."""
        if code and (code != MESSAGE_TOO_LONG or operation.opcode not in RECEIVES):
            self._fail(operation, code)
        if not operation._skips:
            return  # 10040 is the one error that has a packet: a truncated datagram (UDP-02)
        with self._lock:
            native: Native = operation._native
            if self._table.pop(native.address, None) is None:
                return
            operation._deadline = 0.0
            # a failing call leaves its count alone, and the kernel has written its own
            operation.transferred = (
                native.overlapped.InternalHigh if code else native.transferred[0]
            )
            status = nt.STATUS_BUFFER_OVERFLOW if code else nt.STATUS_SUCCESS
            if native.finish is not None:
                status = native.finish(operation, status)
            operation._final = status
            self._taken += 1
            self._release(operation)
            if operation.event is not None:
                operation.event.set()

    def _fail(self, operation: Operation, code: int) -> None:
        """A start failed: there is no operation (XFER-03)."""
        operation.transferred = 0
        operation._native.overlapped.Internal = 0  # may say "pending" for ever (OVL-02)
        operation._final = nt.from_winsock(code, receiving=operation.opcode in RECEIVES)
        if code in UNREACHABLE and operation.handle.type == socket.SOCK_DGRAM:
            operation._final = nt.STATUS_PORT_UNREACHABLE  # UDP-05
        self._withdraw(operation)
        self._check_open()
        raise nt.make_exception(operation._final, inline=operation.opcode not in FILES)

    def _withdraw(self, operation: Operation) -> None:
        native: Native = operation._native
        self._table.pop(native.address, None)
        _with_routine.pop(native.address, None)
        self._without_port.pop(native.address, None)
        if native.accepting is not None:
            native.accepting.close()
            native.accepting = None
        if operation._routines is not None:
            operation._routines.forget(self)
            operation._routines = None
        if operation._final == nt.STATUS_PENDING:
            operation._final = nt.STATUS_INVALID_HANDLE
        self._release(operation)

    def _withdraw_unless_started(self, operation: Operation) -> None:
        """Something was raised around the call that starts: Ctrl-C, or a socket that could not be
        made. Windows writes 0x103 first of all (OVL-01, OVL-02)."""
        if operation._native.overlapped.Internal != nt.STATUS_PENDING:
            self._withdraw(operation)

    @staticmethod
    def _release(operation: Operation) -> None:
        """The program may have it back."""
        operation._in_use = False
        operation.done = True

    # -- ends without a packet ---------------------------------------------------------------------

    def _on_event(self, operation: Operation) -> None:
        """Windows has set the operation's event (OVL-05, OVL-17). In the watcher's thread."""
        with self._lock:
            native: Native = operation._native
            if operation.done or self._table.get(native.address) is not operation:
                return
            overlapped = native.overlapped
            operation.transferred = overlapped.InternalHigh
            status = overlapped.Internal & 0xFFFFFFFF
            if operation.packet and operation._association.associated:
                # its packet is still to come; an accept's result is made of that
                operation._final = _status_seen(native, status)
                if native.finish is not None and native.accepting is None:
                    operation._final = native.finish(operation, operation._final)
                operation.done = True
            else:
                self._settle(operation, status)
            self._settled.notify_all()
            if operation.event is not None:
                operation.event.set()

    def _settle(self, operation: Operation, status: int) -> None:
        """An operation without a packet has ended."""
        native: Native = operation._native
        self._table.pop(native.address, None)
        operation._deadline = 0.0
        status = _status_seen(native, status)
        if native.finish is not None:
            status = native.finish(operation, status)
        operation._final = status
        if status >= FAILURES:
            operation.transferred = 0
        self._taken += 1
        self._release(operation)

    def _expire(self, operation: Operation, deadline: float) -> None:
        """The time of an operation is over. In the watcher's thread."""
        with self._lock:
            if operation._in_use and not operation.done and operation._deadline == deadline:
                if operation.opcode is Opcode.TIMER:
                    self.end(operation, nt.STATUS_SUCCESS)
                else:
                    self._stop(operation, nt.STATUS_IO_TIMEOUT)

    def end(self, operation: Operation, status: int) -> bool:
        """End what Windows knows nothing of: the OVERLAPPED is ours to fill in, and the packet ours
        to post. With the lock held; whether it had not ended yet."""
        native: Native = operation._native
        if native.overlapped.Internal != nt.STATUS_PENDING:
            return False
        native.overlapped.Internal = status
        native.overlapped.InternalHigh = 0
        operation.transferred = 0
        record = cast("Socket", operation._association)
        if operation.routine is not None:
            _end_with_routine(self, operation, native, status)
        elif not (operation.packet and record.associated):
            self._settle(operation, status)
        else:
            if operation.event is not None:
                operation._final = status
                operation.done = True  # its packet is still to come (OVL-05)
            self._post_packet(record.number, native.address)
        self._settled.notify_all()
        if operation.event is not None and operation.routine is None:
            operation.event.set()
        return True

    # -- cancellation ------------------------------------------------------------------------------

    def abandon(self, operation: Operation) -> None:
        # the kernel would cancel it by itself, but call nobody: have it told while there is time
        self.cancel(operation)
        self._kernel32.SleepEx(0, 1)
        operation._in_use = False

    def cancel(self, operation: Operation) -> bool:
        with self._lock:
            return self._stop(operation, nt.STATUS_CANCELLED)

    def _stop(self, operation: Operation, cause: int) -> bool:
        native: Native | None = operation._native
        if native is None or self._table.get(native.address) is not operation:
            return False
        if not native.known:
            if operation.opcode is Opcode.POLL:
                self.polls.forget(operation)
            elif operation.opcode is Opcode.WAIT:
                self._watcher.forget(native.address)
            return self.end(operation, cause)
        number = operation.handle.fileno()
        if number < 0:
            return False  # closing has stopped it
        asked = native.cause != 0
        native.cause = native.cause or cause
        if operation.opcode is Opcode.RECV_POOLED and not asked and pooled.withdraw(operation):
            return True
        # what was not found has ended, and its packet is on the way (CAN-12)
        return bool(self._kernel32.CancelIoEx(as_handle(number), native.overlapped)) and not asked

    def cancel_all(self, handle: Any) -> bool:
        with self._lock:
            self._check_open()
            # one by one, because Wine finds something to cancel on any handle (CAN-02)
            own = [each for each in list(self._table.values()) if each.handle is handle]
            stopped = [self._stop(operation, nt.STATUS_CANCELLED) for operation in own]
            return any(stopped)

    # -- packets -----------------------------------------------------------------------------------

    def post(self, completion: Completion) -> None:
        with self._lock:
            self._check_open()
            number = next(self._numbers)
            self._posted_packets[number] = completion
            self._posted += 1
            self._post_packet(POSTED_KEY, number, completion.transferred)

    def _post_packet(self, key: int, number: int, transferred: int = 0) -> None:
        pointer: LPOVERLAPPED = ffi.cast("OVERLAPPED *", number)
        if not self._kernel32.PostQueuedCompletionStatus(self._port, transferred, key, pointer):
            self._posted_packets.pop(number, None)
            raise nt.make_exception(nt.from_win32(self._kernel32.GetLastError()))

    def post_fed(self, address: int) -> None:
        """Have an operation that Windows has nothing of looked at. From any thread."""
        self._post_packet(FED_KEY, address)

    def dequeue(self, limit: int, timeout: float | None, alertable: bool) -> list[Completion]:
        with self._lock:
            self._check_open()
            self._waits += 1
            if self._early:
                return self._take_early(limit)
            self._waiting += 1
        try:
            taken, ran = self._wait(limit, timeout, alertable)
        finally:
            self._leave()
        if ran:
            routines.current().run()
        return taken

    def _take_early(self, limit: int) -> list[Completion]:
        early = self._early
        return [early.popleft() for _ in range(min(limit, len(early)))]

    def _wait(
        self, limit: int, timeout: float | None, alertable: bool
    ) -> tuple[list[Completion], bool]:
        """Wait for packets; also whether routines are due instead."""
        deadline = None if timeout is None else time.monotonic() + timeout
        due = routines.current() if alertable else None
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if due is not None and due.due:
                left = 0.0  # a packet goes first (PORT-25)
            taken = self._wait_once(limit, left, alertable)
            if self._closed:
                raise nt.make_exception(nt.STATUS_ABANDONED_WAIT_0)
            if not taken and self._early:
                with self._lock:
                    taken = self._take_early(limit)
            if taken:
                return taken, False
            if due is not None and due.due:
                return [], True
            if deadline is not None and time.monotonic() >= deadline:
                return [], False

    def _wait_once(self, limit: int, left: float | None, alertable: bool) -> list[Completion]:
        """One GetQueuedCompletionStatusEx; empty if it brought nothing for the program."""
        if left is None or left > SLICE:
            if threading.get_ident() == threading.main_thread().ident:
                left = SLICE
            elif left is not None:
                left = min(left, LONGEST_WAIT)
        milliseconds = win.INFINITE if left is None else math.ceil(1000 * left)
        thread = self._thread
        entries = thread.entries_for(limit)
        taken: list[Completion] = []
        entries[0].lpCompletionKey = 0  # tells a new packet from an old one
        thread.taken[0] = 0
        try:
            if not self._kernel32.GetQueuedCompletionStatusEx(
                self._port, entries, limit, thread.taken, milliseconds, alertable
            ):
                code = self._kernel32.GetLastError()
                if code not in (win.WAIT_TIMEOUT, win.WAIT_IO_COMPLETION):
                    raise nt.make_exception(nt.from_win32(code), kind=PortClosed)
                return taken
            packets = ffi.buffer(entries, thread.taken[0] * ENTRY.size)
            with self._lock:
                for packet in ENTRY.iter_unpack(packets):
                    self._open(packet, taken)
        except BaseException:
            self._keep(taken, entries, thread.taken[0])
            raise
        return taken

    def _keep(self, taken: list[Completion], entries: Any, number: int) -> None:
        """Ctrl-C broke the decoding off: what was taken from the kernel goes to the next wait."""
        if not entries[0].lpCompletionKey:
            return
        with self._lock:
            for packet in ENTRY.iter_unpack(ffi.buffer(entries, number * ENTRY.size)):
                # what has been opened is not in its table any more
                if packet[1] in self._table or packet[1] in self._posted_packets:
                    self._open(packet, taken)
            self._early.extend(taken)
            if self._waiting > 1:
                self._post_packet(WAKE_KEY, 0)

    def _open(self, packet: tuple[int, int, int, int], taken: list[Completion]) -> None:
        """Turn a packet into a completion: here `status` becomes visible (OVL-04)."""
        key, address, status, transferred = packet
        if key == WAKE_KEY:
            return
        if key == POSTED_KEY:
            posted = self._posted_packets.pop(address, None)
            if posted is not None:
                taken.append(posted)
                return
        operation = self._table.pop(address, None)
        if operation is None:
            operation = self._without_port.pop(address, None)
        if operation is None and key == POLL_KEY:
            self.polls.on_packet(address, status & 0xFFFFFFFF)
            return
        if operation is None:
            self._unknown += 1
            _logger.warning(
                "a packet that nobody waits for: key %#x, address %#x, status %#x", *packet[:3]
            )
            return
        native: Native = operation._native
        operation.transferred = transferred
        status &= 0xFFFFFFFF
        if status:
            status = _status_seen(native, status)
        if native.finish is not None:
            if operation.opcode is Opcode.RECV_POOLED:
                settled = pooled.settle(operation, status, key == FED_KEY)
                if settled is None:
                    return
                status, transferred = settled, operation.transferred
            else:
                status = native.finish(operation, status)
            if operation.opcode in ACCEPTS and self._accept_again(operation, status):
                return
        completion: Completion
        if status:
            if status >= FAILURES:
                operation.transferred = transferred = 0
            completion = FailedCompletion()
            completion.status = status
            completion.error = nt.win32_error(status)
        else:
            completion = Completion()
        association = operation._association
        if cast("Socket", association).number != key:  # started on a duplicate (ASSOC-08)
            association = self._keys.get(key, cast("Socket", association))
        completion.key = association.key
        completion.overlapped = operation
        completion.transferred = transferred
        taken.append(completion)
        self._taken += 1
        operation._final = status
        if operation._plain_on is not self:
            self._end_special(operation)
        operation._in_use = False
        operation.done = True

    def _end_special(self, operation: Operation) -> None:
        operation._deadline = 0.0
        native: Native = operation._native
        if native.event is not None:
            self._watcher.forget(native.address)
            self._without_port.pop(native.address, None)
        if operation.event is not None:
            operation.event.set()

    def _accept_again(self, operation: Operation, status: int) -> bool:
        """A client went away before it was accepted: not the program's business (ACC-12)."""
        native: Native = operation._native
        gone = status in CLIENT_GONE and not native.cause and not self._closed
        if not gone or operation._view is not None:
            return False
        self._table[native.address] = operation
        native.starts.append(None)
        number = operation.handle.fileno()  # the one to use, see detach()
        code = native.begin(operation, number) if number >= 0 else win.WSAENOTSOCK
        native.starts.pop()
        if code in (0, win.ERROR_IO_PENDING):
            return True
        self._table.pop(native.address, None)
        return False

    def _leave(self) -> None:
        """A thread waits no more."""
        with self._lock:
            self._waiting -= 1
            if self._closed:
                if self._waiting:
                    self._post_packet(WAKE_KEY, 0)
                elif self._freed:
                    self._kernel32.CloseHandle(self._port)
            elif self._early and self._waiting:
                self._post_packet(WAKE_KEY, 0)
            self._settled.notify_all()

    # -- waits for one operation -------------------------------------------------------------------

    def wait_for(self, operation: Operation, timeout: float | None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._has_ended(operation):
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            left = SLICE if left is None else min(left, SLICE)
            if operation.routine is not None:
                # the routine's end is told by an APC, which only takes note of it: not the
                # program's routine, so the wait is not alertable in its eyes (OVL-13)
                self._kernel32.SleepEx(math.ceil(1000 * min(left, DRAIN_SLICE)), 1)
            elif operation._native.event is not None:
                with self._lock:
                    if not self._has_ended(operation):
                        self._settled.wait(left)
            else:
                self._look_for_packet(operation, min(left, DRAIN_SLICE))
        if operation.event is not None:
            with self._lock:
                pass  # whoever has just ended it lets go of the lock when the event is set
        return True

    def _has_ended(self, operation: Operation) -> bool:
        if operation.done or self._closed:
            return True
        if operation.routine is not None:
            return bool(operation._native.overlapped.Internal != nt.STATUS_PENDING)
        return False

    def _look_for_packet(self, operation: Operation, left: float) -> None:
        """An operation of a port tells of its end by its packet and nothing else (OVL-04). Where
        nobody else waits for packets, take them, for whoever waits next."""
        with self._lock:
            others = self._waiting
            if others:
                self._settled.wait(left)
                return
            self._waiting += 1
        try:
            taken = self._wait_once(64, left, False)
            with self._lock:
                self._early.extend(taken)
        finally:
            self._leave()

    def run_until(self, finished: Callable[[], bool], timeout: float | None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not finished():
            left = SLICE if deadline is None else max(0.0, deadline - time.monotonic())
            self._kernel32.SleepEx(math.ceil(1000 * min(left, SLICE)), 1)
            if not left:
                break
        return finished()

    # -- the port as a whole -----------------------------------------------------------------------

    def flush(self) -> None:
        return  # every start has gone to the kernel by the time it returns

    def inflight(self) -> list[Inflight]:
        now = time.monotonic()
        return [
            Inflight(
                opcode=operation.opcode or Opcode.RECV_INTO,
                handle=operation.handle,
                key=operation._association.key,
                age=now - operation._since,
                overlapped=operation,
            )
            for operation in list(self._table.values())
        ]

    def stats(self) -> dict[str, float]:
        with self._lock:
            inflight = len(self._table)
            return {
                "started": self._taken + inflight,
                "taken": self._taken,
                "inflight": inflight,
                "posted": self._posted,
                "queued": len(self._posted_packets) + len(self._early),
                "waits": self._waits,
                "waiting": self._waiting,
                "unknown_packets": self._unknown,
            }

    def capability(self, opcode: str) -> Capability:
        return operations.capability(opcode)

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
        _open_ports.discard(self)
        self._watcher.close()
        self._drain()
        with self._lock:
            self._early.clear()
            self._posted_packets.clear()
            self._sockets.clear()
            self.polls.close()
            self._freed = True
            self._settled.notify_all()
            if self._waiting:
                self._post_packet(WAKE_KEY, 0)
            else:
                self._kernel32.CloseHandle(self._port)

    def _drain(self) -> None:
        """End what is pending, and wait until Windows has let go of it."""
        deadline = time.monotonic() + DRAINING
        while (self._table or self.polls.busy) and time.monotonic() < deadline:
            with self._lock:
                for operation in list(self._table.values()):
                    if not operation._native.known:
                        self._stop(operation, nt.STATUS_CANCELLED)
                        continue
                    # again each time: one may have been about to start when we looked last
                    number = operation.handle.fileno()
                    if number >= 0:
                        native: Native = operation._native
                        asked = native.cause != 0
                        native.cause = native.cause or nt.STATUS_CANCELLED
                        if operation.opcode is Opcode.RECV_POOLED and not asked:
                            pooled.withdraw(operation)
                        self._kernel32.CancelIoEx(as_handle(number), native.overlapped)
            self._wait_once(64, DRAIN_SLICE, True)
            for operation in list(self._table.values()):
                self._settle_if_ended(operation)
        for operation in list(self._table.values()):
            _logger.warning(
                "%r did not come back when its port was closed; "
                "its memory is kept, because Windows may still write to it",
                operation,
            )
            _abandoned.append(operation)

    def _settle_if_ended(self, operation: Operation) -> None:
        """An operation whose end comes without a packet: by its event, or by a routine."""
        native: Native = operation._native
        if native.event is None and operation.routine is None:
            return
        status = native.overlapped.Internal & 0xFFFFFFFF
        if status != nt.STATUS_PENDING:
            with self._lock:
                self._settle(operation, status)
                if operation.event is not None:
                    operation.event.set()

    def watch_device(self, device: Handle) -> bool:
        """Have the answers of the AFD driver come to this port."""
        port = self._kernel32.CreateIoCompletionPort(device, self._port, POLL_KEY, 0)
        return bool(port != NULL)

    def _check_open(self) -> None:
        if self._closed:
            raise nt.make_exception(
                nt.STATUS_INVALID_HANDLE, kind=PortClosed, message="the port is closed"
            )


def _status_seen(native: Native, status: int) -> int:
    """The status for the program: a cancel that somebody else asked for has that one's reason."""
    if status in STATUSES_CLOSED:
        status = nt.STATUS_CANCELLED
    if status == nt.STATUS_CANCELLED and native.cause:
        return native.cause
    return status


def _on_routine(error: int, transferred: int, overlapped: LPOVERLAPPED, flags: int) -> None:
    """Windows calls this in the issuing thread, within an alertable wait (APC-01). The program's
    routine runs after that wait, where it may raise."""
    address = int(ffi.cast("ULONG_PTR", overlapped))
    known = _with_routine.pop(address, None)
    if known is None:
        return
    port, operation = known
    native: Native = operation._native
    with port._lock:
        operation.transferred = transferred
        _end_with_routine(port, operation, native, overlapped.Internal & 0xFFFFFFFF)


def _end_with_routine(port: IocpPort, operation: Operation, native: Native, status: int) -> None:
    port._table.pop(native.address, None)
    status = _status_seen(native, status)
    if native.finish is not None:
        status = native.finish(operation, status)
    operation._final = status
    operation._deadline = 0.0
    operation.done = True
    port._taken += 1
    queue, operation._routines = operation._routines, None
    if queue is not None:
        queue.add(operation, port)


@functools.cache  # kept for ever: Windows has its address
def _routine() -> Routine:
    return ffi.callback("LPWSAOVERLAPPED_COMPLETION_ROUTINE", _on_routine)


@atexit.register
def _close_all() -> None:
    """Whatever is pending when the interpreter ends must not write to memory that is gone."""
    for port in list(_open_ports):
        with contextlib.suppress(OSError):
            port.close()
