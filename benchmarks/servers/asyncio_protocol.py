"""asyncio transports and a Protocol, on asyncio's own loop, uvloop or rloop."""

import asyncio
from typing import cast

from benchmarks.servers import common, loops


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def main() -> None:
    loop = asyncio.get_running_loop()
    await loop.create_server(Echo, sock=common.listen(), backlog=common.BACKLOG)
    # create_server() serves already; rloop's serve_forever() would register the listener again,
    # fail and close it.
    await loop.create_future()


if __name__ == "__main__":
    loops.run(main)
