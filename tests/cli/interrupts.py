"""What asks a program to end, on this system, and how a test sends it."""

from __future__ import annotations

import signal
import subprocess
import sys

from netpoll.testing.wine import wine_version

UNDER_WINE = wine_version() is not None

if sys.platform == "win32":
    import ctypes

    # Wine has no Ctrl-Break; and what starts in a process group of its own ignores Ctrl-C
    INTERRUPTS = [signal.SIGINT if UNDER_WINE else signal.CTRL_BREAK_EVENT]
    FLAGS = 0 if UNDER_WINE else subprocess.CREATE_NEW_PROCESS_GROUP

    def _ctrl_c(process: subprocess.Popen[bytes]) -> None:
        """What Windows and Wine both do for a Ctrl-C: have a thread of the program run a function
        of the system's. (A program without a console cannot ask for that by the usual call.)
        """
        library = ctypes.WinDLL("kernelbase", use_last_error=True)
        start = library.CreateRemoteThread
        start.restype = ctypes.c_void_p
        start.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
        start.argtypes += [ctypes.c_size_t, ctypes.c_uint, ctypes.c_void_p]
        handle = ctypes.c_void_p(int(process._handle))  # type: ignore[attr-defined]
        # a system's DLL is at the same address in every process
        routine = ctypes.cast(library.CtrlRoutine, ctypes.c_void_p)
        thread = start(handle, None, 0, routine, signal.CTRL_C_EVENT, 0, None)
        if not thread:
            raise ctypes.WinError(ctypes.get_last_error())
        ctypes.WinDLL("kernel32").CloseHandle(ctypes.c_void_p(thread))

else:
    INTERRUPTS = [signal.SIGINT, signal.SIGTERM]
    FLAGS = 0


def send(process: subprocess.Popen[bytes], number: int) -> None:
    """Send one of `INTERRUPTS` to a program that was started with `FLAGS`."""
    if sys.platform == "win32" and number == signal.SIGINT:
        if process.poll() is None:
            _ctrl_c(process)
    else:
        process.send_signal(number)
