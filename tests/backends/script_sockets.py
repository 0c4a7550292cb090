"""What scripts do with every kind of socket that carries data; the kinds are in `script_streams.py`
and `script_datagrams.py`.

Steps that make no sense at that moment do nothing, and neither do those whose outcome the contract
leaves open (`script_freedoms.py`).
"""

from __future__ import annotations

import selectors
import socket
from typing import TYPE_CHECKING, Any

from backends.script_lines import Again, Inbox, Waiting
from backends.scripts import Flag, World

from netpoll import Overlapped
from netpoll.operations.flags import MSG_PARTIAL

if TYPE_CHECKING:
    from collections.abc import Callable

    Operation = Overlapped[Any]

MOST = 3000
BOTH = selectors.EVENT_READ | selectors.EVENT_WRITE
LONG = 1000.0
"""Seconds that are not over before the test is."""
BRIEF = 0.001


class Handle:
    """What every kind has."""

    skips = False
    """Whether a success within its start queues no packet."""
    alone = False
    """Whether it has no port."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.port = world.port
        self.name = name
        self.lines: list[Waiting] = []
        self.lost = False
        """Whether it was closed without netpoll."""

    def _join(self, handle: Any) -> None:
        """Bind it to the port, unless it is to have none."""
        if self.alone:
            self.world.alone.add(handle)
            return
        self.port.associate(handle, self.name, skip_on_success=self.skips)
        if self.skips:
            self.world.skipping[handle] = self.name

    def _how(self, number: int, context: Any = None) -> dict[str, Any]:
        """How an operation is to end: drawn with the number of its step."""
        how: dict[str, Any] = {"overlapped": Overlapped(context=context)}
        if number % 6 == 1:
            how["timeout"] = LONG
        elif number % 6 == 2 and not self.skips:
            how["overlapped"] = Overlapped(context=context, event=Flag())
        elif number % 6 == 3 and not self.skips:
            how["overlapped"] = Overlapped(context=context, event=Flag(), packet=False)
        return how

    def count_due(self) -> None:
        for line in self.lines:
            if isinstance(line, Inbox):
                line.count_due()

    def forget(self, operation: Operation) -> bool:
        return any(line.forget(operation) for line in self.lines)

    def end(self, *, closing: bool) -> None:
        for line in self.lines:
            line.end(closing=closing)

    def close(self) -> None:
        raise NotImplementedError

    def goes_on(self) -> None:
        """Its port was closed: it stays open, and nothing takes its data."""


class Socket(Handle):
    """A socket, and what all sockets do."""

    near: socket.socket

    def __init__(self, world: World, name: str, *, stream: bool) -> None:
        super().__init__(world, name)
        self.inbox = Inbox(world, stream=stream)
        self.lines = [self.inbox]
        self.received = Again()
        self.has_sent = Again()

    @property
    def is_open(self) -> bool:
        return self.near.fileno() >= 0

    # -- receives ----------------------------------------------------------------------------------

    def _receive(self, begin: Callable[[], Operation], flags: int = 0) -> None:
        self.received.add(self.inbox.add(begin, peeks=bool(flags & socket.MSG_PEEK)))

    def receive(self, size: int, /, flags: int = 0) -> None:
        how = self._how(size)
        self._receive(lambda: self.port.recv(self.near, size, flags=flags, **how), flags)

    def receive_some(self, size: int, /, flags: int = 0) -> None:
        buffers = [bytearray(size), bytearray(2), bytearray(size)]
        how = self._how(size)
        self._receive(lambda: self.port.recv_into(self.near, buffers, flags=flags, **how), flags)

    def receive_from(self, size: int, /, flags: int = 0) -> None:
        buffers = [bytearray(1), bytearray(size)]
        how = self._how(size)
        self._receive(
            lambda: self.port.recvfrom_into(self.near, buffers, flags=flags, **how), flags
        )

    def receive_message(self, size: int, /, flags: int = 0) -> None:
        how = self._how(size)
        buffers, room = [bytearray(size)], size % 3 * 64
        self._receive(
            lambda: self.port.recvmsg_into(self.near, buffers, room, flags=flags, **how),
            flags,
        )

    def peek(self, size: int, /) -> None:
        self._any_receive(size)(size, socket.MSG_PEEK)

    def receive_part(self, size: int, /) -> None:
        self._any_receive(size)(size, MSG_PARTIAL)

    def receive_whole(self, size: int, /) -> None:
        self._any_receive(size)(size, socket.MSG_WAITALL)

    def _any_receive(self, size: int) -> Callable[[int, int], None]:
        return self.receive if size % 2 else self.receive_some

    def receive_briefly(self, size: int, /) -> None:
        """One whose time runs out."""
        if self.inbox.idle:
            self.world.at_once(lambda: self.port.recv(self.near, size, timeout=BRIEF))

    def receive_again(self, size: int, /) -> None:
        operation = self._finished(self.received, size)
        if operation is not None:
            peeks = bool(operation.flags & socket.MSG_PEEK)
            if (
                self.inbox.add(lambda: self.port.resubmit(operation, size=size), peeks=peeks)
                is None
            ):
                self.received.drop(operation)

    def _finished(self, last: Again, size: int = 0) -> Operation | None:
        return None if self.lost else last.finished(size)

    # -- the socket as a whole ---------------------------------------------------------------------

    def cancel_all(self, _: int, /) -> None:
        if self.is_open:
            self.world.tell("cancel_all", self.port.cancel(self.near))
            self.end(closing=False)

    def poll(self, number: int, /) -> None:
        inbox = self.inbox
        if inbox.operations or inbox.reports or inbox.refusing or not self.is_open:
            return
        events = 1 + number % BOTH
        how = self._how(number)
        operation = self.world.start(lambda: self.port.poll(self.near, events, **how))
        if operation is None:
            return
        if not ((events & selectors.EVENT_WRITE and self._writable) or self.inbox.readable):
            self.world.tell("cancel of a poll", operation.cancel())
        self.world.is_due(operation)

    @property
    def _writable(self) -> bool:
        """Whether a poll says so."""
        return True

    def close_handle(self, _: int, /) -> None:
        self.close()

    def close_bare(self, _: int, /) -> None:
        """Without netpoll, which finds it out."""
        if self.is_open:
            self._before_close()
            self.near.close()
            self.lost = True

    def close(self) -> None:
        if self.is_open:
            self._before_close()
            self.port.close_handle(self.near)

    def _before_close(self) -> None:
        self.end(closing=True)
