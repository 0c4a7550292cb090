"""The multi-threaded echo server that the books show for completion ports in C++, line by line in
the same names. What `nc 127.0.0.1 PORT` sends comes back.
"""

import argparse
import contextlib
import threading

import netpoll.winapi as w

OP_ACCEPT, OP_READ, OP_WRITE = 1, 2, 3
BUF_SIZE = 4096
ADDR_SIZE = 32  # sizeof(SOCKADDR_IN) + 16
KEY_LISTEN, KEY_CLIENT, KEY_STOP = 1, 2, 3


class OVERLAPPEDPLUS(w.OVERLAPPED):
    """One operation, and what the worker has to know when it ends."""

    def __init__(self, OpCode: int, s: w.SOCKET) -> None:
        self.s = s
        self.sclient = w.INVALID_SOCKET
        self.OpCode = OpCode
        self.cBuf = bytearray(BUF_SIZE)
        self.wbuf = w.WSABUF(BUF_SIZE, self.cBuf)
        self.dwBytes = 0
        self.dwFlags = 0


g_Clients: set[w.SOCKET] = set()
g_Lock = threading.Lock()  # the CRITICAL_SECTION


def CloseClient(s: w.SOCKET) -> None:
    """This client is done with."""
    with g_Lock:
        g_Clients.discard(s)
    w.closesocket(s)


def PostAccept(ol: OVERLAPPEDPLUS) -> None:
    """Wait for the next client, with a socket for it ready."""
    ol.sclient = w.WSASocket(
        w.AF_INET, w.SOCK_STREAM, w.IPPROTO_TCP, w.NULL, 0, w.WSA_FLAG_OVERLAPPED
    )
    if ol.sclient == w.INVALID_SOCKET:
        return
    ok, ol.dwBytes = w.AcceptEx(ol.s, ol.sclient, ol.cBuf, 0, ADDR_SIZE, ADDR_SIZE, ol)
    if not ok and w.WSAGetLastError() != w.WSA_IO_PENDING:
        w.closesocket(ol.sclient)


def PostRead(ol: OVERLAPPEDPLUS) -> bool:
    """Receive whatever comes."""
    ol.OpCode = OP_READ
    ol.wbuf.len = BUF_SIZE
    ret, ol.dwBytes, ol.dwFlags = w.WSARecv(ol.s, ol.wbuf, 1, 0, ol, w.NULL)
    return ret != w.SOCKET_ERROR or w.WSAGetLastError() == w.WSA_IO_PENDING


def PostWrite(ol: OVERLAPPEDPLUS, cb: int) -> bool:
    """Send the first `cb` bytes of the buffer."""
    ol.OpCode = OP_WRITE
    ol.wbuf.len = cb
    ret, ol.dwBytes = w.WSASend(ol.s, ol.wbuf, 1, 0, ol, w.NULL)
    return ret != w.SOCKET_ERROR or w.WSAGetLastError() == w.WSA_IO_PENDING


def OnAccept(hCompPort: w.HANDLE, ol: OVERLAPPEDPLUS, ok: int) -> None:
    """A client is there, or the accept has failed."""
    client = ol.sclient
    if not ok:
        w.closesocket(client)
    else:
        with g_Lock:
            g_Clients.add(client)
        w.setsockopt(client, w.SOL_SOCKET, w.SO_UPDATE_ACCEPT_CONTEXT, ol.s)
        w.CreateIoCompletionPort(client, hCompPort, KEY_CLIENT, 0)
        if not PostRead(OVERLAPPEDPLUS(OP_READ, client)):
            CloseClient(client)
    PostAccept(ol)


def OnIoComplete(ol: OVERLAPPEDPLUS, ok: int, cb: int) -> None:
    """Something has been received, or sent."""
    if not ok or not cb:
        posted = False
    elif ol.OpCode == OP_READ:
        posted = PostWrite(ol, cb)
    else:
        posted = PostRead(ol)
    if not posted:
        CloseClient(ol.s)


def WorkerThread(hCompPort: w.HANDLE) -> None:
    """Take packets until one says stop."""
    while True:
        ok, cb, key, ol = w.GetQueuedCompletionStatus(hCompPort, w.INFINITE)
        if key == KEY_STOP or ol is w.NULL:
            return
        if ol.OpCode == OP_ACCEPT:
            OnAccept(hCompPort, ol, ok)
        else:
            OnIoComplete(ol, ok, cb)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int, nargs="?", default=0, help="to listen on (any)")
    parser.add_argument("--threads", type=int, default=4, help="that take packets (4)")
    parser.add_argument("--accepts", type=int, default=8, help="posted at a time (8)")
    options = parser.parse_args()

    w.WSAStartup(0x0202)
    hCompPort = w.CreateIoCompletionPort(w.INVALID_HANDLE_VALUE, w.NULL, 0, 0)
    s = w.WSASocket(w.AF_INET, w.SOCK_STREAM, w.IPPROTO_TCP, w.NULL, 0, w.WSA_FLAG_OVERLAPPED)
    if not hCompPort or s == w.INVALID_SOCKET:
        raise SystemExit(f"error {w.GetLastError()}")
    if w.bind(s, (w.INADDR_LOOPBACK, options.port)) or w.listen(s, w.SOMAXCONN):
        raise SystemExit(f"cannot listen: error {w.WSAGetLastError()}")
    w.CreateIoCompletionPort(s, hCompPort, KEY_LISTEN, 0)
    threads = [
        threading.Thread(target=WorkerThread, args=(hCompPort,)) for _ in range(options.threads)
    ]
    for thread in threads:
        thread.start()
    for _ in range(options.accepts):
        PostAccept(OVERLAPPEDPLUS(OP_ACCEPT, s))
    _, (_, number) = w.getsockname(s)
    print("listening on port", number, flush=True)

    with contextlib.suppress(KeyboardInterrupt):
        while w.SleepEx(w.INFINITE, w.TRUE) == w.WAIT_IO_COMPLETION:
            pass
    w.closesocket(s)
    for client in list(g_Clients):
        CloseClient(client)
    for _ in threads:
        w.PostQueuedCompletionStatus(hCompPort, 0, KEY_STOP, w.NULL)
    for thread in threads:
        thread.join()
    w.CloseHandle(hCompPort)
    w.WSACleanup()


if __name__ == "__main__":
    main()
