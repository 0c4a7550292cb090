"""The names that `netpoll.winapi` has, and their numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import netpoll.winapi as w
from netpoll import status as nt

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
    for name in w.__all__:
        assert getattr(w, name).__doc__, name


@pytest.mark.skipif(not PAGE.exists(), reason="the documentation comes with the source")
def test_every_function_is_on_its_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    types = {"Event", "HANDLE", "SOCKET"}
    missing = [name for name in w.__all__ if name not in types and f"`{name}" not in page]
    assert not missing
    named = set(re.findall(r"`([A-Za-z]+)\(", page)) - {"OVERLAPPED"}
    assert named - set(w.__all__) <= {"routine", "cancel", "fileno"}


def test_the_last_error_is_a_dword() -> None:
    w.SetLastError(-1)
    assert w.WSAGetLastError() == 0xFFFFFFFF
    w.WSASetLastError(0)
    assert w.GetLastError() == 0
