"""Clients that leave at any moment, in any way, through a relay with several threads."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import threading

import pytest
from cli.peers import connect, reset
from cli.running import Result, serve

from netpoll.testing.wine import wine_version

CLIENTS = 3000
AT_ONCE = 10
DATA = bytes(200_000)


def misbehave(address: tuple[str, int], chance: random.Random) -> None:
    """One client that does some of what a client does, and then goes."""
    with contextlib.suppress(OSError), connect(address) as client:
        if chance.random() < 0.8:
            client.sendall(DATA[: chance.choice((1, 1000, len(DATA)))])
            if chance.random() < 0.5:
                client.recv(chance.choice((1, 1000)))
        if chance.random() < 0.3:
            client.shutdown(chance.choice((socket.SHUT_WR, socket.SHUT_RDWR)))
        if chance.random() < 0.5:
            reset(client)


def outcomes(result: Result) -> dict[str, int]:
    """How the connections have ended, as the report has it."""
    lines = re.findall(r"^  (\w[\w .:-]*?) +([0-9,]+)$", result.out, re.MULTILINE)
    return {name: int(count.replace(",", "")) for name, count in lines if name != "at once"}


@pytest.mark.skipif(
    wine_version() is not None,
    reason=f"thousands of resets end the wineserver of Wine {wine_version()} now and then "
    "(release_object: obj->refcount), and all that runs under it hangs",
)
@pytest.mark.parametrize("threads", ["1", "4"])
def test_every_connection_ends_once(threads: str) -> None:
    with serve("echo", "--threads", threads) as echo:
        to = f"127.0.0.1:{echo.address[1]}"
        with serve("forward", "--to", to, "--threads", threads, "--drain", "20") as relay:
            address = relay.address

            def several(seed: int) -> None:
                chance = random.Random(seed)
                for _ in range(CLIENTS // AT_ONCE):
                    misbehave(address, chance)

            clients = [
                threading.Thread(target=several, args=(seed,), daemon=True)
                for seed in range(AT_ONCE)
            ]
            for client in clients:
                client.start()
            for client in clients:
                client.join(100)
            with connect(address) as polite:
                polite.sendall(b"still there")
                assert polite.recv(100) == b"still there"
            results = [relay.stop(), echo.stop()]
    for result in results:
        assert result.code == 0, result
        assert "Traceback" not in result.err
        assert "Warning" not in result.err
        served = re.search(r"served ([0-9,]+) connections", result.out)
        assert served is not None
        ended = outcomes(result)
        assert sum(ended.values()) == int(served[1].replace(",", "")), result.out
        assert set(ended) <= {"ended", "reset", "not connected upstream", "dropped"}, result.out
    assert outcomes(results[0])["reset"] > 0
