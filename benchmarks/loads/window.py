"""What the loads in Python share: the options, the orders on standard input, and the clocks."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

STEP = 0.004
"""Seconds between two looks at the server's clock, which moves once in so long at the latest..."""
STEPS = 5
"""... and so many looks that find it unmoved prove that the server sleeps."""
PATIENCE = 10.0
"""Seconds after which a server that does not come to rest is a failure."""
CPU_CLOCK = 2
"""What makes a clock's number of a process's (Linux: clock_getcpuclockid(3))."""


class LoadFailed(Exception):
    """The server did what it should not. One line on standard error, and the exit status 1."""


@dataclass(frozen=True)
class Options:
    """Some of those of `load.c`, with the same names."""

    port: int
    active: int
    size: int
    server: int

    @classmethod
    def parse(cls) -> Self:
        parser = argparse.ArgumentParser()
        for name in ("port", "active", "size", "server"):
            parser.add_argument(f"--{name}", type=int, required=True)
        return cls(**vars(parser.parse_args()))


class ServerClock:
    """The CPU time of another process. It is exact while that sleeps: the kernel brings the clock
    of one that runs up to date only now and then."""

    def __init__(self, pid: int) -> None:
        self._clock = (~pid << 3) | CPU_CLOCK

    def at_rest(self) -> float:
        """Return its seconds, once it has gone to sleep.

        :raises LoadFailed: it does not, or it has ended
        """
        deadline = time.monotonic() + PATIENCE
        before, unmoved = self._read(), 0
        while unmoved < STEPS:
            time.sleep(STEP)
            now = self._read()
            unmoved = unmoved + 1 if now == before else 0
            before = now
            if time.monotonic() > deadline:
                raise LoadFailed(f"the server is not at rest after {PATIENCE:.0f} s")
        return before

    def _read(self) -> float:
        try:
            return time.clock_gettime(self._clock)
        except OSError as error:
            raise LoadFailed(f"reading a clock: {error} (has the server ended?)") from None


@dataclass(frozen=True)
class Traffic:
    """What went there and back in a window."""

    messages: int
    seconds: float
    load_cpu: float


def obey(options: Options, connections: int, measure: Callable[[float], Traffic]) -> None:
    """Say that the load is ready; then a window for each line ``seconds S``, and its line of JSON,
    to the end of the standard input."""
    clock = ServerClock(options.server)
    print(json.dumps({"connections": connections}), flush=True)
    for line in sys.stdin:
        order, _, seconds = line.partition(" ")
        if order != "seconds":
            raise LoadFailed(f"not a command: {line.strip()}")
        before = clock.at_rest()
        traffic = measure(float(seconds))
        server = clock.at_rest() - before
        print(json.dumps({**vars(traffic), "server_cpu": server}), flush=True)


def run(main: Callable[[Options], None]) -> None:
    """The whole of a load: ``main`` with its options."""
    try:
        main(Options.parse())
    except (LoadFailed, OSError) as error:
        sys.exit(f"load: {error}")
