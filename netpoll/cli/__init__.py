"""The command `netpoll`, also `python -m netpoll`: one file for each subcommand.

Exit codes: 0 done; 1 it was done and the answer is no (no usable backend, backends that disagree, a
statement that is not kept); 2 it could not be done, with one line that names the cure.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from typing import TYPE_CHECKING, NoReturn

import netpoll
from netpoll.cli import conformance, demo, doctor, serve
from netpoll.cli.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = (doctor, demo, serve, conformance)

EXAMPLES = """\
examples:
  netpoll doctor                         what this machine can do, and what it would use
  netpoll demo                           one OVERLAPPED program on every backend, side by side
  netpoll serve echo                     an echo server on a free loopback port
  netpoll serve forward --to HOST:PORT   a relay in front of any TCP server
  netpoll conformance                    which statements of the contract each backend keeps

'netpoll COMMAND --help' says more about each.
"""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, instead of burying it under the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see '{self.prog} --help'\n")


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command; each subcommand's module fills in its own."""
    parser = Parser(
        prog="netpoll",
        description="Completion ports for Python: look at the backends, try them, serve with them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"netpoll {netpoll.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        name = command.__name__.rpartition(".")[2]
        subparser = commands.add_parser(
            name,
            help=command.SUMMARY,
            description=command.DESCRIPTION,
            epilog=command.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run, command=f"{parser.prog} {name}")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    :param arguments: instead of those of the process
    :return: the exit code
    """
    options = make_parser().parse_args(arguments)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except CommandError as error:
        print(f"{options.command}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if not isinstance(error, BrokenPipeError) and not _is_broken_pipe_on_windows(error):
            raise
        # whoever read our output has seen enough; and Python shall not try to flush it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130  # as a shell reports it: 128 + SIGINT


def _is_broken_pipe_on_windows(error: OSError) -> bool:
    """There, writing to a pipe that nobody reads any more is EINVAL, with no Windows number."""
    return sys.platform == "win32" and error.errno == errno.EINVAL and not error.winerror
