"""Completion statuses and every error number that derives from them.

The final state of an operation is an NTSTATUS: one unsigned 32-bit number. Windows derives two
different error numbers from it: a *Win32* number (what a completion port reports) and a *Winsock*
number (what a call that fails at once reports). POSIX has a third, ``errno``. This module is the
only place in netpoll that knows those numbers, one row a status, and it makes the exceptions that
carry them. It performs no I/O and works the same on every OS.

An error that has no NTSTATUS (Winsock has some) travels as 0xC001xxxx with the number in its low
half: that is what the system's own conversion to Win32 numbers gives back unchanged.
"""

import errno as _errno
import sys

from netpoll.errors import OperationAborted, PortClosed, UnsupportedOperation

_MASK = 0xFFFFFFFF
_SEVERITY_ERROR = 0xC0000000
_CARRIER = 0xC0010000  # an error number without an NTSTATUS, in the low half
_WINSOCK_BASE = 10000
_WINSOCK_END = 12000

UNMAPPED_WIN32 = 317
"""ERROR_MR_MID_NOT_FOUND: the Win32 number of a status the system has no number for."""
UNMAPPED_WINSOCK = 10022
"""WSAEINVAL: the Winsock number of a failure the system has no number for."""

_WIN32: dict[int, int] = {}
_WINSOCK: dict[int, int] = {}
_ERRNO: dict[int, int] = {}
_TEXT: dict[int, str] = {}


def _errno_number(names: str) -> int:
    """The first of `names` that this OS has; EIO when it has none of them."""
    for name in names.split():
        number = getattr(_errno, name, None)
        if isinstance(number, int):
            return number
    return _errno.EIO


def _row(status: int, win32: int, winsock: int, errno_names: str, text: str) -> int:
    _WIN32[status] = win32
    _WINSOCK[status] = winsock
    _ERRNO[status] = _errno_number(errno_names) if errno_names else 0
    _TEXT[status] = text
    return status


# status, Win32, Winsock (0: none), errno names in order of preference, what happened
STATUS_SUCCESS = _row(0x00000000, 0, 0, "", "success")
STATUS_ABANDONED_WAIT_0 = _row(0x00000080, 735, 0, "EBADF", "the port was closed")
STATUS_USER_APC = _row(0x000000C0, 192, 0, "EINTR", "completion routines ran")
STATUS_TIMEOUT = _row(0x00000102, 258, 0, "ETIMEDOUT", "the wait timed out")
STATUS_PENDING = _row(0x00000103, 997, 996, "EINPROGRESS", "operation still pending")
STATUS_RECEIVE_PARTIAL = _row(0x4000000F, 707, 0, "EMSGSIZE", "part of a message received")
STATUS_RECEIVE_EXPEDITED = _row(0x40000010, 708, 0, "EMSGSIZE", "urgent data received")
STATUS_RECEIVE_PARTIAL_EXPEDITED = _row(0x40000011, 709, 0, "EMSGSIZE", "part of urgent data")
STATUS_BUFFER_OVERFLOW = _row(0x80000005, 234, 10040, "EMSGSIZE", "message longer than its buffer")
STATUS_UNSUCCESSFUL = _row(0xC0000001, 31, 10022, "EIO", "unspecified failure")
STATUS_NOT_IMPLEMENTED = _row(0xC0000002, 1, 10045, "EOPNOTSUPP", "operation not implemented")
STATUS_ACCESS_VIOLATION = _row(0xC0000005, 998, 10014, "EFAULT", "bad address")
STATUS_PAGEFILE_QUOTA = _row(0xC0000007, 1454, 10055, "ENOMEM", "paging file quota exceeded")
STATUS_INVALID_HANDLE = _row(0xC0000008, 6, 10038, "EBADF", "bad or closed handle")
STATUS_INVALID_PARAMETER = _row(0xC000000D, 87, 10022, "EINVAL", "invalid argument")
STATUS_NO_SUCH_DEVICE = _row(0xC000000E, 433, 10050, "ENODEV", "no such device")
STATUS_NO_SUCH_FILE = _row(0xC000000F, 2, 10050, "ENOENT", "no such file")
STATUS_END_OF_FILE = _row(0xC0000011, 38, 10022, "ENODATA", "end of file")
STATUS_NO_MEMORY = _row(0xC0000017, 8, 10055, "ENOMEM", "out of memory")
STATUS_CONFLICTING_ADDRESSES = _row(0xC0000018, 487, 10055, "ENOMEM", "address range in use")
STATUS_ACCESS_DENIED = _row(0xC0000022, 5, 10013, "EACCES", "permission denied")
STATUS_BUFFER_TOO_SMALL = _row(0xC0000023, 122, 10014, "EFAULT", "buffer too small")
STATUS_OBJECT_TYPE_MISMATCH = _row(0xC0000024, 6, 10038, "ENOTSOCK", "not a socket")
STATUS_OBJECT_NAME_NOT_FOUND = _row(0xC0000034, 2, 10050, "ENOENT", "no such name")
STATUS_OBJECT_PATH_NOT_FOUND = _row(0xC000003A, 3, 10050, "ENOENT", "no such path")
STATUS_SHARING_VIOLATION = _row(0xC0000043, 32, 10048, "EADDRINUSE", "address already in use")
STATUS_QUOTA_EXCEEDED = _row(0xC0000044, 1816, 10055, "ENOBUFS", "quota exceeded")
STATUS_DISK_FULL = _row(0xC000007F, 112, 10022, "ENOSPC", "no space left on the disk")
STATUS_TOO_MANY_PAGING_FILES = _row(0xC0000097, 8, 10055, "ENOMEM", "too many paging files")
STATUS_INSUFFICIENT_RESOURCES = _row(0xC000009A, 1450, 10055, "ENOBUFS", "no buffer space")
STATUS_WORKING_SET_QUOTA = _row(0xC00000A1, 1453, 10055, "ENOMEM", "too much memory pinned")
STATUS_DEVICE_NOT_READY = _row(0xC00000A3, 21, 10035, "EAGAIN", "would block")
STATUS_PIPE_NOT_AVAILABLE = _row(0xC00000AC, 231, 10022, "EBUSY", "all pipe instances are busy")
STATUS_PIPE_DISCONNECTED = _row(0xC00000B0, 233, 10058, "ESHUTDOWN EPIPE", "shut down on this side")
STATUS_PIPE_CLOSING = _row(0xC00000B1, 232, 10022, "EPIPE", "the pipe is being closed")
STATUS_PIPE_CONNECTED = _row(0xC00000B2, 535, 10022, "EISCONN", "the pipe is already connected")
STATUS_PIPE_LISTENING = _row(0xC00000B3, 536, 10022, "ENOTCONN", "the pipe is not connected yet")
STATUS_IO_TIMEOUT = _row(0xC00000B5, 121, 10060, "ETIMEDOUT", "timed out")
STATUS_NOT_SUPPORTED = _row(0xC00000BB, 50, 10045, "EOPNOTSUPP", "operation not supported")
STATUS_REMOTE_NOT_LISTENING = _row(0xC00000BC, 51, 10061, "ECONNREFUSED", "peer not listening")
STATUS_BAD_NETWORK_PATH = _row(0xC00000BE, 53, 10051, "ENETUNREACH", "network path not found")
STATUS_NETWORK_BUSY = _row(0xC00000BF, 54, 10050, "ENETDOWN", "network down")
STATUS_INVALID_NETWORK_RESPONSE = _row(0xC00000C3, 58, 10050, "EPROTO", "bad network response")
STATUS_UNEXPECTED_NETWORK_ERROR = _row(0xC00000C4, 59, 10050, "ENETDOWN", "network error")
STATUS_REQUEST_NOT_ACCEPTED = _row(0xC00000D0, 71, 10035, "EAGAIN", "request not accepted")
STATUS_PIPE_EMPTY = _row(0xC00000D9, 232, 10022, "EAGAIN", "the pipe is empty")
STATUS_TOO_MANY_OPENED_FILES = _row(0xC000011F, 4, 10022, "EMFILE", "too many open files")
STATUS_CANCELLED = _row(0xC0000120, 995, 995, "ECANCELED", "operation cancelled")
STATUS_FILE_CLOSED = _row(0xC0000128, 6, 10022, "EBADF", "handle already closed")
STATUS_COMMITMENT_LIMIT = _row(0xC000012D, 1455, 10055, "ENOMEM", "out of committed memory")
STATUS_LOCAL_DISCONNECT = _row(0xC000013B, 64, 10053, "ECONNABORTED", "connection ended here")
STATUS_REMOTE_DISCONNECT = _row(0xC000013C, 64, 10054, "ECONNRESET", "connection ended by peer")
STATUS_REMOTE_RESOURCES = _row(0xC000013D, 51, 10055, "ENOBUFS", "peer out of resources")
STATUS_LINK_FAILED = _row(0xC000013E, 59, 10054, "ECONNRESET", "link failed")
STATUS_LINK_TIMEOUT = _row(0xC000013F, 59, 10060, "ETIMEDOUT", "link timed out")
STATUS_INVALID_CONNECTION = _row(0xC0000140, 59, 10057, "ENOTCONN", "not connected")
STATUS_INVALID_ADDRESS = _row(0xC0000141, 59, 10049, "EADDRNOTAVAIL", "invalid address")
STATUS_PIPE_BROKEN = _row(0xC000014B, 109, 10022, "EPIPE", "the other end of the pipe is closed")
STATUS_INVALID_BUFFER_SIZE = _row(0xC0000206, 1784, 10040, "EMSGSIZE", "message too long")
STATUS_INVALID_ADDRESS_COMPONENT = _row(
    0xC0000207, 1214, 10049, "EADDRNOTAVAIL", "address not available"
)
STATUS_TOO_MANY_ADDRESSES = _row(0xC0000209, 68, 10055, "ENOBUFS", "too many addresses")
STATUS_ADDRESS_ALREADY_EXISTS = _row(0xC000020A, 52, 10048, "EADDRINUSE", "address already exists")
STATUS_CONNECTION_DISCONNECTED = _row(0xC000020C, 64, 10054, "ECONNRESET", "peer disconnected")
STATUS_CONNECTION_RESET = _row(0xC000020D, 64, 10054, "ECONNRESET", "connection reset by peer")
STATUS_TRANSACTION_ABORTED = _row(0xC000020F, 59, 10053, "ECONNABORTED", "transaction aborted")
STATUS_NOT_FOUND = _row(0xC0000225, 1168, 10022, "ENOENT", "nothing found to cancel")
STATUS_CONNECTION_REFUSED = _row(0xC0000236, 1225, 10061, "ECONNREFUSED", "connection refused")
STATUS_GRACEFUL_DISCONNECT = _row(0xC0000237, 1226, 10101, "ESHUTDOWN EPIPE", "peer closed")
STATUS_ADDRESS_ALREADY_ASSOCIATED = _row(0xC0000238, 1227, 10022, "EINVAL", "already bound")
STATUS_ADDRESS_NOT_ASSOCIATED = _row(0xC0000239, 1228, 10022, "EINVAL", "not bound")
STATUS_CONNECTION_INVALID = _row(0xC000023A, 1229, 10022, "ENOTCONN", "no such connection")
STATUS_CONNECTION_ACTIVE = _row(0xC000023B, 1230, 10056, "EISCONN", "already connected")
STATUS_NETWORK_UNREACHABLE = _row(0xC000023C, 1231, 10051, "ENETUNREACH", "network unreachable")
STATUS_HOST_UNREACHABLE = _row(0xC000023D, 1232, 10065, "EHOSTUNREACH", "host unreachable")
STATUS_PROTOCOL_UNREACHABLE = _row(0xC000023E, 1233, 10051, "EPROTO", "protocol unreachable")
STATUS_PORT_UNREACHABLE = _row(0xC000023F, 1234, 10054, "ECONNREFUSED", "port unreachable")
STATUS_REQUEST_ABORTED = _row(0xC0000240, 1235, 10004, "EINTR", "request interrupted")
STATUS_CONNECTION_ABORTED = _row(0xC0000241, 1236, 10053, "ECONNABORTED", "connection aborted")
STATUS_DATATYPE_MISALIGNMENT_ERROR = _row(0xC00002C5, 998, 10014, "EFAULT", "misaligned address")
STATUS_HOST_DOWN = _row(0xC0000350, 1256, 10064, "EHOSTDOWN EHOSTUNREACH", "host down")
STATUS_HOPLIMIT_EXCEEDED = _row(0xC000A012, UNMAPPED_WIN32, 10054, "EHOSTUNREACH", "hops exceeded")

_NAMES = {
    value: name
    for name, value in globals().items()
    if name.startswith("STATUS_") and isinstance(value, int)
}


def _number_names(table: str) -> dict[int, str]:
    words = table.split()
    return {int(code): name for code, name in zip(words[::2], words[1::2], strict=True)}


_WIN32_NAMES = _number_names("""
0 ERROR_SUCCESS 1 ERROR_INVALID_FUNCTION 2 ERROR_FILE_NOT_FOUND 3 ERROR_PATH_NOT_FOUND
4 ERROR_TOO_MANY_OPEN_FILES 5 ERROR_ACCESS_DENIED 6 ERROR_INVALID_HANDLE 8 ERROR_NOT_ENOUGH_MEMORY
21 ERROR_NOT_READY 31 ERROR_GEN_FAILURE 32 ERROR_SHARING_VIOLATION 38 ERROR_HANDLE_EOF
50 ERROR_NOT_SUPPORTED 51 ERROR_REM_NOT_LIST 52 ERROR_DUP_NAME 53 ERROR_BAD_NETPATH
54 ERROR_NETWORK_BUSY 58 ERROR_BAD_NET_RESP 59 ERROR_UNEXP_NET_ERR 64 ERROR_NETNAME_DELETED
68 ERROR_TOO_MANY_NAMES 71 ERROR_REQ_NOT_ACCEP 87 ERROR_INVALID_PARAMETER 109 ERROR_BROKEN_PIPE
112 ERROR_DISK_FULL 121 ERROR_SEM_TIMEOUT 122 ERROR_INSUFFICIENT_BUFFER 192 WAIT_IO_COMPLETION
231 ERROR_PIPE_BUSY 232 ERROR_NO_DATA 233 ERROR_PIPE_NOT_CONNECTED 234 ERROR_MORE_DATA
258 WAIT_TIMEOUT 317 ERROR_MR_MID_NOT_FOUND 433 ERROR_NO_SUCH_DEVICE 487 ERROR_INVALID_ADDRESS
535 ERROR_PIPE_CONNECTED 536 ERROR_PIPE_LISTENING 707 ERROR_RECEIVE_PARTIAL
708 ERROR_RECEIVE_EXPEDITED 709 ERROR_RECEIVE_PARTIAL_EXPEDITED 735 ERROR_ABANDONED_WAIT_0
995 ERROR_OPERATION_ABORTED 996 ERROR_IO_INCOMPLETE 997 ERROR_IO_PENDING 998 ERROR_NOACCESS
1168 ERROR_NOT_FOUND 1214 ERROR_INVALID_NETNAME 1225 ERROR_CONNECTION_REFUSED
1226 ERROR_GRACEFUL_DISCONNECT 1227 ERROR_ADDRESS_ALREADY_ASSOCIATED
1228 ERROR_ADDRESS_NOT_ASSOCIATED 1229 ERROR_CONNECTION_INVALID 1230 ERROR_CONNECTION_ACTIVE
1231 ERROR_NETWORK_UNREACHABLE 1232 ERROR_HOST_UNREACHABLE 1233 ERROR_PROTOCOL_UNREACHABLE
1234 ERROR_PORT_UNREACHABLE 1235 ERROR_REQUEST_ABORTED 1236 ERROR_CONNECTION_ABORTED
1256 ERROR_HOST_DOWN 1450 ERROR_NO_SYSTEM_RESOURCES 1453 ERROR_WORKING_SET_QUOTA
1454 ERROR_PAGEFILE_QUOTA 1455 ERROR_COMMITMENT_LIMIT 1784 ERROR_INVALID_USER_BUFFER
1816 ERROR_NOT_ENOUGH_QUOTA
""")
_WINSOCK_NAMES = _number_names("""
995 WSA_OPERATION_ABORTED 996 WSA_IO_INCOMPLETE 997 WSA_IO_PENDING 10004 WSAEINTR 10009 WSAEBADF
10013 WSAEACCES 10014 WSAEFAULT 10022 WSAEINVAL 10024 WSAEMFILE 10035 WSAEWOULDBLOCK
10036 WSAEINPROGRESS 10037 WSAEALREADY 10038 WSAENOTSOCK 10039 WSAEDESTADDRREQ 10040 WSAEMSGSIZE
10041 WSAEPROTOTYPE 10042 WSAENOPROTOOPT 10043 WSAEPROTONOSUPPORT 10044 WSAESOCKTNOSUPPORT
10045 WSAEOPNOTSUPP 10046 WSAEPFNOSUPPORT 10047 WSAEAFNOSUPPORT 10048 WSAEADDRINUSE
10049 WSAEADDRNOTAVAIL 10050 WSAENETDOWN 10051 WSAENETUNREACH 10052 WSAENETRESET
10053 WSAECONNABORTED 10054 WSAECONNRESET 10055 WSAENOBUFS 10056 WSAEISCONN 10057 WSAENOTCONN
10058 WSAESHUTDOWN 10059 WSAETOOMANYREFS 10060 WSAETIMEDOUT 10061 WSAECONNREFUSED 10062 WSAELOOP
10063 WSAENAMETOOLONG 10064 WSAEHOSTDOWN 10065 WSAEHOSTUNREACH 10066 WSAENOTEMPTY
10067 WSAEPROCLIM 10068 WSAEUSERS 10069 WSAEDQUOT 10070 WSAESTALE 10093 WSANOTINITIALISED
10101 WSAEDISCON 11002 WSATRY_AGAIN
""")

NUMBER_NAMES = (*_WIN32_NAMES.items(), *_WINSOCK_NAMES.items())
"""Every error number with its name in the headers."""

# A call that runs out of descriptors fails with a Winsock number that no status maps to.
_INLINE_WINSOCK = {STATUS_TOO_MANY_OPENED_FILES: 10024}

# Several statuses share a number; these are the ones that a number stands for.
_STATUS_OF_WINSOCK = {winsock: status for status, winsock in _WINSOCK.items() if winsock} | {
    0: STATUS_SUCCESS,
    997: STATUS_PENDING,
    10013: STATUS_ACCESS_DENIED,
    10014: STATUS_ACCESS_VIOLATION,
    10022: STATUS_INVALID_PARAMETER,
    10024: STATUS_TOO_MANY_OPENED_FILES,
    10035: STATUS_DEVICE_NOT_READY,
    10038: STATUS_OBJECT_TYPE_MISMATCH,
    10040: STATUS_INVALID_BUFFER_SIZE,
    10045: STATUS_NOT_SUPPORTED,
    10048: STATUS_SHARING_VIOLATION,
    10049: STATUS_INVALID_ADDRESS_COMPONENT,
    10050: STATUS_NETWORK_BUSY,
    10051: STATUS_NETWORK_UNREACHABLE,
    10053: STATUS_CONNECTION_ABORTED,
    10054: STATUS_CONNECTION_RESET,
    10055: STATUS_INSUFFICIENT_RESOURCES,
    10060: STATUS_IO_TIMEOUT,
    10061: STATUS_CONNECTION_REFUSED,
}
_STATUS_OF_WIN32 = {win32: status for status, win32 in reversed(_WIN32.items())} | {
    2: STATUS_OBJECT_NAME_NOT_FOUND,
    64: STATUS_CONNECTION_RESET,
    996: STATUS_PENDING,
}
del _STATUS_OF_WIN32[UNMAPPED_WIN32]

# Most errno names are Winsock names without "WSA"; these rows say what is different.
_STATUS_OF_ERRNO_NAME = {
    name.removeprefix("WSA"): _STATUS_OF_WINSOCK.get(code, _CARRIER | code)
    for code, name in _WINSOCK_NAMES.items()
} | {
    "EAGAIN": STATUS_DEVICE_NOT_READY,
    "EBADF": STATUS_INVALID_HANDLE,
    "ECANCELED": STATUS_CANCELLED,
    "EDESTADDRREQ": STATUS_INVALID_CONNECTION,
    "EINPROGRESS": STATUS_PENDING,
    "EIO": STATUS_UNSUCCESSFUL,
    "ENFILE": STATUS_TOO_MANY_OPENED_FILES,
    "ENODEV": STATUS_INVALID_ADDRESS_COMPONENT,
    "ENOENT": STATUS_OBJECT_NAME_NOT_FOUND,
    "ENOMEM": STATUS_NO_MEMORY,
    "ENOPROTOOPT": STATUS_INVALID_PARAMETER,
    "ENOSPC": STATUS_DISK_FULL,
    "ENOTSUP": STATUS_NOT_SUPPORTED,
    "EPERM": STATUS_ACCESS_DENIED,
    "EPIPE": STATUS_CONNECTION_RESET,
    "EPROTO": STATUS_PROTOCOL_UNREACHABLE,
}
_STATUS_OF_ERRNO = {
    getattr(_errno, name): status
    for name, status in _STATUS_OF_ERRNO_NAME.items()
    if hasattr(_errno, name)
}


def is_success(status: int) -> bool:
    """Success or information: the top bit is clear (NT_SUCCESS). STATUS_PENDING is one of them."""
    return not status & 0x80000000


def is_error(status: int) -> bool:
    """A failure: both top bits are set (NT_ERROR). A warning such as truncation is not one."""
    return status & _SEVERITY_ERROR == _SEVERITY_ERROR


def win32_error(status: int) -> int:
    """The Win32 number a completion port reports for `status`: 0 for success, 64 for a reset."""
    number = _WIN32.get(status)
    if number is not None:
        return number
    status &= _MASK  # an NTSTATUS read as a signed or as a pointer-sized number
    return _carried(status) or _WIN32.get(status, UNMAPPED_WIN32)


def winsock_error(status: int, *, inline: bool = False) -> int:
    """The Winsock number of `status`: 0 for success, 10054 for a reset.

    `inline` is for a call that fails at once; it differs in one row, out of descriptors.
    """
    status &= _MASK
    if inline and status in _INLINE_WINSOCK:
        return _INLINE_WINSOCK[status]
    known = _WINSOCK.get(status)
    if known is not None:
        return known
    carried = _carried(status)
    if _WINSOCK_BASE <= carried < _WINSOCK_END:
        return carried
    return 0 if is_success(status) else UNMAPPED_WINSOCK


def errno_of(status: int) -> int:
    """The errno of `status` on this OS: 0 for success, EIO where nothing closer exists."""
    status &= _MASK
    known = _ERRNO.get(status)
    if known is not None:
        return known
    carried = _carried(status)
    if carried in _WINSOCK_NAMES:
        return _errno_number(_WINSOCK_NAMES[carried].removeprefix("WSA"))
    return 0 if is_success(status) else _errno.EIO


def name_of(status: int) -> str:
    """The name of `status`, "STATUS_CONNECTION_RESET", or its number, "0xC00000FD"."""
    status &= _MASK
    return _NAMES.get(status) or f"0x{status:08X}"


def describe(status: int) -> str:
    """What happened, in a few words."""
    status &= _MASK
    text = _TEXT.get(status)
    if text is not None:
        return text
    carried = _carried(status)
    if not carried:
        return f"failed with {name_of(status)}"
    in_winsock = _WINSOCK_BASE <= carried < _WINSOCK_END
    return f"failed with {winsock_name(carried) if in_winsock else win32_name(carried)}"


def from_errno(
    number: int, *, datagram: bool = False, receiving: bool = False, local_shutdown: bool = False
) -> int:
    """The status for errno `number`, as a system call set it or Python's OSError carries it.

    `datagram`: the socket is one of datagrams, where "refused" means that an earlier datagram
    found no port. `receiving`: the call was a receive, where "message size" means truncated.
    `local_shutdown`: this side had shut down sending, where EPIPE does not mean a lost peer.
    An errno with no row is STATUS_UNSUCCESSFUL.
    """
    status = _STATUS_OF_ERRNO.get(number)
    if status is None:
        # Python on Windows uses Winsock numbers as errno for everything sockets do.
        in_winsock = _WINSOCK_BASE <= number < _WINSOCK_END or number == 0
        status = from_winsock(number) if in_winsock else STATUS_UNSUCCESSFUL
    # The same event on a datagram socket is "refused" to POSIX and "reset", 10054, to Winsock.
    if datagram and (status == STATUS_CONNECTION_REFUSED or number == 10054):
        return STATUS_PORT_UNREACHABLE
    if receiving and status == STATUS_INVALID_BUFFER_SIZE:
        return STATUS_BUFFER_OVERFLOW
    if local_shutdown and number == _errno.EPIPE:
        return STATUS_PIPE_DISCONNECTED
    return status


def from_winsock(code: int, *, receiving: bool = False) -> int:
    """The status a Winsock number stands for. `receiving`: 10040 means truncated, not too long."""
    if receiving and code == 10040:
        return STATUS_BUFFER_OVERFLOW
    status = _STATUS_OF_WINSOCK.get(code)
    if status is not None:
        return status
    return _CARRIER | code if _WINSOCK_BASE <= code < _WINSOCK_END else from_win32(code)


def from_win32(code: int) -> int:
    """The status a Win32 number (0 to 65535) stands for; 64 is a reset, 995 a cancel."""
    status = _STATUS_OF_WIN32.get(code)
    return _CARRIER | code & 0xFFFF if status is None else status


def _carried(status: int) -> int:
    """The number that a status of the 0xC001xxxx kind carries; 0 for any other status."""
    return status & 0xFFFF if status & 0xFFFF0000 == _CARRIER else 0


def win32_name(code: int) -> str:
    """A Win32 number with its name, "ERROR_NETNAME_DELETED 64", or "Win32 error N"."""
    name = _WIN32_NAMES.get(code)
    return f"{name} {code}" if name else f"Win32 error {code}"


def winsock_name(code: int) -> str:
    """A Winsock number with its name, "WSAECONNRESET 10054", or "Winsock error N"."""
    name = _WINSOCK_NAMES.get(code)
    return f"{name} {code}" if name else f"Winsock error {code}"


_KIND_OF: dict[int, type[OSError]] = {
    STATUS_CANCELLED: OperationAborted,
    STATUS_ABANDONED_WAIT_0: PortClosed,
    STATUS_NOT_SUPPORTED: UnsupportedOperation,
    STATUS_NOT_IMPLEMENTED: UnsupportedOperation,
}


def make_exception(
    status: int,
    *,
    inline: bool = False,
    message: str | None = None,
    kind: type[OSError] | None = None,
) -> OSError:
    """The exception for `status`, not raised.

    `inline`: the call failed at once, so `winerror` is the Winsock number (10054), as on Windows;
    otherwise it is the Win32 number that a completion reports (64). `message` replaces the words
    that say what happened; the numbers follow in either case. `kind` overrides the class, for an
    error whose status alone does not tell it. Raises `ValueError` for STATUS_SUCCESS.
    """
    status &= _MASK
    if status == STATUS_SUCCESS:
        raise ValueError("STATUS_SUCCESS is not an error")
    win32 = win32_error(status)
    winsock = winsock_error(status, inline=inline)
    text = f"{message or describe(status)} ({_numbers(status, win32, winsock)})"
    # OSError itself picks the standard subclass that belongs to the errno.
    error = (kind or _KIND_OF.get(status, OSError))(errno_of(status), text)
    winerror = winsock if inline and winsock else win32
    # OSError on Windows has a slot for winerror, which copies and pickles drop. Stored in the
    # instance dictionary as well, it travels with them and is put back into the slot.
    vars(error).update(winerror=winerror, wsaerror=winsock, status=status)
    if sys.platform == "win32":
        error.winerror = winerror
    return error


def _numbers(status: int, win32: int, winsock: int) -> str:
    text = f"{name_of(status)}; {win32_name(win32)}"
    return f"{text}, {winsock_name(winsock)}" if winsock else text
