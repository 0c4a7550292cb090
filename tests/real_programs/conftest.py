"""Everything in this folder talks to programs that are not ours."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from loops import Loops
from real_programs.libraries import Contexts, MaybeContexts, library

from netpoll.testing.plugin import chosen_targets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netpoll.testing.backends import Target
    from netpoll.testing.pairs import Loopback

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.real_programs)


# last, so that the backend comes behind a test's own parameters in the id
@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`backend`: each backend once, in its best form; the suite's other tests have them all."""
    if "backend" in metafunc.fixturenames:
        targets: dict[str, Target] = {}
        for target in chosen_targets(metafunc.config):
            targets.setdefault(target.backend, target)
        metafunc.parametrize("backend", list(targets.values()), ids=list(targets))


@pytest.fixture
def loops(backend: Target, net: Loopback) -> Iterator[Loops]:
    """Loops on the backend under test."""
    made = Loops(backend)
    yield made
    made.close()


@pytest.fixture
def tls() -> Contexts:
    """The contexts of a server called localhost and of its client."""
    authority = library("trustme").CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def contexts(request: pytest.FixtureRequest) -> MaybeContexts:
    """The same, or `None` for both: the test runs without TLS and with it."""
    return request.getfixturevalue("tls") if request.param else (None, None)
