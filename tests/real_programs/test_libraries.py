"""Other libraries that run on an event loop."""

from __future__ import annotations

import asyncio
import smtplib
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from real_programs.libraries import library
from real_programs.programs import require

import netpoll.asyncio

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from loops import Loops
    from real_programs.libraries import Contexts, MaybeContexts

    from netpoll.testing.backends import Target
    from netpoll.testing.pairs import Loopback

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

LARGE = "0123456789" * 100_000


def test_websockets(loops: Loops, contexts: MaybeContexts) -> None:
    client, server = library("websockets.asyncio.client"), library("websockets.asyncio.server")

    async def echo(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)
        assert connection.close_code == 1000

    async def main() -> None:
        async with server.serve(echo, "127.0.0.1", 0, ssl=contexts[0]) as serving:
            port = serving.sockets[0].getsockname()[1]
            url = f"ws{'s' if contexts[0] else ''}://127.0.0.1:{port}"
            async with client.connect(url, proxy=None, ssl=contexts[1]) as connection:
                for message in ("hello", b"bytes", "", LARGE):
                    await connection.send(message)
                    assert await connection.recv() == message
                waiter = await connection.ping()
                await waiter

    loops.run(main())


@pytest.fixture
def redis_server(net: Loopback, tmp_path: Path) -> Iterator[int]:
    """The port of a server of the test's own, which keeps nothing."""
    probe = net.bound()
    port = probe.getsockname()[1]
    probe.close()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1"]
    command += ["--save", "", "--appendonly", "no", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "eady to accept connections" in line:
                    break
            yield port
        finally:
            process.terminate()


@require("redis-server")
def test_redis(loops: Loops, redis_server: int) -> None:
    redis = library("redis.asyncio")

    async def main() -> None:
        async with redis.Redis(port=redis_server, decode_responses=True) as client:
            assert await client.set("large", LARGE)
            assert await client.get("large") == LARGE
            async with client.pipeline() as pipeline:
                for number in range(1000):
                    pipeline.rpush("list", number)
                assert await pipeline.execute() == list(range(1, 1001))
            # a command that is given up must not have its answer taken for the next one's
            blocked = asyncio.create_task(client.blpop("nothing", timeout=0))
            assert await client.llen("list") == 1000
            blocked.cancel()
            await asyncio.wait([blocked])
            assert await client.lindex("list", 7) == "7"
            async with client.pubsub() as listener:
                await listener.subscribe("news")
                await client.publish("news", "none")
                kinds: list[tuple[str, Any]] = []
                async for message in listener.listen():
                    kinds.append((message["type"], message["data"]))
                    if message["type"] == "message":
                        break
                assert kinds == [("subscribe", 1), ("message", "none")]

    loops.run(main())


def test_aiosmtpd(loops: Loops, tls: Contexts) -> None:
    """With STARTTLS, which changes the protocol of a transport in the middle of a connection."""
    smtp = library("aiosmtpd.smtp")
    received: list[Any] = []

    class Handler:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            received.append((session.ssl is not None, envelope.mail_from, envelope.content))
            return "250 taken"

    def send(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port) as client:
            client.starttls(context=tls[1])
            text = "Subject: greetings\r\n\r\n" + "a line\r\n" * 10_000
            assert client.sendmail("a@example.org", ["b@example.org"], text) == {}

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def protocol() -> Any:
            return smtp.SMTP(Handler(), loop=loop, tls_context=tls[0], require_starttls=True)

        server = await loop.create_server(protocol, "127.0.0.1", 0)
        async with server:
            await asyncio.to_thread(send, server.sockets[0].getsockname()[1])

    loops.run(main())
    ((secure, sender, content),) = received
    assert (secure, sender) == (True, "a@example.org")
    assert content.count(b"a line\r\n") == 10_000


def test_anyio(backend: Target, net: Loopback) -> None:
    """By its option `loop_factory`, as the README says."""
    anyio = library("anyio")

    async def echo(stream: Any) -> None:
        async with stream:
            async for data in stream:
                await stream.send(data)

    async def main() -> str:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, netpoll.asyncio.EventLoop)
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, echo)
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(b"hello")
                assert await stream.receive() == b"hello"
            near, far = net.udp_pair()
            async with await anyio.create_connected_udp_socket(*far.getsockname()) as peer:
                far.connect(peer.extra(anyio.abc.SocketAttribute.local_address))
                await peer.send(b"datagram")
                assert far.recv(100) == b"datagram"
            near.setblocking(False)
            with anyio.move_on_after(0):
                await anyio.wait_readable(near)
            if loop.port.capability("wait") != "unsupported":
                process = await anyio.run_process([sys.executable, "-c", "print(6 * 7)"])
                assert process.stdout.strip() == b"42"
            assert await anyio.to_thread.run_sync(sum, range(10)) == 45
            group.cancel_scope.cancel()
        await listener.aclose()
        return loop.port.backend

    options = {"loop_factory": lambda: netpoll.asyncio.new_event_loop(backend.backend)}
    assert anyio.run(main, backend="asyncio", backend_options=options) == backend.backend
