"""The status table: what Windows reports for each status, and the exceptions made from it."""

from __future__ import annotations

import copy
import errno
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netpoll import errors
from netpoll import status as nt

# Written out here on their own, not read from the module: what Windows itself answers.
# status, Win32 (completion port), Winsock (WSAGetOverlappedResult)
WINDOWS = [
    ("SUCCESS", 0x00000000, 0, 0),
    ("ABANDONED_WAIT_0", 0x00000080, 735, 0),
    ("USER_APC", 0x000000C0, 192, 0),
    ("TIMEOUT", 0x00000102, 258, 0),
    ("PENDING", 0x00000103, 997, 996),
    ("BUFFER_OVERFLOW", 0x80000005, 234, 10040),
    ("INVALID_HANDLE", 0xC0000008, 6, 10038),
    ("OBJECT_TYPE_MISMATCH", 0xC0000024, 6, 10038),
    ("ACCESS_DENIED", 0xC0000022, 5, 10013),
    ("BUFFER_TOO_SMALL", 0xC0000023, 122, 10014),
    ("SHARING_VIOLATION", 0xC0000043, 32, 10048),
    ("INSUFFICIENT_RESOURCES", 0xC000009A, 1450, 10055),
    ("DEVICE_NOT_READY", 0xC00000A3, 21, 10035),
    ("PIPE_DISCONNECTED", 0xC00000B0, 233, 10058),
    ("IO_TIMEOUT", 0xC00000B5, 121, 10060),
    ("NOT_SUPPORTED", 0xC00000BB, 50, 10045),
    ("CANCELLED", 0xC0000120, 995, 995),
    ("LOCAL_DISCONNECT", 0xC000013B, 64, 10053),
    ("REMOTE_DISCONNECT", 0xC000013C, 64, 10054),
    ("LINK_TIMEOUT", 0xC000013F, 59, 10060),
    ("INVALID_CONNECTION", 0xC0000140, 59, 10057),
    ("PIPE_BROKEN", 0xC000014B, 109, 10022),
    ("INVALID_ADDRESS_COMPONENT", 0xC0000207, 1214, 10049),
    ("ADDRESS_ALREADY_EXISTS", 0xC000020A, 52, 10048),
    ("CONNECTION_DISCONNECTED", 0xC000020C, 64, 10054),
    ("CONNECTION_RESET", 0xC000020D, 64, 10054),
    ("NOT_FOUND", 0xC0000225, 1168, 10022),
    ("CONNECTION_REFUSED", 0xC0000236, 1225, 10061),
    ("GRACEFUL_DISCONNECT", 0xC0000237, 1226, 10101),
    ("CONNECTION_ACTIVE", 0xC000023B, 1230, 10056),
    ("NETWORK_UNREACHABLE", 0xC000023C, 1231, 10051),
    ("HOST_UNREACHABLE", 0xC000023D, 1232, 10065),
    ("PORT_UNREACHABLE", 0xC000023F, 1234, 10054),
    ("REQUEST_ABORTED", 0xC0000240, 1235, 10004),
    ("CONNECTION_ABORTED", 0xC0000241, 1236, 10053),
    ("HOST_DOWN", 0xC0000350, 1256, 10064),
]

# errno, situation, status, Win32, Winsock of a call that fails at once
POSIX: list[tuple[str, dict[str, bool], int, int, int]] = [
    ("ECONNRESET", {}, 0xC000020D, 64, 10054),
    ("EPIPE", {}, 0xC000020D, 64, 10054),
    ("EPIPE", {"local_shutdown": True}, 0xC00000B0, 233, 10058),
    ("ESHUTDOWN", {}, 0xC00000B0, 233, 10058),
    ("ECONNABORTED", {}, 0xC0000241, 1236, 10053),
    ("ECONNREFUSED", {}, 0xC0000236, 1225, 10061),
    ("ECONNREFUSED", {"datagram": True}, 0xC000023F, 1234, 10054),
    ("ETIMEDOUT", {}, 0xC00000B5, 121, 10060),
    ("ENETUNREACH", {}, 0xC000023C, 1231, 10051),
    ("EHOSTUNREACH", {}, 0xC000023D, 1232, 10065),
    ("EHOSTDOWN", {}, 0xC0000350, 1256, 10064),
    ("ENETDOWN", {}, 0xC00000BF, 54, 10050),
    ("ENOTCONN", {}, 0xC0000140, 59, 10057),
    ("EDESTADDRREQ", {}, 0xC0000140, 59, 10057),
    ("EISCONN", {}, 0xC000023B, 1230, 10056),
    ("EADDRINUSE", {}, 0xC0000043, 32, 10048),
    ("EADDRNOTAVAIL", {}, 0xC0000207, 1214, 10049),
    ("EACCES", {}, 0xC0000022, 5, 10013),
    ("EPERM", {}, 0xC0000022, 5, 10013),
    ("EMSGSIZE", {}, 0xC0000206, 1784, 10040),
    ("EMSGSIZE", {"receiving": True}, 0x80000005, 234, 10040),
    ("EBADF", {}, 0xC0000008, 6, 10038),
    ("ENOTSOCK", {}, 0xC0000024, 6, 10038),
    ("EINVAL", {}, 0xC000000D, 87, 10022),
    ("EFAULT", {}, 0xC0000005, 998, 10014),
    ("EOPNOTSUPP", {}, 0xC00000BB, 50, 10045),
    ("ENOTSUP", {}, 0xC00000BB, 50, 10045),
    ("ENOBUFS", {}, 0xC000009A, 1450, 10055),
    ("ENOMEM", {}, 0xC0000017, 8, 10055),
    ("EMFILE", {}, 0xC000011F, 4, 10024),
    ("ENFILE", {}, 0xC000011F, 4, 10024),
    ("ECANCELED", {}, 0xC0000120, 995, 995),
    ("EAGAIN", {}, 0xC00000A3, 21, 10035),
    ("EWOULDBLOCK", {}, 0xC00000A3, 21, 10035),
    ("EINTR", {}, 0xC0000240, 1235, 10004),
    ("EAFNOSUPPORT", {}, 0xC001273F, 10047, 10047),
]

# status, the class it is raised as, errno
EXCEPTIONS: list[tuple[int, type[OSError], str]] = [
    (nt.STATUS_CONNECTION_RESET, ConnectionResetError, "ECONNRESET"),
    (nt.STATUS_REMOTE_DISCONNECT, ConnectionResetError, "ECONNRESET"),
    (nt.STATUS_CONNECTION_ABORTED, ConnectionAbortedError, "ECONNABORTED"),
    (nt.STATUS_LOCAL_DISCONNECT, ConnectionAbortedError, "ECONNABORTED"),
    (nt.STATUS_CONNECTION_REFUSED, ConnectionRefusedError, "ECONNREFUSED"),
    (nt.STATUS_PORT_UNREACHABLE, ConnectionRefusedError, "ECONNREFUSED"),
    (nt.STATUS_PIPE_DISCONNECTED, BrokenPipeError, "ESHUTDOWN"),
    (nt.STATUS_PIPE_BROKEN, BrokenPipeError, "EPIPE"),
    (nt.STATUS_IO_TIMEOUT, TimeoutError, "ETIMEDOUT"),
    (nt.STATUS_LINK_TIMEOUT, TimeoutError, "ETIMEDOUT"),
    (nt.STATUS_ACCESS_DENIED, PermissionError, "EACCES"),
    (nt.STATUS_OBJECT_NAME_NOT_FOUND, FileNotFoundError, "ENOENT"),
    (nt.STATUS_DEVICE_NOT_READY, BlockingIOError, "EAGAIN"),
    (nt.STATUS_REQUEST_ABORTED, InterruptedError, "EINTR"),
    (nt.STATUS_INVALID_CONNECTION, OSError, "ENOTCONN"),
    (nt.STATUS_UNSUCCESSFUL, OSError, "EIO"),
    (nt.STATUS_CANCELLED, errors.OperationAborted, "ECANCELED"),
    (nt.STATUS_ABANDONED_WAIT_0, errors.PortClosed, "EBADF"),
    (nt.STATUS_NOT_SUPPORTED, errors.UnsupportedOperation, "EOPNOTSUPP"),
    (nt.STATUS_NOT_IMPLEMENTED, errors.UnsupportedOperation, "EOPNOTSUPP"),
]

KNOWN = {name: value for name, value in vars(nt).items() if name.startswith("STATUS_")}
known_statuses = st.sampled_from(sorted(KNOWN.values()))
any_status = st.one_of(known_statuses, st.integers(min_value=0, max_value=0xFFFFFFFF))


def numbers(error: BaseException) -> dict[str, Any]:
    assert isinstance(error, OSError)
    # On Windows winerror is a slot of OSError, elsewhere an attribute: read it as users do.
    attributes: Any = error
    return {
        "type": type(error),
        "errno": error.errno,
        "strerror": error.strerror,
        "winerror": attributes.winerror,
        "wsaerror": attributes.wsaerror,
        "status": attributes.status,
    }


@pytest.mark.parametrize(("name", "status", "win32", "winsock"), WINDOWS)
def test_both_numbers_of_a_status(name: str, status: int, win32: int, winsock: int) -> None:
    assert KNOWN[f"STATUS_{name}"] == status
    assert nt.name_of(status) == f"STATUS_{name}"
    assert nt.win32_error(status) == win32
    assert nt.winsock_error(status) == winsock


def test_each_name_has_a_number_of_its_own() -> None:
    assert len(KNOWN) == 81
    assert len(set(KNOWN.values())) == len(KNOWN)


def test_a_status_the_table_does_not_have() -> None:
    stack_overflow = 0xC00000FD
    assert nt.win32_error(stack_overflow) == 317
    assert nt.winsock_error(stack_overflow) == 10022
    assert nt.errno_of(stack_overflow) == errno.EIO
    assert nt.name_of(stack_overflow) == "0xC00000FD"
    assert "0xC00000FD" in nt.describe(stack_overflow)


def test_an_unknown_success_is_no_winsock_error() -> None:
    assert nt.winsock_error(0x00000042) == 0
    assert nt.winsock_error(0x40000042) == 0
    assert nt.winsock_error(0x80000042) == 10022


@pytest.mark.parametrize("wide", [0xC000020D - (1 << 32), 0xFFFFFFFFC000020D])
def test_a_status_read_as_a_signed_or_pointer_sized_number(wide: int) -> None:
    assert nt.win32_error(wide) == 64
    assert nt.winsock_error(wide) == 10054
    assert nt.errno_of(wide) == errno.ECONNRESET
    assert nt.name_of(wide) == "STATUS_CONNECTION_RESET"
    assert numbers(nt.make_exception(wide))["status"] == nt.STATUS_CONNECTION_RESET


def test_severities() -> None:
    assert nt.is_success(nt.STATUS_SUCCESS)
    assert nt.is_success(nt.STATUS_PENDING)
    # A truncated message is a warning: neither, which is why it still queues a packet.
    assert not nt.is_success(nt.STATUS_BUFFER_OVERFLOW)
    assert not nt.is_error(nt.STATUS_BUFFER_OVERFLOW)
    assert nt.is_error(nt.STATUS_CANCELLED)
    assert not nt.is_success(nt.STATUS_CANCELLED)


@pytest.mark.parametrize(("name", "situation", "status", "win32", "winsock"), POSIX)
def test_errno_to_status(
    name: str, situation: dict[str, bool], status: int, win32: int, winsock: int
) -> None:
    number = getattr(errno, name, None)
    if number is None:
        pytest.skip(f"this system has no {name}")
    assert nt.from_errno(number, **situation) == status
    assert nt.win32_error(status) == win32
    assert nt.winsock_error(status, inline=True) == winsock


def test_the_situation_changes_only_the_errno_it_is_about() -> None:
    everything = {"datagram": True, "receiving": True, "local_shutdown": True}
    for name in ("ECONNABORTED", "ETIMEDOUT", "ESHUTDOWN", "EINVAL"):
        number = getattr(errno, name)
        assert nt.from_errno(number, **everything) == nt.from_errno(number)


def test_no_error_and_unknown_errors() -> None:
    assert nt.from_errno(0) == nt.STATUS_SUCCESS
    assert nt.from_winsock(0) == nt.STATUS_SUCCESS
    assert nt.from_win32(0) == nt.STATUS_SUCCESS
    assert nt.from_errno(9999) == nt.STATUS_UNSUCCESSFUL


def test_an_errno_that_is_a_winsock_number() -> None:
    # Python on Windows puts Winsock numbers into OSError.errno.
    assert nt.from_errno(10054) == nt.STATUS_CONNECTION_RESET
    assert nt.from_errno(10022) == nt.STATUS_INVALID_PARAMETER
    assert nt.from_errno(10040, receiving=True) == nt.STATUS_BUFFER_OVERFLOW
    assert nt.from_errno(10061, datagram=True) == nt.STATUS_PORT_UNREACHABLE
    assert nt.from_errno(10054, datagram=True) == nt.STATUS_PORT_UNREACHABLE


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (64, nt.STATUS_CONNECTION_RESET),
        (6, nt.STATUS_INVALID_HANDLE),
        (87, nt.STATUS_INVALID_PARAMETER),
        (121, nt.STATUS_IO_TIMEOUT),
        (234, nt.STATUS_BUFFER_OVERFLOW),
        (735, nt.STATUS_ABANDONED_WAIT_0),
        (995, nt.STATUS_CANCELLED),
        (996, nt.STATUS_PENDING),
        (997, nt.STATUS_PENDING),
        (1225, nt.STATUS_CONNECTION_REFUSED),
        (1236, nt.STATUS_CONNECTION_ABORTED),
    ],
)
def test_win32_to_status(code: int, status: int) -> None:
    assert nt.from_win32(code) == status


def test_winsock_to_status() -> None:
    assert nt.from_winsock(10040) == nt.STATUS_INVALID_BUFFER_SIZE
    assert nt.from_winsock(10040, receiving=True) == nt.STATUS_BUFFER_OVERFLOW
    # Winsock calls also fail with plain Win32 numbers.
    assert nt.from_winsock(87) == nt.STATUS_INVALID_PARAMETER
    assert nt.from_winsock(997) == nt.STATUS_PENDING


@given(code=st.integers(min_value=10000, max_value=11999), receiving=st.booleans())
def test_winsock_numbers_survive_a_round_trip(code: int, receiving: bool) -> None:
    status = nt.from_winsock(code, receiving=receiving)
    assert nt.winsock_error(status, inline=True) == code
    assert not nt.is_success(status)


@given(code=st.integers(min_value=0, max_value=0xFFFF).filter(lambda code: code != 996))
def test_win32_numbers_survive_a_round_trip(code: int) -> None:
    assert nt.win32_error(nt.from_win32(code)) == code


@given(number=st.sampled_from(sorted(errno.errorcode)), flags=st.tuples(*[st.booleans()] * 3))
def test_every_errno_becomes_an_error_with_all_numbers(
    number: int, flags: tuple[bool, bool, bool]
) -> None:
    datagram, receiving, shut = flags
    status = nt.from_errno(number, datagram=datagram, receiving=receiving, local_shutdown=shut)
    assert status != nt.STATUS_SUCCESS
    assert nt.win32_error(status) > 0
    assert nt.winsock_error(status) > 0
    assert nt.errno_of(status) in errno.errorcode


@given(status=known_statuses)
def test_errno_of_a_status_leads_to_the_same_errno_again(status: int) -> None:
    number = nt.errno_of(status)
    # What has no errno of its own borrows one; the way back need not find the same status.
    assert number == 0 or nt.from_errno(number) != nt.STATUS_SUCCESS
    assert nt.errno_of(status | ~0xFFFFFFFF) == number


@pytest.mark.parametrize(("status", "kind", "name"), EXCEPTIONS)
def test_exception_of_a_status(status: int, kind: type[OSError], name: str) -> None:
    error = nt.make_exception(status)
    assert type(error) is kind
    expected = getattr(errno, name, None)
    assert expected is None or error.errno == expected
    found = numbers(error)
    assert found["winerror"] == nt.win32_error(status)
    assert found["wsaerror"] == nt.winsock_error(status)
    assert found["status"] == status


def test_a_call_that_fails_at_once_has_the_winsock_number() -> None:
    reset = nt.STATUS_CONNECTION_RESET
    assert numbers(nt.make_exception(reset))["winerror"] == 64
    assert numbers(nt.make_exception(reset, inline=True))["winerror"] == 10054
    out_of_files = numbers(nt.make_exception(nt.STATUS_TOO_MANY_OPENED_FILES, inline=True))
    assert (out_of_files["winerror"], out_of_files["wsaerror"]) == (10024, 10024)
    # A closed port has no Winsock number to give.
    assert numbers(nt.make_exception(nt.STATUS_ABANDONED_WAIT_0, inline=True))["winerror"] == 735


def test_the_caller_may_choose_class_and_words() -> None:
    error = nt.make_exception(
        nt.STATUS_INVALID_PARAMETER,
        message="socket 7 already belongs to a port",
        kind=errors.AlreadyAssociated,
    )
    assert type(error) is errors.AlreadyAssociated
    assert error.errno == errno.EINVAL
    assert numbers(error)["winerror"] == 87
    assert error.strerror == (
        "socket 7 already belongs to a port "
        "(STATUS_INVALID_PARAMETER; ERROR_INVALID_PARAMETER 87, WSAEINVAL 10022)"
    )


def test_messages_say_what_happened_and_every_number() -> None:
    error = nt.make_exception(nt.STATUS_CONNECTION_RESET)
    assert error.strerror == (
        "connection reset by peer "
        "(STATUS_CONNECTION_RESET; ERROR_NETNAME_DELETED 64, WSAECONNRESET 10054)"
    )
    assert error.strerror in str(error)


def test_success_is_not_an_exception() -> None:
    with pytest.raises(ValueError, match="not an error"):
        nt.make_exception(nt.STATUS_SUCCESS)


def test_an_unsupported_operation_is_what_io_raises() -> None:
    error = nt.make_exception(nt.STATUS_NOT_SUPPORTED)
    assert isinstance(error, OSError)
    assert isinstance(error, ValueError)


@given(status=any_status.filter(bool), inline=st.booleans(), protocol=st.integers(2, 5))
def test_copies_and_pickles_keep_every_number(status: int, inline: bool, protocol: int) -> None:
    error = nt.make_exception(status, inline=inline)
    found = numbers(error)
    assert found["winerror"] != 0
    assert numbers(copy.copy(error)) == found
    assert numbers(copy.deepcopy(error)) == found
    assert numbers(pickle.loads(pickle.dumps(error, protocol))) == found


@given(status=any_status)
def test_every_status_has_a_name_and_a_text(status: int) -> None:
    assert nt.name_of(status)
    assert nt.describe(status)
    assert 0 <= nt.win32_error(status) <= 0xFFFF
    assert 0 <= nt.winsock_error(status) <= 0xFFFF


@given(status=st.integers(min_value=1, max_value=0xFFFF).map(lambda code: 0xC0010000 | code))
def test_a_number_without_a_status_travels_inside_one(status: int) -> None:
    assert nt.win32_error(status) == status & 0xFFFF
    assert str(status & 0xFFFF) in nt.describe(status)


def test_known_numbers_are_named() -> None:
    assert nt.win32_name(64) == "ERROR_NETNAME_DELETED 64"
    assert nt.winsock_name(10054) == "WSAECONNRESET 10054"
    assert nt.win32_name(4242) == "Win32 error 4242"
    assert nt.winsock_name(10099) == "Winsock error 10099"
    for status in KNOWN.values():
        assert nt.win32_name(nt.win32_error(status)).split()[0] != "Win32"
        winsock = nt.winsock_error(status)
        assert not winsock or nt.winsock_name(winsock).split()[0] != "Winsock"
