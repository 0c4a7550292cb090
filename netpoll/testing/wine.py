"""What Wine gets wrong and Windows does not, by statement and by test.

Each is an expected failure under Wine only, and strict: a Wine that has learnt it fails the run, so
that its line here is noticed and deleted. Written for Wine 8.0 (Debian 12).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest


@dataclass(frozen=True)
class Difference:
    """One thing that Wine does differently."""

    statement: str
    why: str
    tests: tuple[str, ...]
    """How their names begin, with parameters where only some of them fail."""
    backend: str | None = "iocp"
    """`None`: the tests use no backend."""
    strict: bool = True
    """False where it is a race that Wine wins now and then."""


SWALLOWED = Difference(
    "RECV-05",
    "a reset that no overlapped receive waits for is swallowed, and reads as an end of stream",
    (
        "test_a_reset_is_seen_as_a_reset_and_not_as_an_end",
        "test_a_reset_of_one_side_resets_the_other",
        "test_a_reset_while_the_other_side_does_not_read",
        "test_the_patience_is_limited",
        "test_a_second_signal_ends_the_patience",
    ),
    backend=None,
)
DIFFERENCES = (
    SWALLOWED,
    Difference(
        "ACC-02",
        "AcceptEx on a socket that does not listen pends for ever",
        (
            "test_an_accept_on_what_does_not_listen_is_refused",
            "test_many_accepts_on_what_does_not_listen_are_refused",
            "test_an_accept_beside_a_receive_is_refused_at_once",
        ),
    ),
    Difference(
        "ACC-15",
        "an accepted socket has the listener's options without its context",
        ("test_with_its_context_an_accepted_socket_has_the_listeners_options",),
    ),
    Difference(
        "ASSOC-09",
        "a receive ends with the number of the socket that was closed, not with the last duplicate",
        ("test_closing_one_of_two_duplicates_cancels_nothing",),
    ),
    Difference(
        "ASSOC-10",
        "an operation goes on while another process has the socket, and fails when its data comes",
        ("test_closing_ends_what_is_pending_although_a_child_has_the_socket",),
    ),
    Difference(
        "CLOSE-07",
        "closing with a receive pending sends an end of stream",
        ("test_closing_with_a_receive_pending_resets_the_connection",),
    ),
    Difference(
        "CLOSE-08",
        "a linger of nothing sends an end of stream",
        ("test_a_linger_of_nothing_resets",),
    ),
    Difference(
        "CON-02",
        "ConnectEx with more data than the send buffer holds never ends",
        ("test_all_of_the_data_given_to_a_connect_goes_out",),
    ),
    Difference(
        "CON-07",
        "a second ConnectEx after a refusal fails with WSAECONNABORTED",
        ("test_after_a_refusal_the_socket_can_connect_again",),
    ),
    Difference(
        "CON-09",
        "a send or a receive on a connecting socket pends, or fails in other ways",
        ("test_a_connecting_socket_is_not_connected_yet",),
    ),
    Difference(
        "CON-11",
        "an address and a peer that another socket has are 10049, as on Linux",
        ("test_an_address_that_is_taken_may_show_at_the_connect",),
    ),
    Difference(
        "DIS-04",
        "TF_REUSE_SOCKET is ignored",
        ("test_a_socket_that_is_to_be_used_again_connects_again",),
    ),
    Difference(
        "EMU-27",
        "a reset that no overlapped receive waits for is swallowed, and reads as an end of stream",
        ("test_closing_with_data_unread_resets",),
    ),
    Difference(
        "PORT-09",
        "a packet is not reserved for the thread that it wakes",
        ("test_a_packet_is_handed_to_the_thread_that_waits",),
        strict=False,
    ),
    Difference(
        "RECV-06",
        "a receive after a reset reads an end of stream",
        (
            "test_a_transfer_started_after_the_reset_fails_with_it[recv",
            "test_a_failed_start_has_the_winsock_number_and_a_completion_the_win32_one",
            "test_what_came_before_a_reset_is_told_before_it",
        ),
    ),
    Difference(
        "RECV-07",
        "a receive after a reset reads an end of stream",
        ("test_a_reset_is_reported_again_and_again",),
    ),
    Difference(
        "RECV-08",
        "a receive on a listening socket pends for ever",
        ("test_a_socket_without_a_connection_receives_nothing[listening",),
    ),
    Difference(
        "RECV-14",
        "MSG_WAITALL is ignored",
        (
            "test_all_is_waited_for",
            "test_all_of_much_is_waited_for",
            "test_all_is_refused_of_a_non_blocking_socket",
            "test_the_end_is_waited_for_no_longer",
            "test_a_reset_is_told_although_some_has_come",
            "test_what_has_come_survives_a_cancel[cancel",
            "test_a_call_may_wait_for_all",
        ),
    ),
    Difference(
        "RECV-19",
        "a receive after a failed send reads an end of stream",
        ("test_a_receive_after_sending_to_a_peer_that_has_closed_is_aborted",),
    ),
    Difference(
        "SEND-02",
        "a send is taken as far as the buffer of Linux goes",
        ("test_one_send_of_any_size_is_taken_at_once",),
    ),
    Difference(
        "SEND-04",
        "a pending send ends as a success of no bytes once the peer has shut down (golang #18887)",
        ("test_a_half_closed_connection_still_sends",),
    ),
    Difference(
        "SEND-06",
        "a send on a socket without a connection is WSAECONNRESET (10054), not WSAENOTCONN",
        (
            "test_a_start_that_fails_has_no_packet_and_sets_no_event[send",
            "test_a_failure_on_one_socket_leaves_the_others_alone",
            "test_a_send_on_what_was_never_connected_harms_nothing",
            "test_a_call_sends_nothing_without_a_connection",
        ),
    ),
    Difference(
        "THR-02",
        "a receive may end with the thread that started it, with STATUS_ALERTED",
        (
            "test_an_operation_of_a_port_outlives_its_thread",
            "test_the_loop_goes_on_in_another_thread",
        ),
        strict=False,
    ),
    Difference(
        "UDP-05",
        "a report of an unreachable port that no receive waits for is swallowed, and sockets that "
        "are not connected have none",
        (
            "test_an_unreachable_port_fails_the_next_receive",
            "test_reports_can_be_asked_for_on_any_socket",
            "test_reports_are_on_by_default",
        ),
    ),
    Difference(
        "EMU-18",
        "a send fails now and then because an earlier one has found no port",
        (
            "test_a_send_never_fails_because_of_an_earlier_one",
            "test_what_a_send_has_met_goes_to_the_receive_that_waits",
            "test_no_report_is_lost_in_a_send[next",
        ),
        strict=False,
    ),
    Difference(
        "UDP-06",
        "SIO_UDP_CONNRESET does nothing",
        ("test_reports_can_be_turned_off",),
    ),
    Difference(
        "UDP-07",
        "a peek does not see the report of an unreachable port",
        ("test_a_peek_does_not_take_a_report",),
    ),
    Difference(
        "UDP-08",
        "a send on a socket without a peer is WSAEINVAL (10022), not WSAENOTCONN",
        ("test_a_send_without_a_peer_is_not_connected",),
    ),
    Difference(
        "XFER-02",
        "sendmsg() and recvmsg() take 1,024 buffers, and Wine hands the list on as it is",
        (
            "test_more_buffers_than_one_call_takes_are_received_into",
            "test_more_buffers_than_one_call_takes_are_sent_whole",
        ),
    ),
    Difference(
        "UDP-05",
        "a report of an unreachable port is swallowed by select()",
        (
            "test_an_unreachable_port_fails_the_pending_receive",
            "test_an_unreachable_port_fails_the_next_receive",
            "test_reports_can_be_asked_for_on_any_socket",
            "test_reports_are_on_by_default",
            "test_a_peek_does_not_take_a_report",
        ),
        backend="selectors",
    ),
    Difference(
        "EMU-18",
        "a report of an unreachable port is swallowed by select(), or fails a send",
        (
            "test_what_a_send_has_met_goes_to_the_receive_that_waits",
            "test_no_report_is_lost_in_a_send",
        ),
        backend="selectors",
        strict=False,
    ),
    Difference(
        "UDP-08",
        "a send on a socket without a peer is WSAEINVAL (10022), not WSAENOTCONN",
        ("test_a_send_without_a_peer_is_not_connected",),
        backend="selectors",
    ),
    Difference(
        SWALLOWED.statement,
        SWALLOWED.why,
        (
            "test_closing_with_a_receive_pending_resets_the_connection",
            "test_a_linger_of_nothing_resets",
            "test_closing_with_data_unread_resets",
            "test_with_the_mode_a_failure_queues",
            "test_a_failed_start_has_the_winsock_number_and_a_completion_the_win32_one",
            "test_a_reset_operation_moved_nothing",
            "test_a_reset_has_two_numbers",
            "test_a_call_is_told_of_a_reset",
            "test_a_failed_operation_is_false_with_its_record",
            "test_an_empty_receive_reports_a_reset",
            "test_a_reset_is_told_to_an_empty_receive_behind_another",
            "test_a_reset_is_told_although_some_has_come",
            "test_a_reset_ends_a_pending_receive_as_a_reset",
            "test_a_reset_ends_every_pending_receive_once",
            "test_a_transfer_started_after_the_reset_fails_with_it[recv",
            "test_a_reset_is_reported_again_and_again",
            "test_a_reset_is_a_reset[",
            "test_a_routine_is_told_the_winsock_number",
            "test_a_reset_of_what_is_paused_is_told_by_and_by",
            "test_an_end_that_comes_while_the_pool_is_empty_is_told_at_once[reset",
            "test_what_came_before_a_reset_is_told_before_it",
        ),
        backend="selectors",
    ),
    Difference(
        "SEND-06",
        "a send on a socket without a connection is WSAECONNRESET (10054), not WSAENOTCONN",
        (
            "test_a_start_that_fails_has_no_packet_and_sets_no_event[send",
            "test_a_failure_on_one_socket_leaves_the_others_alone",
            "test_a_send_on_what_was_never_connected_harms_nothing",
            "test_a_call_sends_nothing_without_a_connection",
        ),
        backend="selectors",
    ),
)


def expect_differences(items: list[pytest.Item]) -> None:
    """Mark the tests that Wine fails, if this is Wine."""
    version = wine_version()
    if version is None:
        return
    for item in items:
        callspec: Any = getattr(item, "callspec", None)
        target = callspec.params.get("target") if callspec is not None else None
        for difference in DIFFERENCES:
            backend = target.backend if target is not None else None
            if backend == difference.backend and item.name.startswith(difference.tests):
                import pytest

                reason = f"Wine {version}, {difference.statement}: {difference.why}"
                item.add_marker(pytest.mark.xfail(reason=reason, strict=difference.strict))


@cache
def wine_version() -> str | None:
    """Wine's version, "8.0"; `None` on Windows and on every other system."""
    if sys.platform == "win32":
        import ctypes

        tell = getattr(ctypes.WinDLL("ntdll"), "wine_get_version", None)
        if tell is not None:
            tell.restype = ctypes.c_char_p
            version: bytes = tell()
            return version.decode("ascii")
    return None
