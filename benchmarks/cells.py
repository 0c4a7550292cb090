"""The cells of the matrix: what the load does in each."""

from dataclasses import dataclass
from fnmatch import fnmatchcase

KIB = 1024


@dataclass(frozen=True)
class Cell:
    """One row of the tables: TCP echo, one message under way on each active connection."""

    name: str
    size: int
    """Bytes of a message."""
    active: int
    """Connections that exchange messages."""
    idle: int = 0
    """Connections that are open and silent besides."""
    quick: bool = False
    """Whether it is part of the quick run."""

    @property
    def connections(self) -> int:
        return self.active + self.idle

    @property
    def in_summary(self) -> bool:
        """The summary, like the targets, is over 10 to 1,000 connections, all of them busy."""
        return self.idle == 0 and 10 <= self.active <= 1000


CELLS = (
    Cell("64B-x1", 64, 1, quick=True),
    Cell("64B-x10", 64, 10, quick=True),
    Cell("64B-x100", 64, 100, quick=True),
    Cell("64B-x1000", 64, 1000, quick=True),
    Cell("1KiB-x1", KIB, 1),
    Cell("1KiB-x10", KIB, 10),
    Cell("1KiB-x100", KIB, 100, quick=True),
    Cell("1KiB-x1000", KIB, 1000),
    Cell("16KiB-x1", 16 * KIB, 1),
    Cell("16KiB-x10", 16 * KIB, 10),
    Cell("16KiB-x100", 16 * KIB, 100, quick=True),
    Cell("16KiB-x1000", 16 * KIB, 1000),
    Cell("64B-x50-idle5000", 64, 50, idle=5000, quick=True),
)


def select(patterns: list[str]) -> list[Cell]:
    """Return the cells whose names match any of the shell patterns.

    :raises ValueError: a pattern matches nothing
    """
    for pattern in patterns:
        if not any(fnmatchcase(cell.name, pattern) for cell in CELLS):
            raise ValueError(f"no cell is called {pattern!r}; --list shows them")
    return [cell for cell in CELLS if any(fnmatchcase(cell.name, pattern) for pattern in patterns)]
