"""Pains I and J: a handle and its one port; and handles that are not sockets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import netpoll
import netpoll.asyncio
from netpoll.testing.waiting import DEADLINE

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from loops import Loops

    from netpoll.testing.backends import Target
    from netpoll.testing.pairs import Loopback


def test_cpython_122240_a_socket_goes_on_in_a_second_loop(loops: Loops, net: Loopback) -> None:
    """ "The parameter is incorrect". Also mongo-python-driver#1748, cpython#94337: on Windows a
    socket belongs to one port for ever."""
    near, far = net.tcp_pair()
    near.setblocking(False)

    async def exchange(question: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(near, question)
        assert far.recv(100) == question
        waiting = asyncio.create_task(loop.sock_recv(near, 100))
        await asyncio.sleep(0)
        far.sendall(question.upper())
        return await waiting

    first = loops.new()
    assert first.run_until_complete(exchange(b"one")) == b"ONE"
    # while the first lives, and when it does not
    assert loops.run(exchange(b"two")) == b"TWO"
    first.close()
    assert loops.run(exchange(b"three")) == b"THREE"


def test_cpython_122240_a_listener_goes_on_in_a_second_loop(loops: Loops, net: Loopback) -> None:
    """uvicorn's reload: what was "WinError 87"."""
    listener = net.listener()
    listener.setblocking(False)

    async def accept() -> None:
        loop = asyncio.get_running_loop()
        client = net.new_socket()
        client.connect(listener.getsockname())
        connection, address = await loop.sock_accept(listener)
        connection.close()
        assert address == client.getsockname()

    for _ in range(2):
        loops.run(accept())


def test_cpython_122240_where_it_cannot_go_on_the_error_names_the_cure(
    loops: Loops, net: Loopback
) -> None:
    near, _ = net.tcp_pair()
    first, second = loops.new(), loops.new()
    first.port.associate(near)
    with pytest.raises(netpoll.AlreadyAssociated, match="another port"):
        second.port.associate(near)


SHARED = """
import socket, sys
if sys.platform == "win32":
    import _overlapped
    sock = socket.fromshare(sys.stdin.buffer.read())
    operation = _overlapped.Overlapped(0)
    operation.WSASend(sock.fileno(), b"another's", 0)
    operation.getresult(True)
else:
    socket.socket(fileno=int(sys.argv[1])).sendall(b"another's")
"""


def send_from_another_process(sock: socket.socket) -> None:
    """Have a child that has the socket too send on it, on Windows by an overlapped operation."""
    # not what a virtual environment has for one on Windows, which starts it in a second process
    python: str = getattr(sys, "_base_executable", sys.executable)
    command = [python, "-c", SHARED, str(sock.fileno())]
    sock.set_inheritable(True)
    shared = b""
    with subprocess.Popen(command, stdin=subprocess.PIPE, close_fds=False) as child:
        if sys.platform == "win32":
            shared = sock.share(child.pid)
        child.communicate(shared, DEADLINE)
    assert child.returncode == 0


def test_libuv_2016_another_process_operates_on_the_same_socket(
    loops: Loops, net: Loopback, target: Target, caplog: pytest.LogCaptureFixture
) -> None:
    """On Windows the packet of that comes to the port of whoever has associated the socket, with an
    address that means something in the other process only, if there."""

    async def main() -> None:
        port = loops.running().port
        near, far = net.tcp_pair()
        port.associate(near)
        waiting = netpoll.asyncio.wrap(port.recv(near, 100))
        send_from_another_process(near)
        assert far.recv(100) == b"another's"
        far.sendall(b"ours")
        assert await waiting == b"ours"
        if target.backend == "iocp":
            assert port.stats()["unknown_packets"] == 1

    with caplog.at_level(logging.CRITICAL, "netpoll"):  # it is told, which is tested elsewhere
        loops.run(main())


def test_pyserial_671_an_operation_that_is_pending_cannot_be_started_again(
    loops: Loops, net: Loopback
) -> None:
    """With one OVERLAPPED for all writes, the second one's outcome is told as the first one's."""

    async def main() -> None:
        port = loops.running().port
        near, far = net.tcp_pair()
        port.associate(near)
        operation: netpoll.Overlapped[bytes] = netpoll.Overlapped()
        waiting = netpoll.asyncio.wrap(port.recv(near, 100, overlapped=operation))
        with pytest.raises(RuntimeError, match="in use"):
            port.recv(near, 100, overlapped=operation)
        with pytest.raises(RuntimeError, match="awaited already"):
            netpoll.asyncio.wrap(operation)
        far.sendall(b"data")
        assert await waiting == b"data"

    loops.run(main())


class Lines(asyncio.Protocol):
    """What a pipe brings, until its end."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(exc)


def test_cpython_87694_anonymous_pipes(loops: Loops) -> None:
    """ "The handle is invalid": those of `os.pipe()` know no overlapped operations on Windows. Also
    cpython#81998, asyncio#337, anyio#326, Winloop#22."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        source, sink = (
            os.fdopen(n, mode, 0) for n, mode in zip(os.pipe(), ("rb", "wb"), strict=True)
        )
        reading, lines = await loop.connect_read_pipe(Lines, source)
        writing, _ = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sink)
        data = b"a line\n" * 40_000  # more than a pipe holds
        writing.write(data)
        writing.close()
        assert await lines.ended is None
        assert lines.data == data
        assert reading.is_closing()

    loops.run(main())


STDIN = """
import asyncio, sys
import netpoll.asyncio

async def main():
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, sys.stdout
    )
    async for line in reader:
        transport.write(line.upper())
    transport.close()

netpoll.asyncio.run(main(), backend=sys.argv[1])
"""


def test_aioconsole_4_standard_input_and_output(loops: Loops, target: Target) -> None:
    """Also pynvim#306, pexpect#548, agent-os#1575."""
    loops.require("wait")

    async def main() -> None:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", STDIN, target.backend, stdin=-1, stdout=-1, stderr=-1
        )
        assert child.stdin is not None
        assert child.stdout is not None
        for word in (b"one", b"two"):
            child.stdin.write(word + b"\n")
            assert (await child.stdout.readline()).strip() == word.upper()
        out, err = await child.communicate(b"")
        assert (child.returncode, out, err) == (0, b"", b"")

    loops.run(main())


def test_asyncio_279_files_are_read_and_written_by_operations(loops: Loops, tmp_path: Path) -> None:
    """Not by threads of the program's, where the system can do better. Also aiofiles#47,
    aiofile#10; cpython#74724: what has a handle needs no transport of asyncio's."""
    loops.require("read_into", "write")
    path = tmp_path / "file"

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, netpoll.asyncio.EventLoop)
        with netpoll.open_file(path, "w+b") as file:
            loop.port.associate(file)
            assert await netpoll.asyncio.wrap(loop.port.write(file, b"0123456789")) == 10
            buffer = bytearray(4)
            reading = loop.port.read_into(file, buffer, offset=3)
            assert await netpoll.asyncio.wrap(reading) == 4
            assert buffer == b"3456"

    loops.run(main())


class Terminal:
    """The far end of a serial line, which on POSIX is a terminal."""

    def __init__(self) -> None:
        import tty

        system: Any = os  # Windows has no terminals like these
        self._far, self._near = system.openpty()
        modes: Any = tty
        modes.setraw(self._near)
        self.name: str = system.ttyname(self._near)

    def read(self) -> bytes:
        return os.read(self._far, 100)

    def write(self, data: bytes) -> None:
        os.write(self._far, data)

    def close(self) -> None:
        os.close(self._near)
        os.close(self._far)


class Pipe:
    """What is opened, read and written on Windows as a serial line is, which needs a cable."""

    def __init__(self) -> None:
        import _winapi

        self._api: Any = _winapi
        self.name = rf"\\.\pipe\netpoll-test-{os.getpid()}"
        both: int = self._api.PIPE_ACCESS_DUPLEX
        self._far = self._api.CreateNamedPipe(self.name, both, 0, 1, 4096, 4096, 0, 0)

    def read(self) -> bytes:
        data: bytes = self._api.ReadFile(self._far, 100)[0]
        return data

    def write(self, data: bytes) -> None:
        self._api.WriteFile(self._far, data)

    def close(self) -> None:
        self._api.CloseHandle(self._far)


def test_pyserial_asyncio_3_a_serial_line_is_read_and_written_at_once(loops: Loops) -> None:
    """Without a thread that polls it. Also pyserial-asyncio#91, anyio#211, cpython#76577."""
    loops.require("read_into", "write")

    async def main() -> None:
        port = loops.running().port
        make = Pipe if sys.platform == "win32" else Terminal
        with contextlib.closing(make()) as device, netpoll.open_file(device.name, "r+") as line:
            port.associate(line)
            buffer = bytearray(100)
            reading = netpoll.asyncio.wrap(port.read_into(line, buffer))
            for question in (b"one", b"three"):
                assert await netpoll.asyncio.wrap(port.write(line, question)) == len(question)
                assert device.read() == question
            assert not reading.done()
            device.write(b"answer")
            assert await reading == 6
            assert buffer[:6] == b"answer"
            # who stops waiting for an answer gets the next one
            given_up = netpoll.asyncio.wrap(port.read_into(line, bytearray(100)))
            given_up.cancel()
            with pytest.raises(asyncio.CancelledError):
                await given_up
            device.write(b"late")
            assert await netpoll.asyncio.wrap(port.read_into(line, buffer)) == 4
            assert buffer[:4] == b"late"

    loops.run(main())


TERMINAL = """
import os
import netpoll

far, near = os.openpty()
with netpoll.open_file(os.ttyname(near), "r+"):
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
    except OSError:
        print("none")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no terminals of processes")
def test_a_serial_line_does_not_become_the_terminal_of_a_service() -> None:
    """Else a byte on the line could be its Ctrl-C, and the end of the line its end."""
    command = [sys.executable, "-c", TERMINAL]
    done = subprocess.run(
        command, start_new_session=True, capture_output=True, timeout=DEADLINE, check=True
    )
    assert done.stdout == b"none\n"
