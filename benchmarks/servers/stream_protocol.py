"""asyncio Protocols that stream one way: ``stream_protocol LOOP in`` or ``out``.

In: drop what comes, answer each full block with a byte. Out: answer each byte with a block, in
writes of 64 KiB, as far as the transport wants them.
"""

import asyncio
import sys
from typing import cast

from benchmarks.servers import common, loops

CHUNK = bytes(common.WRITE)


class Sink(asyncio.BufferedProtocol):
    """One buffer for all connections: `data_received` would make a new object for each read."""

    buffer = bytearray(common.BUFFER_SIZE)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.left = common.BLOCK

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.left -= nbytes
        if self.left <= 0:
            self.left += common.BLOCK
            self.transport.write(b"!")


class Source(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.left = 0
        self.paused = False

    def data_received(self, data: bytes) -> None:
        self.left += common.BLOCK
        self.go_on()

    def go_on(self) -> None:
        while self.left > 0 and not self.paused:
            self.left -= common.WRITE
            self.transport.write(CHUNK)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.go_on()


async def main() -> None:
    loop = asyncio.get_running_loop()
    protocol = Sink if sys.argv[2] == "in" else Source
    await loop.create_server(protocol, sock=common.listen(), backlog=common.BACKLOG)
    await loop.create_future()


if __name__ == "__main__":
    loops.run(main)
