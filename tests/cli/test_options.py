"""What is typed on a command line."""

from __future__ import annotations

import pytest

from netpoll.cli.errors import CommandError
from netpoll.cli.options import look_up, parse_address, parse_size, show_address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:7000", ("127.0.0.1", 7000)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:65535", ("::1", 65535)),
        (":7000", ("127.0.0.1", 7000)),
        ("7000", ("127.0.0.1", 7000)),
    ],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert parse_address(text, "--listen") == expected


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("127.0.0.1", "HOST:PORT"),
        ("127.0.0.1:", "HOST:PORT"),
        ("127.0.0.1:http", "'http' is no port number"),
        ("127.0.0.1:65536", "0 to 65535"),
        ("127.0.0.1:-1", "'-1' is no port number"),
        ("127.0.0.1:²", "is no port number"),
        ("::1:7000", "brackets"),
        ("[::1", "brackets"),
        ("", "HOST:PORT"),
    ],
)
def test_what_is_no_address(text: str, cure: str) -> None:
    with pytest.raises(CommandError, match=cure) as caught:
        parse_address(text, "--listen")
    assert "--listen" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_name() -> None:
    # .invalid never exists (RFC 6761), and a name with an empty label is refused without asking
    with pytest.raises(CommandError, match="cannot be looked up"):
        look_up("a..invalid", 1, "--to")


def test_addresses_are_shown_as_they_are_typed() -> None:
    assert show_address(("127.0.0.1", 7000)) == "127.0.0.1:7000"
    assert show_address(("::1", 7000, 0, 0)) == "[::1]:7000"


@pytest.mark.parametrize(
    ("text", "size"), [("1", 1), ("16K", 16384), ("64k", 65536), ("2M", 2097152)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text, "--buffer") == size


@pytest.mark.parametrize("text", ["", "0", "-1", "K", "1G", "1KK", "1.5K", "many"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(CommandError, match="--buffer"):
        parse_size(text, "--buffer")
