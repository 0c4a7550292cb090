"""Sends a file for each byte: `socket.sendfile` of a blocking socket, one connection at a time."""

import os
from pathlib import Path

from benchmarks.servers import common


def serve() -> None:
    listener = common.listen()
    listener.setblocking(True)
    with Path(os.environ[common.FILE]).open("rb") as file:
        while True:
            connection, _ = listener.accept()
            with connection:
                while connection.recv(1):
                    connection.sendfile(file)


if __name__ == "__main__":
    serve()
