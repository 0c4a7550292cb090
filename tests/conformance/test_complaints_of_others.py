"""More of what users of other completion libraries complained of, each test by the name of the
complaint. `docs/complaints.md` lists them all.
"""

from __future__ import annotations

import gc
import socket
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from netpoll import BufferPool, Overlapped
from netpoll.testing.drain import collect, nothing_more, take
from netpoll.testing.outcome import unsupported
from netpoll.testing.pairs import receive_exactly, reset, wait_readable
from netpoll.testing.waiting import run

if TYPE_CHECKING:
    from netpoll import CompletionPort
    from netpoll.testing.fixtures import MakePort
    from netpoll.testing.pairs import Loopback

THREADS = 8
BIG = 1 << 20


# -- cancelling ------------------------------------------------------------------------------------


@pytest.mark.statement("CAN-08", "CAN-10")
@pytest.mark.parametrize("by", ["operation", "handle", "time"])
def test_eventcore_225_a_cancelled_receive_leaves_both_directions_open(
    port: CompletionPort, net: Loopback, by: str
) -> None:
    """There, cancelling a read shut the reading side down."""
    near, far = net.tcp_pair()
    port.associate(near)
    for _ in range(3):
        operation = port.recv(near, 10, timeout=0.01 if by == "time" else None)
        if by != "time":
            nothing_more(port)
            assert port.cancel(operation if by == "operation" else near)
        assert take(port).error == (121 if by == "time" else 995)
        far.sendall(b"data")
        port.recv(near, 10)
        assert take(port).result() == b"data"
        port.send(near, b"answer")
        assert take(port).result() == 6
        assert receive_exactly(far, 6) == b"answer"


@pytest.mark.statement("CAN-03", "CAN-05", "CAN-10")
def test_go_winio_96_a_cancel_that_comes_too_late_is_told_as_a_success(
    port: CompletionPort, net: Loopback
) -> None:
    """Whoever takes a cancel's word for the outcome throws the data away."""
    near, far = net.tcp_pair()
    port.associate(near)
    far.sendall(b"data")
    wait_readable(near)
    buffer = bytearray(10)
    operation = port.recv_into(near, buffer)
    asked = port.cancel(operation)
    completion = take(port)
    assert not asked or completion.error == 995
    if completion.error:  # it was pending after all: then the data is in the socket
        port.resubmit(operation)
        completion = take(port)
    assert completion.result() == 4
    assert buffer[:4] == b"data"


@pytest.mark.statement("CAN-06", "CAN-07", "OVL-07")
def test_liburing_733_a_cancelled_operation_has_its_buffers_until_its_one_completion(
    port: CompletionPort, net: Loopback
) -> None:
    """A cancel has a completion of its own, in no order with the operation's: whoever takes that
    for the end frees the buffer too early. Also liburing#249."""
    near, far = net.tcp_pair()
    port.associate(near)
    operations: dict[Overlapped[int], bytearray] = {}
    for _ in range(10):
        buffer = bytearray(4)
        operations[port.recv_into(near, buffer)] = buffer
    nothing_more(port)
    for operation in operations:
        assert port.cancel(operation)
    for operation, buffer in operations.items():
        with pytest.raises(RuntimeError, match="in use"):
            operation.release()
        with pytest.raises(BufferError):
            buffer.clear()
    ended = collect(port, len(operations))
    assert {each.overlapped for each in ended} == set(operations)
    assert {each.error for each in ended} == {995}
    for operation, buffer in operations.items():
        operation.release()
        buffer.clear()
    far.sendall(b"data")
    port.recv(near, 10)
    assert take(port).result() == b"data"


# -- buffers ---------------------------------------------------------------------------------------


def test_liburing_1275_a_receive_goes_on_when_the_pool_has_a_buffer_again(
    port: CompletionPort, net: Loopback
) -> None:
    """There, a receive that had found no buffer was over, or never went on: the connection stalled
    with its data in the socket. Also liburing#1062 and #758."""
    pool = BufferPool(2, 8)
    pairs = [net.tcp_pair() for _ in range(4)]
    message = b"".join(b"%07d\n" % number for number in range(50))
    for number, (near, far) in enumerate(pairs):
        port.associate(near, number)
        far.sendall(message)
        far.shutdown(socket.SHUT_WR)
        port.recv_pooled(near, pool)
    got = [b""] * len(pairs)
    held: list[Any] = []
    ended = 0
    while ended < len(pairs):
        completion = port.get(timeout=30)
        assert completion is not None, f"stalled at {[len(each) for each in got]}"
        received = completion.result()
        got[completion.key] += bytes(received)
        if not received:
            ended += 1
            continue
        port.resubmit(completion.overlapped)
        held.append(received)
        if len(held) == pool.count:  # all of them are out now, and everybody waits
            for each in held:
                each.release()
            held.clear()
    for each in held:
        each.release()
    assert got == [message] * len(pairs)
    assert port.inflight() == []


def test_cpython_85445_a_receive_into_a_buffer_allocates_none(
    port: CompletionPort, net: Loopback
) -> None:
    """There, each receive made an object of the largest size that might come."""
    near, far = net.tcp_pair()
    port.associate(near)
    buffer = bytearray(BIG)
    operation = port.recv_into(near, buffer)
    far.sendall(b"x")
    take(port)
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(20):
            far.sendall(b"x")
            port.resubmit(operation)
            assert take(port).transferred == 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < BIG // 4


# -- accepting and connecting ----------------------------------------------------------------------


@pytest.mark.statement("ACC-12")
@pytest.mark.parametrize("how", ["cancel", "reset"])
def test_tinymux_1830_an_accept_that_failed_is_started_again(
    port: CompletionPort, net: Loopback, how: str
) -> None:
    """There, the server stopped to listen with the first accept that failed."""
    listener = net.listener()
    port.associate(listener)
    operation = port.accept(listener, receive=bytearray(4))
    nothing_more(port)
    if how == "cancel":
        assert operation.cancel()
    else:
        bad = net.new_socket()
        bad.connect(listener.getsockname())
        reset(bad)
    good = net.new_socket()
    good.connect(listener.getsockname())
    good.sendall(b"good")
    ended = take(port)
    while ended.error:  # of a client that is gone it may be told, or not
        port.resubmit(operation)
        ended = take(port)
    sock, address = ended.result()
    net.track(sock)
    assert address == good.getsockname()


@pytest.mark.statement("CON-11")
def test_libxev_151_a_connect_of_a_socket_that_is_not_bound_does_not_block(
    port: CompletionPort, net: Loopback
) -> None:
    """ConnectEx wants a socket that is bound: one library failed there, and then simply blocked."""
    listener = net.listener()
    sock = net.new_socket()
    port.associate(sock)
    port.connect(sock, listener.getsockname())
    assert take(port).error == 0
    assert sock.getsockname()[1]


# -- threads ---------------------------------------------------------------------------------------


def test_libxev_81_a_port_in_each_thread(make_port: MakePort, net: Loopback) -> None:
    """One port for each of many threads: none has a packet of another's, and there is no limit."""
    pairs = [net.tcp_pair() for _ in range(THREADS)]

    def serve(number: int) -> set[Any]:
        near, far = pairs[number]
        with make_port() as port:
            port.associate(near, number)
            keys: set[Any] = set()
            receive = port.recv_into(near, bytearray(10))
            for _ in range(50):
                far.sendall(b"message %d" % number)
                completion = port.get(timeout=30)
                assert completion is not None
                assert completion.overlapped is receive
                keys.add(completion.key)
                port.resubmit(receive)
            port.cancel(receive)
            completion = port.get(timeout=30)
            assert completion is not None
            assert completion.error == 995
            return keys

    running = [run(serve, number) for number in range(THREADS)]
    assert [each.result() for each in running] == [{number} for number in range(THREADS)]


# -- Unix sockets ----------------------------------------------------------------------------------


def test_cpython_77589_a_unix_stream(port: CompletionPort, net: Loopback, tmp_path: Any) -> None:
    if not hasattr(socket, "AF_UNIX"):
        unsupported("Python has no Unix sockets on this system")
    listener = net.new_socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "listener"))
    listener.listen()
    client = net.new_socket(socket.AF_UNIX)
    port.associate(listener)
    port.associate(client)
    accept = port.accept(listener)
    connect = port.connect(client, str(tmp_path / "listener"), data=[b"first ", b"words"])
    ended = {each.overlapped: each for each in collect(port, 2)}
    assert ended[connect].error == 0
    server = net.track(ended[accept].result()[0])
    port.associate(server)
    port.recv(server, 100)
    assert take(port).result() == b"first words"
    port.send(server, b"answer")
    assert take(port).result() == 6
    port.recv(client, 100)
    assert take(port).result() == b"answer"
    port.close_handle(client)
    port.recv(server, 100)
    assert take(port).result() == b""
