"""netpoll, through its public names, on the backend that the first argument names.

Each connection has one buffer, one receive and one send, prepared once and resubmitted for ever.
The receive's ``context`` is the send, and the send's is the receive: the hot loop finds what comes
next in one attribute.
"""

import socket
import sys
from typing import Any

import netpoll
from benchmarks.servers import common

RECEIVE = netpoll.Opcode.RECV_INTO
SEND = netpoll.Opcode.SEND


class EchoServer:
    """One port, one thread, any number of connections."""

    def __init__(self, backend: str) -> None:
        self.port = netpoll.CompletionPort(backend)
        self.listener = common.listen()
        self.port.associate(self.listener)
        self.port.accept(self.listener)

    def serve(self) -> None:
        get_many = self.port.get_many
        while True:
            for completion in get_many():
                operation = completion.overlapped
                try:
                    if completion.error:
                        self.failed(completion)
                    elif operation.opcode is RECEIVE:
                        self.echo(operation, completion.transferred)
                    elif operation.opcode is SEND:
                        receive = self.port.resubmit(operation.context)
                        if receive.done:
                            self.echo(receive, receive.transferred)
                    else:
                        self.accepted(*completion.result())
                        self.port.resubmit(operation)
                except OSError:
                    self.port.close_handle(operation.handle)

    def echo(self, receive: netpoll.Overlapped[int], size: int) -> None:
        """Send back what came and receive again, as long as both are done at once."""
        resubmit = self.port.resubmit
        while size:
            send = receive.context
            if send.handle is None:
                self.port.send(receive.handle, receive.buffers, size=size, overlapped=send)
            else:
                resubmit(send, size=size)
            if not send.done or not resubmit(receive).done:
                return
            size = receive.transferred
        self.port.close_handle(receive.handle)

    def accepted(self, connection: socket.socket, _address: Any) -> None:
        receive: netpoll.Overlapped[int] = netpoll.Overlapped()
        receive.context = netpoll.Overlapped(context=receive)
        try:
            # what is done at once needs no packet: the start says so
            self.port.associate(connection, skip_on_success=True)
            self.port.recv_into(connection, bytearray(common.BUFFER_SIZE), overlapped=receive)
        except OSError:  # gone already
            connection.close()
        else:
            if receive.done:
                self.echo(receive, receive.transferred)

    def failed(self, completion: netpoll.Completion) -> None:
        """One connection's end is nobody else's; a failed accept is that connection's."""
        operation = completion.overlapped
        if operation.handle is self.listener:
            self.port.resubmit(operation)
        else:
            self.port.close_handle(operation.handle)


if __name__ == "__main__":
    EchoServer(sys.argv[1] if len(sys.argv) > 1 else "selectors").serve()
