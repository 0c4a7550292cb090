"""asyncio's socket calls, streaming one way: ``stream_sock LOOP in`` or ``out``."""

import asyncio
import socket
import sys

from benchmarks.servers import common, loops

CHUNK = bytes(common.WRITE)


async def sink(connection: socket.socket) -> None:
    """Drop what comes, answer each full block with a byte."""
    loop = asyncio.get_running_loop()
    buffer = bytearray(common.BUFFER_SIZE)
    left = common.BLOCK
    while count := await loop.sock_recv_into(connection, buffer):
        left -= count
        if left <= 0:
            left += common.BLOCK
            await loop.sock_sendall(connection, b"!")


async def source(connection: socket.socket) -> None:
    """Answer each byte with a block."""
    loop = asyncio.get_running_loop()
    buffer = bytearray(1)
    while await loop.sock_recv_into(connection, buffer):
        for _ in range(common.BLOCK // common.WRITE):
            await loop.sock_sendall(connection, CHUNK)


async def main() -> None:
    loop = asyncio.get_running_loop()
    listener = common.listen()
    serve = sink if sys.argv[2] == "in" else source
    tasks: set[asyncio.Task[None]] = set()
    while True:
        connection, _ = await loop.sock_accept(listener)
        task = asyncio.create_task(serve(connection))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


if __name__ == "__main__":
    loops.run(main)
