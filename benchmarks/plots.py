"""The results as pictures (SVG), where matplotlib is installed."""

import importlib
import sys
from pathlib import Path
from typing import Any

from benchmarks import report_kinds
from benchmarks.cells import Kind
from benchmarks.results import Results, Spread

OWN = "netpoll"
COLOUR, OTHERS = "#c2410c", "#64748b"
"""netpoll's bars, and the others'."""
CURE = f"{sys.executable} -m pip install matplotlib"


class NoPlots(Exception):
    """matplotlib is not installed; the message says what to do."""


def require() -> Any:
    """Return pyplot, set up to write files.

    :raises NoPlots: it is not installed
    """
    try:
        matplotlib: Any = importlib.import_module("matplotlib")
    except ImportError:
        raise NoPlots(f"matplotlib is not installed: {CURE}") from None
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = OWN  # the same results make the same file
    matplotlib.rcParams["svg.fonttype"] = "none"  # text, not the outlines of its letters
    return importlib.import_module("matplotlib.pyplot")


def draw(results: Results, directory: Path, stem: str) -> list[Path]:
    """Draw ``STEM-echo.svg`` and ``STEM-more.svg``, whatever there are results for.

    :raises NoPlots: matplotlib is not installed
    """
    pyplot = require()
    directory.mkdir(parents=True, exist_ok=True)
    drawn: list[Path] = []
    for name, panels in (("echo", _echo_panels(results)), ("more", _other_panels(results))):
        if not panels:
            continue
        rows = -(-len(panels) // 3)
        figure, axes = pyplot.subplots(rows, 3, figsize=(15, 4 * rows), squeeze=False)
        for place, panel in zip(axes.flat, panels, strict=False):
            _bars(place, *panel)
        for place in axes.flat[len(panels) :]:
            place.set_visible(False)
        figure.suptitle(f"{results.environment.get('date', '')}, {results.environment['CPU']}")
        figure.tight_layout()
        path = directory / f"{stem}-{name}.svg"
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)
        drawn.append(path)
    return drawn


Bars = dict[str, Spread]
Panel = tuple[str, Bars, float | None]
"""A title, the bars, and where a line is to be drawn."""


def _bars(axes: Any, title: str, bars: Bars, line: float | None) -> None:
    names = list(reversed(bars))
    spreads = [bars[name] for name in names]
    middles = [each.median for each in spreads]
    errors = (
        [each.median - each.low for each in spreads],
        [each.high - each.median for each in spreads],
    )
    colours = [COLOUR if name.startswith(OWN) else OTHERS for name in names]
    axes.barh(names, middles, xerr=errors, color=colours, error_kw={"elinewidth": 1})
    if line is not None:
        axes.axvline(line, color="black", linewidth=1, linestyle=":")
    axes.set_title(title, fontsize=10)
    axes.tick_params(labelsize=8)


def _echo_panels(results: Results) -> list[Panel]:
    title = f"CPU time per message, {results.baseline} = 1"
    base = results.baseline
    return [
        (f"{cell}: {title}", bars, 1.0)
        for cell in results.cells_of(Kind.ECHO)
        if (bars := _collect(results, lambda name, cell=cell: results.ratio(cell, name, base)))
    ]


def _other_panels(results: Results) -> list[Panel]:
    panels: list[Panel] = []

    def add(title: str, cell: str, value: Any) -> None:
        bars = _collect(results, lambda name: results.spread(cell, name, value))
        if bars:
            panels.append((f"{cell}: {title}", bars, None))

    for cell in results.cells_of(Kind.CHURN):
        add("CPU µs per connection", cell, lambda sample: sample.cost)
    for cell in results.cells_of(Kind.TLS, Kind.HTTP):
        add("CPU µs per message", cell, lambda sample: sample.cost)
    for cell in results.cells_of(Kind.STREAM_IN, Kind.STREAM_OUT, Kind.FILE):
        add("CPU seconds per GB", cell, report_kinds.per_gigabyte)
    for cell in results.cells_of(Kind.COMPUTE):
        add("messages per second", cell, report_kinds.rate)
    for cell in results.cells_of(Kind.LATENCY):
        add("p99, µs", cell, lambda sample: sample.latency["p99"])
    for cell in results.cells_of(Kind.IDLE):
        bars = _collect(results, lambda name, cell=cell: results.connection_memory(cell, name))
        panels.append((f"{cell}: bytes per connection", bars, None))
    return panels


def _collect(results: Results, value: Any) -> Bars:
    values = {name: value(name) for name in results.measured()}
    return {name: each for name, each in values.items() if each is not None}
