"""The suite's fixtures. Only `netpoll.testing.plugin` imports this module, which needs pytest.

Whatever a test opens through them is proved to be gone at its end: no operation in use, no packet
left in a port, no descriptor leaked.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from netpoll import CompletionPort, PortClosed
from netpoll.testing.drain import nothing_more
from netpoll.testing.pairs import Loopback
from netpoll.testing.plugin import chosen_targets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netpoll.testing.backends import Target

MakePort: TypeAlias = Callable[..., CompletionPort]
"""The type of the fixture `make_port`."""

_failed = pytest.StashKey[bool]()


# last, so that the backend comes behind a test's own parameters in the id
@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "target" in metafunc.fixturenames:
        targets = chosen_targets(metafunc.config)
        metafunc.parametrize("target", targets, ids=[target.id for target in targets])


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    if call.excinfo is not None:
        item.stash[_failed] = True


@pytest.fixture
def no_leak(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails the test if it leaves descriptors open."""
    before = open_descriptors()
    yield
    if _failed in request.node.stash:
        return
    if open_descriptors() <= before:
        return  # a collection for each test would take half of the suite's time
    gc.collect()
    leaked = open_descriptors() - before
    if leaked:
        raise AssertionError(f"descriptors leaked: {sorted(leaked)}")


@pytest.fixture
def net(no_leak: None) -> Iterator[Loopback]:
    """Makes loopback sockets, which are closed when the test ends."""
    loopback = Loopback()
    yield loopback
    loopback.close()


@pytest.fixture
def make_port(target: Target, net: Loopback, request: pytest.FixtureRequest) -> Iterator[MakePort]:
    """Opens ports on the backend under test; takes the options of `CompletionPort`.

    A port that the test does not close must be idle when it ends.
    """
    opened: list[CompletionPort] = []

    def make(**options: Any) -> CompletionPort:
        port = target.open(**options)
        opened.append(port)
        return port

    yield make
    try:
        if _failed not in request.node.stash:
            for port in opened:
                with contextlib.suppress(PortClosed):  # by the test itself
                    check_idle(port)
    finally:
        for port in opened:
            port.close()


@pytest.fixture
def port(make_port: MakePort) -> CompletionPort:
    """A port on the backend under test, see `make_port`."""
    return make_port()


def check_idle(port: CompletionPort) -> None:
    """Prove that every operation has ended and every packet was taken.

    :raises AssertionError: not so
    """
    nothing_more(port)
    pending = port.inflight()
    if pending:
        raise AssertionError(f"operations still in use at the end of the test: {pending}")
    waiting = port.stats()["waiting"]
    if waiting:
        raise AssertionError(f"{waiting} threads still wait on the port at the end of the test")


def open_descriptors() -> set[tuple[int, str]]:
    """This process's descriptors, each with what it is; empty where the system cannot tell.

    Windows has no such list: its handles belong to the interpreter as much as to us.
    """
    if os.name == "nt":
        return set()
    listing = Path("/proc/self/fd" if Path("/proc/self/fd").exists() else "/dev/fd")
    found: set[tuple[int, str]] = set()
    for name in os.listdir(listing):
        try:
            described = os.readlink(listing / name) if listing.parent.name == "self" else ""
            os.fstat(int(name))
        except OSError:
            continue  # the descriptor of the listing itself
        found.add((int(name), described))
    return found
