"""A program may end with operations pending, however it left them: it exits with the code it asked
for, says nothing, and does not crash."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent

import pytest

from netpoll.testing.waiting import DEADLINE

pytestmark = pytest.mark.skipif(
    sys.platform != "win32", reason="needs Windows, or Wine (tox -e wine)"
)

CODE = 7
BEGIN = """
    import atexit, contextlib, gc, socket, sys, threading

    last = []  # called after netpoll's own exit handler, because it was registered before
    atexit.register(lambda: [call() for call in last])

    import netpoll
    from netpoll.testing.waiting import run, wait_for_waiters

    listener = socket.create_server(("127.0.0.1", 0))
    near = socket.create_connection(listener.getsockname())
    far, _ = listener.accept()

    buffer = bytearray(1 << 16)

    def port_with_receives():
        port = netpoll.CompletionPort("iocp")
        port.associate(near)
        port.recv_into(near, buffer)
        port.recv(near, 0)
        return port
"""
END = f"""
    print("reached the end", flush=True)
    sys.exit({CODE})
"""
PROGRAMS = {
    "receive": "port = port_with_receives()",
    "send": """
        port = netpoll.CompletionPort("iocp")
        port.associate(near)
        for _ in range(64):
            port.send(near, bytes(1 << 20))
        """,
    "accept": """
        port = netpoll.CompletionPort("iocp")
        port.associate(listener)
        port.accept(listener)
        port.accept(listener, receive=bytearray(64))
        """,
    "connect": """
        port = netpoll.CompletionPort("iocp")
        several = [socket.socket() for _ in range(8)]
        for sock in several:
            port.associate(sock)
            port.connect(sock, listener.getsockname(), data=b"data")
        """,
    "event-timeout-and-routine": """
        port = netpoll.CompletionPort("iocp")
        port.recv(near, 1, overlapped=netpoll.Overlapped(event=threading.Event()), timeout=3600)
        port.recv(far, 1, routine=print)
        """,
    "dropped-to-the-collector": """
        port_with_receives()
        gc.collect()
        far.send(b"data")
        near.settimeout(30)
        assert near.recv(4) == b"data"  # none of the receives has taken it
        """,
    "port-in-a-cycle": """
        cycle = [port_with_receives()]
        cycle.append(cycle)
        del cycle
        """,
    "a-thread-in-its-wait": """
        port = port_with_receives()

        def wait():
            with contextlib.suppress(netpoll.PortClosed):
                port.get(None)

        run(wait)  # a daemon
        wait_for_waiters(port, 1)
        """,
    "data-on-its-way": """
        port = port_with_receives()

        def flood():
            with contextlib.suppress(OSError):
                while True:
                    far.send(bytes(1 << 16))

        run(flood)
        port.get(None)
        """,
    "ended-by-our-exit-handler": """
        port = netpoll.CompletionPort("iocp")
        port.associate(near)
        receive = port.recv(near, 64)

        @last.append
        def check():
            assert isinstance(receive.exception(), netpoll.OperationAborted), receive
        """,
    "started-at-the-very-end": """
        ports = []
        last.append(lambda: ports.append(port_with_receives()))
        last.append(lambda: far.send(b"data"))
        """,
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_ends_as_it_asks_to(program: str) -> None:
    source = dedent(BEGIN) + dedent(PROGRAMS[program]) + dedent(END)
    # -X dev: writes to freed memory, and threads that crash, show
    command = [sys.executable, "-X", "dev", "-W", "ignore::ResourceWarning", "-c", source]
    ended = subprocess.run(command, input="", capture_output=True, text=True, timeout=2 * DEADLINE)
    assert (ended.returncode, ended.stderr) == (CODE, "")
    assert ended.stdout == "reached the end\n"
