"""The types of what the backend calls in Windows: its functions, one class a DLL, and what they
work on.

None of these classes is ever instantiated: they tell the type checkers what cffi's objects are.
Names and order of parameters are Microsoft's, positional because cffi takes no keywords. `NULL` is
`ffi.NULL`, which fits every pointer. In a structure and in a function alike, SOCKET and the integer
types are `int`, and BOOL is the `int` that C has: a function failed if it is 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NewType, Protocol, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

T = TypeVar("T")

Handle = NewType("Handle", object)
"""HANDLE. Made from an integer by `Library.handle`."""
Memory = NewType("Memory", object)
"""PVOID, or `char[]`: memory of cffi's, or a Python buffer by way of `ffi.from_buffer`."""
Routine = NewType("Routine", object)
"""LPWSAOVERLAPPED_COMPLETION_ROUTINE: a Python function by way of `ffi.callback`."""


class LPOVERLAPPED(Protocol):
    """A pointer to an OVERLAPPED."""

    Internal: int
    InternalHigh: int
    Offset: int
    OffsetHigh: int
    Pointer: Memory
    """In the place of `Offset` and `OffsetHigh`."""
    hEvent: Handle


class OVERLAPPED_ENTRY(Protocol):
    """One packet."""

    lpCompletionKey: int
    lpOverlapped: LPOVERLAPPED
    Internal: int
    dwNumberOfBytesTransferred: int


class LPOVERLAPPED_ENTRY(Protocol):
    """An array of packets."""

    def __getitem__(self, index: int, /) -> OVERLAPPED_ENTRY: ...


class WSABUF(Protocol):
    """One buffer of a gather or scatter list."""

    len: int
    buf: Memory


class LPWSABUF(Protocol):
    """An array of buffers."""

    def __getitem__(self, index: int, /) -> WSABUF: ...


class WSAMSG(Protocol):
    """A pointer to a message: address, buffers, control data and flags."""

    name: Memory
    namelen: int
    lpBuffers: LPWSABUF
    dwBufferCount: int
    Control: WSABUF
    dwFlags: int


class LPDWORD(Protocol):
    """A pointer to a DWORD, or a ULONG, or an INT: `p[0]` is it."""

    def __getitem__(self, index: int, /) -> int: ...
    def __setitem__(self, index: int, value: int, /) -> None: ...


class Handles(Protocol):
    """An array of handles, or where a function puts one."""

    def __getitem__(self, index: int, /) -> Handle: ...
    def __setitem__(self, index: int, value: Handle, /) -> None: ...


class WSAPROTOCOL_INFOW(Protocol):
    """What Winsock knows about a socket's provider; the fields that are read."""

    dwServiceFlags1: int


class LPTRANSMIT_FILE_BUFFERS(Protocol):
    """A pointer to what TransmitFile sends before and behind the file."""

    Head: Memory
    HeadLength: int
    Tail: Memory
    TailLength: int


class Sockaddr(Protocol):
    """A pointer to a `struct sockaddr`; to be cast to that of its family."""

    sa_family: int


class SockaddrIn(Protocol):
    """A pointer to a `struct sockaddr_in`. Port and address are in network byte order."""

    sin_family: int
    sin_port: int
    sin_addr: Memory


class SockaddrIn6(Protocol):
    """A pointer to a `struct sockaddr_in6`. Port and address are in network byte order."""

    sin6_family: int
    sin6_port: int
    sin6_flowinfo: int
    sin6_addr: Memory
    sin6_scope_id: int


class SockaddrPointer(Protocol):
    """A pointer to a pointer to a `struct sockaddr`: a function's answer is in `p[0]`."""

    def __getitem__(self, index: int, /) -> Sockaddr: ...


class Kernel32(Protocol):
    """kernel32.dll."""

    def CreateIoCompletionPort(
        self,
        FileHandle: Handle,
        ExistingCompletionPort: Handle,
        CompletionKey: int,
        NumberOfConcurrentThreads: int,
        /,
    ) -> Handle: ...

    def GetQueuedCompletionStatusEx(
        self,
        CompletionPort: Handle,
        lpCompletionPortEntries: LPOVERLAPPED_ENTRY,
        ulCount: int,
        ulNumEntriesRemoved: LPDWORD,
        dwMilliseconds: int,
        fAlertable: int,
        /,
    ) -> int: ...

    def PostQueuedCompletionStatus(
        self,
        CompletionPort: Handle,
        dwNumberOfBytesTransferred: int,
        dwCompletionKey: int,
        lpOverlapped: LPOVERLAPPED,
        /,
    ) -> int: ...

    def SetFileCompletionNotificationModes(self, FileHandle: Handle, Flags: int, /) -> int: ...

    def CancelIoEx(self, hFile: Handle, lpOverlapped: LPOVERLAPPED, /) -> int: ...

    def CloseHandle(self, hObject: Handle, /) -> int: ...

    def CreateFileW(
        self,
        lpFileName: Memory,
        dwDesiredAccess: int,
        dwShareMode: int,
        lpSecurityAttributes: Memory,
        dwCreationDisposition: int,
        dwFlagsAndAttributes: int,
        hTemplateFile: Handle,
        /,
    ) -> Handle: ...

    def CreateNamedPipeW(
        self,
        lpName: Memory,
        dwOpenMode: int,
        dwPipeMode: int,
        nMaxInstances: int,
        nOutBufferSize: int,
        nInBufferSize: int,
        nDefaultTimeOut: int,
        lpSecurityAttributes: Memory,
        /,
    ) -> Handle: ...

    def GetFileType(self, hFile: Handle, /) -> int: ...

    def ReadFile(
        self,
        hFile: Handle,
        lpBuffer: Memory,
        nNumberOfBytesToRead: int,
        lpNumberOfBytesRead: LPDWORD,
        lpOverlapped: LPOVERLAPPED,
        /,
    ) -> int: ...

    def WriteFile(
        self,
        hFile: Handle,
        lpBuffer: Memory,
        nNumberOfBytesToWrite: int,
        lpNumberOfBytesWritten: LPDWORD,
        lpOverlapped: LPOVERLAPPED,
        /,
    ) -> int: ...

    def DuplicateHandle(
        self,
        hSourceProcessHandle: Handle,
        hSourceHandle: Handle,
        hTargetProcessHandle: Handle,
        lpTargetHandle: Handles,
        dwDesiredAccess: int,
        bInheritHandle: int,
        dwOptions: int,
        /,
    ) -> int: ...

    def GetCurrentProcess(self, /) -> Handle: ...

    def DeviceIoControl(
        self,
        hDevice: Handle,
        dwIoControlCode: int,
        lpInBuffer: Memory,
        nInBufferSize: int,
        lpOutBuffer: Memory,
        nOutBufferSize: int,
        lpBytesReturned: LPDWORD,
        lpOverlapped: LPOVERLAPPED,
        /,
    ) -> int: ...

    def CreateEventW(
        self,
        lpEventAttributes: Memory,
        bManualReset: int,
        bInitialState: int,
        lpName: Memory,
        /,
    ) -> Handle: ...

    def SetEvent(self, hEvent: Handle, /) -> int: ...

    def WaitForMultipleObjects(
        self, nCount: int, lpHandles: Handles, bWaitAll: int, dwMilliseconds: int, /
    ) -> int: ...

    def WaitForSingleObject(self, hHandle: Handle, dwMilliseconds: int, /) -> int: ...

    def SleepEx(self, dwMilliseconds: int, bAlertable: int, /) -> int: ...

    def GetLastError(self, /) -> int: ...


class Winsock(Protocol):
    """ws2_32.dll."""

    def WSARecv(
        self,
        s: int,
        lpBuffers: LPWSABUF,
        dwBufferCount: int,
        lpNumberOfBytesRecvd: LPDWORD,
        lpFlags: LPDWORD,
        lpOverlapped: LPOVERLAPPED,
        lpCompletionRoutine: Routine,
        /,
    ) -> int: ...

    def WSASend(
        self,
        s: int,
        lpBuffers: LPWSABUF,
        dwBufferCount: int,
        lpNumberOfBytesSent: LPDWORD,
        dwFlags: int,
        lpOverlapped: LPOVERLAPPED,
        lpCompletionRoutine: Routine,
        /,
    ) -> int: ...

    def WSARecvFrom(
        self,
        s: int,
        lpBuffers: LPWSABUF,
        dwBufferCount: int,
        lpNumberOfBytesRecvd: LPDWORD,
        lpFlags: LPDWORD,
        lpFrom: Sockaddr,
        lpFromlen: LPDWORD,
        lpOverlapped: LPOVERLAPPED,
        lpCompletionRoutine: Routine,
        /,
    ) -> int: ...

    def WSASendTo(
        self,
        s: int,
        lpBuffers: LPWSABUF,
        dwBufferCount: int,
        lpNumberOfBytesSent: LPDWORD,
        dwFlags: int,
        lpTo: Sockaddr,
        iToLen: int,
        lpOverlapped: LPOVERLAPPED,
        lpCompletionRoutine: Routine,
        /,
    ) -> int: ...

    def WSAIoctl(
        self,
        s: int,
        dwIoControlCode: int,
        lpvInBuffer: Memory,
        cbInBuffer: int,
        lpvOutBuffer: Memory,
        cbOutBuffer: int,
        lpcbBytesReturned: LPDWORD,
        lpOverlapped: LPOVERLAPPED,
        lpCompletionRoutine: Routine,
        /,
    ) -> int: ...

    def WSAGetOverlappedResult(
        self,
        s: int,
        lpOverlapped: LPOVERLAPPED,
        lpcbTransfer: LPDWORD,
        fWait: int,
        lpdwFlags: LPDWORD,
        /,
    ) -> int: ...


class Mswsock(Protocol):
    """Winsock's extension functions, as one provider has them."""

    def AcceptEx(
        self,
        sListenSocket: int,
        sAcceptSocket: int,
        lpOutputBuffer: Memory,
        dwReceiveDataLength: int,
        dwLocalAddressLength: int,
        dwRemoteAddressLength: int,
        lpdwBytesReceived: LPDWORD,
        lpOverlapped: LPOVERLAPPED,
        /,
    ) -> int: ...

    def GetAcceptExSockaddrs(
        self,
        lpOutputBuffer: Memory,
        dwReceiveDataLength: int,
        dwLocalAddressLength: int,
        dwRemoteAddressLength: int,
        LocalSockaddr: SockaddrPointer,
        LocalSockaddrLength: LPDWORD,
        RemoteSockaddr: SockaddrPointer,
        RemoteSockaddrLength: LPDWORD,
        /,
    ) -> None: ...

    def ConnectEx(
        self,
        s: int,
        name: Sockaddr,
        namelen: int,
        lpSendBuffer: Memory,
        dwSendDataLength: int,
        lpdwBytesSent: LPDWORD,
        lpOverlapped: LPOVERLAPPED,
        /,
    ) -> int: ...

    def DisconnectEx(
        self, s: int, lpOverlapped: LPOVERLAPPED, dwFlags: int, dwReserved: int, /
    ) -> int: ...

    def TransmitFile(
        self,
        hSocket: int,
        hFile: Handle,
        nNumberOfBytesToWrite: int,
        nNumberOfBytesPerSend: int,
        lpOverlapped: LPOVERLAPPED,
        lpTransmitBuffers: LPTRANSMIT_FILE_BUFFERS,
        dwReserved: int,
        /,
    ) -> int: ...


class MessageFunctions(Protocol):
    """Those for messages, which a provider of streams need not have."""

    def WSARecvMsg(
        self,
        s: int,
        lpMsg: WSAMSG,
        lpdwNumberOfBytesRecvd: LPDWORD,
        lpOverlapped: LPOVERLAPPED,
        lpCompletionRoutine: Routine,
        /,
    ) -> int: ...

    def WSASendMsg(
        self,
        s: int,
        lpMsg: WSAMSG,
        dwFlags: int,
        lpNumberOfBytesSent: LPDWORD,
        lpOverlapped: LPOVERLAPPED,
        lpCompletionRoutine: Routine,
        /,
    ) -> int: ...


class FFI(Protocol):
    """What the backend uses of cffi, with the declared types by name."""

    NULL: Any

    @overload
    def new(self, cdecl: Literal["OVERLAPPED *"], /) -> LPOVERLAPPED: ...
    @overload
    def new(self, cdecl: Literal["OVERLAPPED_ENTRY[]"], size: int, /) -> LPOVERLAPPED_ENTRY: ...
    @overload
    def new(self, cdecl: Literal["WSABUF *"], /) -> LPWSABUF: ...
    @overload
    def new(self, cdecl: Literal["WSAMSG *"], /) -> WSAMSG: ...
    @overload
    def new(self, cdecl: Literal["WSABUF[]"], size: int, /) -> LPWSABUF: ...
    @overload
    def new(
        self, cdecl: Literal["DWORD *", "ULONG *", "INT *"], value: int = ..., /
    ) -> LPDWORD: ...
    @overload
    def new(self, cdecl: Literal["TRANSMIT_FILE_BUFFERS *"], /) -> LPTRANSMIT_FILE_BUFFERS: ...
    @overload
    def new(self, cdecl: Literal["HANDLE[]"], size: int, /) -> Handles: ...
    @overload
    def new(self, cdecl: Literal["struct sockaddr **"], /) -> SockaddrPointer: ...
    @overload
    def new(self, cdecl: Literal["struct sockaddr_in *"], /) -> SockaddrIn: ...
    @overload
    def new(self, cdecl: Literal["struct sockaddr_in6 *"], /) -> SockaddrIn6: ...
    @overload
    def new(self, cdecl: Literal["char[]"], size: int, /) -> Memory: ...
    @overload
    def new(self, cdecl: str, initializer: object = ..., /) -> Any: ...

    @overload
    def cast(self, cdecl: Literal["HANDLE"], value: object, /) -> Handle: ...
    @overload
    def cast(self, cdecl: Literal["OVERLAPPED *"], value: object, /) -> LPOVERLAPPED: ...
    @overload
    def cast(self, cdecl: Literal["ULONG_PTR"], pointer: object, /) -> int: ...
    @overload
    def cast(self, cdecl: str, value: object, /) -> Any: ...

    @overload
    def from_buffer(self, buffer: Buffer, /) -> Memory: ...
    @overload
    def from_buffer(
        self, cdecl: Literal["char[]"], buffer: Buffer, require_writable: bool = ..., /
    ) -> Memory: ...
    @overload
    def from_buffer(self, cdecl: str, buffer: Buffer, require_writable: bool = ..., /) -> Any: ...

    def callback(
        self,
        cdecl: Literal["LPWSAOVERLAPPED_COMPLETION_ROUTINE"],
        function: Callable[[int, int, LPOVERLAPPED, int], None],
        /,
    ) -> Routine: ...

    def buffer(self, cdata: object, size: int = ..., /) -> Any: ...
    def gc(self, cdata: T, destructor: Callable[[T], object], /) -> T: ...
    def sizeof(self, what: object, /) -> int: ...
    def addressof(self, cdata: object, /, *fields: str) -> Any: ...
    def memmove(self, dest: object, src: object, n: int, /) -> None: ...
    def release(self, cdata: object, /) -> None: ...
    def typeof(self, cdecl: object, /) -> Any: ...
    def dlopen(self, name: str, /) -> Any: ...
