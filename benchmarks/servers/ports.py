"""The completion ports of the netpoll servers: what their documentation offers for speed."""

from typing import Any

import netpoll

OPTIONS: dict[str, dict[str, Any]] = {
    # these servers wait in the one thread that starts everything
    "io_uring": {"single_issuer": True},
}


def open_port(backend: str) -> netpoll.CompletionPort:
    return netpoll.CompletionPort(backend, **OPTIONS.get(backend, {}))
