"""The names that `netpoll.winapi` has, and their numbers."""

from __future__ import annotations

import builtins
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import netpoll.winapi as w
from netpoll import status as nt

FUNCTIONS = [name for name in w.__all__ if callable(getattr(w, name))]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "winapi.md"


def test_every_error_and_status_has_its_name() -> None:
    for code, name in nt.NUMBER_NAMES:
        assert getattr(w, name) == code, name
    assert (w.ERROR_IO_PENDING, w.WSA_IO_PENDING, w.STATUS_PENDING) == (997, 997, 0x103)
    assert (w.WAIT_TIMEOUT, w.WAIT_IO_COMPLETION, w.INFINITE) == (258, 192, 0xFFFFFFFF)
    assert (w.WSAECONNRESET, w.STATUS_CANCELLED) == (10054, 0xC0000120)


@pytest.mark.parametrize("name", ["ERROR_NO_SUCH_NAME", "STATUS_NONSENSE", "is_success", "nt"])
def test_a_name_that_does_not_exist_is_an_attribute_error(name: str) -> None:
    with pytest.raises(AttributeError, match=name):
        getattr(w, name)


def test_every_function_says_what_it_returns() -> None:
    for name in FUNCTIONS:
        assert getattr(w, name).__doc__, name


@pytest.mark.skipif(not PAGE.exists(), reason="the documentation comes with the source")
def test_every_function_is_on_its_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    types = {"Event", "HANDLE", "SOCKET"}
    missing = [name for name in FUNCTIONS if name not in types and f"`{name}" not in page]
    assert not missing
    named = set(re.findall(r"`([A-Za-z]+)\(", page)) - {"OVERLAPPED"}
    assert named - set(w.__all__) <= {"routine", "cancel", "fileno"}


def test_a_star_brings_every_name_and_hides_nothing_but_the_module_socket() -> None:
    brought: dict[str, object] = {}
    exec("from netpoll.winapi import *", brought)
    here = {name for name, value in vars(w).items() if not isinstance(value, ModuleType)}
    public = {name for name in here if not name.startswith("_")} | {
        name for _, name in nt.NUMBER_NAMES
    }
    public |= {name for name in dir(nt) if name.startswith("STATUS_")}
    assert public == set(w.__all__) == set(brought) - {"__builtins__"}
    assert len(w.__all__) == len(set(w.__all__))
    assert not set(w.__all__) & set(dir(builtins))
    assert set(w.__all__) & sys.stdlib_module_names == {"socket"}
    assert brought["WSAEWOULDBLOCK"] == 10035


def test_a_word_has_two_bytes() -> None:
    version = w.MAKEWORD(2, 1)
    assert (version, w.LOBYTE(version), w.HIBYTE(version)) == (0x0102, 2, 1)


def test_the_last_error_is_a_dword() -> None:
    w.SetLastError(-1)
    assert w.WSAGetLastError() == 0xFFFFFFFF
    w.WSASetLastError(0)
    assert w.GetLastError() == 0
