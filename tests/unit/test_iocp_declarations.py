"""The generated module is fresh, the types agree with it, and nothing is opened by an import."""

from __future__ import annotations

import inspect
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from netpoll.backends.iocp import functions, library

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(__file__).parents[2] / "tools" / "iocp_ffi.py"

needs_script = pytest.mark.skipif(
    not SCRIPT.exists(), reason="the tools are not part of what is installed here"
)

POINTERS = {
    "HANDLE": "Handle",
    "LPCWSTR": "Memory",
    "LPCVOID": "Memory",
    "LPDWORD": "LPDWORD",
    "LPINT": "LPDWORD",
    "LPOVERLAPPED": "LPOVERLAPPED",
    "LPOVERLAPPED_ENTRY": "LPOVERLAPPED_ENTRY",
    "LPSECURITY_ATTRIBUTES": "Memory",
    "LPTRANSMIT_FILE_BUFFERS": "LPTRANSMIT_FILE_BUFFERS",
    "LPVOID": "Memory",
    "LPWSABUF": "LPWSABUF",
    "LPWSAOVERLAPPED": "LPOVERLAPPED",
    "LPWSAOVERLAPPED_COMPLETION_ROUTINE": "Routine",
    "PULONG": "LPDWORD",
    "PVOID": "Memory",
    "const HANDLE *": "Handles",
    "HANDLE *": "Handles",
    "const struct sockaddr *": "Sockaddr",
    "struct sockaddr **": "SockaddrPointer",
    "LPWSAMSG": "WSAMSG",
    "struct sockaddr *": "Sockaddr",
    "void": "None",
}
"""The Python type of what is not an integer."""

FUNCTION = re.compile(r"^(?:typedef )?(\w+) \(?WINAPI \*?(\w+)\)?\(([^)]*)\);", re.MULTILINE)
PARAMETER = re.compile(r"(.*\W)(\w+)")


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path])  # the script adds to it
        return runpy.run_path(str(SCRIPT))


def python_type(c_type: str) -> str:
    return POINTERS.get(c_type, "int")


def declared(text: str) -> Iterator[tuple[str, list[tuple[str, str]], str]]:
    """Name, parameters and result of each function in C, with the types that Python has for it."""
    result: str
    name: str
    inside: str
    for result, name, inside in FUNCTION.findall(text):
        pairs: list[tuple[str, str]] = []
        for each in [] if inside == "void" else inside.split(","):
            c_type, parameter = PARAMETER.findall(" ".join(each.split()))[0]
            pairs.append((parameter, python_type(c_type.strip())))
        yield name, pairs, python_type(result)


def typed(protocol: type) -> Iterator[tuple[str, list[tuple[str, str]], str]]:
    """The same of each method, as the type checkers see it."""
    for name, method in vars(protocol).items():
        if name.startswith("_"):
            continue
        signature = inspect.signature(method)
        parameters = list(signature.parameters.values())[1:]
        assert all(each.kind is each.POSITIONAL_ONLY for each in parameters), name
        pairs = [(each.name, each.annotation) for each in parameters]
        yield name, pairs, str(signature.return_annotation)


@needs_script
def test_the_types_are_those_of_the_declarations(script: dict[str, Any]) -> None:
    extensions = {kind: name for name, (kind, _) in (library.EXTENSIONS | library.MESSAGES).items()}
    in_c = [
        (extensions.get(name, name), parameters, result)
        for name, parameters, result in declared(script["FUNCTIONS"])
        if name in extensions or not name.startswith("LP")
    ]
    protocols = (
        functions.Kernel32,
        functions.Winsock,
        functions.Mswsock,
        functions.MessageFunctions,
    )
    assert in_c == [each for protocol in protocols for each in typed(protocol)]
    assert len(in_c) == script["FUNCTIONS"].count("WINAPI") - 1  # that one is a routine


@pytest.mark.parametrize(
    ("protocol", "name"),
    [
        (functions.LPOVERLAPPED, "OVERLAPPED"),
        (functions.OVERLAPPED_ENTRY, "OVERLAPPED_ENTRY"),
        (functions.WSABUF, "WSABUF"),
        (functions.WSAMSG, "WSAMSG"),
        (functions.WSAPROTOCOL_INFOW, "WSAPROTOCOL_INFOW"),
        (functions.LPTRANSMIT_FILE_BUFFERS, "TRANSMIT_FILE_BUFFERS"),
        (functions.Sockaddr, "struct sockaddr"),
        (functions.SockaddrIn, "struct sockaddr_in"),
        (functions.SockaddrIn6, "struct sockaddr_in6"),
    ],
)
def test_the_fields_that_have_types_exist(protocol: type, name: str) -> None:
    fields = {field: place.type.kind for field, place in library.ffi.typeof(name).fields}
    for field, annotation in inspect.get_annotations(protocol).items():
        assert (fields[field] == "primitive") == (annotation == "int"), field


@needs_script
def test_the_generated_module_is_fresh() -> None:
    ran = subprocess.run(
        [sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


@needs_script
def test_a_stale_module_is_noticed(
    script: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    main = script["main"]
    monkeypatch.setattr(script["ffi_module"], "ROOT", tmp_path)
    module = tmp_path.joinpath(*script["NAME"].split(".")).with_suffix(".py")
    module.parent.mkdir(parents=True)
    assert main(["--check"]) == 1  # there is none
    assert main([]) == 0
    assert main(["--check"]) == 0
    with open(module, "a", encoding="ascii") as file:
        file.write("\n")
    assert main(["--check"]) == 1
    assert "run python tools/iocp_ffi.py" in capsys.readouterr().err


WITHOUT_DLLS = """
import sys
import netpoll, netpoll.backends.iocp
assert "_cffi_backend" not in sys.modules
from netpoll.backends.iocp import _ffi

class NoDlls:
    def __getattr__(self, name):
        assert name != "dlopen"
        return getattr(ffi, name)

ffi, _ffi.ffi = _ffi.ffi, NoDlls()
import netpoll.backends.iocp.library
"""


def test_an_import_opens_no_dll() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_DLLS], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="there are DLLs here")
def test_there_is_nothing_to_load_elsewhere() -> None:
    with pytest.raises(OSError, match=r"kernel32\.dll"):
        library.load()


@pytest.mark.parametrize(
    ("name", "wide", "narrow"),
    [
        ("OVERLAPPED", 32, 20),
        ("OVERLAPPED_ENTRY", 32, 16),
        ("WSABUF", 16, 8),
        ("GUID", 16, 16),
        ("WSAPROTOCOL_INFOW", 628, 628),
        ("SECURITY_ATTRIBUTES", 24, 12),
        ("struct sockaddr_in", 16, 16),
        ("struct sockaddr_in6", 28, 28),
    ],
)
def test_sizes_are_those_of_windows_on_every_system(name: str, wide: int, narrow: int) -> None:
    assert library.ffi.sizeof(name) == {8: wide, 4: narrow}[library.ffi.sizeof("void *")]


def test_the_decoder_of_packets_has_their_shape() -> None:
    entries = library.ffi.new("OVERLAPPED_ENTRY[]", 2)
    values = [(1, 2, 3, 4), (5, 6, 7, 8)]
    for index, (key, address, status, transferred) in enumerate(values):
        entries[index].lpCompletionKey = key
        entries[index].lpOverlapped = library.ffi.cast("OVERLAPPED *", address)
        entries[index].Internal = status
        entries[index].dwNumberOfBytesTransferred = transferred
    assert list(library.ENTRY.iter_unpack(library.ffi.buffer(entries))) == values
