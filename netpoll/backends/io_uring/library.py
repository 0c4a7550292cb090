"""The system calls of io_uring, and what this kernel can do with them."""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import platform
import struct
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from netpoll.backends.io_uring import constants as uring

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_logger = logging.getLogger("netpoll")

OPERATIONS: Final = {
    "poll": uring.IORING_OP_POLL_ADD,
    "sendmsg": uring.IORING_OP_SENDMSG,
    "recvmsg": uring.IORING_OP_RECVMSG,
    "accept": uring.IORING_OP_ACCEPT,
    "cancel": uring.IORING_OP_ASYNC_CANCEL,
    "connect": uring.IORING_OP_CONNECT,
    "read": uring.IORING_OP_READ,
    "write": uring.IORING_OP_WRITE,
    "readv": uring.IORING_OP_READV,
    "writev": uring.IORING_OP_WRITEV,
    "send": uring.IORING_OP_SEND,
    "recv": uring.IORING_OP_RECV,
    "shutdown": uring.IORING_OP_SHUTDOWN,
}
"""What the backend asks the kernel for, by the kernel's names."""

FEATURES: Final = {
    "single mmap": uring.IORING_FEAT_SINGLE_MMAP,
    "nodrop": uring.IORING_FEAT_NODROP,
    "timeout argument": uring.IORING_FEAT_EXT_ARG,
    "no completion of success": uring.IORING_FEAT_CQE_SKIP,
}
"""Features without which the backend does not work; Linux has them since 5.17."""

ENTRIES: Final = 1024
"""Entries that one system call can hand over; more go in several. CLAMP lowers it if need be."""
COMPLETIONS: Final = 4 * ENTRIES
"""Many operations pend for one entry. What does not fit the kernel keeps (NODROP)."""

SHARED: Final = {
    "TASKRUN_FLAG": uring.IORING_SETUP_TASKRUN_FLAG,
    "COOP_TASKRUN": uring.IORING_SETUP_COOP_TASKRUN,
    "SUBMIT_ALL": uring.IORING_SETUP_SUBMIT_ALL,
}
"""What a ring that any thread may use is made faster with, the newest first."""
SINGLE: Final = {
    "TASKRUN_FLAG": uring.IORING_SETUP_TASKRUN_FLAG,
    "DEFER_TASKRUN": uring.IORING_SETUP_DEFER_TASKRUN,
    "SINGLE_ISSUER": uring.IORING_SETUP_SINGLE_ISSUER,
    "SUBMIT_ALL": uring.IORING_SETUP_SUBMIT_ALL,
}
"""The same for a ring that one thread alone hands operations to and waits on."""

FALL_BACK: Final = frozenset((errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOMEM))
"""Errors of `io_uring_setup` that say that there is no io_uring here. Others (no descriptor is
left, say) are told to whoever wants a port: another backend would not fare better."""

SYSCTL: Final = "/proc/sys/kernel/io_uring_disabled"
"""0: for all; 1: for those of the group kernel.io_uring_group, and for root; 2: for nobody."""

CURES: Final = {
    errno.ENOSYS: "this kernel has no io_uring (Linux 6.1 or newer has), or a container's seccomp "
    "profile hides it: allow io_uring_setup, io_uring_enter and io_uring_register there",
    errno.EPERM: "forbidden by a seccomp profile, as containers have: allow io_uring_setup, "
    "io_uring_enter and io_uring_register there",
    errno.EACCES: "forbidden by a security module (SELinux: the io_uring class)",
    errno.EINVAL: "this kernel's io_uring is too old: Linux 6.1 or newer is needed",
    errno.ENOMEM: "no memory for the rings: raise the limit of locked memory (ulimit -l)",
}


class _Libc(Protocol):
    def syscall(self, number: int, a: int, b: int, c: int, d: int, e: int, f: int, /) -> int: ...
    def recvmmsg(self, fd: int, messages: int, count: int, flags: int, timeout: int, /) -> int: ...
    def sendmmsg(self, fd: int, messages: int, count: int, flags: int, /) -> int: ...
    def getpeername(self, fd: int, address: int, length: int, /) -> int: ...


class FFI(Protocol):
    """What of cffi is used here."""

    NULL: Any
    errno: int

    def dlopen(self, name: str | None) -> Any: ...
    def from_buffer(self, buffer: Any, require_writable: bool = ...) -> Any: ...
    def cast(self, ctype: str, value: Any) -> Any: ...


@functools.cache  # an import costs a microsecond, and fails at the very end of the interpreter
def _ffi() -> FFI:
    from netpoll.backends.io_uring._ffi import ffi

    return cast("FFI", ffi)


def address_of(buffer: Any) -> int:
    """Where a buffer begins. Whoever passes that on keeps the buffer, and its export, alive.

    :param buffer: a bytearray, or a view; read-only ones too
    """
    ffi = _ffi()
    return int(ffi.cast("uintptr_t", ffi.from_buffer(buffer)))


class Syscalls:
    """`io_uring_setup`, `io_uring_enter`, `io_uring_register`: failures are negative errno
    values."""

    def __init__(self) -> None:
        ffi = _ffi()
        libc: _Libc = ffi.dlopen(None)
        self.syscall: Callable[..., int] = libc.syscall
        """As it is, for the hot path: -1 and `last_error()`."""
        self.last_error: Callable[[], int] = lambda: ffi.errno
        self.recvmmsg: Callable[..., int] = libc.recvmmsg
        self.sendmmsg: Callable[..., int] = libc.sendmmsg
        self.getpeername: Callable[..., int] = libc.getpeername

    def setup(self, entries: int, params: bytearray) -> int:
        """The descriptor of a new ring."""
        return self._call(uring.SYS_IO_URING_SETUP, entries, address_of(params))

    def enter(self, fd: int, to_submit: int, min_complete: int, flags: int) -> int:
        """How many entries the kernel took."""
        return self._call(uring.SYS_IO_URING_ENTER, fd, to_submit, min_complete, flags)

    def register(self, fd: int, opcode: int, argument: int, count: int) -> int:
        """0, or what the kernel says."""
        return self._call(uring.SYS_IO_URING_REGISTER, fd, opcode, argument, count)

    def _call(self, number: int, *arguments: int) -> int:
        padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
        result = self.syscall(number, *padded)
        return -self.last_error() if result < 0 else result


@functools.cache
def syscalls() -> Syscalls:
    """Those of this process.

    :raises ImportError: cffi is missing
    """
    return Syscalls()


@dataclass(frozen=True, slots=True)
class Support:
    """What this machine says to io_uring."""

    usable: bool
    reason: str
    error: int = 0
    """The errno of a refused `io_uring_setup`."""
    flags: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()


def open_ring(
    entries: int, completions: int, wanted: Mapping[str, int]
) -> tuple[int, bytearray, tuple[str, ...]]:
    """Set a ring up with as many of the `wanted` flags as the kernel knows.

    :return: its descriptor, `io_uring_params` as the kernel filled them, the flags it has
    :raises OSError: there is no ring to be had
    """
    names = list(wanted)
    while True:
        flags = uring.IORING_SETUP_CQSIZE | uring.IORING_SETUP_CLAMP
        for name in names:
            flags |= wanted[name]
        params = bytearray(uring.PARAMS_SIZE)
        struct.pack_into("=III", params, 0, entries, completions, flags)
        fd = syscalls().setup(entries, params)
        if fd >= 0:
            os.set_inheritable(fd, False)
            return fd, params, tuple(names)
        if fd != -errno.EINVAL or not names:
            raise OSError(-fd, f"io_uring_setup: {os.strerror(-fd)}")
        del names[0]  # the newest


@functools.cache
def probe() -> Support:
    """Whether io_uring works here, asked of the kernel once.

    :raises OSError: nothing speaks against it, but there is no ring to be had now
    """
    if sys.platform != "linux":
        return Support(False, "needs Linux 6.1 or newer")
    if platform.python_implementation() == "PyPy":
        return Support(False, "needs CPython: PyPy may move a buffer while the kernel writes to it")
    try:
        fd, params, flags = open_ring(ENTRIES, COMPLETIONS, SHARED)  # as large as a port's
    except ImportError as error:
        return Support(False, f"needs cffi: {error}")
    except OSError as error:
        if error.errno not in FALL_BACK:
            raise
        return _refused(error.errno)
    try:
        has = struct.unpack_from("=I", params, 20)[0]
        operations = _probe_operations(fd)
    finally:
        os.close(fd)
    missing = [name for name, bit in FEATURES.items() if not has & bit]
    missing += [name for name in OPERATIONS if name not in operations]
    if "COOP_TASKRUN" not in flags:
        missing.append("COOP_TASKRUN")
    if missing:
        reason = f"this kernel ({platform.release()}) lacks: {', '.join(missing)}"
        return Support(False, f"{reason}; Linux 6.1 or newer has them")
    reason = f"io_uring of Linux {platform.release()} with {', '.join((*flags, *FEATURES))}"
    return Support(True, reason, 0, flags, tuple(FEATURES), operations)


def _refused(number: int) -> Support:
    cure = CURES[number]
    if number == errno.EPERM:
        with contextlib.suppress(OSError), open(SYSCTL) as file:  # Linux 6.6 or newer has it
            disabled = file.read().strip()
            if disabled != "0":
                cure = (
                    f"forbidden by the sysctl kernel.io_uring_disabled, which is {disabled}: set "
                    f"it to 0, or where it is 1 join the group that kernel.io_uring_group names"
                )
    reason = f"io_uring_setup said {os.strerror(number)}; {cure}"
    if number == errno.ENOMEM:
        _logger.warning("io_uring is not used: %s", reason)
    return Support(False, reason, number)


def _probe_operations(fd: int) -> tuple[str, ...]:
    """The names of the operations that the kernel supports."""
    size = 16 + 8 * 256
    table = bytearray(size)
    if syscalls().register(fd, uring.IORING_REGISTER_PROBE, address_of(table), 256) < 0:
        return ()
    return tuple(
        name
        for name, opcode in OPERATIONS.items()
        if struct.unpack_from("=BBH", table, 16 + 8 * opcode)[2] & uring.IO_URING_OP_SUPPORTED
    )
