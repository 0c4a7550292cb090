"""netpoll, streaming one way: ``stream_netpoll BACKEND in`` or ``out``.

In: drop what comes, answer each full block with a byte. Out: answer each byte with a block, in
sends of 64 KiB, each started when the one before has ended.
"""

import socket
import sys

import netpoll
from benchmarks.servers import common, ports

RECV_INTO = netpoll.Opcode.RECV_INTO
CHUNK = bytes(common.WRITE)


class Stream:
    """A connection; the context of its operations."""

    def __init__(self, port: netpoll.CompletionPort, connection: socket.socket) -> None:
        self.port = port
        self.receive: netpoll.Overlapped[int] = netpoll.Overlapped(context=self)
        self.send: netpoll.Overlapped[int] = netpoll.Overlapped(context=self)
        self.left = 0
        port.associate(connection)


class Sink(Stream):
    def __init__(self, port: netpoll.CompletionPort, connection: socket.socket) -> None:
        super().__init__(port, connection)
        self.left = common.BLOCK
        self.answered = False
        port.recv_into(connection, bytearray(common.BUFFER_SIZE), overlapped=self.receive)

    def received(self, size: int) -> None:
        self.port.resubmit(self.receive)
        self.left -= size
        if self.left > 0:
            return
        # the next block follows the answer: a send is never under way twice
        self.left += common.BLOCK
        if self.answered:
            self.port.resubmit(self.send)
        else:
            self.answered = True
            self.port.send(self.receive.handle, b"!", overlapped=self.send)

    def sent(self) -> None:
        pass


class Source(Stream):
    def __init__(self, port: netpoll.CompletionPort, connection: socket.socket) -> None:
        super().__init__(port, connection)
        self.begun = False
        port.recv_into(connection, bytearray(1), overlapped=self.receive)

    def received(self, _size: int) -> None:
        self.left = common.BLOCK
        self.go_on()

    def go_on(self) -> None:
        self.left -= common.WRITE
        if self.begun:
            self.port.resubmit(self.send)
        else:
            self.begun = True
            self.port.send(self.receive.handle, CHUNK, overlapped=self.send)

    def sent(self) -> None:
        if self.left > 0:
            self.go_on()
        else:
            self.port.resubmit(self.receive)


def serve(backend: str, make: type[Sink] | type[Source]) -> None:
    port = ports.open_port(backend)
    listener = common.listen()
    port.associate(listener)
    port.accept(listener)
    while True:
        for completion in port.get_many():
            operation = completion.overlapped
            try:
                if completion.transferred:
                    if operation.opcode is RECV_INTO:
                        operation.context.received(completion.transferred)
                    else:
                        operation.context.sent()
                elif operation.opcode is netpoll.Opcode.ACCEPT:
                    connection = None if completion.error else completion.result()[0]
                    port.resubmit(operation)
                    if connection is not None:
                        make(port, connection)
                else:
                    port.close_handle(operation.handle)
            except OSError:  # one connection's end is nobody else's
                port.close_handle(operation.handle)


if __name__ == "__main__":
    serve(sys.argv[1], Sink if sys.argv[2] == "in" else Source)
