"""What AFD is asked for the polls of the iocp backend, and about which socket."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pytest

from netpoll import CompletionPort
from netpoll.backends.iocp import polls
from netpoll.backends.iocp.constants import SIO_BASE_HANDLE, SIO_BSP_HANDLE_POLL
from netpoll.backends.iocp.library import Library
from netpoll.testing.drain import collect, nothing_more

if TYPE_CHECKING:
    from netpoll.backends.iocp.port import IocpPort
    from netpoll.testing.pairs import Loopback

T = TypeVar("T")

pytestmark = pytest.mark.skipif(
    sys.platform != "win32", reason="needs Windows, or Wine (tox -e wine)"
)

READ = 1


def test_trio_1280_no_handle_of_afd_has_more_requests_than_it_can_cancel(
    net: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time that one cancel takes grows with the requests of the handle: cancelling thousands
    took minutes."""
    monkeypatch.setattr(polls, "MOST_REQUESTS", 4)
    with CompletionPort("iocp") as port:
        backend = cast("IocpPort", port._backend)

        def requests() -> list[int]:
            return [device.requests for device in backend.polls._devices]

        pairs = [net.tcp_pair() for _ in range(10)]
        for near, _ in pairs:
            port.associate(near)
        operations = [port.poll(near, READ) for near, _ in pairs]
        nothing_more(port)
        assert requests() == [4, 4, 2]
        for _, far in pairs:
            far.sendall(b"x")
        assert {each.overlapped for each in collect(port, 10)} == set(operations)
        assert requests() == [0, 0, 0]
        for near, _ in pairs:
            near.recv(1)
        operations = [port.poll(near, READ) for near, _ in pairs]
        nothing_more(port)
        assert requests() == [4, 4, 2]  # and no more handles than before
        for operation in operations:
            assert operation.cancel()
        assert {each.error for each in collect(port, 10)} == {995}


PROVIDERS: dict[str, dict[int, tuple[int | None, int | None]]] = {
    "one_that_tells": {7: (3, 5)},
    "one_that_hides_the_base": {7: (None, 5), 5: (3, None)},
    "two_that_hide_the_base": {7: (None, 6), 6: (None, 5), 5: (3, None)},
    "one_that_hides_everything": {7: (None, None)},
    "one_that_answers_with_itself": {7: (None, 7)},
    "two_that_answer_in_circles": {7: (None, 6), 6: (None, 7)},
}
"""By socket: what the two questions for a socket below are answered with."""
BASE = 3


@pytest.mark.parametrize("provider", PROVIDERS)
def test_trio_1659_the_base_of_a_layered_socket_is_found_where_it_can_be(provider: str) -> None:
    """Komodia's providers answer the question for the base with an error. Also mio#1314."""
    answers = PROVIDERS[provider]

    class Winsock:
        def WSAIoctl(self, number: int, code: int, *arguments: Any) -> int:
            answer = answers[number][(SIO_BASE_HANDLE, SIO_BSP_HANDLE_POLL).index(code)]
            if answer is None:
                return -1
            arguments[2][0] = answer
            return 0

    def wrap(functions: T, /) -> T:
        return cast("T", Winsock())

    told = any(base for base, _ in answers.values())
    base = Library(wrap).base_handle(7)
    assert base == BASE if told else base in answers
