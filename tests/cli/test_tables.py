"""Tables and figures, as text."""

from __future__ import annotations

from netpoll.cli.servers.report import Figures, show_live, show_report, show_size
from netpoll.cli.tables import Table, plain

FIGURES = Figures(
    seconds=2.0,
    connections=3,
    peak=5,
    total=1234,
    received=4_000_000,
    sent=2_000_000,
    completions=10_000,
    outcomes={"reset": 1, "ended": 1230},
)


def test_columns_are_as_wide_as_their_cells() -> None:
    table = Table("T", ("a", "b"), [("1", "two\nlines"), ("three", "")])
    assert plain(table).splitlines() == [
        "T",
        "=",
        "a      b",
        "-----  -----",
        "1      two",
        "       lines",
        "three",
    ]


def test_rows_that_need_attention_are_marked() -> None:
    table = Table("T", ("a",), [("good",), ("bad",)], emphasis={1})
    assert plain(table).splitlines()[2:] == ["  a", "  ----", "  good", "! bad"]


def test_sizes() -> None:
    sizes = [0, 999, 1000, 1024, 1536, 1024**2, 1.5 * 1024**3, 2 * 1024**4]
    assert [show_size(size) for size in sizes] == [
        "0 B",
        "999 B",
        "0.977 KiB",
        "1 KiB",
        "1.5 KiB",
        "1 MiB",
        "1.5 GiB",
        "2 TiB",
    ]


def test_rates_are_those_since_the_figures_before() -> None:
    before = Figures(1.0, 0, 0, 0, 4_000_000 - 1024, 2_000_000, 9_000, {})
    assert show_live(FIGURES, before) == [
        ("open", "3"),
        ("peak", "5"),
        ("total", "1,234"),
        ("received", "1 KiB/s"),
        ("sent", "0 B/s"),
        ("completions", "1,000/s"),
    ]


def test_report() -> None:
    assert show_report(FIGURES).splitlines() == [
        "served 1,234 connections in 2.0 s",
        "  at once      5",
        "  received     4,000,000 bytes (1.91 MiB/s)",
        "  sent         2,000,000 bytes (977 KiB/s)",
        "  completions  10,000 (5,000/s)",
        "  ended        1,230",
        "  reset        1",
    ]
