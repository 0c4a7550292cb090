"""Sends that go out with the next system call, and tell of their failure only.

What is written in a turn is joined, an entry for each connection queues up with those of the
operations, and the kernel is asked for no completion unless something goes wrong
(IOSQE_CQE_SKIP_SUCCESS). With MSG_DONTWAIT such a send is over when the system call that hands it
over returns; what did not fit comes back to its owner, who sends it by an operation.

That is no operation of the port's interface: nothing is pending, nothing can be cancelled. It is
what the event loop's transports write with, and 2 of the 10 µs that a message cost them with a
`send()` of its own.
"""

from __future__ import annotations

import errno
import weakref
from typing import TYPE_CHECKING, Final

from netpoll import debugging
from netpoll.backends import sockets
from netpoll.backends.io_uring import constants as uring
from netpoll.backends.io_uring.entries import ADDRESS, ADDRESS_AND_LENGTH, MSG_WAITALL, NEVER, SQE
from netpoll.backends.io_uring.library import address_of
from netpoll.pools import anonymous

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll.backends.base import StagingOwner
    from netpoll.backends.io_uring.engine import IoUringEngine

AREA: Final = 64 << 10
"""Bytes that a turn writes without memory of its own."""
LARGEST: Final = 16 << 10
"""Bytes of one connection's in one turn. To copy more costs about what its system call does."""
FLAGS: Final = sockets.DONTWAIT | sockets.NOSIGNAL | MSG_WAITALL
"""WAITALL, so that a part of it counts as a failure, and is told."""
PATIENCE: Final = 100
"""System calls in which the kernel may have no room for an entry."""


class StagedSend:
    """What one connection has staged."""

    __slots__ = ("data", "entry", "error", "flying", "owner", "token")

    # as an operation in the engine's table: no result is plain success, and nothing is pending
    _least = NEVER
    _final = 0

    def __init__(self, token: int, fd: int, owner: StagingOwner) -> None:
        self.token: int = token
        self.owner: weakref.ref[StagingOwner] = weakref.ref(owner)
        self.entry: bytearray = bytearray(uring.SQE_SIZE)
        SQE.pack_into(
            self.entry,
            0,
            uring.IORING_OP_SEND,
            uring.IOSQE_CQE_SKIP_SUCCESS,
            0,
            fd,
            0,
            0,
            0,
            FLAGS,
            token,
        )
        self.data: bytes = b""
        """What is staged, until it is known to be out; once it has failed, what is left of it."""
        self.flying: bool = False
        """Its entry is on its way, or how it ended is not known yet."""
        self.error: int | None = None
        """Once it has failed: an errno, or 0 if there was only no room for all of it. The owner
        takes `data` then, and sets both back."""

    def take_back(self) -> bytes:
        """What did not go out: the owner has seen the failure."""
        rest, self.data, self.error = self.data, b"", None
        return rest


class Staging:
    """The staged sends of a port."""

    def __init__(self, engine: IoUringEngine) -> None:
        self._engine = engine
        self._largest = 256 if debugging.enabled(debugging.LIMITS) else LARGEST
        self.pending: list[StagedSend] = []
        """What was written since the last system call. Filled without the lock, by one thread."""
        self.flying: list[StagedSend] = []
        # what their entries point to: to ask for the address of some bytes takes 0.4 us a turn
        self._area = anonymous(AREA)
        self._base = address_of(self._area)
        self._area_free = True
        self._memory: list[bytes] = []
        """For more than that."""
        self._enabled = False
        self._retired: list[int] = []
        """Tokens of which a failure may still come."""
        self.write: Callable[[StagedSend, bytes], bool] = self._make_write()
        """Stage `data`, at most `LARGEST` bytes, behind what the connection has staged in this
        turn. `False` if that cannot be: then `flush`, and look whether it failed."""

    def enable(self, on: bool) -> None:
        """Whether somebody waits on the port again and again: only then is anything staged."""
        with self._engine._lock:
            self._enabled = on
            if not on:
                self._hand_over(lambda: not self.pending and not self.flying)

    def open(self, fd: int, owner: StagingOwner) -> StagedSend:
        """For a new connection.

        :param owner: held weakly
        """
        engine = self._engine
        with engine._lock:
            token = engine._new_token()
            stage = engine._table[token] = StagedSend(token, fd, owner)
        return stage

    def close(self, stage: StagedSend) -> None:
        """The connection is about to be closed. Takes no lock, for the sake of finalizers; what is
        staged and not handed over is lost."""
        stage.entry[0] = uring.IORING_OP_NOP
        self._engine._table[stage.token] = None
        self._retired.append(stage.token)

    def flush(self, stage: StagedSend) -> None:
        """Hand over what is staged; afterwards it is known whether this one has failed.

        :raises OSError: the kernel takes no entries
        """
        if stage.data:
            with self._engine._lock:
                self._hand_over(lambda: not stage.data or stage.error is not None)

    def _hand_over(self, done: Callable[[], bool]) -> None:
        for _ in range(PATIENCE):
            if done():
                return
            self._engine.flush()
            self.confirm()
        raise OSError(errno.ENOMEM, "io_uring_enter takes no entries: no memory for requests")

    # -- writing -----------------------------------------------------------------------------------

    def _make_write(self) -> Callable[[StagedSend, bytes], bool]:
        """Once a message of every protocol: over closed-over names, and without the lock."""
        engine, append = self._engine, self.pending.append

        def write(stage: StagedSend, data: bytes) -> bool:
            if stage.data or not self._enabled:
                return self._write_behind(stage, data)
            stage.data = data
            append(stage)
            if engine._blocked:  # another thread waits: it has to take it along
                engine.interrupt()
            return True

        return write

    def _write_behind(self, stage: StagedSend, data: bytes) -> bool:
        """A write behind one whose outcome is not known."""
        with self._engine._lock:
            if stage.flying:
                self._engine._take_in()  # needs no system call
                self.confirm()
            if not self._enabled or stage.flying or stage.error is not None:
                return False
            if not stage.data:
                return self.write(stage, data)
            if len(stage.data) + len(data) > self._largest:
                return False
            stage.data += data
            return True

    # -- what the engine does, with the lock held --------------------------------------------------

    def queue(self) -> None:
        """Queue entries for what is pending."""
        pending, flying = self.pending, self.flying
        batch = pending[:]
        joined = batch[0].data if len(batch) == 1 else b"".join([stage.data for stage in batch])
        if self._area_free and len(joined) <= AREA:
            self._area_free = False
            self._area[: len(joined)] = joined
            at = self._base
        else:
            at = address_of(joined)
            self._memory.append(joined)
        pack_into = ADDRESS_AND_LENGTH.pack_into
        for stage in batch:
            size = len(stage.data)
            pack_into(stage.entry, ADDRESS, at, size)
            at += size
            stage.flying = True
        entries = [stage.entry for stage in batch]
        count = len(batch)
        # no call between these, so that Ctrl-C cannot come between
        self._engine._queued += entries
        flying += batch
        del pending[:count]

    def confirm(self) -> None:
        """See whether those that were handed over are over: there is no completion left that could
        tell of a failure."""
        engine = self._engine
        ring = engine._ring
        # written out: two calls less in each turn
        words = ring._words
        if engine._queued or ring._sq_tail != words[ring._sq_head_word]:
            return
        self._area_free = True
        self._memory.clear()
        if engine._batch or ring._cq_head != words[ring._cq_tail_word]:
            return
        for stage in self.flying:
            if stage.flying:
                stage.flying = False
                stage.data = b""
        self.flying.clear()
        if self._retired and not self.pending:
            engine._tokens += self._retired
            self._retired.clear()

    def failed(self, stage: StagedSend, result: int) -> None:
        """The kernel told of one: bytes that went out, or a negative errno."""
        if not stage.flying:
            return  # it was told, but Ctrl-C came before that was noted
        stage.data = stage.data[max(result, 0) :]
        stage.error = 0 if result in (-errno.EAGAIN, -errno.EINTR) or result >= 0 else -result
        stage.flying = False
        owner = stage.owner()
        if owner is not None:
            owner.staged_send_failed()
