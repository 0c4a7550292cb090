"""Running programs as a user does: a process, its output, signals, its exit code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cli.interrupts import FLAGS, INTERRUPTS, send

from netpoll.testing.waiting import DEADLINE, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Self

LISTENING = re.compile(r"listening on (?:port )?(?:\[?([0-9a-f.:]+?)\]?:)?(\d+)\n")
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@dataclass(frozen=True)
class Result:
    """How a program ended."""

    code: int
    out: str
    err: str


class Running:
    """A Python program that runs until the block ends.

    :param arguments: of Python: `-m netpoll serve echo`
    :param environment: variables to set, or to unset where the value is `None`
    :param prefix: a command that runs Python
    :param directory: where to run it
    """

    def __init__(
        self,
        *arguments: str,
        environment: Mapping[str, str | None] | None = None,
        prefix: Sequence[str] = (),
        directory: Path | None = None,
    ) -> None:
        # files, because pipes that nobody reads fill up
        self._out = tempfile.TemporaryFile()  # noqa: SIM115  closed by __exit__
        self._err = tempfile.TemporaryFile()  # noqa: SIM115
        variables = {**os.environ, "PYTHONUNBUFFERED": "", "COLUMNS": "100", **(environment or {})}
        # a socket that is left to the garbage collector shows on stderr
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-W", "always::ResourceWarning", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            env={name: value for name, value in variables.items() if value is not None},
            cwd=directory,
            creationflags=FLAGS,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        self._out.close()
        self._err.close()

    @property
    def out(self) -> str:
        """What it has printed so far."""
        return _content(self._out.fileno())

    @property
    def err(self) -> str:
        """What it has complained of so far."""
        return _content(self._err.fileno())

    def wait_for_output(self, text: str, *, err: bool = False) -> None:
        """Return as soon as it has printed `text`.

        :raises AssertionError: it ended without
        """

        def printed() -> bool:
            ended = self.process.poll() is not None
            if text in (self.err if err else self.out):
                return True
            assert not ended, f"ended with {self.process.returncode}: {self.out}{self.err}"
            return False

        wait_until(printed, f"the output {text!r}")

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens, as soon as it has said so."""
        self.wait_for_output("\n")
        match = LISTENING.match(self.out)
        assert match is not None, f"no address in {self.out!r}, {self.err!r}"
        return match[1] or "127.0.0.1", int(match[2])

    def signal(self, number: int = INTERRUPTS[0]) -> None:
        """Send it a signal."""
        send(self.process, number)

    def ended(self, timeout: float = DEADLINE) -> Result:
        """Wait for its end.

        :raises subprocess.TimeoutExpired: it goes on
        """
        code = self.process.wait(timeout)
        return Result(code, self.out, self.err)

    def stop(self, number: int = INTERRUPTS[0]) -> Result:
        """Send it a signal and wait for its end."""
        self.signal(number)
        return self.ended()


def _content(descriptor: int) -> str:
    """The whole file, without moving the position that the program writes at."""
    size = os.fstat(descriptor).st_size
    if sys.platform == "win32":
        os.lseek(descriptor, 0, os.SEEK_SET)
        data = os.read(descriptor, size)
    else:
        data = os.pread(descriptor, size, 0)
    return data.decode().replace("\r\n", "\n")


def run(*arguments: str, environment: Mapping[str, str | None] | None = None) -> Result:
    """Run `netpoll` with these arguments, to its end."""
    with Running("-m", "netpoll", *arguments, environment=environment) as running:
        return running.ended(timeout=100)


def serve(
    *arguments: str,
    environment: Mapping[str, str | None] | None = None,
    prefix: Sequence[str] = (),
) -> Running:
    """Start `netpoll serve` with these arguments."""
    return Running("-m", "netpoll", "serve", *arguments, environment=environment, prefix=prefix)


def example(
    name: str, *arguments: str, environment: Mapping[str, str | None] | None = None
) -> Running:
    """Start one of the examples."""
    return Running(str(EXAMPLES / name), *arguments, environment=environment)
