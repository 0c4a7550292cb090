"""`netpoll serve`: real servers on one completion port."""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import socket
import sys
from dataclasses import dataclass
from queue import Empty
from typing import TYPE_CHECKING, Final

from netpoll.cli import limits
from netpoll.cli.errors import CommandError
from netpoll.cli.live import Screen, ScreenHandler, open_screen
from netpoll.cli.options import (
    LOOPBACK,
    add_backend_options,
    explain,
    look_up,
    open_port,
    parse_address,
    parse_size,
    show_address,
)
from netpoll.cli.servers.forward import Forward
from netpoll.cli.servers.report import show_live, show_report
from netpoll.cli.servers.server import TICK, Server
from netpoll.cli.servers.services import Discard, Echo, Service

if TYPE_CHECKING:
    from collections.abc import Generator
    from queue import SimpleQueue

SUMMARY = "an echo, discard or relay server on one completion port"
COMMON = """
It prints the address it listens on, and when it ends what it has done; on a terminal also what it
is doing just now. Ctrl-C and SIGTERM end it: no more clients are accepted, connections finish what
they are in the middle of (--drain), then it reports and exits with code 0. A second Ctrl-C resets
at once what is left.
"""
DESCRIPTION = f"""\
A TCP server on one completion port.
{COMMON}
The limit of open files is raised as far as the system lets it; at the limit, accepting pauses until
a connection ends. 'netpoll serve KIND --help' has the options, and says what each kind costs.
"""
EXAMPLES = """\
examples:
  netpoll serve echo --listen 127.0.0.1:7000          then: nc 127.0.0.1 7000
  netpoll serve forward --to 127.0.0.1:8000           in front of: python -m http.server
"""


@dataclass(frozen=True)
class Kind:
    """One of the servers, as its help tells of it."""

    summary: str
    description: str
    """What is its own."""
    examples: str
    buffer: str
    """The size of a buffer, unless told otherwise."""


KINDS: Final = {
    "echo": Kind(
        "sends back what comes",
        """\
A TCP server that sends back what comes, in order.

Memory: one buffer for each connection. What has been received is sent back whole before more is
received, so a client that does not read is not read from either. When a client ends its stream, it
gets the rest and then the end. Each client takes one open file.
""",
        """\
examples:
  netpoll serve echo --listen 127.0.0.1:7000     then: nc 127.0.0.1 7000
  netpoll serve echo --backend selectors --selector poll
""",
        "16K",
    ),
    "discard": Kind(
        "throws away what comes",
        """\
A TCP server that throws away what comes, and sends nothing.

Memory: one buffer for each connection, which each receive fills anew. When a client ends its
stream, the connection is closed. Each client takes one open file.
""",
        """\
examples:
  netpoll serve discard --listen 127.0.0.1:7000 --buffer 1M
  netpoll serve discard --threads 4
""",
        "16K",
    ),
    "forward": Kind(
        "relays both ways to the server that --to names",
        """\
A TCP relay: for each client it connects to the server that --to names, and passes on what comes,
both ways.

Memory: one buffer for each direction, so 2 x --buffer (2 x 64 KiB unless told otherwise) for each
relayed connection, whatever the two sides do; what is received is sent whole before more is
received, so a slow reader slows its writer. What the system buffers in its sockets comes on top.
Each client takes two open files.

Ends: the end of a stream is passed on, and the other direction lives on. When one side is reset, so
is the other: half of the data shall not look like all of it. A client whose server cannot be
reached is reset.
""",
        """\
examples:
  netpoll serve forward --to 127.0.0.1:8000      in front of: python -m http.server
  netpoll serve forward --listen [::1]:7000 --to localhost:8000 --threads 4
""",
        "64K",
    ),
}
BACKLOG: Final = 4096
"""Clients that the system may keep waiting to be accepted; it lowers this as it likes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(title="kinds", dest="kind", metavar="KIND", required=True)
    for name, kind in KINDS.items():
        subparser = kinds.add_parser(
            name,
            help=kind.summary,
            description=kind.description + COMMON,
            epilog=kind.examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        _add_options(subparser, name)


def _add_options(parser: argparse.ArgumentParser, name: str) -> None:
    add = parser.add_argument
    add(
        "--listen",
        metavar="HOST:PORT",
        default=f"{LOOPBACK}:0",
        help="where to listen; IPv6 in brackets (default: %(default)s, a free port)",
    )
    if name == "forward":
        add("--to", metavar="HOST:PORT", help="the other server; a name is looked up once")
        add(
            "--connect-timeout",
            metavar="SECONDS",
            type=float,
            default=10.0,
            help="for each try to connect to it (default: %(default)g)",
        )
    else:
        add("--to", help=argparse.SUPPRESS)  # taken, so that the error says whose it is
    add_backend_options(parser)
    add("--threads", metavar="N", type=int, default=1, help="threads on the port (default: 1)")
    add(
        "--buffer",
        metavar="SIZE",
        default=KINDS[name].buffer,
        help="bytes of each buffer, with K or M (default: %(default)s)",
    )
    add(
        "--drain",
        metavar="SECONDS",
        type=float,
        default=5.0,
        help="how long connections may go on after the first Ctrl-C (default: %(default)g)",
    )
    add("--quiet", action="store_true", help="no figures and no report")


def run(options: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    for name in ("connect_timeout", "drain"):
        if not getattr(options, name, 0) >= 0:
            raise CommandError(f"--{name.replace('_', '-')} is a number of seconds, 0 or more")
    if not 1 <= options.threads <= 256:
        raise CommandError(f"--threads is 1 to 256, not {options.threads}")
    service = _make_service(options)
    limits.raise_open_files()
    with (
        open_port(options.backend, options.selector) as port,
        _listen(options.listen) as listener,
    ):
        server = Server(port, listener, service, options.threads)
        with _signals(server.events):
            print(f"listening on {show_address(listener.getsockname())}", flush=True)
            with open_screen(quiet=options.quiet) as screen, _logging_to(screen):
                server.start()
                _watch(server, screen)
                _end(server, screen, options.drain, quiet=options.quiet)
        if not options.quiet:
            print(show_report(server.figures()), flush=True)
    return 0


def _make_service(options: argparse.Namespace) -> Service:
    """
    :raises CommandError: the options do not fit each other
    """
    size = parse_size(options.buffer, "--buffer")
    if options.kind != "forward":
        if options.to:
            raise CommandError(f"--to is for forward; {options.kind} has no other server")
        return Echo(size) if options.kind == "echo" else Discard(size)
    if not options.to:
        raise CommandError("forward needs --to HOST:PORT, the server to relay to")
    addresses = look_up(*parse_address(options.to, "--to"), "--to")
    service = Forward(addresses, size, options.connect_timeout)
    try:
        service.prepare().close()
    except OSError as error:
        raise CommandError(
            f"--to {options.to!r}: {explain(error)}; does this machine have that kind of address?"
        ) from None
    return service


def _listen(text: str) -> socket.socket:
    """
    :raises CommandError: nobody can listen there
    """
    family, address = look_up(*parse_address(text, "--listen"), "--listen")[0]
    try:
        return socket.create_server(address, family=family, backlog=BACKLOG)
    except OSError as error:
        raise CommandError(
            f"cannot listen on {show_address(address)}: {explain(error)}; "
            f"name another address with --listen HOST:PORT (port 0 takes a free one)"
        ) from None


@contextlib.contextmanager
def _signals(events: SimpleQueue[object]) -> Generator[None]:
    """Put Ctrl-C and SIGTERM into `events`, which a signal handler may do whatever it interrupts.
    The third one ends the process, should the server not be able to."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if sys.platform == "win32":
        numbers.append(signal.SIGBREAK)
    before = {number: signal.getsignal(number) for number in numbers}
    count = 0

    def handle(number: int, _frame: object) -> None:
        nonlocal count
        count += 1
        if count > 1:
            signal.signal(number, before[signal.Signals(number)])
        events.put(signal.Signals(number))

    for number in numbers:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _logging_to(screen: Screen) -> Generator[None]:
    logger = logging.getLogger("netpoll")
    handler = ScreenHandler(screen)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _watch(server: Server, screen: Screen) -> None:
    """Show what happens until a signal comes.

    :raises BaseException: what one of the server's threads raised
    """
    before = server.figures()
    while True:
        try:
            # not for ever: Windows cannot interrupt that, and other systems may give the signal to
            # another thread, which does not wake this one
            event = server.events.get(timeout=TICK)
        except Empty:
            now = server.tick()
            screen.update(show_live(now, before))
            before = now
        else:
            if isinstance(event, signal.Signals):
                return
            if isinstance(event, BaseException):
                raise event


def _end(server: Server, screen: Screen, seconds: float, *, quiet: bool) -> None:
    server.stop_accepting()
    left = server.figures().connections
    if left and not quiet:
        connections = "connection has" if left == 1 else "connections have"
        screen.note(
            f"netpoll: no more clients; {left:,} {connections} {seconds:g} s to finish "
            f"(Ctrl-C again resets what is left)"
        )
    server.drain(seconds)
    server.close()
