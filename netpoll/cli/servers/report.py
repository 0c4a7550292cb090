"""What a server has done, in numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True)
class Figures:
    """The counters of a server at one moment."""

    seconds: float
    """Since it started."""
    connections: int
    """Open now."""
    peak: int
    """Open at once, at most."""
    total: int
    """Accepted so far."""
    received: int
    """Bytes, from everybody."""
    sent: int
    """Bytes, to everybody."""
    completions: int
    """Operations whose completion was taken."""
    outcomes: dict[str, int]
    """How the connections that are gone have ended."""


def show_size(count: float) -> str:
    """A number of bytes in few letters: "1.46 GiB"."""
    unit = 0
    while count >= 1000 and unit < len(UNITS) - 1:
        count /= 1024
        unit += 1
    return f"{count:.3g} {UNITS[unit]}" if unit else f"{count:.0f} B"


def show_live(now: Figures, before: Figures) -> list[tuple[str, str]]:
    """Names and values of what happens just now: the rates are those since `before`."""
    elapsed = max(now.seconds - before.seconds, 1e-9)
    return [
        ("open", f"{now.connections:,}"),
        ("peak", f"{now.peak:,}"),
        ("total", f"{now.total:,}"),
        ("received", f"{show_size((now.received - before.received) / elapsed)}/s"),
        ("sent", f"{show_size((now.sent - before.sent) / elapsed)}/s"),
        ("completions", f"{(now.completions - before.completions) / elapsed:,.0f}/s"),
    ]


def show_report(figures: Figures) -> str:
    """Everything, when it is over."""
    seconds = max(figures.seconds, 1e-9)
    rows = [
        ("at once", f"{figures.peak:,}"),
        ("received", _amount(figures.received, seconds)),
        ("sent", _amount(figures.sent, seconds)),
        ("completions", f"{figures.completions:,} ({figures.completions / seconds:,.0f}/s)"),
        *((outcome, f"{count:,}") for outcome, count in sorted(figures.outcomes.items())),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [f"served {figures.total:,} connections in {seconds:.1f} s"]
    lines += [f"  {name:<{width}}  {value}" for name, value in rows]
    return "\n".join(lines)


def _amount(count: int, seconds: float) -> str:
    return f"{count:,} bytes ({show_size(count / seconds)}/s)"
