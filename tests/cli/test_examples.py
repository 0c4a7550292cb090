"""The examples, each run as a user would."""

from __future__ import annotations

import re
import runpy
import socket
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING

import pytest
from cli.peers import connect, read_until, reset
from cli.running import EXAMPLES, example

import netpoll
from netpoll import backends
from netpoll.testing.pairs import receive_exactly
from netpoll.testing.waiting import DEADLINE, run

if TYPE_CHECKING:
    from pathlib import Path

    from netpoll.testing.backends import Target

pytestmark = pytest.mark.skipif(
    not EXAMPLES.is_dir(), reason="the examples come with the source, which is not here"
)


def test_no_example_names_a_backend() -> None:
    examples = sorted(EXAMPLES.glob("*.py"))
    assert [path.name for path in examples] == [
        f"{name}.py"
        for name in ("asyncio_echo", "chat", "echo", "scan", "winapi_client", "winapi_echo")
    ]
    for path in examples:
        for name in backends.NAMES:
            assert name not in path.read_text(encoding="utf-8"), path


def test_echo_has_twenty_lines() -> None:
    lines = (EXAMPLES / "echo.py").read_text(encoding="utf-8").splitlines()
    code = [line for line in lines if line and not line.startswith('"""')]
    assert len(code) <= 20


def test_echo() -> None:
    with example("echo.py") as server:
        for _ in range(3):
            with connect(server.address) as first, connect(server.address) as second:
                first.sendall(b"hello")
                second.sendall(b"world")
                assert (read_until(first, b"o"), read_until(second, b"d")) == (b"hello", b"world")
                first.shutdown(socket.SHUT_WR)
                assert first.recv(1) == b""
        # a client that resets is nobody else's business
        rude = connect(server.address)
        rude.sendall(b"x" * 100_000)
        reset(rude)
        with connect(server.address) as client:
            client.sendall(b"still there")
            assert read_until(client, b"there") == b"still there"
        assert "Traceback" not in server.err


def test_chat() -> None:
    with example("chat.py") as server, ExitStack() as sockets:
        guests: list[socket.socket] = []
        for number in range(1, 4):
            guest = sockets.enter_context(connect(server.address))
            assert read_until(guest, b"\n") == f"welcome, guest {number}; {number} here\n".encode()
            for other in guests:
                assert read_until(other, b"\n") == f"* guest {number} came\n".encode()
            guests.append(guest)
        guests[0].sendall(b"hel")
        guests[0].sendall(b"lo\nall\n")
        for other in guests[1:]:
            assert read_until(other, b"all\n") == b"guest 1: hello\nguest 1: all\n"
        guests[2].close()
        for other in guests[:2]:
            assert read_until(other, b"\n") == b"* guest 3 left\n"
        server.stop()
        assert "Traceback" not in server.err


def test_chat_disconnects_who_does_not_read() -> None:
    with example("chat.py") as server, ExitStack() as sockets:
        sleeper = socket.socket()
        sockets.enter_context(closing(sleeper))
        sleeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sleeper.settimeout(DEADLINE)
        sleeper.connect(server.address)
        read_until(sleeper, b"1 here\n")
        writer = sockets.enter_context(connect(server.address))
        reader = sockets.enter_context(connect(server.address))
        read_until(reader, b"3 here\n")
        line = b"x" * 1000 + b"\n"
        heard = b""
        for _ in range(50_000):
            writer.sendall(line)
            heard = read_until(reader, b"\n")
            if b"guest 1 left" in heard:
                break
        else:
            pytest.fail("the sleeper is still there after 50 MB")
        assert "Traceback" not in server.err


def test_scan() -> None:
    with ExitStack() as sockets:
        opened = [sockets.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        shut = sockets.enter_context(socket.socket())
        shut.bind(("127.0.0.1", 0))  # taken, and not listening
        numbers = sorted(sock.getsockname()[1] for sock in opened)
        first = min(*numbers, shut.getsockname()[1])
        last = min(max(*numbers, shut.getsockname()[1]), first + 2000)
        with example("scan.py", f"{first}-{last}", "--at-once", "50") as scanner:
            result = scanner.ended()
    assert (result.code, result.err) == (0, "")
    found = [int(number) for number in re.findall(r"127\.0\.0\.1:(\d+) open", result.out)]
    assert {number for number in numbers if number <= last} <= set(found)
    summary = result.out.splitlines()[-1]
    counts = [int(count) for count in re.findall(r"(\d+) [a-z]", summary)]
    assert sum(counts) == last - first + 1


def test_scan_finds_a_server_open_that_resets_at_once() -> None:
    verdict = runpy.run_path(str(EXAMPLES / "scan.py"))["verdict"]
    with ExitStack() as sockets:
        server = sockets.enter_context(socket.create_server(("127.0.0.1", 0)))
        client = sockets.enter_context(connect(server.getsockname()))
        far, _ = server.accept()
        reset(far)
        with suppress(ConnectionResetError):  # Wine tells of it as of an end
            client.recv(1)
        completion = netpoll.Completion()
        completion.key = server.getsockname()[1]
        completion.overlapped, completion.transferred = netpoll.Overlapped(), 0
        assert verdict(client, completion) == "open"


def environment_of(target: Target, folder: Path) -> dict[str, str | None]:
    """What makes a program use that backend."""
    config = folder / "netpoll.toml"
    options = "".join(f"{name} = '{value}'\n" for name, value in target.options.items())
    config.write_text(f"backend = '{target.backend}'\n[{target.backend}]\n{options}")
    return {"NETPOLL_CONFIG": str(config), "NETPOLL_BACKEND": None}


def test_the_client_of_the_books_and_its_server_on_each_backend(
    target: Target, tmp_path: Path
) -> None:
    chosen = environment_of(target, tmp_path)
    with example("winapi_echo.py", environment=chosen) as server:
        port = str(server.address[1])
        for arguments in (("--connections", "64"), ("--connections", "3", "--size", "3000000")):
            with example("winapi_client.py", port, *arguments, environment=chosen) as client:
                result = client.ended()
            said = f"{arguments[1]} connections, 0 without their echo\n"
            assert (result.code, result.out, result.err) == (0, said, "")
        result = server.stop()
    assert result.code == 0
    assert "Traceback" not in result.err
    with example("winapi_client.py", port, environment=chosen) as client:
        result = client.ended()
    assert (result.code, result.out) == (1, "")
    # some Pythons warn of its sockets first
    assert "ConnectEx failed with error 10061\n" in result.err


def test_the_server_of_the_books_on_each_backend(target: Target, tmp_path: Path) -> None:
    chosen = environment_of(target, tmp_path)
    with example("winapi_echo.py", "--threads", "3", environment=chosen) as server:
        with ExitStack() as sockets:
            clients = [sockets.enter_context(connect(server.address)) for _ in range(200)]
            for turn in range(3):
                for number, client in enumerate(clients):
                    client.sendall(b"%06d" % (1000 * turn + number))
                for number, client in enumerate(clients):
                    assert receive_exactly(client, 6) == b"%06d" % (1000 * turn + number)
            for client in clients[::4]:
                reset(client)
            # more than the sockets hold, both ways at once
            large = clients[1]
            sender = run(large.sendall, bytes(range(256)) * 4096)
            assert receive_exactly(large, 1 << 20) == bytes(range(256)) * 4096
            sender.result()
            with connect(server.address) as late:
                late.sendall(b"still there")
                assert receive_exactly(late, 11) == b"still there"
                late.shutdown(socket.SHUT_WR)
                assert late.recv(1) == b""
            result = server.stop()
        assert (result.code, result.err) == (0, "")
