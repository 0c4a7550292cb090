"""The conformance suite's own tools: that they fail when they should, and report what happened."""

from __future__ import annotations

import select
import socket
from typing import TYPE_CHECKING

import pytest

from netpoll import CompletionPort
from netpoll.testing import suite, waiting
from netpoll.testing.backends import targets
from netpoll.testing.drain import collect, nothing_more, take
from netpoll.testing.fixtures import open_descriptors
from netpoll.testing.pairs import Loopback, fill, receive_exactly, reset, wait_readable
from netpoll.testing.report import Record, Report
from netpoll.testing.waiting import run, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from netpoll.testing.report import Outcome

PLUGIN = ("-p", "netpoll.testing.plugin", "-p", "no:cacheprovider")
ONE = "--netpoll-backend=selectors-select"


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    """A run of pytest in this process drops from `sys.modules` what it was first to import; that
    would be imported anew after it, and be there twice."""
    for target in targets():
        target.open().close()


@pytest.fixture(autouse=True)
def no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NETPOLL_BACKEND", raising=False)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "DEADLINE", 0.02)


# -- the plugin ------------------------------------------------------------------------------------

SUITE = """
    import pytest
    from netpoll.testing.outcome import require, unsupported

    @pytest.mark.statement("PORT-01", "PORT-08")
    def test_passes(port):
        pass

    @pytest.mark.statement("PORT-08")
    def test_fails(port):
        assert 1 == 2, "as it should"

    @pytest.mark.statement("PORT-07", "PORT-09")
    def test_cannot(target):
        unsupported("no waiters here")

    @pytest.mark.statement("ASSOC-08", "ASSOC-05")
    def test_cannot_all_of_it(target):
        unsupported("no duplicates", "ASSOC-08")

    @pytest.mark.statement("RECV-01")
    def test_needs(port):
        require(port, "teleport")

    @pytest.mark.statement("RECV-02")
    def test_of_another_machine(port):
        pytest.skip("this machine has no moon")

    @pytest.mark.statement("OVL-03")
    def test_without_a_backend():
        pass

    @pytest.mark.statement("OVL-01")
    def test_leaves_a_packet(port):
        port.post()

    def test_that_decides_nothing(port):
        pass
"""


def test_a_run_leaves_a_report_of_every_statement(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SUITE)
    two = "--netpoll-backend=selectors-select,selectors-default-missing"
    assert pytester.runpytest_inprocess(*PLUGIN, two).ret == pytest.ExitCode.USAGE_ERROR

    path = pytester.path / "report.json"
    result = pytester.runpytest_inprocess(*PLUGIN, ONE, f"--statement-report={path}")
    result.assert_outcomes(passed=4, failed=1, skipped=4, errors=1)
    report = Report.read(path)
    assert report.backends == ["selectors-select"]
    table = report.table()
    outcomes = {name: row["selectors-select"].outcome for name, row in table.items()}
    assert outcomes == {
        "PORT-01": "passed",
        "PORT-08": "failed",
        "PORT-07": "unsupported",
        "PORT-09": "unsupported",
        "ASSOC-08": "unsupported",
        "RECV-01": "unsupported",
        "RECV-02": "skipped",
        "OVL-03": "passed",
        "OVL-01": "failed",
    }
    reasons = {name: row["selectors-select"].reasons for name, row in table.items()}
    assert "as it should" in reasons["PORT-08"][0]
    assert reasons["PORT-07"] == ["no waiters here"]
    assert reasons["RECV-01"][0].startswith("teleport: ")
    assert reasons["RECV-02"] == ["this machine has no moon"]
    assert "nobody expects" in reasons["OVL-01"][0]
    tests = table["PORT-08"]["selectors-select"].tests
    assert [test.partition("::")[2] for test in tests] == [
        "test_passes[selectors-select]",
        "test_fails[selectors-select]",
    ]


def test_a_statement_that_does_not_exist_is_an_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.statement("PORT-99")
        def test_something():
            pass
        """
    )
    result = pytester.runpytest_inprocess(*PLUGIN)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*test_something*no statement is called 'PORT-99'*"])


def test_what_a_test_says_does_not_count_where_there_is_a_reason_why_none_decides() -> None:
    about = ["EMU-30", "OWN-01"]
    records = [Record("test", about, backend, "passed") for backend in ("io_uring", "selectors-x")]
    everywhere = Record("another", ["CAN-09"], None, "passed")
    report = Report(["io_uring", "selectors-x", "iocp"], [*records, everywhere])
    columns = {name: list(row) for name, row in report.table().items()}
    assert columns == {
        "EMU-30": ["io_uring"],
        "OWN-01": ["io_uring", "selectors-x"],
        "CAN-09": ["io_uring", "selectors-x"],
    }


def test_the_backend_ends_the_id_behind_a_tests_own_parameters(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("own", ["mine"])
        def test_something(port, own):
            assert port.backend == "selectors"
        """
    )
    result = pytester.runpytest_inprocess(*PLUGIN, "-v", "--netpoll-backend=selectors")
    result.stdout.fnmatch_lines(["*::test_something?mine-selectors-select? PASSED*"])


@pytest.mark.parametrize("name", ["bogus", "selectors-bogus"])
def test_a_backend_that_is_not_here_is_an_error(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    result = pytester.runpytest_inprocess(*PLUGIN, f"--netpoll-backend={name}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*--netpoll-backend*{name}*This machine has: *selectors-select*"])
    monkeypatch.setenv("NETPOLL_BACKEND", name)
    result = pytester.runpytest_inprocess(*PLUGIN)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*NETPOLL_BACKEND*{name}*"])


def test_what_a_test_leaves_behind_is_an_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import os
        from netpoll.testing.waiting import run, wait_for_waiters

        def test_operation(port, net):
            port.recv(net.tcp_pair()[0], 1)

        def test_packet(port):
            port.post()

        def test_waiter(port):
            run(port.get)
            wait_for_waiters(port, 1)

        def test_descriptor(port):
            os.dup(0)

        def test_closed_by_the_test(make_port, net):
            port = make_port(concurrency=2)
            port.recv(net.tcp_pair()[0], 1)
            port.close()
        """
    )
    result = pytester.runpytest_inprocess(*PLUGIN, ONE)
    listed = bool(open_descriptors())  # not on every system
    result.assert_outcomes(passed=5, errors=4 if listed else 3)
    complaints = [
        "*operations still in use*",
        "*nobody expects*",
        "*1 threads still wait*",
        "*descriptors leaked*",
    ]
    result.stdout.fnmatch_lines(complaints if listed else complaints[:3])


# -- the report ------------------------------------------------------------------------------------


def test_the_gravest_outcome_of_a_statement_counts_and_keeps_its_reasons() -> None:
    report = Report(["a", "b"])
    said: list[tuple[Outcome, str]] = [
        ("skipped", "no moon"),
        ("passed", ""),
        ("unsupported", "cannot"),
        ("failed", "one"),
        ("failed", "two"),
        ("failed", "one"),
        ("passed", ""),
    ]
    report.tests += [Record("test", ["PORT-01"], "a", *outcome) for outcome in said]
    report.tests.append(Record("everywhere", ["PORT-01"], None, "passed"))
    row = report.table()["PORT-01"]
    assert (row["a"].outcome, row["a"].reasons, len(row["a"].tests)) == (
        "failed",
        ["one", "two"],
        8,
    )
    assert (row["b"].outcome, row["b"].reasons, row["b"].tests) == ("passed", [], ["everywhere"])


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    report = Report(["a"], [Record("test", ["PORT-01"], None, "unsupported", "×")])
    report.write(tmp_path / "report.json")
    assert Report.read(tmp_path / "report.json") == report


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format": 2, "tests": []}', '{"format": 1, "tests": [{}]}']
)
def test_what_is_no_report_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="not a statement report"):
        Report.read(path)


# -- where the suite is ----------------------------------------------------------------------------


def test_the_suite_is_found_where_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").touch()
    assert suite.find(tmp_path) == tmp_path
    assert suite.find(str(tmp_path)) == tmp_path


def test_the_suite_is_found_in_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "tests" / "conformance"
    place.mkdir(parents=True)
    (place / "test_mine.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("netpoll.__file__", str(tmp_path / "installed" / "netpoll" / "__init__.py"))
    assert suite.find() == place


def test_without_a_suite_the_cure_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("netpoll.__file__", str(tmp_path / "installed" / "netpoll" / "__init__.py"))
    with pytest.raises(suite.SuiteNotFound, match=r"source.*--suite"):
        suite.find()
    with pytest.raises(suite.SuiteNotFound, match="elsewhere"):
        suite.find(tmp_path / "elsewhere")


def test_the_command_names_what_is_to_be_run(tmp_path: Path) -> None:
    line = suite.command(tmp_path, tmp_path / "report.json", "selectors")
    assert line[-1] == str(tmp_path)
    assert "--netpoll-backend=selectors" in line
    assert f"--statement-report={tmp_path / 'report.json'}" in line
    assert not any("backend" in word for word in suite.command(tmp_path, tmp_path / "r")[:-1])


# -- gathering and waiting -------------------------------------------------------------------------


@pytest.fixture
def port() -> Iterator[CompletionPort]:
    with CompletionPort("selectors") as port:
        yield port


def test_collecting_wants_exactly_what_is_due(port: CompletionPort) -> None:
    for number in range(3):
        port.post(number)
    assert [done.transferred for done in collect(port, 3)] == [0, 1, 2]
    with pytest.raises(AssertionError, match="0 completions of 1"):
        collect(port, 1, timeout=0.01)
    port.post()
    port.post()
    with pytest.raises(AssertionError, match="nobody expects"):
        take(port)
    nothing_more(port)
    port.post()
    with pytest.raises(AssertionError, match="nobody expects"):
        nothing_more(port)


@pytest.mark.usefixtures("impatient")
def test_waiting_gives_up_at_the_deadline() -> None:
    with pytest.raises(AssertionError, match="the end of time did not come true"):
        wait_until(lambda: False, "the end of time")
    wait_until(lambda: True)


def test_what_a_thread_raises_is_raised_where_its_result_is_wanted() -> None:
    assert run(int, "7").result() == 7
    with pytest.raises(ValueError, match="seven"):
        run(int, "seven").result()
    first, second = socket.socketpair()
    with first, second:
        blocked = run(first.recv, 1)
        with pytest.raises(AssertionError, match="still runs"):
            blocked.result(0.01)
        assert blocked.running
        second.sendall(b"x")
        assert blocked.result() == b"x"


# -- sockets ---------------------------------------------------------------------------------------


def test_a_reset_is_seen_as_a_reset_and_not_as_an_end(net: Loopback) -> None:
    near, far = net.tcp_pair()
    reset(far)
    wait_readable(near)
    with pytest.raises(ConnectionResetError):
        near.recv(1)


def test_filling_leaves_no_room_for_much_and_the_mode_as_it_was(net: Loopback) -> None:
    near, far = net.tcp_pair(buffer=4096)
    limit = near.gettimeout()
    sent = fill(near)
    assert sent > 0
    assert near.gettimeout() == limit
    assert not select.select([], [near], [], 0)[1]
    near.close()
    assert len(receive_exactly(far, sent)) == sent
    with pytest.raises(AssertionError, match="ended after 0 bytes"):
        receive_exactly(far, 1)


def test_loopback_closes_all_it_made() -> None:
    net = Loopback()
    made = [*net.tcp_pair(), *net.udp_pair(), net.listener(), net.new_socket()]
    net.close()
    assert all(sock.fileno() == -1 for sock in made)
