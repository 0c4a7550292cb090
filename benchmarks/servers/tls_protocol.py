"""The echoing Protocol over TLS, on asyncio's own loop, uvloop or netpoll's."""

import asyncio
import ssl

from benchmarks import certificates
from benchmarks.servers import common, loops
from benchmarks.servers.asyncio_protocol import Echo


async def main() -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.chain())
    loop = asyncio.get_running_loop()
    await loop.create_server(Echo, sock=common.listen(), backlog=common.BACKLOG, ssl=context)
    await loop.create_future()


if __name__ == "__main__":
    loops.run(main)
