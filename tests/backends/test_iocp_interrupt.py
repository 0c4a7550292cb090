"""Ctrl-C ends a wait of the main thread on Windows, which by itself wakes hardly any.

Each wait here would go on for an hour or for ever: one that Ctrl-C does not end keeps its program
from ending in time. A real Ctrl-C needs a console; what Windows does then is done here without one:
it runs CtrlRoutine in a new thread of the process.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from netpoll.testing.waiting import DEADLINE

pytestmark = pytest.mark.skipif(
    sys.platform != "win32", reason="needs Windows, or Wine (tox -e wine)"
)

WAITS = (
    *("get", "get_many", "get_alertable", "get_behind_another"),
    "winapi_recv",
    *("wait", "wait_without_port", "sleep", "sleep_for_routine", "sleep_not_alertable"),
)
PROGRAM = """
import ctypes, socket, sys, threading
import netpoll
import netpoll.winapi as w
from netpoll.testing.waiting import run, wait_for_waiters, wait_until

kernelbase = ctypes.WinDLL("kernelbase")
start_thread = kernelbase.CreateThread
start_thread.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t]
start_thread.argtypes += [ctypes.c_ulong, ctypes.c_void_p]
ctrl_routine = ctypes.cast(kernelbase.CtrlRoutine, ctypes.c_void_p)
CTRL_C_EVENT = 0

main = threading.get_ident()
begins = threading.Event()
places = []

def main_thread_waits():
    # it is in netpoll, or in what that calls, and has been where it is for some looks
    frame = sys._current_frames()[main]
    place = frame.f_code, frame.f_lasti
    places.append(place)
    return frame.f_code.co_filename != "<string>" and places[-10:] == 10 * [place]

def press_ctrl_c():
    begins.wait()
    begins.clear()
    places.clear()
    wait_until(main_thread_waits, "the wait of the main thread")
    assert start_thread(None, 0, ctrl_routine, CTRL_C_EVENT, 0, None)

backend, timeout = sys.argv[1], eval(sys.argv[2])

def sleep_for_routine():
    lonely = port.recv(third, 1, routine=lambda *_: None)
    try:
        netpoll.sleep(timeout)
    finally:
        lonely.cancel()
        netpoll.sleep(5)

waits = {
    "get": lambda: port.get(timeout),
    "get_many": lambda: port.get_many(64, timeout),
    "get_alertable": lambda: port.get(timeout, alertable=True),
    "get_behind_another": lambda: port.get(timeout),
    "winapi_recv": lambda: w.recv(fourth, bytearray(4), 4),
    "wait": lambda: receive.wait(timeout),
    "wait_without_port": lambda: alone.wait(timeout),
    "sleep": lambda: netpoll.sleep(timeout),
    "sleep_for_routine": sleep_for_routine,
    "sleep_not_alertable": lambda: netpoll.sleep(timeout, alertable=False),
}
near, far = socket.socketpair()
third, fourth = socket.socketpair()
with near, far, third, fourth, netpoll.CompletionPort(backend) as port:
    port.associate(near)
    receive = port.recv(near, 4)
    alone = port.recv(far, 4)
    for name in sys.argv[3:]:
        behind = name == "get_behind_another"
        if behind:
            first = run(port.get, None)
            wait_for_waiters(port, 1)
        finger = run(press_ctrl_c)
        try:
            begins.set()
            waits[name]()
        except KeyboardInterrupt:
            finger.result()
            port.post(key=name)
            print((first.result() if behind else port.get(5)).key, flush=True)
    far.send(b"data")
    print(port.get(5).result().decode())
"""


@pytest.mark.parametrize("timeout", [None, 3600.0], ids=["for_ever", "an_hour"])
@pytest.mark.parametrize("backend", ["iocp", "selectors"])
def test_ctrl_c_ends_a_wait_and_the_port_goes_on(backend: str, timeout: float | None) -> None:
    command = [sys.executable, "-X", "dev", "-c", PROGRAM, backend, repr(timeout), *WAITS]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        try:
            out, err = program.communicate(timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            program.kill()
            out, err = program.communicate()
    assert (out.split(), err, program.returncode) == ([*WAITS, "data"], "", 0)
