"""Which backend a port gets, who chose it, and what is said when it cannot be had."""

from __future__ import annotations

import os
import selectors
import sys
from typing import TYPE_CHECKING, Any

import pytest

import netpoll
from netpoll import Candidate, CompletionPort, UnsupportedOperation, backends, config
from netpoll.testing.accepted import winerror_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    WriteConfig = Callable[[str], Path]


@pytest.fixture(autouse=True)
def clean_slate(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No configuration but what a test makes."""
    for name in ("NETPOLL_BACKEND", "NETPOLL_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    netpoll.configure()
    yield
    netpoll.configure()


@pytest.fixture
def write_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteConfig:
    """Writes a configuration file and points NETPOLL_CONFIG at it."""

    def write(text: str) -> Path:
        path = tmp_path / "netpoll.toml"
        path.write_text(text, "utf-8")
        monkeypatch.setenv("NETPOLL_CONFIG", str(path))
        return path

    return write


@pytest.fixture
def usable(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets exactly the named backends be usable, as on some other machine."""

    def only(*names: str) -> None:
        def probe(name: str) -> Candidate:
            if name in names:
                return Candidate(name, True, f"{name} works")
            return Candidate(name, False, f"{name} is forbidden here")

        monkeypatch.setattr(backends, "probe", probe)

    return only


# -- who speaks first ------------------------------------------------------------------------------


def test_each_source_goes_before_the_next(
    write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch, usable: Callable[..., None]
) -> None:
    usable("iocp", "io_uring", "selectors")
    assert config.select(None, {}).source == "automatic"

    netpoll.configure(backend="selectors")
    chosen = config.select(None, {})
    assert (chosen.backend, chosen.source) == ("selectors", "configure()")

    path = write_config('backend = "io_uring"')
    chosen = config.select(None, {})
    assert (chosen.backend, chosen.source) == ("io_uring", f"NETPOLL_CONFIG ({path})")

    monkeypatch.setenv("NETPOLL_BACKEND", "selectors")
    chosen = config.select(None, {})
    assert (chosen.backend, chosen.source) == ("selectors", "NETPOLL_BACKEND")

    chosen = config.select("iocp", {})
    assert (chosen.backend, chosen.source) == ("iocp", "argument")


def test_a_port_says_which_backend_it_uses_and_who_chose_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with CompletionPort("selectors") as port:
        assert port.backend == port.selection.backend == "selectors"
        assert port.selection.source == "argument"
        assert [each.name for each in port.selection.candidates] == ["selectors"]
        assert port.selection.candidates[0].usable
    monkeypatch.setenv("NETPOLL_BACKEND", "selectors")
    with CompletionPort() as port:
        assert port.selection.source == "NETPOLL_BACKEND"


def test_an_empty_environment_variable_says_nothing(
    monkeypatch: pytest.MonkeyPatch, usable: Callable[..., None]
) -> None:
    usable("selectors")
    monkeypatch.setenv("NETPOLL_BACKEND", "")
    monkeypatch.setenv("NETPOLL_CONFIG", "")
    assert config.select(None, {}).source == "automatic"


def test_a_file_without_a_backend_leaves_the_choice_to_the_program(
    write_config: WriteConfig,
) -> None:
    write_config('[selectors]\nselector = "select"\n')
    netpoll.configure(backend="selectors")
    chosen = config.select(None, {})
    assert (chosen.source, chosen.options) == ("configure()", {"selector": "select"})


@pytest.mark.parametrize("where", ["argument", "environment", "file", "program"])
def test_auto_may_be_asked_for_by_name_and_overrules_what_comes_after(
    where: str,
    write_config: WriteConfig,
    monkeypatch: pytest.MonkeyPatch,
    usable: Callable[..., None],
) -> None:
    usable("io_uring", "selectors")
    argument = None
    netpoll.configure(backend="selectors")
    if where == "argument":
        argument = "auto"
        monkeypatch.setenv("NETPOLL_BACKEND", "selectors")
    elif where == "environment":
        monkeypatch.setenv("NETPOLL_BACKEND", "auto")
    elif where == "file":
        write_config('backend = "auto"')
    else:
        netpoll.configure(backend="auto")
    chosen = config.select(argument, {})
    assert (chosen.backend, chosen.source) == ("io_uring", "automatic")


# -- options ---------------------------------------------------------------------------------------


def test_options_come_from_the_same_sources_in_the_same_order(write_config: WriteConfig) -> None:
    netpoll.configure(selectors={"selector": "poll"})
    assert config.select("selectors", {}).options == {"selector": "poll"}
    write_config('[selectors]\nselector = "select"')
    assert config.select("selectors", {}).options == {"selector": "select"}
    assert config.select("selectors", {"selector": "default"}).options == {"selector": "default"}


def test_another_backends_options_are_left_alone(
    write_config: WriteConfig, usable: Callable[..., None]
) -> None:
    usable("io_uring", "selectors")
    write_config('backend = "io_uring"\n[selectors]\nselector = "select"')
    assert config.select(None, {}).options == {}


def test_configuring_again_replaces_what_was_said_before() -> None:
    netpoll.configure(backend="selectors", selectors={"selector": "select"})
    netpoll.configure(backend="selectors")
    assert config.select(None, {}).options == {}


@pytest.mark.parametrize(
    ("option", "needed"),
    [
        ("epoll", "EpollSelector"),
        ("kqueue", "KqueueSelector"),
        ("poll", "PollSelector"),
        ("select", "SelectSelector"),
    ],
)
def test_the_selector_asked_for_is_used_or_refused(option: str, needed: str) -> None:
    if hasattr(selectors, needed):
        with CompletionPort("selectors", selector=option) as port:
            assert port.selection.options == {"selector": option}
            port.post(key="works")
            assert port.get(timeout=5) is not None
    else:
        with pytest.raises(ValueError, match=rf"{option}.*select"):  # and which ones there are
            CompletionPort("selectors", selector=option)


def test_an_unknown_selector_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"bogus.*select"):
        CompletionPort("selectors", selector="bogus")


def test_an_unknown_option_is_refused_with_those_there_are() -> None:
    with pytest.raises(TypeError, match=r"selectors.*sqpoll.*selector"):
        CompletionPort("selectors", sqpoll=True)


def test_an_option_in_the_file_reaches_the_port(write_config: WriteConfig) -> None:
    write_config('backend = "selectors"\n[selectors]\nselector = "bogus"')
    with pytest.raises(ValueError, match="bogus"):
        CompletionPort()


# -- forced ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", backends.NAMES)
def test_a_forced_backend_is_used_or_fails(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = backends.probe(name)
    monkeypatch.setenv("NETPOLL_BACKEND", name)
    if found.usable:
        with CompletionPort() as port:
            assert port.backend == name
        return
    for argument in (None, name):
        with pytest.raises(UnsupportedOperation) as caught:
            CompletionPort(argument)
        message = str(caught.value)
        assert name in message
        assert found.reason in message
        assert ("argument" if argument else "NETPOLL_BACKEND") in message
        assert "selectors" in message, "the cure is to name one that works"
        assert winerror_of(caught.value) == 50


def test_windows_without_cffi_has_no_iocp(monkeypatch: pytest.MonkeyPatch) -> None:
    """Free-threaded 3.13, say, which cffi refuses: the automatic choice goes on."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "win32")
        patch.setitem(sys.modules, "netpoll.backends.iocp._ffi", None)
        found = backends.probe("iocp")
    assert not found.usable
    assert "needs cffi" in found.reason


@pytest.mark.parametrize("where", ["argument", "environment", "file", "program"])
def test_no_source_lets_a_named_backend_fall_back(
    where: str,
    write_config: WriteConfig,
    monkeypatch: pytest.MonkeyPatch,
    usable: Callable[..., None],
) -> None:
    usable("selectors")
    argument = None
    if where == "argument":
        argument = "io_uring"
    elif where == "environment":
        monkeypatch.setenv("NETPOLL_BACKEND", "io_uring")
    elif where == "file":
        write_config('backend = "io_uring"')
    else:
        netpoll.configure(backend="io_uring")
    with pytest.raises(UnsupportedOperation, match=r"io_uring is forbidden here"):
        CompletionPort(argument)


@pytest.mark.parametrize("where", ["argument", "environment", "file", "program"])
def test_an_unknown_name_is_refused_with_where_it_stands_and_those_there_are(
    where: str, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    argument = None
    source = where
    if where == "argument":
        argument = "epol"
    elif where == "environment":
        monkeypatch.setenv("NETPOLL_BACKEND", "epol")
        source = "NETPOLL_BACKEND"
    elif where == "file":
        source = str(write_config('backend = "epol"'))
    else:
        source = "configure()"

    def choose() -> None:
        if where == "program":
            netpoll.configure(backend="epol")
        CompletionPort(argument)

    with pytest.raises(ValueError, match="epol") as caught:
        choose()
    message = str(caught.value)
    assert source in message
    assert all(name in message for name in backends.NAMES)


def test_a_refused_configuration_leaves_the_old_one() -> None:
    netpoll.configure(backend="selectors", selectors={"selector": "select"})
    with pytest.raises(ValueError, match="epol"):
        netpoll.configure(backend="epol")
    with pytest.raises(TypeError, match="sqpoll"):
        netpoll.configure(selectors={"sqpoll": True})
    assert config.select(None, {}).options == {"selector": "select"}


# -- automatic -------------------------------------------------------------------------------------


def test_automatic_choice_takes_the_first_that_works_and_records_the_rest(
    usable: Callable[..., None],
) -> None:
    usable("selectors")
    with CompletionPort() as port:
        selection = port.selection
    assert (selection.backend, selection.source) == ("selectors", "automatic")
    tried = {each.name: each for each in selection.candidates}
    assert list(tried) == ["iocp", "io_uring", "selectors"]
    assert [each.usable for each in tried.values()] == [False, False, True]
    assert tried["io_uring"].reason == "io_uring is forbidden here"


def test_automatic_choice_stops_at_the_first_that_works(usable: Callable[..., None]) -> None:
    usable("io_uring", "selectors")
    selection = config.select(None, {})
    assert selection.backend == "io_uring"
    assert [each.name for each in selection.candidates] == ["iocp", "io_uring"]


def test_automatic_choice_works_on_this_machine() -> None:
    with CompletionPort() as port:
        assert backends.probe(port.backend).usable
        assert all(each.reason for each in port.selection.candidates)


def test_the_record_of_the_choice_is_readable(usable: Callable[..., None]) -> None:
    usable("selectors")
    text = str(config.select(None, {}))
    assert text.startswith("selectors")
    for words in ("automatic", "io_uring is forbidden here", "selectors works"):
        assert words in text


# -- the file --------------------------------------------------------------------------------------


def test_a_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "missing.toml"
    monkeypatch.setenv("NETPOLL_CONFIG", str(path))
    with pytest.raises(FileNotFoundError, match="NETPOLL_CONFIG") as caught:
        CompletionPort()
    assert repr(os.fspath(path)) in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETPOLL_CONFIG", str(tmp_path))  # a directory
    with pytest.raises(OSError, match="NETPOLL_CONFIG") as caught:
        CompletionPort()
    assert repr(os.fspath(tmp_path)) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("backend = selectors", r"TOML"),
        ("backend = 1", r"backend"),
        ('bakend = "selectors"', r"bakend.*backend"),
        ("[selector]\nselector = 'poll'", r"'selector'.*selectors"),
        ("selectors = 'poll'", r"selectors"),
        ("[selectors]\nselektor = 'poll'", r"selektor.*selector"),
    ],
)
def test_a_wrong_file_is_refused_saying_where_and_what(
    content: str, complaint: str, write_config: WriteConfig
) -> None:
    path = write_config(content)
    with pytest.raises(ValueError, match=complaint) as caught:
        CompletionPort()
    assert str(path) in str(caught.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "netpoll.toml"
    path.write_bytes(b"\xff\xfe\x00")
    monkeypatch.setenv("NETPOLL_CONFIG", str(path))
    with pytest.raises(ValueError, match="TOML") as caught:
        CompletionPort()
    assert str(path) in str(caught.value)


# -- nothing is left behind ------------------------------------------------------------------------


@pytest.mark.usefixtures("no_leak")
def test_a_port_that_could_not_be_opened_leaves_nothing(usable: Callable[..., None]) -> None:
    usable("selectors")
    impossible: list[dict[str, Any]] = [
        {"backend": "io_uring"},
        {"backend": "epol"},
        {"backend": "selectors", "selector": "bogus"},
        {"backend": "selectors", "bogus": 1},
        {"concurrency": -1},
        {"max_inflight": 0},
    ]
    for options in impossible:
        with pytest.raises((ValueError, TypeError, UnsupportedOperation)):
            CompletionPort(**options)
