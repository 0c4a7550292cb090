"""What an instrument is told, what debug mode notices, and that neither stands in the way."""

from __future__ import annotations

import gc
import json
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from netpoll.instruments import Instrument, Statistics, Trace
from netpoll.testing.drain import collect, take

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from netpoll import CompletionPort, Overlapped
    from netpoll.testing.backends import Target
    from netpoll.testing.pairs import Loopback


class Log(Instrument):
    """The names of what was told, with what it was about."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def starting(self, operation: Overlapped[Any]) -> None:
        self.told.append(("starting", operation))

    def not_started(self, operation: Overlapped[Any], error: BaseException) -> None:
        self.told.append(("not_started", operation))

    def ended_inline(self, operation: Overlapped[Any]) -> None:
        self.told.append(("ended_inline", operation))

    def completed(self, completion: Any) -> None:
        self.told.append(("completed", completion.overlapped))

    def cancel_asked(self, target: Any, found: bool) -> None:
        self.told.append(("cancel_asked", found))

    def posted(self, completion: Any) -> None:
        self.told.append(("posted", completion.key))

    def waiting(self, timeout: float | None) -> None:
        self.told.append(("waiting", timeout))

    def woken(self, number: int) -> None:
        self.told.append(("woken", number))

    def closed(self) -> None:
        self.told.append(("closed", None))


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def watched(make_port: Callable[..., CompletionPort], log: Log) -> Iterator[CompletionPort]:
    with make_port(instruments=[log]) as port:
        yield port


def test_an_operation_is_told_of_from_its_start_to_its_packet(
    watched: CompletionPort, net: Loopback, log: Log
) -> None:
    near, far = net.tcp_pair()
    watched.associate(near)
    receive = watched.recv(near, 16)
    far.send(b"x")
    take(watched)
    watched.resubmit(receive)
    assert watched.cancel(receive)
    take(watched)
    events = [each for each in log.told if each[0] not in ("waiting", "woken")]
    assert events == [
        ("starting", receive),
        ("completed", receive),
        ("starting", receive),
        ("cancel_asked", True),
        ("completed", receive),
    ]
    assert ("woken", 1) in log.told


def test_several_that_are_started_again_are_told_of_one_by_one(
    watched: CompletionPort, net: Loopback, log: Log
) -> None:
    near, far = net.tcp_pair()
    watched.associate(near)
    sends = [watched.send(near, b"x") for _ in range(2)]
    collect(watched, 2)
    log.told.clear()
    watched.resubmit_many(sends)
    assert [each for each in log.told if each[0] == "starting"] == [
        ("starting", each) for each in sends
    ]
    collect(watched, 2)
    assert far.recv(4, socket.MSG_WAITALL) == b"xxxx"


def test_a_start_that_raises_is_told_of_as_such(
    watched: CompletionPort, net: Loopback, log: Log
) -> None:
    near, _ = net.tcp_pair()
    watched.associate(near)
    watched.shutdown(near, socket.SHUT_WR)
    with pytest.raises(BrokenPipeError):
        watched.send(near, b"x")
    assert [name for name, _ in log.told] == ["starting", "not_started"]


def test_an_end_within_the_start_is_told_of(
    watched: CompletionPort, net: Loopback, log: Log
) -> None:
    near, _ = net.tcp_pair()
    watched.associate(near, skip_on_success=True)
    send = watched.send(near, b"x")
    if not send.done:
        take(watched)
    else:
        assert log.told == [("starting", send), ("ended_inline", send)]


def test_posted_packets_and_the_end_are_told_of(watched: CompletionPort, log: Log) -> None:
    watched.post(1, "mine")
    take(watched)
    watched.close()
    told = [name for name, _ in log.told if name not in ("waiting", "woken")]
    assert told == ["posted", "completed", "closed"]


def test_an_instrument_that_raises_is_dropped_and_harms_nobody(
    make_port: Callable[..., CompletionPort], log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Instrument):
        def posted(self, completion: Any) -> None:
            raise ZeroDivisionError("an instrument of no use")

    with make_port(instruments=[Broken(), log]) as port:
        port.post()
        port.post()
        assert len(collect(port, 2)) == 2
    assert [name for name, _ in log.told].count("posted") == 2
    assert caplog.text.count("raised in posted() and is not called again") == 1


def test_statistics_count_what_happened(
    make_port: Callable[..., CompletionPort], net: Loopback
) -> None:
    near, far = net.tcp_pair()
    with make_port(instruments=[Statistics()]) as port:
        port.associate(near)
        receive = port.recv(near, 16)
        far.send(b"x")
        take(port)
        port.resubmit(receive)
        port.cancel(receive)
        take(port)
        assert not port.cancel(receive)
        stats = port.stats()
    assert stats["packets"] == 2
    assert stats["batches"] == 2
    assert stats["largest_batch"] == 1
    assert stats["cancels"] == 2
    assert stats["cancels_in_vain"] == 1
    assert stats["cancelled"] == 1
    assert stats["seconds_waiting"] > 0
    assert stats["taken"] == 2  # the backend's own are there too


def test_a_trace_is_what_perfetto_opens(
    make_port: Callable[..., CompletionPort], net: Loopback, tmp_path: Path
) -> None:
    near, far = net.tcp_pair()
    with make_port(instruments=[Trace(tmp_path / "trace.json")]) as port:
        port.associate(near)
        port.recv(near, 16)
        far.send(b"four")
        take(port)
        port.post(0, "mine")
        take(port)
    events = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))
    begun = [each for each in events if each["ph"] == "b"]
    ended = [each for each in events if each["ph"] == "e"]
    assert [each["name"] for each in begun] == ["recv"]
    assert [(each["id"], each["args"]["bytes"]) for each in ended] == [(begun[0]["id"], 4)]
    assert begun[0]["ts"] <= ended[0]["ts"]
    assert {each["name"] for each in events} >= {"wait", "post", "packet taken", "thread_name"}


# -- debug mode ------------------------------------------------------------------------------------


@pytest.fixture
def checked(
    make_port: Callable[..., CompletionPort], monkeypatch: pytest.MonkeyPatch
) -> Iterator[CompletionPort]:
    monkeypatch.setenv("NETPOLL_DEBUG", "checks")
    with make_port() as port:
        yield port


def test_debug_mode_knows_where_an_operation_was_started(
    checked: CompletionPort, net: Loopback
) -> None:
    near, _ = net.tcp_pair()
    checked.associate(near)
    receive = checked.recv(near, 16)
    [pending] = checked.inflight()
    assert "test_instruments.py:" in str(pending.where)
    checked.cancel(receive)
    take(checked)


def test_debug_mode_notices_a_buffer_that_changed_under_a_send(
    checked: CompletionPort, net: Loopback
) -> None:
    near, far = net.tcp_pair()
    checked.associate(near)
    data = bytearray(b"before")
    send = checked.send(near, data)
    assert far.recv(16) == b"before"
    data[:] = b"behind"
    with pytest.warns(RuntimeWarning, match=r"changed while it was pending.*test_instruments"):
        take(checked)
    checked.resubmit(send)
    take(checked)  # nothing changed now: no warning, which would be an error here


def test_a_port_that_is_dropped_names_the_operations_that_it_takes_along(
    target: Target, net: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETPOLL_DEBUG", "checks")
    near, _ = net.tcp_pair()
    holder = [target.open()]
    holder[0].associate(near)
    holder[0].recv(near, 16)
    with pytest.warns(ResourceWarning, match=r"pending: <Overlapped recv.*test_instruments\.py"):
        _drop(holder)


def _drop(holder: list[CompletionPort]) -> None:
    holder.clear()
    gc.collect()


@pytest.mark.parametrize(
    ("options", "environment", "expected"),
    [
        ([], {}, "False"),
        (["-X", "dev"], {}, "True"),
        (["-X", "dev"], {"NETPOLL_DEBUG": "0"}, "False"),
        ([], {"NETPOLL_DEBUG": "1"}, "True"),
        ([], {"NETPOLL_DEBUG": "limits"}, "False"),
        ([], {"NETPOLL_DEBUG": "limits, checks"}, "True"),
    ],
)
def test_who_turns_debug_mode_on(
    options: list[str],
    environment: dict[str, str],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NETPOLL_DEBUG", raising=False)
    monkeypatch.delenv("PYTHONDEVMODE", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    code = "from netpoll import debugging; print(debugging.enabled(debugging.CHECKS))"
    ran = subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == expected


def test_what_debug_mode_cannot_be_is_refused(
    make_port: Callable[..., CompletionPort], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETPOLL_DEBUG", "yes")
    with pytest.raises(ValueError, match="NETPOLL_DEBUG is 0, 1, 'checks' or 'limits'"):
        make_port()


def test_small_limits_change_nothing_for_the_program(
    make_port: Callable[..., CompletionPort], net: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many operations at once, through a ring of two entries, or one event a turn."""
    monkeypatch.setenv("NETPOLL_DEBUG", "limits")
    with make_port() as port:
        pairs = [net.tcp_pair() for _ in range(20)]
        for number, (near, _) in enumerate(pairs):
            port.associate(near, number)
            port.recv(near, 8)
        for number, (_, far) in enumerate(pairs):
            far.sendall(b"%d" % number)
        received = {each.key: each.result() for each in collect(port, 20)}
        assert received == {number: b"%d" % number for number in range(20)}
        for each, _ in pairs:
            port.send(each, b"back")
        assert [each.transferred for each in collect(port, 20)] == [4] * 20
