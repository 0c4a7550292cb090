"""asyncio streams, on asyncio's own loop, uvloop or rloop."""

import asyncio

from benchmarks.servers import common, loops


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(common.BUFFER_SIZE):
        writer.write(data)
        await writer.drain()
    writer.close()


async def main() -> None:
    server = await asyncio.start_server(echo, sock=common.listen(), backlog=common.BACKLOG)
    await server.serve_forever()


if __name__ == "__main__":
    loops.run(main)
