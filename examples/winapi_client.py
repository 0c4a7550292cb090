"""The overlapped client that the books show for Winsock, in the same names: ConnectEx by way of
WSAIoctl, events and WSAWaitForMultipleEvents, completion routines and SleepEx. It talks to
`winapi_echo.py PORT`, or any other server that sends back what it gets.
"""

import argparse
import sys

import netpoll.winapi as w

DATA_BUFSIZE = 4096


class CONNECTION(w.OVERLAPPED):
    """One connection: its OVERLAPPED, and what a completion routine has to know."""

    def __init__(self, s: w.SOCKET, Message: bytes) -> None:
        self.s = s
        self.Message = Message
        self.Echo = b""
        self.Error = 0
        self.Done = False
        self.Buffer = bytearray(DATA_BUFSIZE)
        self.DataBuf = w.WSABUF(DATA_BUFSIZE, self.Buffer)


def Failed(what: str) -> SystemExit:
    return SystemExit(f"{what} failed with error {w.WSAGetLastError()}")


def OpenSocket() -> w.SOCKET:
    """A socket that is bound, which ConnectEx wants."""
    s = w.WSASocketW(w.AF_INET, w.SOCK_STREAM, w.IPPROTO_TCP, w.NULL, 0, w.WSA_FLAG_OVERLAPPED)
    if s == w.INVALID_SOCKET:
        raise Failed("WSASocket")
    if w.bind(s, (w.INADDR_ANY, 0), 16) == w.SOCKET_ERROR:
        raise Failed("bind")
    return s


def ConnectAll(Connections: list[CONNECTION], SockAddr: tuple[str, int]) -> None:
    """Connect with one ConnectEx each, and wait for their events."""
    ret, ConnectEx, _ = w.WSAIoctl(
        Connections[0].s,
        w.SIO_GET_EXTENSION_FUNCTION_POINTER,
        w.WSAID_CONNECTEX,
        16,
        8,
        w.NULL,
        w.NULL,
    )
    if ret == w.SOCKET_ERROR:
        raise Failed("WSAIoctl")
    EventArray = [w.WSACreateEvent() for _ in Connections]
    for c, hEvent in zip(Connections, EventArray, strict=True):
        c.hEvent = hEvent
        ok, _ = ConnectEx(c.s, SockAddr, 16, w.NULL, 0, c)
        if not ok and w.WSAGetLastError() != w.WSA_IO_PENDING:
            raise Failed("ConnectEx")
    Waiting = list(Connections)
    while Waiting:
        Index = w.WSAWaitForMultipleEvents(
            len(EventArray), EventArray, w.FALSE, w.WSA_INFINITE, w.FALSE
        )
        if Index == w.WSA_WAIT_FAILED:
            raise Failed("WSAWaitForMultipleEvents")
        c = Waiting.pop(Index - w.WSA_WAIT_EVENT_0)
        w.WSACloseEvent(EventArray.pop(Index - w.WSA_WAIT_EVENT_0))
        ok, _, _ = w.WSAGetOverlappedResult(c.s, c, w.FALSE)
        if not ok:
            raise Failed("ConnectEx")
        w.setsockopt(c.s, w.SOL_SOCKET, w.SO_UPDATE_CONNECT_CONTEXT, w.NULL, 0)
        c.hEvent = w.NULL


def PostRecv(c: CONNECTION) -> None:
    """Receive what comes next; its end is for WorkerRoutine."""
    ret, _, _ = w.WSARecv(c.s, c.DataBuf, 1, 0, c, WorkerRoutine)
    if ret == w.SOCKET_ERROR and w.WSAGetLastError() != w.WSA_IO_PENDING:
        c.Error = w.WSAGetLastError()
        c.Done = True


def WorkerRoutine(dwError: int, cbTransferred: int, c: CONNECTION, dwFlags: int) -> None:
    """Something has been received: it runs in SleepEx, in the thread that has started it."""
    c.Error = dwError
    c.Echo += c.Buffer[:cbTransferred]
    if dwError or not cbTransferred:
        c.Done = True
    else:
        PostRecv(c)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int, help="of the server, on this machine")
    parser.add_argument("--connections", type=int, default=8, help="at a time, 64 at most (8)")
    parser.add_argument("--size", type=int, default=20_000, help="bytes for each to send (20000)")
    options = parser.parse_args()

    ret, wVersion = w.WSAStartup(w.MAKEWORD(2, 2))
    if ret or w.LOBYTE(wVersion) != 2:
        raise SystemExit("no Winsock 2")
    if not 1 <= options.connections <= w.WSA_MAXIMUM_WAIT_EVENTS:
        raise SystemExit(f"connections: 1 to {w.WSA_MAXIMUM_WAIT_EVENTS}")
    Connections = [
        CONNECTION(OpenSocket(), b"%d: " % number + bytes(options.size))
        for number in range(options.connections)
    ]
    ConnectAll(Connections, (w.INADDR_LOOPBACK, options.port))
    for c in Connections:
        PostRecv(c)
    for c in Connections:
        # send blocks until all is on its way; what comes back meanwhile is received in it
        if w.send(c.s, c.Message, len(c.Message), 0) == w.SOCKET_ERROR:
            raise Failed("send")
        w.shutdown(c.s, w.SD_SEND)
    while not all(c.Done for c in Connections):
        w.SleepEx(w.INFINITE, w.TRUE)
    Wrong = [c for c in Connections if c.Error or c.Echo != c.Message]
    for c in Connections:
        w.closesocket(c.s)
    w.WSACleanup()
    print(f"{len(Connections)} connections, {len(Wrong)} without their echo", flush=True)
    sys.exit(bool(Wrong))


if __name__ == "__main__":
    main()
