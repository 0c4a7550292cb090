"""The constants of Windows that the backend uses, under the names of Microsoft's headers.

The tests compare every number here with those headers. Error numbers are in `netpoll.status`.
"""

from typing import Final

SOCKET_ERROR: Final = -1
"""What a Winsock function returns when it fails."""
INFINITE: Final = 0xFFFFFFFF
"""A wait without end, in milliseconds."""

WAIT_OBJECT_0: Final = 0
WAIT_IO_COMPLETION: Final = 192
"""A wait ended because completion routines ran."""
WAIT_TIMEOUT: Final = 258
WAIT_FAILED: Final = 0xFFFFFFFF

ERROR_IO_PENDING: Final = 997
"""Started, and a packet will come; Winsock's WSA_IO_PENDING is the same number."""
WSAENOTSOCK: Final = 10038
WSAECONNRESET: Final = 10054
WSAENOBUFS: Final = 10055
WSAECONNREFUSED: Final = 10061

DUPLICATE_SAME_ACCESS: Final = 2
SYNCHRONIZE: Final = 0x100000
GENERIC_READ: Final = 0x80000000
GENERIC_WRITE: Final = 0x40000000
FILE_APPEND_DATA: Final = 4
FILE_SHARE_READ: Final = 1
FILE_SHARE_WRITE: Final = 2
FILE_SHARE_DELETE: Final = 4
CREATE_NEW: Final = 1
CREATE_ALWAYS: Final = 2
OPEN_EXISTING: Final = 3
OPEN_ALWAYS: Final = 4
FILE_FLAG_OVERLAPPED: Final = 0x40000000
FILE_FLAG_FIRST_PIPE_INSTANCE: Final = 0x80000
FILE_TYPE_DISK: Final = 1
PIPE_ACCESS_INBOUND: Final = 1
PIPE_REJECT_REMOTE_CLIENTS: Final = 8

FILE_SKIP_COMPLETION_PORT_ON_SUCCESS: Final = 1
FILE_SKIP_SET_EVENT_ON_HANDLE: Final = 2

SOL_SOCKET: Final = 0xFFFF
SO_PROTOCOL_INFOW: Final = 0x2005
SO_UPDATE_ACCEPT_CONTEXT: Final = 0x700B
SO_UPDATE_CONNECT_CONTEXT: Final = 0x7010
XP1_IFS_HANDLES: Final = 0x20000
"""The provider's sockets are handles of the system, so notification modes work (MODE-08)."""

SIO_GET_EXTENSION_FUNCTION_POINTER: Final = 0xC8000006
SIO_UDP_CONNRESET: Final = 0x9800000C
SIO_BASE_HANDLE: Final = 0x48000022
SIO_BSP_HANDLE_POLL: Final = 0x4800001D
"""Asked where a layered provider hides its base handle from the other one."""

Guid = tuple[int, int, int, tuple[int, ...]]

WSAID_ACCEPTEX: Final[Guid] = (
    *(0xB5367DF1, 0xCBAC, 0x11CF),
    (0x95, 0xCA, 0x00, 0x80, 0x5F, 0x48, 0xA1, 0x92),
)
WSAID_WSARECVMSG: Final[Guid] = (
    *(0xF689D7C8, 0x6F1F, 0x436B),
    (0x8A, 0x53, 0xE5, 0x4F, 0xE3, 0x51, 0xC3, 0x22),
)
WSAID_WSASENDMSG: Final[Guid] = (
    *(0xA441E712, 0x754F, 0x43CA),
    (0x84, 0xA7, 0x0D, 0xEE, 0x44, 0xCF, 0x60, 0x6D),
)
WSAID_GETACCEPTEXSOCKADDRS: Final[Guid] = (
    *(0xB5367DF2, 0xCBAC, 0x11CF),
    (0x95, 0xCA, 0x00, 0x80, 0x5F, 0x48, 0xA1, 0x92),
)
WSAID_CONNECTEX: Final[Guid] = (
    *(0x25A207B9, 0xDDF3, 0x4660),
    (0x8E, 0xE9, 0x76, 0xE5, 0x8C, 0x74, 0x06, 0x3E),
)
WSAID_DISCONNECTEX: Final[Guid] = (
    *(0x7FDA2E11, 0x8630, 0x436F),
    (0xA0, 0x31, 0xF5, 0x36, 0xA6, 0xEE, 0xC1, 0x57),
)
WSAID_TRANSMITFILE: Final[Guid] = (
    *(0xB5367DF0, 0xCBAC, 0x11CF),
    (0x95, 0xCA, 0x00, 0x80, 0x5F, 0x48, 0xA1, 0x92),
)
