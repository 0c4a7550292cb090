"""The least that Python needs for a connection: its socket in a dict, beside an epoll object.

What another server's connection takes in memory, less this one's, is what its library adds.
"""

import select
from typing import TYPE_CHECKING

from benchmarks.servers import common

if TYPE_CHECKING:
    import socket


def serve() -> None:
    buffer = memoryview(bytearray(common.BUFFER_SIZE))
    listener = common.listen()
    poller = select.epoll()
    poller.register(listener, select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    while True:
        for fd, _ in poller.poll():
            if fd == listener.fileno():
                connection, _ = listener.accept()
                connection.setblocking(True)  # no buffer for what a slow reader leaves: it waits
                connections[connection.fileno()] = connection
                poller.register(connection, select.EPOLLIN)
                continue
            connection = connections[fd]
            try:
                size = connection.recv_into(buffer)
                connection.sendall(buffer[:size])
            except OSError:
                size = 0
            if not size:
                connections.pop(fd).close()


if __name__ == "__main__":
    serve()
