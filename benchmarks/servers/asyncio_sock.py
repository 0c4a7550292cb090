"""asyncio's socket calls (``loop.sock_*``), on asyncio's own loop or uvloop."""

import asyncio
import socket

from benchmarks.servers import common, loops


async def echo(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    buffer = bytearray(common.BUFFER_SIZE)
    view = memoryview(buffer)
    with connection:
        while count := await loop.sock_recv_into(connection, buffer):
            await loop.sock_sendall(connection, view[:count])


async def main() -> None:
    loop = asyncio.get_running_loop()
    listener = common.listen()
    tasks: set[asyncio.Task[None]] = set()
    while True:
        connection, _ = await loop.sock_accept(listener)
        task = asyncio.create_task(echo(connection))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


if __name__ == "__main__":
    loops.run(main)
