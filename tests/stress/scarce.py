"""Run on its own: a port that runs out of file descriptors while it accepts.

In a process of its own because it lowers the limit of open files, and uses every one that is left.
Prints what happened, as JSON.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import time
from typing import Any

from netpoll import CompletionPort

assert sys.platform != "win32"
import resource  # noqa: E402

LIMIT = 64
CLIENTS = 4


class Warnings(logging.Handler):
    """Counts what is said, without needing a descriptor."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def main(backend: str, options: str, order: str) -> dict[str, Any]:
    warnings = Warnings()
    logging.getLogger("netpoll").addHandler(warnings)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, most))
    report: dict[str, Any] = {}
    with CompletionPort(backend, **json.loads(options)) as port:
        listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        port.associate(listener, "listener")
        near, far = socket.socketpair()
        port.associate(near, "pair")
        clients = [socket.socket() for _ in range(CLIENTS)]
        if order == "accept-first":
            for _ in clients:
                port.accept(listener)
        for client in clients:
            client.connect(listener.getsockname())
        spare = exhaust()
        if order == "accept-later":
            for _ in clients:
                port.accept(listener)

        report["while_scarce"] = watch(port, 1.0)
        report["warnings"] = list(warnings.messages)

        # the rest of the port works all the while
        port.recv(near, 10)
        far.sendall(b"alive")
        completion = port.get(5.0)
        report["others"] = completion.result().decode() if completion else None

        os.close(spare.pop())
        completion = port.get(5.0)
        accepted = [completion.result()[0]] if completion else []
        report["after_one"] = len(accepted)
        report["while_scarce_again"] = watch(port, 1.0)

        while spare:
            os.close(spare.pop())
        while len(accepted) < CLIENTS and (completion := port.get(5.0)):
            accepted.append(completion.result()[0])
        report["after_all"] = len(accepted)
        report["all_warnings"] = list(warnings.messages)
        report["pending"] = len(port.inflight())
        for sock in (*accepted, *clients, listener, near, far):
            sock.close()
    return report


def exhaust() -> list[int]:
    """Take every descriptor that is left."""
    taken: list[int] = []
    while True:
        try:
            taken.append(os.dup(0))
        except OSError:
            return taken


def watch(port: CompletionPort, seconds: float) -> dict[str, Any]:
    """Wait on a port that cannot go on: what came, how often it looked, what that cost."""
    polls, burned = port.stats()["polls"], time.process_time()
    completion = port.get(seconds)
    return {
        "completion": repr(completion),
        "polls": port.stats()["polls"] - polls,
        "processor_seconds": time.process_time() - burned,
    }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
