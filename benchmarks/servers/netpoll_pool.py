"""netpoll with a pool of buffers: a connection that waits has none, one that echoes borrows one.

Each connection has one receive, resubmitted for ever. A message is sent from the buffer that it
came in, by an operation that the connections share too; when that has ended, both go back.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import netpoll
from benchmarks.servers import common, ports

if TYPE_CHECKING:
    import socket

    Operation = netpoll.Overlapped[Any]

BUFFERS = 256
SIZE = 16384


class PoolServer:
    """One port, one thread, any number of connections, a few megabytes of buffers."""

    def __init__(self, backend: str) -> None:
        self.port = ports.open_port(backend)
        self.pool = netpoll.BufferPool(BUFFERS, SIZE)
        self.sends: list[Operation] = []
        """Those that are not under way."""
        self.listener = common.listen()
        self.port.associate(self.listener)
        self.port.accept(self.listener)

    def serve(self) -> None:
        while True:
            for completion in self.port.get_many():
                operation = completion.overlapped
                try:
                    if operation.opcode is netpoll.Opcode.ACCEPT:
                        self.accepted(operation, completion)
                    elif completion.error:
                        self.port.close_handle(operation.handle)
                    elif operation.opcode is netpoll.Opcode.SEND:
                        receive, buffer = operation.context
                        self.sent(operation, buffer)
                        self.receive(receive)
                    else:
                        self.echo(operation, completion.result())
                except OSError:  # one connection's end is nobody else's
                    self.port.close_handle(operation.handle)

    def accepted(self, accept: Operation, completion: netpoll.Completion) -> None:
        connection: socket.socket | None = None if completion.error else completion.result()[0]
        self.port.resubmit(accept)
        if connection is not None:
            self.port.associate(connection, skip_on_success=True)
            receive = self.port.recv_pooled(connection, self.pool)
            if receive.done:
                self.echo(receive, receive.result())

    def receive(self, receive: Operation) -> None:
        self.port.resubmit(receive)
        if receive.done:
            self.echo(receive, receive.result())

    def echo(self, receive: Operation, buffer: netpoll.PooledBuffer) -> None:
        if not len(buffer):
            self.port.close_handle(receive.handle)
            return
        send: Operation = self.sends.pop() if self.sends else netpoll.Overlapped()
        send.context = receive, buffer
        self.port.send(receive.handle, buffer.data, overlapped=send)
        if send.done:
            self.sent(send, buffer)
            self.receive(receive)

    def sent(self, send: Operation, buffer: netpoll.PooledBuffer) -> None:
        send.context = None
        buffer.release()
        self.sends.append(send)


if __name__ == "__main__":
    PoolServer(sys.argv[1] if len(sys.argv) > 1 else "selectors").serve()
