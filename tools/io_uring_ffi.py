"""Write netpoll/backends/io_uring/_ffi.py: what the backend calls in libc, for cffi in ABI mode.

python tools/io_uring_ffi.py           write the module
python tools/io_uring_ffi.py --check   exit 1 if the module is not what would be written
"""

from __future__ import annotations

import sys
from pathlib import Path

# a program run by its path finds its neighbours only
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools import ffi_module

NAME = "netpoll.backends.io_uring._ffi"

# libc has no functions for the three system calls of io_uring. In C syscall() takes any number of
# arguments; on Linux those are passed as if it took seven longs, and with a fixed number of them
# cffi prepares the call once instead of every time (400 ns instead of 1100).
#
# The messages of recvmmsg() and sendmmsg() are given by their address, as everywhere here.
FUNCTIONS = """
long syscall(long number, long, long, long, long, long, long);
int recvmmsg(int fd, uintptr_t messages, unsigned int count, int flags, uintptr_t timeout);
int sendmmsg(int fd, uintptr_t messages, unsigned int count, int flags);
int getpeername(int fd, uintptr_t address, uintptr_t length);
"""


def main(arguments: list[str]) -> int:
    """Write or check the module; returns the exit code."""
    return ffi_module.run(NAME, FUNCTIONS, "io_uring_ffi.py", __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
