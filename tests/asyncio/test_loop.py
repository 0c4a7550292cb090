"""The loop itself: awaiting operations of its port, turns, callbacks and their contexts."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest

import netpoll
import netpoll.asyncio

if TYPE_CHECKING:
    from loops import Loops

    from netpoll.testing.backends import Target
    from netpoll.testing.pairs import Loopback


# -- wrap ------------------------------------------------------------------------------------------


def test_an_operation_is_awaited(loops: Loops, net: Loopback) -> None:
    async def main() -> None:
        port = loops.running().port
        near, far = net.tcp_pair()
        port.associate(near)
        buffer = bytearray(10)
        waiting = netpoll.asyncio.wrap(port.recv_into(near, buffer))
        far.sendall(b"data")
        assert await waiting == 4
        assert buffer[:4] == b"data"
        await netpoll.asyncio.wrap(port.timer(0))

    loops.run(main())


@pytest.mark.parametrize("posted", [None, "text", []], ids=["nothing", "something", "unhashable"])
def test_a_packet_that_somebody_has_posted_concerns_nobody(loops: Loops, posted: Any) -> None:
    """The loop takes its packets, and goes on with the others."""

    async def main() -> None:
        port = loops.running().port
        waiting = netpoll.asyncio.wrap(port.timer(0))
        port.post(1, "key", posted)
        await waiting
        port.post(1, "key", posted)
        await netpoll.asyncio.wrap(port.timer(0.001))

    loops.run(main())


def test_an_operation_that_fails_raises_what_it_failed_with(loops: Loops, net: Loopback) -> None:
    async def main() -> None:
        port = loops.running().port
        sock = net.new_socket()
        port.associate(sock)
        # somebody's, so that nobody else gets the number; but nobody listens
        nowhere = net.bound().getsockname()
        with pytest.raises(ConnectionRefusedError):
            await netpoll.asyncio.wrap(port.connect(sock, nowhere))

    loops.run(main())


def test_an_operation_done_at_once_has_its_result(loops: Loops, net: Loopback) -> None:
    async def main() -> None:
        port = loops.running().port
        near, far = net.tcp_pair()
        port.associate(near, skip_on_success=True)
        operation = port.send(near, b"data")
        assert operation.done
        assert await netpoll.asyncio.wrap(operation) == 4
        assert far.recv(10) == b"data"

    loops.run(main())


def test_to_cancel_the_future_cancels_the_operation(loops: Loops, net: Loopback) -> None:
    async def main() -> None:
        port = loops.running().port
        near, far = net.tcp_pair()
        port.associate(near)
        operation = port.recv(near, 10)
        waiting = asyncio.ensure_future(netpoll.asyncio.wrap(operation))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        far.sendall(b"data")  # nothing of it goes to the cancelled one
        assert await netpoll.asyncio.wrap(port.recv(near, 10)) == b"data"
        assert isinstance(operation.exception(), netpoll.OperationAborted)

    loops.run(main())


def test_to_cancel_the_operation_cancels_the_future(loops: Loops, net: Loopback) -> None:
    async def main() -> None:
        port = loops.running().port
        near, _far = net.tcp_pair()
        port.associate(near)
        operation = port.recv(near, 10)
        waiting = netpoll.asyncio.wrap(operation)
        operation.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    loops.run(main())


def test_a_timeout_is_that_of_asyncio(loops: Loops, net: Loopback) -> None:
    async def main() -> None:
        port = loops.running().port
        near, _far = net.tcp_pair()
        port.associate(near)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(netpoll.asyncio.wrap(port.recv(near, 10)), 0.01)
        with pytest.raises(TimeoutError):
            await netpoll.asyncio.wrap(port.recv(near, 10, timeout=0.01))

    loops.run(main())


def test_what_cannot_be_awaited_is_refused(loops: Loops, net: Loopback, target: Target) -> None:
    async def main() -> None:
        port = loops.running().port
        near, far = net.tcp_pair()
        with pytest.raises(ValueError, match="not started"):
            netpoll.asyncio.wrap(netpoll.Overlapped[int]())
        with netpoll.CompletionPort(target.backend, **target.options) as other:
            other.associate(far)
            with pytest.raises(ValueError, match="this loop's port"):
                netpoll.asyncio.wrap(other.recv(far, 1))
        port.associate(near)
        operation = port.recv(near, 10)
        waiting = netpoll.asyncio.wrap(operation)
        with pytest.raises(RuntimeError, match="awaited already"):
            netpoll.asyncio.wrap(operation)
        waiting.cancel()

    loops.run(main())


def test_wrap_wants_a_loop_of_netpolls() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="not one of netpoll's"):
            netpoll.asyncio.wrap(netpoll.Overlapped[int]())

    asyncio.run(main())


def test_packets_of_ones_own_do_no_harm(loops: Loops) -> None:
    async def main() -> None:
        port = loops.running().port
        port.post()
        port.post(1, "key", object())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert port.stats()["queued"] == 0

    loops.run(main())


# -- turns -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug"])
def test_calls_are_made_in_order_and_what_they_ask_for_comes_next(
    loops: Loops, debug: bool
) -> None:
    loop = loops.new()
    loop.set_debug(debug)
    seen: list[Any] = []

    def first() -> None:
        seen.append("first")
        loop.call_soon(seen.append, "third")
        loop.call_soon(loop.stop)

    loop.call_soon(first)
    loop.call_soon(seen.append, "second")
    loop.call_soon(seen.append, "cancelled").cancel()
    loop.run_forever()
    assert seen == ["first", "second", "third"]


@pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug"])
def test_a_call_that_raises_is_told_of_and_the_loop_goes_on(loops: Loops, debug: bool) -> None:
    loop = loops.new()
    loop.set_debug(debug)
    loop.call_soon(lambda: 1 / 0)
    loop.call_soon(loop.stop)
    loop.run_forever()
    (complaint,) = loops.complaints
    assert complaint["message"].startswith("Exception in callback")
    assert isinstance(complaint["exception"], ZeroDivisionError)
    loops.complaints.clear()


def test_an_interrupt_in_a_call_leaves_the_loop_usable(loops: Loops) -> None:
    loop = loops.new()
    seen: list[str] = []

    def interrupt() -> None:
        raise KeyboardInterrupt

    loop.call_soon(interrupt)
    loop.call_soon(seen.append, "later")
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == ["later"]


def test_an_interrupt_in_a_protocol_loses_no_other_completion(loops: Loops, net: Loopback) -> None:
    loop = loops.new()
    got: list[bytes] = []

    class Interrupted(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            got.append(data)
            if len(got) == 1:
                raise KeyboardInterrupt
            if len(got) == 3:
                loop.stop()

    ends: list[Any] = []
    for _ in range(3):
        near, far = net.tcp_pair()
        ends.append(far)
        connecting = loop.create_connection(Interrupted, sock=near)
        ends.append(loop.run_until_complete(connecting)[0])
    for far in ends[::2]:
        far.sendall(b"data")
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    loop.run_forever()
    assert got == [b"data"] * 3
    for transport in ends[1::2]:
        transport.abort()
    loop.run_until_complete(asyncio.sleep(0))


def test_a_call_has_the_context_it_was_asked_in(loops: Loops) -> None:
    variable = contextvars.ContextVar("variable", default="none")
    loop = loops.new()
    seen: list[str] = []
    context = contextvars.copy_context()
    context.run(variable.set, "given")
    variable.set("asked")
    loop.call_soon(lambda: seen.append(variable.get()))
    loop.call_soon(lambda: seen.append(variable.get()), context=context)
    variable.set("later")
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == ["asked", "given"]


def test_what_a_call_was_made_with_is_let_go(loops: Loops) -> None:
    class Thing:
        pass

    async def main() -> None:
        loop = asyncio.get_running_loop()
        thing = Thing()
        reference = weakref.ref(thing)
        loop.call_soon(lambda it: None, thing)
        del thing
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gc.collect()
        assert reference() is None

    loops.run(main())


def test_many_completions_are_all_told_in_several_turns(loops: Loops, net: Loopback) -> None:
    async def main() -> None:
        port = loops.running().port
        operations = [port.timer(0) for _ in range(1000)]
        await asyncio.gather(*map(netpoll.asyncio.wrap, operations))
        assert all(operation.done for operation in operations)

    loops.run(main())


def test_threads_wake_it(loops: Loops) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        left = 400

        def one() -> None:
            nonlocal left
            left -= 1
            if not left:
                done.set()

        def call() -> None:
            for _ in range(100):
                loop.call_soon_threadsafe(one)

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        await done.wait()
        for thread in threads:
            thread.join()

    loops.run(main())


def test_a_closed_loop_refuses_calls(loops: Loops) -> None:
    loop = loops.new()
    loop.close()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_soon(print)
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_soon_threadsafe(print)
    with pytest.raises(netpoll.PortClosed):
        loop.port.get(0)


# -- a protocol's context --------------------------------------------------------------------------


def test_a_transport_has_one_context_and_each_client_its_own(loops: Loops) -> None:
    variable = contextvars.ContextVar("variable", default="none")

    class Server(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self.transport = transport
            assert variable.get() == "server"
            variable.set("made")

        def data_received(self, data: bytes) -> None:
            self.transport.write(variable.get().encode())
            variable.set("data")

        def connection_lost(self, exc: Exception | None) -> None:
            lost.append(variable.get())
            if len(lost) == 2:
                both.set()

    lost: list[str] = []
    both = asyncio.Event()

    async def main() -> None:
        variable.set("server")
        server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
        variable.set("client")
        for _ in range(2):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"?")
            assert await reader.read(10) == b"made"
            writer.close()
            await writer.wait_closed()
        await both.wait()
        server.close()
        assert variable.get() == "client"

    loops.run(main())
    assert lost == ["data", "data"]


def test_run_has_a_backend_and_debug_mode(target: Target) -> None:
    async def main() -> tuple[str, bool]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, netpoll.asyncio.EventLoop)
        return loop.port.backend, loop.get_debug()

    assert netpoll.asyncio.run(main(), backend=target.backend, debug=True) == (
        target.backend,
        True,
    )


def test_a_backend_that_is_not_there_is_told() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        netpoll.asyncio.new_event_loop("nonsense")
