"""One client: its sockets, the pumps between them, and the one moment at which all of that is
over.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import sys
from typing import TYPE_CHECKING, Final

import netpoll

if TYPE_CHECKING:
    from netpoll import Completion
    from netpoll.cli.servers.pump import Pump
    from netpoll.cli.servers.server import Server

# BSD and Linux have two ints there, Winsock two shorts
ABORT: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
"""SO_LINGER with no time to linger: closing resets the connection."""

# how a connection may end, as the report names it
ENDED = "ended"
RESET = "reset"
DROPPED = "dropped"
UNREACHED = "not connected upstream"


class Connection:
    """The key of its sockets: each of their completions comes to `completed`, in any thread.

    Two pumps of a connection may be advanced by two threads at once, and one of them may fail while
    the other is between two operations. So the end is counted: a pump leaves exactly once, by the
    end of its stream or by an error, and the last one to leave closes.

    :param sockets: associated with this connection by `open`, closed by it
    """

    def __init__(self, server: Server, *sockets: socket.socket) -> None:
        self.server = server
        self.port: netpoll.CompletionPort = server.port
        self.sockets: list[socket.socket] = list(sockets)
        self.pumps: tuple[Pump, ...] = ()
        self.outcome: str = ENDED
        self._users = 1
        """What still keeps the connection open: the pumps that run, and at first its opening."""
        self._finishing = False

    # -- its life --------------------------------------------------------------------------------

    def open(self) -> None:
        """Begin. Whatever goes wrong is this connection's failure, and ends nothing else."""
        try:
            for sock in self.sockets:
                self.adopt(sock)
            self.begin()
        except OSError as error:
            self.fail(error)
        self.leave()

    def adopt(self, sock: socket.socket) -> None:
        """Have the completions of `sock` come here.

        :raises OSError: it is broken already
        """
        self.port.associate(sock, self)
        # what comes in small pieces shall go on at once, and not wait to become a big one
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def begin(self) -> None:
        """Start what the connection is for.

        :raises OSError: it failed at once
        """
        self.run(*self.make_pumps())

    def make_pumps(self) -> tuple[Pump, ...]:
        """The pumps between the sockets."""
        raise NotImplementedError

    def run(self, *pumps: Pump) -> None:
        """Let the pumps run, each until the end of its stream.

        :raises OSError: one could not start. Those that could go on, until `fail` ends them
        """
        self.pumps = pumps
        for pump in pumps:
            self.enter()
            try:
                pump.start()
            except OSError:
                self.leave()
                raise

    def completed(self, completion: Completion) -> None:
        """An operation on one of the sockets has ended: go on from there, in whatever thread this
        is.
        """
        pump: Pump = completion.overlapped.context
        try:
            going = pump.advance(completion)
        except netpoll.OperationAborted as error:
            going = False
            self._interrupted(pump, error)
        except OSError as error:
            going = False
            self.fail(error)
        if not going:
            self.leave()

    def enter(self) -> None:
        """One more has the connection in use."""
        with self.server.lock:
            self._users += 1

    def leave(self) -> None:
        """One fewer has; the last one closes it."""
        with self.server.lock:
            self._users -= 1
            if self._users:
                return
        self._close()
        for pump in self.pumps:
            pump.release()
        self.pumps = ()
        self.server.ended(self)

    # -- its end ---------------------------------------------------------------------------------

    def fail(self, error: OSError) -> None:
        """One side is broken, so the other must not take what it got for all there was: reset
        both.
        """
        outcome = self.describe(error)
        # What fails after the reset, fails because of it: another thread may have been about to
        # start an operation on a socket that is closed by now. That is no failure to tell of.
        if self.drop(outcome) and outcome not in (RESET, UNREACHED):
            self.server.explain(outcome, str(error.strerror))

    def describe(self, error: OSError) -> str:
        """What the report calls a connection that ended like that."""
        # of a connection that was reset, shutdown() says that there is none
        if isinstance(error, ConnectionError) or error.errno == errno.ENOTCONN:
            return RESET
        return f"failed with {errno.errorcode.get(error.errno or 0, 'unknown')}"

    def drop(self, outcome: str = DROPPED) -> bool:
        """Reset the connection; `False` if that has been done. The operations in flight end with an
        error, and leave."""
        with self.server.lock:
            if self.outcome != ENDED:
                return False
            self.outcome = outcome
        for sock in self.sockets:
            with contextlib.suppress(OSError):  # closed, or never connected
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        self._close()
        return True

    def finish(self) -> None:
        """End it in order as soon as nothing is under way: what was received is sent, no more is
        received, both sides see the end of the stream."""
        self._finishing = True
        for pump in self.pumps:
            pump.interrupt()

    def _interrupted(self, pump: Pump, error: OSError) -> None:
        if not self._finishing:
            self.fail(error)
            return
        try:
            pump.end()
        except OSError as late:
            self.fail(late)

    def moved(self) -> int:
        """Bytes received from all sides; it stands still while nothing happens."""
        return sum(pump.moved for pump in self.pumps)

    def _close(self) -> None:
        for sock in self.sockets:
            if sock.fileno() >= 0:
                self.port.close_handle(sock)
