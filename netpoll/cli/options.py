"""What several commands take on the command line, and how it becomes a port, an address, a size."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

import netpoll
from netpoll import backends
from netpoll.cli.errors import CommandError

if TYPE_CHECKING:
    import argparse

LOOPBACK: Final = "127.0.0.1"
UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20}

Address = tuple[socket.AddressFamily, Any]
"""A family, and an address as sockets of that family take it."""


def add_backend_options(parser: argparse.ArgumentParser) -> None:
    """`--backend` and `--selector`; see `open_port`."""
    parser.add_argument(
        "--backend",
        metavar="NAME",
        help=f"{', '.join(backends.NAMES)} or auto (default: the configuration decides, see "
        f"'netpoll doctor')",
    )
    parser.add_argument(
        "--selector",
        metavar="NAME",
        help=f"for the backend 'selectors': {backends.options_of('selectors')['selector']}",
    )


def open_port(backend: str | None, selector: str | None = None) -> netpoll.CompletionPort:
    """A port as the command line and the configuration want it.

    :raises CommandError: there is no such backend, or it cannot be used here
    """
    options: dict[str, Any] = {}
    if selector is not None:
        options["selector"] = selector
        backend = backend or "selectors"  # nothing else has that option
    try:
        return netpoll.CompletionPort(backend, **options)
    except (ValueError, TypeError, OSError) as error:
        raise CommandError(explain(error)) from None


def explain(error: Exception) -> str:
    """What an exception says, without the number that Python puts before it."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error)


def parse_address(text: str, option: str) -> tuple[str, int]:
    """Take `HOST:PORT`, `[IPV6]:PORT` or `PORT` apart; without a host it is the loopback.

    :raises CommandError: it is none of these
    """
    host, colon, number = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host or "[" in text:
        raise CommandError(
            f"{option} {text!r}: an IPv6 address goes in brackets, as in {option} [::1]:7000"
        )
    if not (number.isascii() and number.isdigit() and int(number) <= 65535):
        what = f"{number!r} is no port number" if colon else "the port number is missing"
        raise CommandError(
            f"{option} {text!r}: {what}; say HOST:PORT, as in {option} {LOOPBACK}:7000 "
            f"(a port is 0 to 65535)"
        )
    return host or LOOPBACK, int(number)


def look_up(host: str, number: int, option: str) -> list[Address]:
    """The addresses of a TCP endpoint, in the order in which to try them.

    :raises CommandError: the name is not known
    """
    try:
        found = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise CommandError(
            f"{option}: {host!r} cannot be looked up: {explain(error)}; check the name, or give a "
            f"numeric address"
        ) from None
    return [(family, address) for family, _, _, _, address in found]


def show_address(address: Any) -> str:
    """An address of a TCP socket as people write it."""
    host, number = address[:2]
    return f"[{host}]:{number}" if ":" in host else f"{host}:{number}"


def parse_size(text: str, option: str) -> int:
    """A number of bytes, with `K` or `M` for KiB and MiB.

    :raises CommandError: it is none, or not above 0
    """
    digits = text.rstrip("kKmM")
    unit = text[len(digits) :].upper()
    if not (digits.isascii() and digits.isdigit() and unit in UNITS and int(digits)):
        raise CommandError(f"{option} {text!r} is no size; say 65536, 64K or 1M, for example")
    return int(digits) * UNITS[unit]
