"""gevent: one greenlet a connection, over its cooperative sockets."""

import gevent.socket
from gevent.server import StreamServer

from benchmarks.servers import common


def echo(connection: gevent.socket.socket, _address: object) -> None:
    buffer = bytearray(common.BUFFER_SIZE)
    view = memoryview(buffer)
    while count := connection.recv_into(buffer):
        connection.sendall(view[:count])


def main() -> None:
    listener = common.listen()
    # gevent wants a socket of its own class; the file descriptor is the same one.
    own = gevent.socket.socket(fileno=listener.detach())
    StreamServer(own, echo).serve_forever()


if __name__ == "__main__":
    main()
