"""Web servers and their clients, on our loop and as they are."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import pytest
from cli.running import Running
from real_programs.libraries import library
from real_programs.programs import make_file

if TYPE_CHECKING:
    from pathlib import Path

    from loops import Loops
    from real_programs.libraries import Contexts, MaybeContexts

    from netpoll.testing.backends import Target
    from netpoll.testing.pairs import Loopback

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

BODY = bytes(range(256)) * 4096
"""1 MiB: aiohttp warns of more."""


def test_aiohttp(loops: Loops, contexts: MaybeContexts, tmp_path: Path) -> None:
    aiohttp, web = library("aiohttp"), library("aiohttp.web")
    make_file(tmp_path / "file", 4 << 20)

    async def hello(request: Any) -> Any:
        return web.Response(text=f"hello {request.match_info['name']}")

    async def echo(request: Any) -> Any:
        return web.Response(body=await request.read())

    async def file(_request: Any) -> Any:
        return web.FileResponse(tmp_path / "file")

    async def stream(request: Any) -> Any:
        response = web.StreamResponse()
        await response.prepare(request)
        async for chunk in request.content.iter_chunked(10_000):
            await response.write(chunk)
        return response

    async def socket(request: Any) -> Any:
        messages = web.WebSocketResponse(max_msg_size=0)
        await messages.prepare(request)
        async for message in messages:
            await messages.send_bytes(message.data[::-1])
        return messages

    async def talk(session: Any, base: str) -> None:
        async with session.get(f"{base}/hello/you") as response:
            assert (response.status, await response.text()) == (200, "hello you")
        async with session.post(f"{base}/echo", data=BODY) as response:
            assert await response.read() == BODY
        async with session.post(f"{base}/stream", data=BODY) as response:
            assert await response.read() == BODY
        async with session.get(f"{base}/file") as response:  # by sendfile, without TLS
            assert await response.read() == (tmp_path / "file").read_bytes()
        async with session.ws_connect(f"{base}/socket", max_msg_size=0) as messages:
            for data in (b"abc", BODY, b""):
                await messages.send_bytes(data)
                assert await messages.receive_bytes() == data[::-1]

        async def ask(number: int) -> str:
            async with session.get(f"{base}/hello/{number}") as response:
                text: str = await response.text()
                return text

        names = await asyncio.gather(*map(ask, range(50)))
        assert names == [f"hello {number}" for number in range(50)]

    async def main() -> None:
        application = web.Application(client_max_size=len(BODY))
        application.add_routes(
            [
                web.get("/hello/{name}", hello),
                web.post("/echo", echo),
                web.post("/stream", stream),
                web.get("/socket", socket),
                web.get("/file", file),
            ]
        )
        runner = web.AppRunner(application)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=contexts[0])
            await site.start()
            base = f"http{'s' if contexts[0] else ''}://127.0.0.1:{runner.addresses[0][1]}"
            connector = aiohttp.TCPConnector(ssl=contexts[1] or True)
            async with aiohttp.ClientSession(connector=connector) as session:
                await talk(session, base)
        finally:
            await runner.cleanup()

    loops.run(main())


APPLICATION = """
import asyncio
import contextlib

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

started = []

@contextlib.asynccontextmanager
async def lifespan(app):
    started.append(True)
    yield
    print("lifespan over", flush=True)

async def loop(request):
    running = asyncio.get_running_loop()
    return JSONResponse([type(running).__module__, running.port.backend, len(started)])

async def echo(request):
    return Response(await request.body())

async def socket(websocket):
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text.upper())

routes = [Route("/loop", loop), Route("/echo", echo, methods=["POST"])]
app = Starlette(routes=[*routes, WebSocketRoute("/socket", socket)], lifespan=lifespan)
"""


def test_uvicorn_starlette_httpx_and_websockets(
    loops: Loops, backend: Target, tmp_path: Path
) -> None:
    """The server is a program of its own, whose loop is named on its command line."""
    for name in ("uvicorn", "starlette"):
        library(name)
    httpx, client = library("httpx"), library("websockets.asyncio.client")
    (tmp_path / "application.py").write_text(APPLICATION)
    arguments = ["-m", "uvicorn", "--app-dir", str(tmp_path), "--port", "0"]
    # on a busy machine the client may be idle for its 5 seconds, and lose a request to that
    arguments += ["--timeout-keep-alive", "100"]
    arguments += ["--loop", "netpoll.asyncio:new_event_loop", "application:app"]

    async def talk(host: str) -> None:
        async with httpx.AsyncClient(base_url=f"http://{host}", trust_env=False) as session:
            answer = await session.get("/loop")
            assert answer.json() == ["netpoll.asyncio.loop", backend.backend, 1]
            answers = await asyncio.gather(
                *(session.post("/echo", content=b"%d" % number * 1000) for number in range(20))
            )
            assert [each.content for each in answers] == [b"%d" % n * 1000 for n in range(20)]
            assert (await session.post("/echo", content=BODY)).content == BODY
        async with client.connect(f"ws://{host}/socket", proxy=None) as messages:
            await messages.send("hello")
            assert await messages.recv() == "HELLO"

    with Running(*arguments, environment={"NETPOLL_BACKEND": backend.backend}) as server:
        server.wait_for_output("running on", err=True)
        match = re.search(r"running on http://([\d.:]+)", server.err)
        assert match is not None, server.err
        loops.run(talk(match[1]))
        result = server.stop()
    assert "lifespan over" in result.out
    assert "Traceback" not in result.err
    assert "ResourceWarning" not in result.err


def test_hypercorn_speaks_http_2(
    loops: Loops, net: Loopback, tls: Contexts, tmp_path: Path
) -> None:
    hypercorn, serving = library("hypercorn.config"), library("hypercorn.asyncio")
    httpx, authority = library("httpx"), library("trustme").CA()
    library("h2")
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both")
    authority.configure_trust(tls[1])

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for stage in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{stage}.complete"})
            return
        body = b""
        more = True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["http_version"].encode() + body})

    async def main() -> None:
        listener = net.listener()
        host, port = listener.getsockname()
        config = hypercorn.Config()
        config.bind = [f"fd://{listener.detach()}"]
        config.certfile = config.keyfile = tmp_path / "both"
        config.alpn_protocols = ["h2"]
        stop = asyncio.Event()
        server = asyncio.create_task(serving.serve(application, config, shutdown_trigger=stop.wait))
        async with httpx.AsyncClient(http2=True, verify=tls[1], trust_env=False) as session:
            base = f"https://{host}:{port}"
            bodies = [b"%d" % number * 1000 for number in range(20)]
            answers = await asyncio.gather(*(session.post(base, content=body) for body in bodies))
            assert {answer.http_version for answer in answers} == {"HTTP/2"}
            assert [answer.content for answer in answers] == [b"2" + body for body in bodies]
        stop.set()
        await server

    loops.run(main())
