"""`benchmarks/`: its statistics and its report, from samples that are made up."""

from __future__ import annotations

import functools
import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"

if not BENCHMARKS.exists():
    pytest.skip("the benchmark is not part of what is installed here", allow_module_level=True)

OWN, BASE = "netpoll-io_uring", "uvloop-protocol"
POOL, SENDFILE = "netpoll-io_uring-pool", "python-sendfile"
LOOP, STANDARD = "asyncio-on-io_uring-protocol", "asyncio-protocol"
ECHO, STREAM, IDLE, COMPUTE, LATENCY, FILE, TLS, HTTP = (
    "64B-x10",
    "stream-in-x10",
    "idle10000",
    "compute-x100",
    "latency-x100",
    "sendfile-1GiB",
    "tls-x100",
    "http-x100",
)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The benchmark's modules, which are not part of any package that is installed."""
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    return functools.partial(importlib.import_module, package="benchmarks")


@pytest.fixture
def run(module: Any) -> Any:
    """Two rounds of two subjects: ours costs 8 and 10 µs a message, the baseline 10 both times."""
    results = module(".results")
    sample: dict[str, Any] = {"messages": 1000, "seconds": 0.5, "load_cpu": 0.1}
    made = results.Results(
        environment={"date": "today", "CPU": "a slow one"},
        settings={"rounds": 2},
        subjects=[OWN, POOL, LOOP, STANDARD, BASE, "python-epoll", SENDFILE],
        cells=[ECHO, STREAM, IDLE, COMPUTE, LATENCY, FILE, TLS, HTTP],
        summary_cells=[ECHO],
        baseline=BASE,
        kinds={
            STREAM: "stream-in",
            IDLE: "idle",
            COMPUTE: "compute",
            LATENCY: "latency",
            FILE: "file",
            TLS: "tls",
            HTTP: "http",
        },
        partial=[POOL],
        about={IDLE: "9,000 idle besides"},
        complete=True,
    )
    for cell in made.cells:
        costs_of = {OWN: (0.008, 0.010), BASE: (0.010, 0.010)}
        if cell == IDLE:
            costs_of["python-epoll"] = (0.010, 0.010)
        elif cell == FILE:
            costs_of = {OWN: (0.008, 0.010), SENDFILE: (0.005, 0.005)}
        elif cell in (TLS, HTTP):
            costs_of = {LOOP: (0.008, 0.010), STANDARD: (0.020, 0.010), BASE: (0.010, 0.010)}
        elif cell == ECHO:
            costs_of[POOL] = (0.020, 0.020)
        for subject, costs in costs_of.items():
            made.samples += [
                results.Sample(
                    cell,
                    subject,
                    number,
                    server_cpu=cost,
                    latency={"p50": 20.0, "p99": 70.0 + number, "p99.9": 90.0, "max": 95.0},
                    loops=3e6,
                    size=1_000_000,
                    **sample,
                )
                for number, cost in enumerate(costs)
            ]
    made.memory = [
        results.Memory(IDLE, OWN, 2048.0),
        results.Memory(IDLE, POOL, 1536.0),
        results.Memory(IDLE, BASE, 1024.0),
        results.Memory(IDLE, "python-epoll", 512.0),
    ]
    return made


def rows(markdown: str, title: str) -> dict[str, list[str]]:
    """The rows of the table under a title, by their first cell."""
    section = markdown.partition(f"### {title}")[2].partition("###")[0]
    lines = [line.strip("| ").split("|") for line in section.splitlines() if line.startswith("|")]
    return {line[0].strip(): [cell.strip() for cell in line[1:]] for line in lines}


def test_a_saved_run_is_the_same_again(run: Any, module: Any, tmp_path: Path) -> None:
    run.save(tmp_path / "run.json")
    assert module(".results").Results.load(tmp_path / "run.json") == run


def test_the_report_has_a_table_for_each_kind_of_cell(run: Any, module: Any) -> None:
    tables = module(".report").render(run)
    assert rows(tables, f"CPU time per message, {BASE} = 1")[ECHO] == [
        "1.00 (1.00–1.00)",
        "0.90 (0.80–1.00)",
        "2.00 (2.00–2.00)",
    ]
    # 1,000 messages of a megabyte are a gigabyte, in half a second
    assert rows(tables, "Streaming to the server")[OWN][1:] == ["0.009", "2.00"]
    assert rows(tables, "Idle connections")[OWN][0] == "2.00"
    assert "9,000 idle besides" in tables
    assert rows(tables, "Files")[OWN] == ["1.00 (1.00–1.00)", "1.80 (1.60–2.00)", "0.009", "2.00"]
    assert BASE not in rows(tables, "Files")
    ratios = ["0.90 (0.80–1.00)", "0.70 (0.40–1.00)"]  # of the baseline, of asyncio's own loop
    assert rows(tables, "TLS")[LOOP] == [*ratios, "9.00", "2.0"]
    assert rows(tables, "HTTP")[LOOP] == [*ratios, "9.0", "2.0"]
    assert OWN not in rows(tables, "TLS")
    assert rows(tables, "A computing thread")[OWN][:2] == ["1.00 (1.00–1.00)", "2,000"]
    assert rows(tables, "Latency")[OWN][:2] == ["20 (20–20)", "70 (70–71)"]
    assert "interrupted" not in tables


def test_a_subject_without_a_part_in_a_table_is_left_out(run: Any, module: Any) -> None:
    tables = module(".report").render(run)
    assert "python-epoll" in rows(tables, "Idle connections")
    assert "python-epoll" not in rows(tables, "Latency")
    assert "python-epoll" not in rows(tables, "Overall")
    assert POOL not in rows(tables, "Overall")  # it was there for some of the cells only


def test_targets_stand_beside_what_was_measured(run: Any, module: Any) -> None:
    table = rows(module(".report").render(run), "Targets")
    small = table[f"{OWN} ÷ {BASE}, CPU time"]
    assert small == ["streaming in", "≤ 1.00", "0.90 (0.80–1.00)"]  # the last of that name
    assert table[f"{OWN} ÷ {BASE}, messages/s"] == [
        "a computing thread",
        "≥ 1.30",
        "1.00 (1.00–1.00)",
    ]
    loop = table[f"{LOOP} ÷ {STANDARD}, CPU time"]
    assert loop == ["HTTP", "≤ 1.00", "0.70 (0.40–1.00)"]
    memory = "less python-epoll, memory of a connection"
    assert table[f"{OWN} {memory}"] == ["idle", "≤ 2.00 KiB", "1.50 KiB"]
    assert table[f"{POOL} {memory}"] == ["idle", "≤ 1.50 KiB", "1.00 KiB"]
    assert table[f"{OWN} ÷ {SENDFILE}, messages/s"][0] == "sendfile"
    assert not any("trio" in name for name in table)  # nobody measured it


def test_an_interrupted_run_says_so(run: Any, module: Any) -> None:
    run.complete = False
    run.samples.clear()
    run.failures["64B-x10 / trio"] = "it ended"
    tables = module(".report").render(run)
    assert "interrupted" in tables
    assert "failed: 64B-x10 / trio: it ended" in tables
    assert "CPU time per message" not in tables


def test_committed_results_can_be_read(module: Any) -> None:
    saved = sorted((BENCHMARKS / "results").glob("*.json"))
    assert saved
    for path in saved:
        results = module(".results").Results.load(path)
        assert rows(module(".report").render(results), "Overall")[results.baseline]


def test_quantiles_of_a_histogram(module: Any) -> None:
    quantiles = module(".latencies").quantiles
    histogram = [[1000, 500], [2000, 490], [3000, 9], [9000, 1]]
    assert quantiles(histogram) == {"p50": 1.0, "p99": 2.0, "p99.9": 3.0, "max": 9.0}
    assert quantiles([[5000, 1]]) == dict.fromkeys(("p50", "p99", "p99.9", "max"), 5.0)
    for wrong in ([], [[2000, 1], [1000, 1]], [[1000, 0]]):
        with pytest.raises(ValueError, match="not a histogram"):
            quantiles(wrong)


def test_fewer_idle_connections_where_files_are_scarce(module: Any) -> None:
    cells = module(".cells")
    idle = next(cell for cell in cells.CELLS if cell.kind is cells.Kind.IDLE)
    echo = next(cell for cell in cells.CELLS if cell.name == "64B-x1000")
    limit = 1024
    assert idle.within(limit).connections + cells.SPARE_FILES == limit
    assert idle.within(20_000) is idle
    assert echo.within(limit) is None
    assert echo.within(2000) is echo


def test_each_cell_has_the_subjects_that_can_do_it(module: Any) -> None:
    players = {
        cell.name: {subject.name for subject in module(".subjects").SUBJECTS if subject.plays(cell)}
        for cell in module(".cells").CELLS
    }
    own = {OWN, "netpoll-selectors"}
    pools = {f"{name}-pool" for name in own}
    assert players[FILE] == {*own, "asyncio-sock", SENDFILE}
    assert pools | {BASE, "c-epoll"} <= players[IDLE] & players["16KiB-x1000"]
    assert "python-epoll" in players[IDLE] - players["16KiB-x1000"]
    on_loops = {LOOP, "asyncio-on-selectors-protocol", STANDARD, BASE}
    assert players[TLS] == players[HTTP] == on_loops
    for name, subjects in players.items():
        assert own <= subjects or name in (TLS, HTTP)
        assert name in ("16KiB-x1000", IDLE) or not pools & subjects
        assert (SENDFILE in subjects) == (name == FILE)


@pytest.mark.skipif(sys.platform != "linux", reason="the benchmark is for Linux")
def test_the_file_to_send_ends_with_its_context(module: Any) -> None:
    size = 1 << 20
    with module(".processes").file_in_memory(size) as path:
        assert Path(path).read_bytes() == bytes(size)
        blocks = Path(path).stat().st_blocks
        assert blocks * 512 >= size  # a hole would cost less than a file that has been read
    assert not Path(path).exists()


@pytest.mark.skipif(sys.platform != "linux", reason="the benchmark is for Linux")
def test_a_cell_that_cannot_run_here_is_left_out_with_the_cure(
    module: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "trustme", None)  # as if it were not installed
    monkeypatch.setenv("PATH", "")  # nor any program

    def able(backend: str) -> None:
        """Whether this machine has io_uring is no matter here."""

    main, loads = module(".__main__"), module(".loads")
    options = main.parser().parse_args(["--cells", f"{ECHO},{TLS}", "--subjects", OWN])
    monkeypatch.setattr(module(".subjects"), "_backend_obstacle", able)
    chosen, _, skipped = main._choose(options)
    assert [cell.name for cell in chosen] == [ECHO]
    assert "trustme is not installed: " in skipped[TLS]
    assert "pip install trustme" in skipped[TLS]
    monkeypatch.setitem(loads.PACKAGES, module(".cells").Kind.HTTP, ())
    main.show_list()
    shown = capsys.readouterr().out
    assert "cannot run here: wrk is not installed (Debian: apt-get install wrk)" in shown
    options = main.parser().parse_args(["--cells", f"{TLS},{HTTP}"])
    with pytest.raises(ValueError, match=r"nothing to measure: trustme .*; wrk "):
        main._choose(options)


@pytest.mark.skipif(sys.platform != "linux", reason="the benchmark is for Linux")
def test_what_wrk_says_at_its_end(module: Any) -> None:
    http, window = module(".loads.http"), module(".loads.window")
    none = '{"connect": 0, "read": 0, "write": 0, "status": 0, "timeout": 0}'

    def said(requests: int, errors: str) -> str:
        summary = f'{{"requests": {requests}, "microseconds": 1500000, "errors": {errors}}}'
        return f"Running 1s test\n{summary}\n"

    assert http.read_summary(said(4000, none)) == (4000, 1.5)
    for wrong, what in (
        (said(4000, none.replace('"read": 0', '"read": 3')), "{'read': 3}"),
        (said(0, none), "0 requests"),
        ("Running 1s test\n", "no summary"),
        ("", "no summary"),
    ):
        with pytest.raises(window.LoadFailed, match=what):
            http.read_summary(wrong)
