"""How an operation starts on a port of Windows, and what a start that failed, or ended at once,
leaves.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any, Final, NoReturn

from netpoll import status as nt
from netpoll.backends import datagrams, routines
from netpoll.backends.iocp import constants as win
from netpoll.backends.iocp import operations
from netpoll.backends.iocp.ends import Ends, routine, with_routine
from netpoll.backends.iocp.library import NULL, ffi
from netpoll.backends.threads import end_with_this_thread
from netpoll.overlapped import FILES, RECEIVES, SENDS, Opcode, Overlapped

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll.backends.iocp.functions import Handle
    from netpoll.backends.iocp.handles import Socket
    from netpoll.backends.iocp.library import Library
    from netpoll.backends.iocp.native import Native

    Operation = Overlapped[Any]

MESSAGE_TOO_LONG: Final = 10040
UNREACHABLE: Final = frozenset((win.WSAECONNRESET, win.WSAECONNREFUSED))
"""What Windows and Wine say of a datagram socket whose earlier datagram found no port."""


class Starts(Ends):
    """Starts: what is done once for an operation, and what each time."""

    __slots__ = ("_max_inflight", "resubmit")

    def __init__(self, library: Library, concurrency: int, max_inflight: int | None) -> None:
        super().__init__(library, concurrency)
        self._max_inflight = max_inflight
        self.resubmit: Callable[..., Operation] = self._make_resubmit()

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
                native.routine = routine()
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
            operation._skips = skips = sock.skip_on_success
            if skips and self._observer is not None:
                operation._plain_on = None  # an end within its start is to be told of

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

        def resubmit(
            overlapped: Operation, size: int | None = None, address: Any = None
        ) -> Operation:
            if overlapped._in_use:
                overlapped._refuse_use()
            if address is not None and overlapped._owner is self:
                datagrams.redirect(overlapped, address)
                self.prepare(overlapped)
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
                number = overlapped.handle.fileno()  # the one to use, see IocpPort.detach()
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
            native.starts.append(None)
        try:
            self._start_prepared(operation)
        finally:
            native.starts.pop()

    def _start_prepared(self, operation: Operation) -> None:
        native: Native = operation._native
        if operation.routine is not None:
            operation._routines = routines.current()
            operation._routines.expect(self)
            end_with_this_thread(operation, self)
            if native.known:
                with_routine[native.address] = self, operation
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
        try:
            # the one to use, see IocpPort.detach()
            number = operation.handle.fileno() if native.known else 0
            code = native.begin(operation, number) if number >= 0 else win.WSAENOTSOCK
        except BaseException:
            self._withdraw_unless_started(operation)
            raise
        if code != win.ERROR_IO_PENDING and (code or operation._skips):
            self._ended_inline(operation, code)
            if operation._skips:
                return
        if native.event is not None:
            self._watch_event(operation)
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
            if operation._plain_on is self:
                self._release(operation)
                return
            operation.done = True
            if self._observer is not None:
                self._observer.ended_inline(operation)
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
        with_routine.pop(native.address, None)
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
