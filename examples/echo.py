"""An echo server. What `nc 127.0.0.1 PORT` sends comes back."""

import socket

import netpoll

with netpoll.CompletionPort() as port, socket.create_server(("127.0.0.1", 0)) as listener:
    print("listening on port", listener.getsockname()[1], flush=True)
    port.associate(listener)
    port.accept(listener)
    while completion := port.get():
        operation, sock = completion.overlapped, completion.overlapped.handle
        try:
            value = completion.result()
            if operation.opcode == "accept":
                sock, _ = value
                port.resubmit(operation)
                port.associate(sock)
            if operation.opcode != "recv":
                port.recv(sock, 4096)
            else:
                port.send(sock, value) if value else port.close_handle(sock)
        except OSError:  # a reset, say: the end of this connection, and of nothing else
            port.resubmit(operation) if sock is listener else port.close_handle(sock)
