"""Write or check a cffi module in ABI mode, which is committed: what tools/*_ffi.py share."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parent.parent

HEADER = """\
# Made by tools/{tool}: edit that file.
# ruff: noqa
# fmt: off
# mypy: ignore-errors
# pyright: basic
"""


def render(name: str, declarations: str, tool: str) -> str:
    """The whole module."""
    ffi = FFI()
    ffi.set_source(name, None)
    ffi.cdef(declarations)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "_ffi.py")
        with contextlib.redirect_stdout(None):  # it tells where that folder is
            ffi.emit_python_code(str(path))
        # cffi's own first line says the same without the path of this script
        return HEADER.format(tool=tool) + path.read_text(encoding="ascii").partition("\n")[2]


def run(name: str, declarations: str, tool: str, doc: str | None, arguments: list[str]) -> int:
    """The command line of such a tool; returns the exit code."""
    module = render(name, declarations, tool)
    path = ROOT.joinpath(*name.split(".")).with_suffix(".py")
    if arguments == ["--check"]:
        if path.is_file() and path.read_text(encoding="ascii") == module:
            return 0
        print(f"{path} is stale: run python tools/{tool}", file=sys.stderr)
        return 1
    if arguments:
        print(doc, file=sys.stderr)
        return 2
    path.write_text(module, encoding="ascii", newline="\n")
    return 0
