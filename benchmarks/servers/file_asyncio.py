"""Sends a file for each byte, by `loop.sock_sendfile`: ``file_asyncio LOOP``."""

import asyncio
import functools
import os
from pathlib import Path
from typing import BinaryIO

from benchmarks.servers import common, loops


async def main(file: BinaryIO) -> None:
    loop = asyncio.get_running_loop()
    listener = common.listen()
    while True:
        connection, _ = await loop.sock_accept(listener)
        with connection:
            while await loop.sock_recv(connection, 1):
                await loop.sock_sendfile(connection, file, fallback=False)


if __name__ == "__main__":
    with Path(os.environ[common.FILE]).open("rb") as file:
        loops.run(functools.partial(main, file))
