"""An aiohttp application that says hello, on asyncio's own loop, uvloop or netpoll's."""

import asyncio

from aiohttp import web

from benchmarks.servers import common, loops


async def hello(request: web.Request) -> web.Response:
    return web.Response(body=common.HELLO)


async def main() -> None:
    application = web.Application()
    application.router.add_get("/", hello)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.SockSite(runner, common.listen(), backlog=common.BACKLOG).start()
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    loops.run(main)
