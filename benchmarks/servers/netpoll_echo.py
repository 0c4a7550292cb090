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
        get_many, resubmit = self.port.get_many, self.port.resubmit
        while True:
            for completion in get_many():
                operation = completion.overlapped
                try:
                    if completion.error:
                        self.failed(completion)
                    elif operation.opcode is RECEIVE:
                        if completion.transferred:
                            resubmit(operation.context, size=completion.transferred)
                        else:
                            self.port.close_handle(operation.handle)
                    elif operation.opcode is SEND:
                        resubmit(operation.context)
                    else:
                        self.accepted(*completion.result())
                        resubmit(operation)
                except ValueError:
                    # The send is unused yet, or was prepared with less: see send().
                    self.send(operation, completion.transferred)
                except OSError:
                    self.port.close_handle(operation.handle)

    def accepted(self, connection: socket.socket, _address: Any) -> None:
        receive: netpoll.Overlapped[int] = netpoll.Overlapped()
        receive.context = netpoll.Overlapped(context=receive)
        try:
            self.port.associate(connection)
            self.port.recv_into(connection, bytearray(common.BUFFER_SIZE), overlapped=receive)
        except OSError:  # gone already
            connection.close()

    def send(self, receive: netpoll.Overlapped[int], size: int) -> None:
        """Prepare the connection's send anew, for messages of up to `size` bytes."""
        view = memoryview(receive.buffers)[:size]
        self.port.send(receive.handle, view, overlapped=receive.context)

    def failed(self, completion: netpoll.Completion) -> None:
        """One connection's end is nobody else's; a failed accept is that connection's."""
        operation = completion.overlapped
        if operation.handle is self.listener:
            self.port.resubmit(operation)
        else:
            self.port.close_handle(operation.handle)


if __name__ == "__main__":
    EchoServer(sys.argv[1] if len(sys.argv) > 1 else "selectors").serve()
