"""Addresses and control messages in the system's form: what goes in comes out, and no bytes that a
system could write make more than an error."""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import socket
import struct
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netpoll import messages
from netpoll.backends import addresses

ports = st.integers(0, 65535)
ipv4 = st.ip_addresses(v=4).map(str)
ipv6 = st.ip_addresses(v=6).map(lambda each: socket.inet_ntop(socket.AF_INET6, each.packed))
ints = st.integers(-(1 << 31), (1 << 31) - 1)
control = st.lists(st.tuples(ints, ints, st.binary(max_size=40)), max_size=5)
unix = pytest.mark.skipif(addresses.UNIX < 0, reason="Python has no Unix sockets here")
anything = st.recursive(
    st.none() | st.integers() | st.text() | st.binary() | st.floats() | ipv4 | ports,
    lambda inner: st.lists(inner, max_size=5) | st.lists(inner, max_size=5).map(tuple),
)


@given(ipv4, ports)
def test_an_ipv4_address_survives(host: str, port: int) -> None:
    data = addresses.pack(socket.AF_INET, (host, port))
    assert len(data) == addresses.SIZES[socket.AF_INET]
    assert addresses.unpack(data) == addresses.sender(data) == (host, port)


def test_a_sender_is_a_tuple_like_any_other() -> None:
    data = addresses.pack(socket.AF_INET, ("127.0.0.1", 80))
    sender = addresses.sender(data)
    assert sender.packed == data
    assert sender == ("127.0.0.1", 80)
    assert hash(sender) == hash(("127.0.0.1", 80))
    assert repr(sender) == "('127.0.0.1', 80)"
    for made in (copy.copy(sender), copy.deepcopy(sender), pickle.loads(pickle.dumps(sender))):
        assert made == sender
        assert type(made) is tuple


@given(ipv6, ports, st.integers(0, 0xFFFFF), st.integers(0, 0xFFFFFFFF))
def test_an_ipv6_address_survives(host: str, port: int, flow: int, scope: int) -> None:
    data = addresses.pack(socket.AF_INET6, (host, port, flow, scope))
    assert len(data) == addresses.SIZES[socket.AF_INET6]
    assert addresses.unpack(data) == (host, port, flow, scope)
    assert addresses.unpack(addresses.pack(socket.AF_INET6, (host, port)))[2:] == (0, 0)


def test_a_scope_may_be_a_name() -> None:
    number, name = socket.if_nameindex()[0]
    for zone in (name, str(number)):
        data = addresses.pack(socket.AF_INET6, (f"fe80::1%{zone}", 1))
        assert addresses.unpack(data) == ("fe80::1", 1, 0, number)


@unix
@given(st.binary(min_size=1, max_size=107))
def test_a_path_survives(path: bytes) -> None:
    if b"\0" in path and not path.startswith(b"\0"):
        with pytest.raises(ValueError, match="zero byte"):
            addresses.pack(addresses.UNIX, path)
        return
    known = addresses.unpack(addresses.pack(addresses.UNIX, path))
    assert (known if isinstance(known, bytes) else os.fsencode(known)) == path


@given(st.sampled_from(sorted(addresses.KNOWN)), anything)
def test_what_is_no_address_is_a_type_or_value_error(family: int, address: Any) -> None:
    with contextlib.suppress(TypeError, ValueError):
        assert 2 < len(addresses.pack(family, address)) <= 110


@given(st.binary(max_size=130))
def test_any_bytes_are_an_address_or_a_value_error(data: bytes) -> None:
    for start in (
        b"",
        *(int(family).to_bytes(2, sys.byteorder) for family in addresses.KNOWN),
    ):
        with contextlib.suppress(ValueError):
            addresses.unpack(start + data)


def test_nobody_is_none() -> None:
    assert addresses.sender(b"") is None


# -- control messages ------------------------------------------------------------------------------


@given(control)
def test_control_messages_survive(ancillary: messages.Ancillary) -> None:
    data = messages.pack(messages.check_ancillary(ancillary))
    assert len(data) % messages.ALIGNMENT == 0
    assert messages.unpack(data) == ancillary


@pytest.mark.skipif(not hasattr(socket, "CMSG_SPACE"), reason="Python has no CMSG_SPACE here")
@given(st.binary(max_size=40))
def test_control_messages_take_the_room_that_the_system_says(data: bytes) -> None:
    assert len(messages.pack([(1, 2, data)])) == socket.CMSG_SPACE(len(data))
    assert messages.HEADER.size == socket.CMSG_LEN(0)


@given(control, st.integers(0, 300))
def test_control_messages_that_were_cut_off_have_what_is_left(
    ancillary: messages.Ancillary, size: int
) -> None:
    found = messages.unpack(messages.pack(ancillary)[:size])
    assert len(found) <= len(ancillary)
    for whole, part in zip(ancillary, found, strict=False):
        assert part[:2] == whole[:2]
        assert whole[2].startswith(part[2])
    assert found[:-1] == ancillary[: max(0, len(found) - 1)]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_list_of_control_messages(data: bytes) -> None:
    found = messages.unpack(data)
    assert sum(messages.HEADER.size + len(each) for _, _, each in found) <= len(data)
    messages.descriptors([each for each in found if each[1] == 0])


@given(anything)
def test_what_is_no_control_data_is_a_type_or_value_error(ancillary: Any) -> None:
    with contextlib.suppress(TypeError, ValueError):
        messages.pack(messages.check_ancillary(ancillary))


def test_a_level_that_is_no_int_of_c_is_refused() -> None:
    with pytest.raises(ValueError, match="C ints"):
        messages.pack([(1 << 40, 1, b"")])


@pytest.mark.skipif(not hasattr(socket, "SCM_RIGHTS"), reason="no descriptors travel here")
def test_only_whole_descriptors_of_the_right_kind_are_taken() -> None:
    data = struct.pack("3i", 7, 8, 9)
    mine = (socket.SOL_SOCKET, socket.SCM_RIGHTS, data[:11])
    others = [(socket.SOL_SOCKET, 99, data), (socket.IPPROTO_IP, socket.SCM_RIGHTS, data)]
    assert messages.descriptors([mine, *others]) == [7, 8]
