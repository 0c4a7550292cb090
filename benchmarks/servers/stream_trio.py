"""trio, streaming one way: ``stream_trio in`` or ``out``."""

import sys

import trio

from benchmarks.servers import common

CHUNK = bytes(common.WRITE)


async def sink(stream: trio.SocketStream) -> None:
    """Drop what comes, answer each full block with a byte."""
    left = common.BLOCK
    async with stream:
        while data := await stream.receive_some(common.BUFFER_SIZE):
            left -= len(data)
            if left <= 0:
                left += common.BLOCK
                await stream.send_all(b"!")


async def source(stream: trio.SocketStream) -> None:
    """Answer each byte with a block."""
    async with stream:
        while await stream.receive_some(1):
            for _ in range(common.BLOCK // common.WRITE):
                await stream.send_all(CHUNK)


async def main() -> None:
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(common.listen()))
    await trio.serve_listeners(sink if sys.argv[1] == "in" else source, [listener])


if __name__ == "__main__":
    trio.run(main)
