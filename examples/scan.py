"""Which ports of the loopback have a server? `python scan.py 8000-8999` asks many of them at
once.
"""

import argparse
import socket
from collections import Counter
from collections.abc import Iterable, Iterator

import netpoll

HOST = "127.0.0.1"


def scan(numbers: Iterable[int], at_once: int, seconds: float) -> Iterator[tuple[int, str]]:
    """Try to connect to each of the ports; yields the number and what came of it, as it comes.

    :param at_once: connects in flight, at most
    :param seconds: how long each may take
    """
    waiting = iter(numbers)
    in_flight = 0
    with netpoll.CompletionPort() as port:
        while True:
            while in_flight < at_once and (number := next(waiting, None)) is not None:
                sock = socket.socket()
                port.associate(sock, number)
                port.connect(sock, (HOST, number), timeout=seconds)
                in_flight += 1
            if not in_flight:
                return
            for completion in port.get_many():
                in_flight -= 1
                sock = completion.overlapped.handle
                yield completion.key, verdict(sock, completion)
                port.close_handle(sock)


def verdict(sock: socket.socket, completion: netpoll.Completion) -> str:
    """What a finished connect says about the port."""
    try:
        completion.result()
    except ConnectionRefusedError:
        return "closed"
    except TimeoutError:
        return "silent"
    except OSError as error:
        return f"failed: {error.strerror}"
    # TCP lets a socket connect to itself, if the system happens to give it that very port. The peer
    # is not asked for its name: it may be gone already.
    return "closed" if sock.getsockname() == (HOST, completion.key) else "open"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ports", metavar="FIRST-LAST", help="the range, both included")
    parser.add_argument("--at-once", type=int, default=100, help="connects in flight (100)")
    parser.add_argument("--timeout", type=float, default=1.0, help="seconds for each (1)")
    options = parser.parse_args()
    first, _, last = options.ports.partition("-")
    numbers = range(int(first), int(last or first) + 1)
    counts: Counter[str] = Counter()
    for number, found in scan(numbers, options.at_once, options.timeout):
        counts[found] += 1
        if found not in ("closed", "silent"):
            print(f"{HOST}:{number} {found}", flush=True)
    print(", ".join(f"{count} {found}" for found, count in sorted(counts.items())))


if __name__ == "__main__":
    main()
