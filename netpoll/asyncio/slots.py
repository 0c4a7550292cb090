"""Buffers for receives that wait: address space for each, memory only for what data has touched."""

from __future__ import annotations

from typing import Final

from netpoll.pools import anonymous

SIZE: Final = 64 << 10
"""Bytes of one. Larger reads gain nothing that was measurable over loopback."""
AT_ONCE: Final = 64
"""Slots mapped together: a mapping of its own costs each connection two system calls."""


class Slots:
    """Buffers of `SIZE` bytes, given out and taken back."""

    def __init__(self) -> None:
        self._free: list[memoryview] = []

    def take(self) -> memoryview:
        if not self._free:
            whole = memoryview(anonymous(SIZE * AT_ONCE))
            self._free = [whole[at : at + SIZE] for at in range(0, SIZE * AT_ONCE, SIZE)]
        return self._free.pop()

    def give(self, slot: memoryview) -> None:
        """Only once no operation works on it any more."""
        self._free.append(slot)
