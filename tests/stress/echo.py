"""An echo server on a completion port that counts what it starts and what ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netpoll.testing.waiting import DEADLINE, run

if TYPE_CHECKING:
    import socket

    from netpoll import Completion, CompletionPort, Overlapped

STOP = object()


class EchoServer:
    """Serves in a thread of its own from its creation to `stop()`."""

    def __init__(
        self, port: CompletionPort, listener: socket.socket, *, receive: int | None = None
    ) -> None:
        """
        :param receive: accept together with this many bytes of first data
        """
        self.port = port
        self.listener = listener
        self.receive = receive
        self.starts = 0
        self.ends = 0
        self.accepted = 0
        self.connections: set[socket.socket] = set()
        port.associate(listener, listener)
        for _ in range(4):
            self.accept()
        self.thread = run(self.serve)

    @property
    def address(self) -> tuple[str, int]:
        host, number = self.listener.getsockname()
        return host, number

    def stop(self) -> None:
        """Close everything; proves that each operation ended once."""
        self.port.post(key=STOP)
        self.thread.result()
        assert self.starts == self.ends

    def serve(self) -> None:
        stopping = False
        while not stopping or self.starts > self.ends:
            batch = self.port.get_many(timeout=DEADLINE)
            assert batch or not stopping, f"never ended: {self.port.inflight()}"
            for completion in batch:
                if completion.key is STOP:
                    stopping = True
                    self.port.close_handle(self.listener)
                    for sock in list(self.connections):
                        self.drop(sock)
                else:
                    self.handle(completion, stopping)

    def handle(self, completion: Completion, stopping: bool) -> None:
        self.ends += 1
        if completion.overlapped.opcode == "accept":
            self.on_accept(completion, stopping)
            return
        sock = completion.key
        if completion.error or not completion.transferred:
            self.drop(sock)
        elif sock in self.connections:
            if completion.overlapped.opcode == "recv":
                self.start("send", sock, completion.result())
            else:
                self.start("recv", sock, 65536)

    def on_accept(self, completion: Completion, stopping: bool) -> None:
        if not stopping:
            self.accept()
        if completion.error:
            return
        sock: socket.socket = completion.result()[0]
        self.accepted += 1
        self.connections.add(sock)
        self.port.associate(sock, sock)
        if self.receive is None:
            self.start("recv", sock, 65536)
        elif completion.transferred:
            self.start("send", sock, bytes(completion.overlapped.buffers[: completion.transferred]))
        else:
            self.drop(sock)

    def accept(self) -> None:
        try:
            buffer = None if self.receive is None else bytearray(self.receive)
            self.port.accept(self.listener, receive=buffer)
        except ConnectionError:
            return self.accept()  # the client's failure, not the listener's (ACC-12)
        self.starts += 1
        return None

    def start(self, how: str, sock: socket.socket, argument: object) -> None:
        begin: Overlapped[object]
        try:
            begin = getattr(self.port, how)(sock, argument)
        except OSError:
            self.drop(sock)
        else:
            assert begin.opcode == how
            self.starts += 1

    def drop(self, sock: socket.socket) -> None:
        if sock in self.connections:
            self.connections.remove(sock)
            self.port.close_handle(sock)
