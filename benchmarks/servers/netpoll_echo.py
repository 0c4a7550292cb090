"""netpoll, through its public names, on the backend that the first argument names.

Each connection has one buffer, one receive and one send, prepared once and resubmitted for ever.
The receive's ``context`` is the send, and the send's is the receive: the hot loop finds what comes
next in one attribute.

The backends are fast in two ways:

* On `io_uring` what is started again goes to the kernel together, and each end is a packet of its
  own: `serve_together`.
* Elsewhere a send mostly finishes within its start, and `skip_on_success` saves its packet; what it
  asks for in return is a look at ``done`` after every start: `serve_one_by_one`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import netpoll
from benchmarks.servers import common, ports

if TYPE_CHECKING:
    import socket

    Operation = netpoll.Overlapped[int]

RECV_INTO = netpoll.Opcode.RECV_INTO
SEND = netpoll.Opcode.SEND
ACCEPT = netpoll.Opcode.ACCEPT

ACCEPTS = 16
"""Pending at once, so that one turn can bring many connections."""


class EchoServer:
    """One port, one thread, any number of connections."""

    def __init__(self, backend: str) -> None:
        self.port = ports.open_port(backend)
        self.spare: list[Operation] = []
        """Receives of connections that have ended, with their buffers."""
        self.listener = common.listen()
        self.port.associate(self.listener)
        for _ in range(ACCEPTS):
            self.port.accept(self.listener)

    def serve_together(self) -> None:
        get_many = self.port.get_many
        while True:
            again: list[Operation] = []
            for completion in get_many():
                operation = completion.overlapped
                opcode = operation.opcode
                size = completion.transferred  # what fails transfers nothing
                if opcode is RECV_INTO and size:
                    send = operation.context
                    if send.transferred == size:
                        again.append(send)
                    else:
                        self.send(operation, size)
                elif opcode is SEND and size:
                    again.append(operation.context)
                else:
                    self.other(completion)
            for operation, _ in self.port.resubmit_many(again):
                self.failed(operation)

    def serve_one_by_one(self) -> None:
        get_many, resubmit = self.port.get_many, self.port.resubmit
        while True:
            for completion in get_many():
                operation = completion.overlapped
                opcode = operation.opcode
                size = completion.transferred
                try:
                    if opcode is RECV_INTO and size:
                        # self.echo, written out for the hot loop
                        send = operation.context
                        while size:
                            resubmit(send, size=size)
                            if not send.done:
                                break
                            resubmit(operation)
                            if not operation.done:
                                break
                            size = operation.transferred
                        else:
                            self.ended(operation)
                    elif opcode is SEND and size:
                        receive = operation.context
                        resubmit(receive)
                        if receive.done:
                            self.echo(receive, receive.transferred)
                    else:
                        self.other(completion)
                except ValueError:  # the first message: its send was never started
                    self.echo(operation, completion.transferred)
                except OSError:
                    self.port.close_handle(operation.handle)

    def other(self, completion: netpoll.Completion) -> None:
        """What is no message: a failure, a connection, or its end."""
        operation = completion.overlapped
        if completion.error:
            self.failed(operation)
        elif operation.opcode is ACCEPT:
            connection, _ = completion.result()
            self.port.resubmit(operation)
            self.accepted(connection)
        else:
            self.ended(operation)

    def accepted(self, connection: socket.socket) -> None:
        if self.spare:
            receive = self.spare.pop()
            buffer = receive.buffers
        else:
            receive = netpoll.Overlapped()
            buffer = bytearray(common.BUFFER_SIZE)
        receive.context = netpoll.Overlapped(context=receive)
        try:
            self.port.associate(connection, skip_on_success=True)
            self.port.recv_into(connection, buffer, overlapped=receive)
            if receive.done:
                self.echo(receive, receive.transferred)
        except OSError:  # gone already
            self.port.close_handle(connection)

    def send(self, receive: Operation, size: int) -> None:
        """Send back what is not as long as the last message was, or is the first one."""
        send = receive.context
        try:
            if send.opcode is None:
                self.echo(receive, size)
            else:
                self.port.resubmit(send, size)
        except OSError:
            self.port.close_handle(receive.handle)

    def receive(self, receive: Operation) -> None:
        self.port.resubmit(receive)
        if receive.done:
            self.echo(receive, receive.transferred)

    def echo(self, receive: Operation, size: int) -> None:
        """Send back what a receive brought, and receive again."""
        if not size:
            self.ended(receive)
            return
        self.port.send(receive.handle, receive.buffers, size=size, overlapped=receive.context)
        if receive.context.done:
            self.receive(receive)

    def ended(self, receive: Operation) -> None:
        """The stream is over, and nothing is pending on it: the next connection gets the buffer."""
        self.port.close_handle(receive.handle)
        self.spare.append(receive)

    def failed(self, operation: Operation) -> None:
        """One connection's end is nobody else's; a failed accept is that connection's."""
        if operation.handle is self.listener:
            self.port.resubmit(operation)
        else:
            self.port.close_handle(operation.handle)


if __name__ == "__main__":
    server = EchoServer(sys.argv[1] if len(sys.argv) > 1 else "selectors")
    if server.port.backend == "io_uring":
        server.serve_together()
    else:
        server.serve_one_by_one()
