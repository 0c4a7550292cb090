"""netpoll for many idle connections: each has a receive of zero bytes pending, and no buffer.

Its completion says that there is something. Then the data is taken and sent back through one buffer
for all, with the socket's own calls, which do not block; what does not fit into the socket is sent
by the port.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import netpoll
from benchmarks.servers import common, ports

if TYPE_CHECKING:
    import socket

    Operation = netpoll.Overlapped[Any]


class IdleServer:
    """One port, one thread, any number of connections."""

    def __init__(self, backend: str) -> None:
        self.port = ports.open_port(backend)
        self.buffer = memoryview(bytearray(common.BUFFER_SIZE))
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
                        self.port.resubmit(operation.context)
                    elif self.echo(operation):
                        self.port.resubmit(operation)
                except OSError:  # one connection's end is nobody else's
                    self.port.close_handle(operation.handle)

    def accepted(self, accept: Operation, completion: netpoll.Completion) -> None:
        connection = None if completion.error else completion.result()[0]
        self.port.resubmit(accept)
        if connection is not None:
            self.port.associate(connection)
            self.port.recv_into(connection, bytearray())

    def echo(self, probe: Operation) -> bool:
        """Whether all of it is on its way, so that the next probe may start."""
        connection: socket.socket = probe.handle
        try:
            size = connection.recv_into(self.buffer)
        except BlockingIOError:
            return True
        if not size:
            self.port.close_handle(connection)
            return False
        try:
            sent = connection.send(self.buffer[:size])
        except BlockingIOError:
            sent = 0
        if sent == size:
            return True
        rest: Operation = netpoll.Overlapped(context=probe)
        self.port.send(connection, bytes(self.buffer[sent:size]), overlapped=rest)
        return False


if __name__ == "__main__":
    IdleServer(sys.argv[1] if len(sys.argv) > 1 else "selectors").serve()
