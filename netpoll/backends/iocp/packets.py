"""The packets of a port of Windows: the program's own, and those of operations.

The queue is the kernel's. Each operation is in a table, by the address of its OVERLAPPED, from
before it is started until its packet has been taken; the address in a packet is looked up there and
never followed.
"""

from __future__ import annotations

import logging
import weakref
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Final, cast

from netpoll import status as nt
from netpoll.backends.iocp import constants as win
from netpoll.backends.iocp import pooled
from netpoll.backends.iocp.connections import CLIENT_GONE
from netpoll.backends.iocp.handles import Handles
from netpoll.backends.iocp.library import NULL, ffi
from netpoll.backends.iocp.polls import Polls
from netpoll.backends.sockets import ACCEPTS
from netpoll.overlapped import Completion, FailedCompletion, Opcode, Overlapped

if TYPE_CHECKING:
    from netpoll.backends.iocp.functions import LPOVERLAPPED, Handle
    from netpoll.backends.iocp.handles import Socket
    from netpoll.backends.iocp.library import Library
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

FAILURES: Final = 0xC0000000
STATUSES_CLOSED: Final = frozenset((0x8000000A, 0xC0000008, 0xC0000024))
"""What Wine says of an operation whose socket was closed (CLOSE-02, CLOSE-04): a warning, as if it
had brought something, or that there is no such handle any more, or none of a socket."""


class PacketQueue(Handles):
    """Packets: what they are posted for, and what each one taken means."""

    __slots__ = (
        "_posted",
        "_posted_packets",
        "_table",
        "_taken",
        "_unknown",
        "_without_port",
        "polls",
    )

    def __init__(self, library: Library, concurrency: int) -> None:
        super().__init__(library, concurrency)
        self._table: dict[int, Operation] = {}
        """What Windows works on, by the address of its OVERLAPPED."""
        self._posted_packets: dict[int, Completion] = {}
        self._without_port: weakref.WeakValueDictionary[int, Operation] = (
            weakref.WeakValueDictionary()
        )
        """Operations on handles that are not associated. One of a duplicate's queues a packet all
        the same (ASSOC-08)."""
        self.polls: Polls = Polls(self, library)
        self._taken: int = 0
        """Operations whose end the program has seen."""
        self._posted = 0
        self._unknown = 0

    @abstractmethod
    def end(self, operation: Operation, status: int) -> bool:
        """End what Windows knows nothing of: the OVERLAPPED is ours to fill in, and the packet ours
        to post. With the lock held; whether it had not ended yet."""

    @abstractmethod
    def _watch_event(self, operation: Operation) -> None:
        """Notice when Windows sets the event of an operation that has just been started."""

    @abstractmethod
    def _end_special(self, operation: Operation) -> None:
        """The packet of one that is not plain was taken: tell whoever else is to know."""

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

    def watch_device(self, device: Handle) -> bool:
        """Have the answers of the AFD driver come to this port."""
        port = self._kernel32.CreateIoCompletionPort(device, self._port, POLL_KEY, 0)
        return bool(port != NULL)

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
            status = status_seen(native, status)
        if native.finish is not None:
            accepts = operation.opcode in ACCEPTS
            if operation.opcode is Opcode.RECV_POOLED:
                settled = pooled.settle(operation, status, key == FED_KEY)
                if settled is None:
                    return
                status, transferred = settled, operation.transferred
            elif accepts and native.accepting is None:
                status = operation._final  # made when its event was set (OVL-05)
            else:
                status = native.finish(operation, status)
            if accepts and self._accept_again(operation, status):
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

    def _accept_again(self, operation: Operation, status: int) -> bool:
        """A client went away before it was accepted: not the program's business (ACC-12)."""
        if not self._is_to_accept_again(operation, status):
            return False
        native: Native = operation._native
        operation._final = nt.STATUS_PENDING
        self._table[native.address] = operation
        native.starts.append(None)
        number = operation.handle.fileno()  # the one to use, see IocpPort.detach()
        code = native.begin(operation, number) if number >= 0 else win.WSAENOTSOCK
        native.starts.pop()
        if code in (0, win.ERROR_IO_PENDING):
            if native.event is not None:
                self._watch_event(operation)
            return True
        self._table.pop(native.address, None)
        return False

    def _is_to_accept_again(self, operation: Operation, status: int) -> bool:
        gone = status in CLIENT_GONE and not operation._native.cause and not self._closed
        return gone and operation._view is None and operation.opcode in ACCEPTS


def status_seen(native: Native, status: int) -> int:
    """The status for the program: a cancel that somebody else asked for has that one's reason."""
    if status in STATUSES_CLOSED:
        status = nt.STATUS_CANCELLED
    if status == nt.STATUS_CANCELLED and native.cause:
        return native.cause
    return status
