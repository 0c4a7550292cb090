"""Which handles a port takes, and that each belongs to one port."""

from __future__ import annotations

import gc
import io
import os
import socket
import ssl
import threading
import weakref
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest

from netpoll import AlreadyAssociated, CompletionPort
from netpoll.handles import claim, note_use, require_socket
from netpoll.testing.attempts import winerror
from netpoll.testing.waiting import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with closing(socket.socket()) as sock:
        yield sock


@pytest.fixture
def ports() -> Iterator[tuple[CompletionPort, CompletionPort]]:
    with CompletionPort("selectors") as one, CompletionPort("selectors") as other:
        yield one, other


# -- what a handle is ------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_sockets_are_handles(family: socket.AddressFamily, kind: socket.SocketKind) -> None:
    with closing(socket.socket(family, kind)) as sock:
        require_socket(sock)


def test_a_subclass_of_socket_is_a_handle() -> None:
    class Subclass(socket.socket):
        pass

    with closing(Subclass()) as sock:
        require_socket(sock)


@pytest.mark.parametrize("no_handle", [None, 5, "socket", object(), io])
def test_what_has_no_descriptor_is_a_type_error(no_handle: Any) -> None:
    with pytest.raises(TypeError, match="a handle is a socket"):
        require_socket(no_handle)


def test_a_descriptor_alone_is_named_as_what_it_is() -> None:
    with (
        open(os.devnull, "rb") as file,
        pytest.raises(OSError, match="BufferedReader") as caught,
    ):
        require_socket(file)
    assert winerror(caught.value) == 87  # ASSOC-02


def test_a_closed_socket_is_refused(sock: socket.socket) -> None:
    sock.close()
    with pytest.raises(OSError, match="closed") as caught:
        require_socket(sock)
    assert winerror(caught.value) == 6


def test_a_detached_socket_is_refused(sock: socket.socket) -> None:
    number = sock.detach()
    again = socket.socket(sock.family, sock.type, fileno=number)
    with closing(again), pytest.raises(OSError, match="closed"):
        require_socket(sock)


def test_a_tls_socket_is_refused_with_the_cure() -> None:
    near, far = socket.socketpair()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    tls = context.wrap_socket(near, do_handshake_on_connect=False)
    with closing(far), closing(tls), pytest.raises(TypeError, match=r"ssl\.MemoryBIO"):
        require_socket(tls)


# -- one port for each -----------------------------------------------------------------------------


def test_a_handle_is_claimed_once(
    sock: socket.socket, ports: tuple[CompletionPort, CompletionPort]
) -> None:
    with claim(sock, ports[0]):
        pass
    for port in ports:
        with pytest.raises(AlreadyAssociated) as caught, claim(sock, port):
            pytest.fail("claimed twice")
        assert winerror(caught.value) == 87
        assert f"fd {sock.fileno()}" in str(caught.value)
        assert "another socket for another port" in str(caught.value)


def test_a_claim_is_undone_if_the_association_fails(
    sock: socket.socket, ports: tuple[CompletionPort, CompletionPort]
) -> None:
    with pytest.raises(ZeroDivisionError), claim(sock, ports[0]):
        raise ZeroDivisionError
    with claim(sock, ports[1]):
        pass


def test_a_claim_outlives_its_port(sock: socket.socket) -> None:
    """ASSOC-04: as long as the handle."""
    port = CompletionPort("selectors")
    with claim(sock, port):
        pass
    port.close()
    del port
    gc.collect()
    with CompletionPort("selectors") as other:
        with pytest.raises(AlreadyAssociated), claim(sock, other):
            pytest.fail("claimed twice")
        with pytest.raises(AlreadyAssociated, match="another completion port"):
            note_use(sock, other)


def test_a_claim_is_the_objects_and_not_the_numbers(
    sock: socket.socket, ports: tuple[CompletionPort, CompletionPort]
) -> None:
    """EMU-07."""
    with claim(sock, ports[0]):
        pass
    number = sock.fileno()
    sock.close()
    with closing(socket.socket()) as new:
        if new.fileno() != number:
            pytest.skip("the number went to something else")
        with claim(new, ports[1]):
            pass


def test_a_claim_keeps_neither_handle_nor_port_alive() -> None:
    port = CompletionPort("selectors")
    sock = socket.socket()
    note_use(sock, port)
    gone: list[Callable[[], object]] = [weakref.ref(sock), weakref.ref(port)]
    sock.close()
    port.close()
    del sock, port
    gc.collect()
    assert [each() for each in gone] == [None, None]


def test_of_many_ports_that_claim_at_once_one_wins(sock: socket.socket) -> None:
    ports = [CompletionPort("selectors") for _ in range(8)]
    together = threading.Barrier(len(ports))

    def attempt(port: CompletionPort) -> bool:
        together.wait()
        with suppress(AlreadyAssociated), claim(sock, port):
            return True
        return False

    running = [run(attempt, port) for port in ports]
    assert sum(each.result() for each in running) == 1
    for port in ports:
        port.close()


# -- use without association -----------------------------------------------------------------------


def test_an_unassociated_handle_may_be_used_with_one_port_after_another(
    sock: socket.socket, ports: tuple[CompletionPort, CompletionPort]
) -> None:
    for port in (*ports, *ports):
        note_use(sock, port)
        note_use(sock, port)
    with claim(sock, ports[0]):
        pass


def test_what_is_pending_on_one_port_keeps_the_handle_there(
    ports: tuple[CompletionPort, CompletionPort],
) -> None:
    one, other = ports
    near, far = socket.socketpair()
    with closing(near), closing(far):
        operation = one.recv(near, 1)
        with pytest.raises(AlreadyAssociated, match="pending") as caught:
            note_use(near, other)
        assert winerror(caught.value) == 87
        with pytest.raises(AlreadyAssociated, match="pending"), claim(near, other):
            pytest.fail("claimed in spite of it")
        assert one.cancel(operation)
        note_use(near, other)
        with claim(near, other):
            pass
