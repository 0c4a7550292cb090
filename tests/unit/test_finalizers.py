"""What is still alive when the interpreter ends is finalized in silence, whatever works by then."""

from __future__ import annotations

import subprocess
import sys

import pytest

from netpoll.finalizers import finalizer

# The names of modules that are still alive go in the reverse order of their import: what one keeps
# that was imported before netpoll outlives everything of netpoll's.
OUTLIVE = """
import colorsys, socket, sys, tempfile
{source}
colorsys.kept = kept
sys.kept = list(sys.modules.values())
"""
PROGRAMS = {
    "a port": """
import netpoll
kept = netpoll.CompletionPort("selectors")
kept.associate(socket.socket())
""",
    "a file": """
import netpoll
from netpoll.files import open_file
kept = open_file(tempfile.mkstemp()[1], "r")
""",
    "a buffer of a pool": """
import netpoll
pool = netpoll.BufferPool(1, 64)
kept = pool.take()
""",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_outlives_its_module_ends_in_silence(program: str) -> None:
    source = OUTLIVE.format(source=PROGRAMS[program])
    command = [sys.executable, "-W", "ignore::ResourceWarning", "-c", source]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_before_the_end_an_error_is_shown() -> None:
    @finalizer
    def broken(_self: object) -> None:
        raise AttributeError("a mistake")

    with pytest.raises(AttributeError, match="a mistake"):
        broken(object())
