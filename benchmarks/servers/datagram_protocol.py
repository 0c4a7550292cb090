"""A DatagramProtocol that echoes, on asyncio's own loop or uvloop."""

import asyncio
from typing import Any, cast

from benchmarks.servers import common, loops


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


async def main() -> None:
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(Echo, sock=common.bind())
    await loop.create_future()


if __name__ == "__main__":
    loops.run(main)
