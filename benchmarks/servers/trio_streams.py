"""trio: one task a connection, over its socket streams."""

import trio

from benchmarks.servers import common


async def echo(stream: trio.SocketStream) -> None:
    async with stream:
        while data := await stream.receive_some(common.BUFFER_SIZE):
            await stream.send_all(data)


async def main() -> None:
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(common.listen()))
    await trio.serve_listeners(echo, [listener])


if __name__ == "__main__":
    trio.run(main)
