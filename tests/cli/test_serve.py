"""`netpoll serve`: what each server does, how it ends, and how it refuses."""

from __future__ import annotations

import contextlib
import re
import socket
import sys
from typing import TYPE_CHECKING

import pytest
from cli.interrupts import INTERRUPTS
from cli.peers import connect, listener, read_all, reset
from cli.running import Result, Running, run, serve

from netpoll import backends
from netpoll.backends.selectors import readiness
from netpoll.testing.waiting import DEADLINE
from netpoll.testing.waiting import run as start

if TYPE_CHECKING:
    from collections.abc import Generator

BIG = bytes(range(256)) * 4096
"""A mebibyte: more than any buffer of a server, less than what the test can keep."""


def reported(result: Result, name: str) -> int:
    """A number of the final report; 0 where the report does not have it."""
    match = re.search(rf"^  {name} +([0-9,]+)", result.out, re.MULTILINE)
    return int(match[1].replace(",", "")) if match else 0


def check(result: Result, connections: int | None = None) -> None:
    """It ended in good order, and said what it had done."""
    assert result.code == 0, result
    # a connection that the test has closed may still be there when the signal comes
    complaints = [line for line in result.err.splitlines() if "no more clients" not in line]
    assert complaints == []
    match = re.search(r"^served ([0-9,]+) connections", result.out, re.MULTILINE)
    assert match is not None, result.out
    if connections is not None:
        assert int(match[1].replace(",", "")) == connections


@contextlib.contextmanager
def relay(*arguments: str) -> Generator[tuple[Running, socket.socket, socket.socket]]:
    """`forward`, a client of it, and the other end of what it has connected for that client."""
    with listener() as upstream:
        to = f"127.0.0.1:{upstream.getsockname()[1]}"
        with serve("forward", "--to", to, *arguments) as server, connect(server.address) as client:
            far, _ = upstream.accept()
            far.settimeout(DEADLINE)
            with far:
                yield server, client, far


# -- what they do
# ------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", ["1", "4"])
@pytest.mark.parametrize("selector", readiness.available())
def test_echo(selector: str, threads: str) -> None:
    with serve("echo", "--selector", selector, "--threads", threads) as server:
        clients = [connect(server.address) for _ in range(20)]
        for client in clients:
            sending = start(client.sendall, BIG)
            received = b""
            while len(received) < len(BIG):
                received += client.recv(1 << 16)
            sending.result()
            assert received == BIG
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""
            client.close()
        result = server.stop()
    check(result, connections=20)
    assert reported(result, "received") == reported(result, "sent") == 20 * len(BIG)
    assert reported(result, "ended") == 20
    # with several threads the last accept may come after the first client has gone
    assert 1 <= reported(result, "at once") <= 20


def test_discard() -> None:
    with serve("discard") as server:
        with connect(server.address) as client:
            client.sendall(BIG)
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""
        result = server.stop()
    check(result, connections=1)
    assert reported(result, "received") == len(BIG)
    assert reported(result, "sent") == 0


@pytest.mark.parametrize("threads", ["1", "4"])
def test_forward_both_ways_at_once(threads: str) -> None:
    with relay("--threads", threads) as (server, client, far):
        senders = [start(sock.sendall, BIG) for sock in (client, far)]
        readers = [start(read_all, sock) for sock in (client, far)]
        for sender in senders:
            sender.result()
        for sock in (client, far):
            sock.shutdown(socket.SHUT_WR)
        assert [reader.result() for reader in readers] == [BIG, BIG]
        result = server.stop()
    check(result, connections=1)
    assert reported(result, "received") == reported(result, "sent") == 2 * len(BIG)
    assert reported(result, "ended") == 1


@pytest.mark.parametrize("first", ["client", "server"])
def test_the_end_of_a_stream_leaves_the_other_direction_alone(first: str) -> None:
    with relay() as (server, client, far):
        early, late = (client, far) if first == "client" else (far, client)
        early.sendall(b"the last")
        early.shutdown(socket.SHUT_WR)
        assert read_all(late) == b"the last"
        late.sendall(BIG)
        late.shutdown(socket.SHUT_WR)
        assert read_all(early) == BIG
        check(server.stop(), connections=1)


@pytest.mark.parametrize("threads", ["1", "4"])
@pytest.mark.parametrize("first", ["client", "server"])
def test_a_reset_of_one_side_resets_the_other(first: str, threads: str) -> None:
    with relay("--threads", threads) as (server, client, far):
        early, late = (client, far) if first == "client" else (far, client)
        early.sendall(b"half of")
        assert late.recv(100) == b"half of"
        reset(early)
        with pytest.raises(ConnectionResetError):
            late.recv(100)
        result = server.stop()
    check(result, connections=1)
    assert reported(result, "reset") == 1


def test_a_reset_while_the_other_side_does_not_read() -> None:
    with relay() as (server, client, far):
        client.sendall(b"hello")
        assert far.recv(5) == b"hello"
        far.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                far.send(BIG)  # until nothing more goes in: the relay is in a send to the client
        reset(far)
        client.settimeout(DEADLINE)
        with pytest.raises(ConnectionResetError):
            read_all(client)
        result = server.stop()
    check(result, connections=1)
    assert reported(result, "reset") == 1


def test_an_upstream_that_is_not_there_ends_the_client() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # taken, and not listening
        to = f"127.0.0.1:{nobody.getsockname()[1]}"
        with serve("forward", "--to", to) as server:
            for _ in range(3):
                with contextlib.suppress(ConnectionError), connect(server.address) as client:
                    assert client.recv(1) == b""
            result = server.stop()
    check(result, connections=3)
    assert reported(result, "not connected upstream") == 3


@pytest.mark.skipif(not socket.has_ipv6, reason="this Python has no IPv6")
def test_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with serve("echo", "--listen", "[::1]:0") as server:
        host, number = server.address
        assert host == "::1"
        with serve("forward", "--to", f"[::1]:{number}") as front:
            with connect(front.address) as client:
                client.sendall(b"hello")
                assert client.recv(5) == b"hello"
            check(front.stop())
        check(server.stop())


# -- how they end
# ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", INTERRUPTS)
@pytest.mark.parametrize("kind", ["echo", "discard"])
def test_signals(kind: str, number: int) -> None:
    with serve(kind) as server:
        server.wait_for_output("listening on")
        check(server.stop(number), connections=0)


@pytest.mark.parametrize("threads", ["1", "4"])
def test_idle_connections_end_in_order(threads: str) -> None:
    with serve("echo", "--threads", threads, "--drain", "30") as server:
        with connect(server.address) as client:
            client.sendall(b"hello")
            assert client.recv(5) == b"hello"
            server.signal()
            assert client.recv(1) == b""  # and not a reset
        result = server.ended()
    assert result.code == 0
    assert "1 connection has 30 s to finish" in result.err
    assert reported(result, "ended") == 1


def test_an_idle_relay_ends_in_order() -> None:
    with relay("--drain", "30") as (server, client, far):
        client.sendall(b"hello")
        assert far.recv(5) == b"hello"
        server.signal()
        assert far.recv(1) == b""
        assert client.recv(1) == b""
        result = server.ended()
    assert result.code == 0
    assert reported(result, "ended") == 1


def test_what_is_under_way_is_finished() -> None:
    with relay("--drain", "30") as (server, client, far):
        client.sendall(b"hello")
        assert far.recv(5) == b"hello"
        far.settimeout(DEADLINE)
        sending = start(far.sendall, BIG * 16)  # more than all buffers on the way take
        server.signal()
        server.wait_for_output("no more clients", err=True)
        with pytest.raises(ConnectionError):
            connect(server.address)
        size = 0
        while size < 16 * len(BIG):
            size += len(client.recv(1 << 16))
        sending.result()
        assert client.recv(1) == b""
        assert far.recv(1) == b""
        result = server.ended()
    assert result.code == 0
    assert reported(result, "sent") == 16 * len(BIG) + 5


def fill(far: socket.socket) -> None:
    """Send until nothing more goes in: the relay is stuck in a send to a client that does not
    read.
    """
    far.settimeout(0.5)
    with contextlib.suppress(TimeoutError):
        while True:
            far.send(BIG)


def test_the_patience_is_limited() -> None:
    with relay("--drain", "0.2") as (server, client, far):
        fill(far)
        server.signal()
        result = server.ended()
        with pytest.raises(ConnectionResetError):
            read_all(client)
    assert result.code == 0
    assert reported(result, "dropped") == 1


@pytest.mark.parametrize("threads", ["1", "4"])
def test_a_second_signal_ends_the_patience(threads: str) -> None:
    with relay("--drain", "1000", "--threads", threads) as (server, client, far):
        fill(far)
        server.signal()
        server.wait_for_output("has 1000 s to finish", err=True)
        server.signal()
        result = server.ended()
        with pytest.raises(ConnectionResetError):
            read_all(client)
    assert result.code == 0
    assert reported(result, "dropped") == 1


def test_quiet() -> None:
    with serve("echo", "--quiet") as server, connect(server.address) as client:
        client.sendall(b"hello")
        assert client.recv(5) == b"hello"
        result = server.stop()
    assert (result.code, result.err) == (0, "")
    assert len(result.out.splitlines()) == 1


# -- how they refuse
# ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("echo --backend nonsense", "nonsense selectors"),
        ("echo --selector nonsense", "nonsense select default"),
        ("echo --listen 127.0.0.1", "--listen HOST:PORT"),
        ("echo --listen 127.0.0.1:99999", "--listen 65535"),
        ("echo --listen ::1:0", "brackets [::1]"),
        ("echo --listen 192.0.2.1:0", "192.0.2.1 --listen"),
        ("echo --to 127.0.0.1:1", "--to forward"),
        ("forward", "--to HOST:PORT"),
        ("forward --to 127.0.0.1", "--to HOST:PORT"),
        ("forward --to a..invalid:1", "--to name"),
        ("echo --threads 0", "--threads 256"),
        ("echo --threads many", "--threads many"),
        ("echo --buffer 0", "--buffer 64K"),
        ("echo --drain -1", "--drain seconds"),
        ("forward --to 127.0.0.1:1 --connect-timeout nan", "--connect-timeout"),
    ],
)
def test_one_line_that_names_the_cure(arguments: str, words: str) -> None:
    refused(run("serve", *arguments.split()), words)


def test_the_help_of_each_kind_is_its_own() -> None:
    texts = {kind: run("serve", kind, "--help") for kind in ("echo", "discard", "forward")}
    assert {each.code for each in texts.values()} == {0}
    assert len({each.out.split("It prints")[0] for each in texts.values()}) == 3
    for kind, result in texts.items():
        assert f"netpoll serve {kind} " in result.out
        for option in ("--to", "--connect-timeout", "two open files"):
            assert (option in result.out) == (kind == "forward"), option
        others = texts.keys() - {kind}
        assert not [other for other in others if f"serve {other}" in result.out]
    assert "echo" in run("serve", "--help").out


def refused(result: Result, words: str) -> None:
    assert (result.code, result.out) == (2, ""), result
    assert len(result.err.splitlines()) == 1, result.err
    for word in words.split():
        assert word in result.err


def test_a_port_in_use() -> None:
    with listener() as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        why = "" if sys.platform == "win32" else "in use"  # Windows has other words, Wine none
        refused(run("serve", "echo", "--listen", address), f"{address} {why} --listen")


@pytest.mark.skipif(
    all(backends.probe(name).usable for name in backends.NAMES),
    reason="every backend can be used on this machine",
)
def test_a_backend_that_cannot_be_used_here() -> None:
    name = next(name for name in backends.NAMES if not backends.probe(name).usable)
    refused(run("serve", "echo", "--backend", name), f"{name} selectors")


def test_a_backend_of_the_environment() -> None:
    result = run("serve", "echo", environment={"NETPOLL_BACKEND": "nonsense"})
    refused(result, "NETPOLL_BACKEND nonsense selectors")


# -- out of descriptors
# ------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of open files")
@pytest.mark.parametrize("kind", ["echo", "forward"])
def test_out_of_descriptors_it_pauses_says_so_once_and_goes_on(kind: str) -> None:
    with serve("echo") as upstream, contextlib.ExitStack() as clients:
        arguments = ["forward", "--to", f"127.0.0.1:{upstream.address[1]}"]
        limited = ["sh", "-c", 'ulimit -n 40 && exec "$@"', "sh"]
        with serve(*(arguments if kind == "forward" else ["echo"]), prefix=limited) as server:
            everybody = [clients.enter_context(connect(server.address)) for _ in range(60)]
            for client in everybody:
                client.sendall(b"hello")
            server.wait_for_output("descriptor", err=True)
            # those that are served make room for the others, until all have been
            for client in everybody:
                assert client.recv(5) == b"hello"
                client.close()
            result = server.stop()
        assert result.code == 0
        assert reported(result, "ended") == 60
        warnings = [line for line in result.err.splitlines() if "descriptor" in line]
        assert 1 <= len(warnings) <= 10, result.err  # once for each time that it runs out
        assert upstream.stop().code == 0
