"""The declarations agree with the Windows headers that mingw has: a wrong one would be a crash.

What is compared is listed by the generated module itself, so nothing new in it is left out. The
compiler only translates; each number is read from the text it makes, where `%c0` puts it. cffi on a
64-bit machine lays structures out as on 64-bit Windows, because their integers have a fixed width.
For 32-bit Windows, which cffi cannot imitate, a compiler lays the declarations out.
"""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from netpoll.backends.iocp import _ffi, constants
from netpoll.backends.iocp.functions import Kernel32, Winsock

if TYPE_CHECKING:
    from collections.abc import Iterable

ffi: Any = _ffi.ffi

SCRIPT = Path(__file__).parents[2] / "tools" / "iocp_ffi.py"

HEADERS = """
#include <stddef.h>
#include <winsock2.h>
#include <ws2tcpip.h>
#include <mswsock.h>
#include <windows.h>
"""
COMPILERS = {64: "x86_64-w64-mingw32-gcc", 32: "i686-w64-mingw32-gcc"}
PACKAGES = {64: "gcc-mingw-w64-x86-64-win32", 32: "gcc-mingw-w64-i686-win32"}

pytestmark = pytest.mark.skipif(
    not SCRIPT.exists(), reason="the tools are not part of what is installed here"
)


@pytest.fixture(params=COMPILERS, ids=lambda bits: f"{bits}-bit")
def bits(request: pytest.FixtureRequest) -> int:
    """The width of the Windows to compile for."""
    return available(request.param)


def available(bits: int) -> int:
    """`bits`, if there is a compiler for it."""
    name = COMPILERS[bits]
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed (Debian: apt-get install {PACKAGES[bits]})")
    return bits


@pytest.fixture(scope="module")
def cdef() -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path])  # the script adds to it
        return runpy.run_path(str(SCRIPT))


def translate(bits: int, source: str, *options: str) -> str:
    done = subprocess.run(
        # -w: to repeat a function without dllimport is a warning
        [COMPILERS[bits], "-std=c11", "-w", "-D_WIN32_WINNT=0x0A00", *options, "-xc", "-o-", "-"],
        input=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def evaluate(bits: int, declarations: str, expressions: Iterable[str]) -> dict[str, int]:
    """What each constant expression of C is there, as 32 bits without a sign."""
    lines = [f'__asm__("\\n@ %c0 {each}" : : "i"({each}));' for each in expressions]
    source = "\n".join([declarations, "void probe(void) {", *lines, "}"])
    found = re.findall(r"^@ (-?\d+) (.*)$", translate(bits, source, "-S"), re.MULTILINE)
    assert len(found) == len(lines)
    return {expression: int(value) & 0xFFFFFFFF for value, expression in found}


def structures() -> dict[str, int]:
    """Size, and offset and size of each field, of every structure that is declared."""
    answers: dict[str, int] = {}
    _, structs, unions = ffi.list_types()
    assert not unions, "compare unions, too"
    for name in (f"struct {tag}" for tag in structs):
        answers[f"sizeof({name})"] = ffi.sizeof(name)
        for field, place in ffi.typeof(name).fields:
            answers[f"offsetof({name}, {field})"] = place.offset
            answers[f"sizeof((({name} *)0)->{field})"] = ffi.sizeof(place.type)
    return answers


def scalars() -> dict[str, int]:
    """Of each named type its size, whether it has a sign, and the size of what it points at."""
    answers: dict[str, int] = {}
    for name in ffi.list_types()[0]:
        kind = ffi.typeof(name)
        answers[f"sizeof({name})"] = ffi.sizeof(kind)
        if kind.kind == "primitive" and kind.cname != "char":
            answers[f"({name})-1 < ({name})1"] = int(ffi.cast(name, -1)) < 1
        elif kind.kind == "pointer" and kind.item.kind not in ("void", "function"):
            answers[f"sizeof(*({name})0)"] = ffi.sizeof(kind.item)
    return answers


def numbers() -> dict[str, int]:
    """The constants that are one number."""
    return {
        name: value & 0xFFFFFFFF
        for name, value in vars(constants).items()
        if name.isupper() and isinstance(value, int)
    }


def test_there_is_something_to_compare() -> None:
    assert "offsetof(struct _OVERLAPPED, OffsetHigh)" in structures()
    assert scalars()["(DWORD)-1 < (DWORD)1"] == 0
    assert scalars()["(BOOL)-1 < (BOOL)1"] == 1
    assert numbers()["SOCKET_ERROR"] == 0xFFFFFFFF


def test_layouts_in_cffi_are_those_of_the_headers() -> None:
    bits = available(8 * ffi.sizeof("void *"))
    answers = structures() | scalars()
    assert evaluate(bits, HEADERS, answers) == answers


def test_layouts_as_declared_are_those_of_the_headers(bits: int, cdef: dict[str, str]) -> None:
    ours = "#include <stddef.h>\n#include <stdint.h>\n#define WINAPI __stdcall\n"
    ours += cdef["SCALARS"] + cdef["STRUCTURES"] + cdef["FUNCTIONS"]
    answers = structures() | scalars()
    assert evaluate(bits, ours, answers) == evaluate(bits, HEADERS, answers)


def test_prototypes_are_those_of_the_headers(bits: int, cdef: dict[str, str]) -> None:
    # First a use, or a function that Windows lacks would be taken for a new one. Then the same
    # prototypes again, calling convention included, which C allows only if nothing differs.
    names = [*vars(Kernel32), *vars(Winsock)]
    uses = [f"void *use_{name} = {name};" for name in names if not name.startswith("_")]
    pointers = re.findall(r"\b(LPFN_\w+)\)", cdef["FUNCTIONS"])
    uses += [f"{name} use_{name};" for name in pointers]
    assert len(pointers) >= 3
    translate(bits, "\n".join([HEADERS, *uses, cdef["FUNCTIONS"]]), "-fsyntax-only")


def test_constants_are_those_of_the_headers(bits: int) -> None:
    assert evaluate(bits, HEADERS, numbers()) == numbers()


def test_guids_are_those_of_the_headers(bits: int) -> None:
    names = [name for name in vars(constants) if name.startswith("WSAID_")]
    lines = (f'"{name}" {name};' for name in names)
    found: dict[str, constants.Guid] = {}
    for line in re.findall(r'"WSAID_[^;]+;', translate(bits, "\n".join([HEADERS, *lines]), "-E")):
        one, two, three, *rest = (int(each, 16) for each in re.findall(r"0x\w+", line))
        found[line.split('"')[1]] = (one, two, three, tuple(rest))
    assert found == {name: vars(constants)[name] for name in names}
