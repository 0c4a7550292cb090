"""A program may end with operations pending, however it left them: it exits with the code it asked
for, does not crash, and what the kernel had is taken back before its memory is gone."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent

import pytest
from backends.uring import needs_io_uring

from netpoll.testing.waiting import DEADLINE

pytestmark = needs_io_uring

CODE = 7
BEGIN = """
    import atexit, colorsys, contextlib, gc, os, socket, sys, threading

    last = []  # called after netpoll's own exit handler, because it was registered before
    atexit.register(lambda: [call() for call in last])

    import netpoll
    from netpoll.testing.waiting import run, wait_for_waiters

    listener = socket.create_server(("127.0.0.1", 0))
    near = socket.create_connection(listener.getsockname())
    far, _ = listener.accept()

    buffer = bytearray(1 << 16)

    def port_with_receives(**options):
        port = netpoll.CompletionPort("io_uring", **options)
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
    "single-issuer": "port = port_with_receives(single_issuer=True)",
    "single-issuer-of-another-thread": """
        port = run(lambda: port_with_receives(single_issuer=True)).result()
        """,
    "send": """
        port = netpoll.CompletionPort("io_uring")
        port.associate(near)
        for _ in range(64):
            port.send(near, bytes(1 << 20))
        """,
    "accept": """
        port = netpoll.CompletionPort("io_uring")
        port.associate(listener)
        port.accept(listener)
        port.accept(listener, receive=bytearray(64))
        """,
    "connect": """
        port = netpoll.CompletionPort("io_uring")
        several = [socket.socket() for _ in range(8)]
        for sock in several:
            port.associate(sock)
            port.connect(sock, listener.getsockname(), data=b"data")
        """,
    "event-timeout-and-routine": """
        port = netpoll.CompletionPort("io_uring")
        port.recv(near, 1, overlapped=netpoll.Overlapped(event=threading.Event()), timeout=3600)
        port.recv(far, 1, routine=print)
        """,
    "port-in-a-cycle": """
        cycle = [port_with_receives()]
        cycle.append(cycle)
        del cycle
        """,
    "port-that-outlives-its-module": """
        # as a reference from a thread does: tests/unit/test_finalizers.py
        colorsys.kept = port_with_receives()
        sys.kept = list(sys.modules.values())
        """,
    "a-thread-in-its-wait": """
        port = port_with_receives()

        def wait():
            with contextlib.suppress(netpoll.PortClosed):
                port.get(None)

        run(wait)  # a daemon
        wait_for_waiters(port, 1)
        """,
    "threads-all-over": """
        port = port_with_receives()

        def flood():
            with contextlib.suppress(OSError):
                while True:
                    far.send(bytes(1 << 16))

        def serve():
            with contextlib.suppress(netpoll.PortClosed):
                while True:
                    port.resubmit(port.get(None).overlapped)

        def look():
            with contextlib.suppress(netpoll.PortClosed):
                while True:
                    port.flush()

        for function in (flood, serve, serve, look):
            run(function)
        port.post()
        wait_for_waiters(port, 1)
        """,
    "ended-by-our-exit-handler": """
        port = netpoll.CompletionPort("io_uring")
        port.associate(near)
        receive = port.recv(near, 64)

        @last.append
        def check():
            assert isinstance(receive.exception(), netpoll.OperationAborted), receive
            far.send(b"data")
            near.settimeout(30)
            assert near.recv(4) == b"data"
        """,
    "used-at-the-very-end": """
        port = port_with_receives()

        @last.append
        def check():
            with contextlib.suppress(netpoll.PortClosed):
                port.get(0)
            with contextlib.suppress(netpoll.PortClosed):
                port.recv(near, 1)
            port.close()
        """,
    "started-at-the-very-end": """
        ports = []
        last.append(lambda: ports.append(port_with_receives()))
        last.append(lambda: far.send(b"data"))
        """,
    "a-fork-that-exits": """
        port = port_with_receives()
        if os.fork():
            _, status = os.wait()
            assert os.waitstatus_to_exitcode(status) == 7
            far.send(b"data")
            assert port.get(30).transferred == 4
        else:
            sys.exit(7)
        """,
}


def run_program(program: str, warnings: str) -> subprocess.CompletedProcess[str]:
    source = dedent(BEGIN) + dedent(program) + dedent(END)
    # -X dev: writes to freed memory, and threads that crash, show
    command = [sys.executable, "-X", "dev", "-W", warnings, "-c", source]
    return subprocess.run(command, input="", capture_output=True, text=True, timeout=2 * DEADLINE)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_ends_as_it_asks_to(program: str) -> None:
    ended = run_program(PROGRAMS[program], "ignore::ResourceWarning")
    assert (ended.returncode, ended.stderr) == (CODE, "")
    assert ended.stdout == "reached the end\n"


def test_a_port_left_open_is_warned_of() -> None:
    ended = run_program("near.close()\nport = netpoll.CompletionPort('io_uring')", "always")
    assert ended.returncode == CODE
    assert "ResourceWarning: unclosed <CompletionPort io_uring>" in ended.stderr
    assert "Traceback" not in ended.stderr
