"""The engine over readiness: which handle is ready, whose turn it is, and what the queues make of
it."""

from __future__ import annotations

import contextlib
import functools
import logging
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

from netpoll import debugging
from netpoll import status as nt
from netpoll.backends import datagrams, sockets
from netpoll.backends.base import Association, Capability, Engine
from netpoll.backends.queues import BLOCKED, EXHAUSTED, MOVED, Direction
from netpoll.backends.selectors import operations, polls
from netpoll.backends.selectors.connections import accept, connect, receive_first
from netpoll.backends.selectors.readiness import (
    BATCH,
    READ,
    WRITE,
    Readiness,
    ReadyList,
    open_readiness,
)
from netpoll.backends.selectors.streams import end_whole, receive_whole
from netpoll.backends.selectors.tries import unblock
from netpoll.backends.sockets import SocketAssociation
from netpoll.backends.software import FAILURES, reacquire
from netpoll.overlapped import SENDS, Opcode, Overlapped
from netpoll.pools import Starved

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    Operation = Overlapped[Any]

_logger = logging.getLogger("netpoll")

NOT_READ: Final = ~READ
NOT_WRITE: Final = ~WRITE
FRUITLESS: Final = 10
"""Polls in a row that reported readiness and finished nothing, until the selector is replaced. A
descriptor that was closed here and lives on in another process is reported for ever (EMU-08), also
under the name of the next owner of its number. A needless replacement is harmless."""


class Channel(SocketAssociation):
    """A handle with its two queues, and what the selector is asked of it."""

    __slots__ = ("interest",)

    def __init__(
        self, handle: socket.socket, fd: int, watch: Callable[[Operation], object]
    ) -> None:
        reading: Direction[Operation] = Direction(watch)
        writing: Direction[Operation] = Direction(watch)
        super().__init__(handle, fd, reading, writing)
        self.interest: int = 0
        """What the selector is asked for. It follows the queues lazily: set when an operation has
        to wait, dropped when readiness finds nobody waiting, so a request/response loop changes
        nothing."""


def _bit(channel: Channel, line: Direction[Operation]) -> int:
    """The readiness that a line of the handle waits for."""
    return READ if line is channel.reading else WRITE


class SelectorsEngine(Engine):
    """OVERLAPPED operations over readiness."""

    __slots__ = (
        "_batch",
        "_blocked",
        "_changes",
        "_direct",
        "_fed",
        "_finished",
        "_fruitless",
        "_lock",
        "_paused",
        "_polls",
        "_readiness",
        "_registered",
        "_scarce",
        "_wake_fd",
        "_wake_in",
        "_wake_out",
        "_wakes",
        "_woken",
    )

    name = "selectors"

    def __init__(self, lock: threading.RLock, selector: str = "default") -> None:
        self._lock = lock
        self._readiness: Readiness = open_readiness(selector)
        self._batch = 1 if debugging.enabled(debugging.LIMITS) else BATCH
        self._registered: dict[int, Channel] = {}
        """By descriptor, those that the selector watches."""
        self._direct: dict[int, Channel] = {}
        """Those of them on which nothing but transfers can wait, which is the hot path."""
        self._finished: list[Operation] = []
        """What poll returns. It also holds ends that may not be seen within their start, and those
        of a poll that Ctrl-C broke off."""
        self._paused: dict[Direction[Operation], tuple[Channel, float]] = {}
        """Those whose next try nothing tells of, and when to make it."""
        self._fed: deque[Channel] = deque()
        """Sockets whose data has waited for a pool's buffer, which is there now. Filled from any
        thread, without the lock."""
        self._scarce = False
        self._fruitless = 0
        self._blocked = False
        self._woken = False
        self._polls = 0
        self._wakes = 0
        self._changes = 0
        self._wake_out, self._wake_in = socket.socketpair()
        self._wake_out.setblocking(False)
        self._wake_in.setblocking(False)
        self._wake_fd = self._wake_out.fileno()
        self._readiness.add(self._wake_fd, READ)

    # -- handles -----------------------------------------------------------------------------------

    def attach(self, handle: Any, fd: int) -> Channel:
        sockets.unblock(handle)
        return Channel(handle, fd, self._watch_for)

    def detach(self, association: Association) -> list[Operation]:
        channel = cast("Channel", association)
        self._watch(channel, 0)
        self._paused.pop(channel.writing, None)
        if self._paused.pop(channel.reading, None):
            self._scarce = any(line is each.reading for line, (each, _) in self._paused.items())
        sockets.about_to_close(channel)
        ended = self.pending(channel)
        # in place: a poll in another thread holds this list while it waits
        self._finished[:] = [each for each in self._finished if each._association is not channel]
        channel.reading.drain()
        channel.writing.drain()
        channel.polls = ()
        for operation in ended:
            self._end(operation, sockets.status_of_close(operation))
        self.refuse(channel, nt.STATUS_INVALID_HANDLE)
        return ended

    def shutdown(self, association: Association, how: int) -> None:
        sockets.shutdown(cast("Channel", association), how)

    def refuse(self, association: Association, status: int) -> None:
        cast("Channel", association).refuse(status)

    def report_unreachable(self, association: Association, on: bool) -> None:
        datagrams.switch_reports(cast("Channel", association), on)

    def report(self, channel: SocketAssociation) -> None:
        """A send has met the failure of an earlier datagram, which a receive is told of
        (EMU-18)."""
        head = channel.reading.head
        if head is None:
            channel.report()
            return
        channel.reading.remove(head)
        self._end(head, nt.STATUS_PORT_UNREACHABLE)
        self._finished.append(head)
        self.wake()

    # -- operations --------------------------------------------------------------------------------

    def prepare(self, operation: Operation) -> None:
        sockets.unblock(operation.handle)
        operations.prepare(self, operation)

    def start_connect(self, operation: Operation) -> bool:
        """A connect's verdict is never seen within its start, even where the system knows at once
        (CON-04)."""
        queue: Direction[Operation] = operation._queue
        queue.ready = True
        if queue.start(operation):
            return self.end_later(operation) if sockets.is_verdict(operation._final) else True
        return False

    def _watch_for(self, operation: Operation) -> None:
        """An operation has to wait: ask for the readiness of its direction.

        :raises OSError: the handle was closed, so there is nothing to wait for; or the selector has
            no room for it
        """
        channel = cast("Channel", operation._association)
        try:
            if not channel.alive():
                raise nt.make_exception(nt.STATUS_INVALID_HANDLE, inline=True)
            self._watch(channel, channel.interest | _bit(channel, operation._queue))
        except BaseException:
            operation._queue.remove(operation)  # it is not started
            raise

    def start_poll(self, operation: Operation) -> bool:
        """Ask for readiness, beside what the transfers of the handle wait for (EMU-33)."""
        channel = cast("Channel", operation._association)
        if channel.reading.refusal == nt.STATUS_INVALID_HANDLE or not channel.alive():
            operation._final = nt.STATUS_INVALID_HANDLE
            return True
        operation.transferred = 0
        channel.polls = (*channel.polls, operation)
        try:
            self._watch(channel, channel.interest | operation._socket_flags)
        except PermissionError:  # epoll takes nothing that is always ready, such as /dev/null
            polls.on_ready(channel, operation._socket_flags, self._finished)
            self.wake()
            return False
        except BaseException:
            channel.forget_poll(operation)
            raise
        self._direct.pop(channel.fd, None)
        return False

    def end_later(self, operation: Operation) -> bool:
        """It has ended within its start, which is not to be seen there."""
        self._finished.append(operation)
        self.wake()
        return False

    def cancel(self, operation: Operation, status: int) -> bool:
        channel = cast("Channel", operation._association)
        if operation.opcode in sockets.ALONE:
            found = channel.forget_poll(operation)
        else:
            found = operation._queue.remove(operation)
        if not found:
            return False
        self._end(operation, status)
        if channel.closing and channel.writing.head is None:
            sockets.send_fin(channel)
        return True

    def _end(self, operation: Operation, status: int) -> None:
        """End an operation that is in no queue any more, whatever it was in the middle of."""
        channel = cast("Channel", operation._association)
        if operation._perform is receive_whole and operation._native:
            end_whole(operation)  # what has come is not lost (CAN-10)
            return
        operation._final = status
        operation.transferred = 0  # also of a send that was under way (SEND-08)
        if operation.opcode in SENDS or operation.opcode is Opcode.WRITE:
            operation._native = None
        elif operation.opcode is Opcode.SENDFILE:
            operation._address.close()
        elif operation.opcode is Opcode.RECV_POOLED:
            if operation._native is not None:
                operation._address.leave(operation._native)
                operation._native = None
                self._feed(channel)  # the next in its line may fare better
        elif operation.opcode is Opcode.CONNECT:
            channel.writing.ready = True
            operation._perform = connect
            self.refuse(channel, 0)
        elif channel.first_receives and channel.waits_for_data(operation):
            self._end_first_receive(operation)

    def pending(self, association: Association) -> list[Operation]:
        channel = cast("Channel", association)
        return [
            *channel.reading.waiting(),
            *channel.writing.waiting(),
            *channel.first_receives,
            *channel.polls,
            *(each for each in self._finished if each._association is channel),
        ]

    # -- accept with data --------------------------------------------------------------------------

    def start_first_receive(self, operation: Operation, sock: socket.socket) -> bool:
        """An accept has its connection and now waits for data on it. `True` if that is there
        already."""
        # watched by hand: to the engine this operation belongs to the listener
        sock.setblocking(False)
        channel = operation._address = Channel(sock, sock.fileno(), id)
        operation._queue = channel.reading
        operation._perform = self._receive_first
        listener = cast("Channel", operation._association)
        listener.first_receives.append(operation)
        if channel.reading.start(operation):
            return True
        try:
            self._watch(channel, READ)
        except OSError:  # the selector has no room: this accept's failure, and nobody else's
            channel.reading.remove(operation)
            operation._final = nt.STATUS_INSUFFICIENT_RESOURCES
            operation.transferred = 0
            self._end_first_receive(operation)
            return True
        return False

    def _receive_first(self, operation: Operation) -> int:
        outcome = receive_first(operation)
        if outcome:
            self._end_first_receive(operation)
        return outcome

    def _end_first_receive(self, operation: Operation) -> None:
        """The operation is an accept of the listener's again, and its connection nobody's."""
        listener = cast("Channel", operation._association)
        self._watch(operation._address, 0)
        if operation._final >= FAILURES:
            operation._value[0].close()
            operation._value = None
        operation._address = None
        operation._queue = listener.reading
        operation._perform = accept
        listener.forget_first_receive(operation)

    # -- scarcity ----------------------------------------------------------------------------------

    def pause(self, operation: Operation, seconds: float) -> None:
        """Nothing tells when it is worth another try: stop listening to readiness, which would
        spin."""
        channel = cast("Channel", operation._association)
        self._paused[operation._queue] = channel, time.monotonic() + seconds

    def lacks_descriptor(self, operation: Operation, error: OSError) -> None:
        """There is none for the next connection."""
        if not self._scarce:
            self._scarce = True
            _logger.warning(
                "accepting pauses until a descriptor is free: %s; "
                "raise the limit (ulimit -n) or close connections",
                error.strerror,
            )
        self.pause(operation, sockets.SCARCITY_PAUSE)

    # -- pools without a buffer --------------------------------------------------------------------

    def starve(self, operation: Operation) -> bool:
        """A pool has no buffer for what is there: stop listening to readiness, which would spin,
        until it has. `False` if it has by now."""
        channel = cast("Channel", operation._association)
        if operation._native is None:
            starved = Starved(functools.partial(self._feed, channel))
            if not operation._address.wait(starved):
                return False
            operation._native = starved
        self._watch(channel, channel.interest & ~READ)
        return True

    def _feed(self, channel: Channel) -> None:
        self._fed.append(channel)
        self.interrupt()

    def _resume_fed(self) -> None:
        while self._fed:
            channel = self._fed.popleft()
            channel.reading.on_ready(self._finished)
            head = channel.reading.head
            if head is not None and not (head.opcode is Opcode.RECV_POOLED and head._native):
                self._watch(channel, channel.interest | READ)

    def _resume(self, finished: list[Operation]) -> None:
        now = time.monotonic()
        for line, (channel, when) in list(self._paused.items()):
            if when > now:
                continue
            del self._paused[line]
            line.on_ready(finished)
            if line in self._paused:
                continue
            if line is channel.reading:
                self._scarce = False
            if line.head is not None or channel.polls:
                self._watch(channel, channel.interest | _bit(channel, line))

    # -- readiness ---------------------------------------------------------------------------------

    def poll(self, timeout: float | None) -> list[Operation]:
        finished = self._finished
        if finished:
            timeout = 0
        if self._paused:
            pause = max(0.0, min(when for _, when in self._paused.values()) - time.monotonic())
            timeout = pause if timeout is None else min(timeout, pause)
        before = len(finished)
        self._polls += 1
        self._blocked = True
        lock = self._lock
        lock.release()
        # here and not in a function of its own, which would cost each turn 60 ns
        try:
            events = self._readiness.wait(timeout, self._batch)
        except (OSError, ValueError):
            events = None
        finally:
            try:
                lock.acquire()
            except BaseException:  # Ctrl-C while another thread had it
                if not lock._is_owned():  # type: ignore[attr-defined]
                    reacquire(lock)
                raise
            finally:
                self._blocked = False
        if events is None:
            events = self._wait_again()
        direct = self._direct
        for fd, ready in events:
            try:
                channel = direct[fd]
            except KeyError:
                self._on_other(fd, ready)
                continue
            if ready == READ:
                # the usual case, without the questions below
                reading = channel.reading
                head = reading.head
                if head is not None:
                    if reading.rest:
                        unblock(head)  # only the first try is sure not to wait
                        reading.on_ready(finished)
                        continue
                    # Direction.on_ready for a queue of one, without its call (60 ns a message)
                    perform = head._perform
                    outcome = perform(head)
                    reading.ready = outcome != EXHAUSTED and outcome != BLOCKED
                    if outcome != BLOCKED:
                        reading.head = None
                        if outcome != MOVED:
                            finished.append(head)
                    continue
            idle = 0
            if ready & NOT_WRITE:
                reading = channel.reading
                if reading.head is None:
                    reading.ready = True
                    idle = READ
                else:
                    reading.on_ready(finished)
            if ready & NOT_READ:
                writing = channel.writing
                if writing.head is None:
                    writing.ready = True
                    idle |= WRITE
                else:
                    writing.on_ready(finished)
                    if channel.closing and not writing.waiting():
                        sockets.send_fin(channel)
            if idle and channel.interest:
                self._watch(channel, channel.interest & ~idle)
        if self._paused:
            self._resume(finished)
            for line, (channel, _) in self._paused.items():
                self._watch(channel, channel.interest & ~_bit(channel, line))
        if len(finished) > before:
            self._fruitless = 0
        elif events and not (len(events) == 1 and events[0][0] == self._wake_fd):
            self._fruitless += 1
            if self._fruitless == FRUITLESS:
                self._fruitless = 0
                self._replace_selector()
        return finished

    def _on_other(self, fd: int, ready: int) -> None:
        """Readiness of a handle on which more than transfers may wait, or that nobody waits for."""
        channel = self._registered.get(fd)
        if channel is None:
            self._on_stray(fd)
            return
        finished = self._finished
        if not channel.alive():  # poll() says so; a transfer would find out by its try
            finished += self.detach(channel)
            return
        polls.on_ready(channel, ready, finished)
        idle = 0
        for direction, bit in ((channel.reading, READ), (channel.writing, WRITE)):
            if ready & ~(READ | WRITE) or ready & bit:
                if direction.head is None:
                    direction.ready = True
                    idle |= bit
                else:
                    if channel.file is None:
                        unblock(direction.head)
                    direction.on_ready(finished)
        if channel.closing and channel.writing.head is None:
            sockets.send_fin(channel)
        self._watch(channel, channel.interest & ~idle)
        if not channel.polls and channel.file is None and channel.interest:
            self._direct[fd] = channel

    def _wait_again(self) -> ReadyList:
        """poll() and select() tripped over a descriptor that was closed meanwhile: look again
        without such. Another thread may close one more just then, and again."""
        self._drop_closed()
        while True:
            try:
                return self._readiness.wait(0, self._batch)
            except (OSError, ValueError):
                if not self._drop_closed():
                    raise

    def _watch(self, channel: Channel, interest: int) -> None:
        """Ask the selector for `interest`, and for nothing else, of this handle."""
        before = channel.interest
        if interest == before:
            return
        fd = channel.fd
        self._changes += 1
        other = self._registered.get(fd)
        try:
            if not before:
                if other is not None:
                    self._evict(other)
                self._readiness.add(fd, interest)
                self._registered[fd] = channel
                if not channel.polls and channel.file is None:
                    self._direct[fd] = channel
            elif other is not channel:
                pass  # evicted: the number is somebody else's now
            elif interest:
                self._readiness.change(fd, interest)
            else:
                # not just empty: errors and hang-ups are reported whatever one asks for
                del self._registered[fd]
                self._direct.pop(fd, None)
                self._readiness.remove(fd)
        except (OSError, KeyError, ValueError):
            # closed, which took it out of the selector; the sweep will end what is pending on it
            if channel.alive():
                raise
        channel.interest = interest
        channel.reading.watched = bool(interest & READ)
        channel.writing.watched = bool(interest & WRITE)
        if self._blocked and not self._readiness.live:
            self.wake()

    def _evict(self, channel: Channel) -> None:
        """Its descriptor was closed behind our back, and the number is in use again."""
        del self._registered[channel.fd]
        self._direct.pop(channel.fd, None)
        with contextlib.suppress(
            OSError, KeyError, ValueError
        ):  # a selector may have noticed by itself
            self._readiness.remove(channel.fd)

    def _drop_closed(self) -> bool:
        """Take closed descriptors out of the selector; whether there were any."""
        closed = [each for each in self._registered.values() if not each.alive()]
        for channel in closed:
            self._watch(channel, 0)
        return bool(closed)

    def _on_stray(self, fd: int) -> None:
        """Readiness of a descriptor that nobody waits for."""
        if fd == self._wake_fd:
            self._woken = False
            with contextlib.suppress(BlockingIOError):
                while len(self._wake_out.recv(4096)) == 4096:
                    continue
            self._resume_fed()
            return
        try:
            self._readiness.remove(fd)
        except (OSError, KeyError, ValueError):
            # closed here, but open in another process or under another number: the selector reports
            # it for ever and cannot be told not to (EMU-08). Only a new selector is rid of it.
            self._replace_selector()

    def _replace_selector(self) -> None:
        old = self._readiness
        self._readiness = open_readiness(old.name)
        old.close()
        self._readiness.add(self._wake_fd, READ)
        for fd, channel in list(self._registered.items()):
            try:
                self._readiness.add(fd, channel.interest)
            except (OSError, ValueError):
                del self._registered[fd]
                self._direct.pop(fd, None)
                channel.interest = 0
                channel.reading.watched = channel.writing.watched = False

    # -- the engine as a whole ---------------------------------------------------------------------

    def wake(self) -> None:
        if self._blocked and not self._woken:
            self._woken = True
            self._wakes += 1
            self.interrupt()

    def interrupt(self) -> None:
        with contextlib.suppress(
            OSError
        ):  # full of wakes already, or closed: nobody is left to wake
            self._wake_in.send(b"\0")

    def close(self) -> None:
        self._readiness.close()
        self._registered.clear()
        self._finished.clear()  # what they have brought is nobody's any more
        self._direct.clear()
        self._wake_in.close()
        self._wake_out.close()

    def stats(self) -> dict[str, int]:
        return {"polls": self._polls, "wakes": self._wakes, "changes": self._changes}

    @staticmethod
    def capability(opcode: str) -> Capability:
        return operations.capability(opcode)
