"""Handles and their port: keys, what is inherited, what queues a packet (ASSOC-01 to 16)."""

from __future__ import annotations

import os
import select
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from netpoll import AlreadyAssociated, Overlapped
from netpoll.testing.accepted import winerror_of
from netpoll.testing.drain import collect, nothing_more, take
from netpoll.testing.outcome import unsupported
from netpoll.testing.waiting import DEADLINE

if TYPE_CHECKING:
    from pathlib import Path

    from netpoll import CompletionPort
    from netpoll.testing.backends import Target
    from netpoll.testing.fixtures import MakePort
    from netpoll.testing.pairs import Loopback


@pytest.mark.statement("ASSOC-01")
def test_a_handle_is_associated_once(make_port: MakePort, net: Loopback) -> None:
    first, second = make_port(), make_port()
    near, far = net.tcp_pair()
    first.associate(near, "kept")
    for port in (first, second):
        with pytest.raises(AlreadyAssociated) as caught:
            port.associate(near, "refused")
        assert winerror_of(caught.value) == 87
    first.recv(near, 10)
    far.sendall(b"x")
    assert take(first).key == "kept"
    nothing_more(second)


class Directory:
    """What has a descriptor, and nothing to read or write."""

    def __init__(self, number: int) -> None:
        self.number = number

    def fileno(self) -> int:
        return self.number


@pytest.mark.statement("ASSOC-02")
def test_a_handle_without_overlapped_operations_is_refused(
    port: CompletionPort, tmp_path: Path
) -> None:
    if os.name != "nt":  # where every file has them, and directories have none
        number = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(OSError, match="overlapped") as caught:
            port.associate(Directory(number), "key")
        os.close(number)
        assert winerror_of(caught.value) == 87
        return
    with open(tmp_path / "plain", "wb") as plain:
        with pytest.raises(OSError, match="overlapped") as caught:
            port.associate(plain, "key")
        assert winerror_of(caught.value) == 87
        plain.write(b"still works")


@pytest.mark.statement("ASSOC-03")
def test_a_closed_handle_is_refused(port: CompletionPort, net: Loopback) -> None:
    sock = net.new_socket()
    sock.close()
    with pytest.raises(OSError, match=r"closed|handle|socket") as caught:
        port.associate(sock, "key")
    assert winerror_of(caught.value) == 6


@pytest.mark.statement("ASSOC-03")
@pytest.mark.parametrize("thing", [object(), None, "socket"], ids=lambda it: type(it).__name__)
def test_what_is_no_handle_is_refused(port: CompletionPort, thing: Any) -> None:
    with pytest.raises((TypeError, OSError)):
        port.associate(thing, "key")
    nothing_more(port)


@pytest.mark.statement("ASSOC-04")
def test_an_association_outlives_every_operation_and_the_port(
    make_port: MakePort, net: Loopback
) -> None:
    port = make_port()
    near, far = net.tcp_pair()
    port.associate(near, "key")
    port.recv(near, 10)
    far.sendall(b"x")
    take(port)
    operation = port.recv(near, 10)
    assert port.cancel(near)
    assert take(port).overlapped is operation
    with pytest.raises(AlreadyAssociated):
        port.associate(near, "again")
    port.close()
    with pytest.raises(AlreadyAssociated) as caught:
        make_port().associate(near, "elsewhere")
    assert winerror_of(caught.value) == 87


@pytest.mark.statement("ASSOC-05")
def test_the_key_comes_with_every_packet_of_the_handle(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    key: list[str] = ["any", "object"]
    port.associate(near, key)
    port.recv(near, 1)
    port.recv(near, 1)
    port.send(near, b"z")
    far.sendall(b"xy")
    completions = collect(port, 3)
    assert all(completion.key is key for completion in completions)
    assert far.recv(1) == b"z"


@pytest.mark.statement("ASSOC-05")
@pytest.mark.parametrize("key", [None, 0, ""], ids=repr)
def test_a_key_may_be_anything_even_nothing(port: CompletionPort, net: Loopback, key: Any) -> None:
    near, far = net.tcp_pair()
    port.associate(near, key)
    port.recv(near, 1)
    far.sendall(b"x")
    assert take(port).key is key


@pytest.mark.statement("ASSOC-05")
def test_an_operation_started_through_another_port_is_not_lost(
    make_port: MakePort, net: Loopback
) -> None:
    own, other = make_port(), make_port()
    near, far = net.tcp_pair()
    own.associate(near, "own")
    try:
        operation = other.recv(near, 10)
    except (OSError, ValueError):  # misuse that is told at once ...
        nothing_more(own)
    else:  # ... or what Windows does, where the handle decides and a start names no port
        far.sendall(b"x")
        completion = take(own)
        assert (completion.key, completion.overlapped) == ("own", operation)
    nothing_more(other)


@pytest.mark.statement("ASSOC-06")
def test_an_operation_older_than_the_association_queues_a_packet(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    operation = port.recv(near, 10)
    port.associate(near, "later")
    far.sendall(b"x")
    completion = take(port)
    assert (completion.key, completion.overlapped) == ("later", operation)
    assert completion.result() == b"x"


@pytest.mark.statement("ASSOC-06")
def test_an_accept_older_than_the_association_queues_a_packet(
    port: CompletionPort, net: Loopback
) -> None:
    listener = net.listener()
    port.accept(listener)
    port.associate(listener, "listener")
    client = net.new_socket()
    client.connect(listener.getsockname())
    completion = take(port)
    assert completion.key == "listener"
    sock, address = completion.result()
    net.track(sock)
    assert address == client.getsockname()


@pytest.mark.statement("ASSOC-08")
def test_a_duplicate_shares_the_association(
    port: CompletionPort, net: Loopback, target: Target
) -> None:
    if target.emulated:
        unsupported("the association belongs to the socket object, not to its duplicates")
    near, far = net.tcp_pair()
    port.associate(near, "original")
    duplicate = net.track(near.dup())
    port.recv(duplicate, 10)
    far.sendall(b"x")
    assert take(port).key == "original"


@pytest.mark.statement("ASSOC-09")
def test_closing_one_of_two_duplicates_cancels_nothing(
    port: CompletionPort, net: Loopback, target: Target
) -> None:
    if target.emulated:
        unsupported("an operation ends with the socket object it was started on, duplicated or not")
    near, far = net.tcp_pair()
    port.associate(near, "key")
    duplicate = net.track(near.dup())
    port.recv(near, 10)
    near.close()
    nothing_more(port)
    far.sendall(b"x")
    assert take(port).result() == b"x"
    duplicate.close()
    nothing_more(port)


@pytest.mark.statement("ASSOC-11")
def test_an_accepted_socket_does_not_inherit_the_listeners_port(
    make_port: MakePort, net: Loopback
) -> None:
    port, other = make_port(), make_port()
    listener = net.listener()
    port.associate(listener, "listener")
    port.accept(listener)
    client = net.new_socket()
    client.connect(listener.getsockname())
    completion = take(port)
    assert completion.key == "listener"
    sock, _ = completion.result()
    net.track(sock)

    outside = port.recv(sock, 10)  # no association, so no packet
    client.sendall(b"outside")
    assert outside.wait(DEADLINE)
    assert outside.result() == b"outside"
    nothing_more(port)

    other.associate(sock, "accepted")
    other.recv(sock, 10)
    client.sendall(b"x")
    assert take(other).key == "accepted"
    nothing_more(port)


@pytest.mark.statement("ASSOC-13")
def test_closing_an_idle_handle_queues_nothing(port: CompletionPort, net: Loopback) -> None:
    near, _far = net.tcp_pair()
    listener = net.listener()
    port.associate(near, "stream")
    port.associate(listener, "listener")
    port.close_handle(near)
    port.close_handle(listener)
    nothing_more(port)
    assert near.fileno() == listener.fileno() == -1

    behind, _far = net.tcp_pair()
    port.associate(behind, "closed behind the port's back")
    behind.close()
    nothing_more(port)


@pytest.mark.statement("ASSOC-14")
def test_a_plain_connect_and_a_shutdown_queue_nothing(port: CompletionPort, net: Loopback) -> None:
    listener = net.listener()
    client = net.new_socket()
    port.associate(client, "client")
    client.connect_ex(listener.getsockname())
    _, writable, _ = select.select([], [client], [], DEADLINE)
    assert writable
    nothing_more(port)
    server = net.track(listener.accept()[0])
    client.shutdown(socket.SHUT_WR)
    nothing_more(port)
    assert server.recv(1) == b""

    near, far = net.tcp_pair()
    port.associate(near, "near")
    port.shutdown(near, socket.SHUT_WR)
    nothing_more(port)
    assert far.recv(1) == b""


@pytest.mark.statement("ASSOC-15")
def test_an_event_with_packet_false_is_set_and_no_packet_queued(
    port: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "key")
    event = threading.Event()
    operation: Overlapped[Any] = Overlapped(event=event, packet=False)
    port.recv(near, 10, overlapped=operation)
    assert not event.is_set()
    far.sendall(b"x")
    assert operation.wait(DEADLINE)
    assert event.is_set()
    assert operation.done
    assert operation.result() == b"x"
    nothing_more(port)


@pytest.mark.statement("ASSOC-15")
def test_packet_false_needs_no_event(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "key")
    operation: Overlapped[Any] = Overlapped(packet=False)
    port.recv(near, 10, overlapped=operation)
    far.sendall(b"x")
    assert operation.wait(DEADLINE)
    assert operation.result() == b"x"
    nothing_more(port)
    port.recv(near, 10, overlapped=operation)  # nothing to take, so it can be used at once
    far.sendall(b"y")
    assert operation.wait(DEADLINE)
    assert operation.result() == b"y"


@pytest.mark.statement("ASSOC-16")
def test_an_event_and_a_port_get_both(port: CompletionPort, net: Loopback) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "key")
    event = threading.Event()
    operation: Overlapped[Any] = Overlapped(event=event)
    port.recv(near, 10, overlapped=operation)
    assert not event.is_set()
    far.sendall(b"x")
    completion = take(port)
    assert event.is_set()
    assert completion.overlapped is operation
    assert completion.result() == b"x"


@pytest.mark.statement("ASSOC-15", "ASSOC-16")
@pytest.mark.parametrize("packet", [True, False], ids=["with_packet", "without_packet"])
def test_an_inline_success_sets_the_event_as_well(
    port: CompletionPort, net: Loopback, packet: bool
) -> None:
    near, far = net.tcp_pair()
    port.associate(near, "key")
    event = threading.Event()
    operation: Overlapped[Any] = Overlapped(event=event, packet=packet)
    port.send(near, b"x", overlapped=operation)  # inline wherever that exists
    if packet:
        assert take(port).overlapped is operation
    else:
        assert operation.wait(DEADLINE)
        nothing_more(port)
    assert event.is_set()
    assert operation.result() == 1
    assert far.recv(1) == b"x"
