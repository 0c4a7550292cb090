"""Compiles the C programs, once for each version of their source."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
FLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra")


@dataclass(frozen=True)
class Library:
    """What a program needs besides libc."""

    header: str
    flag: str
    cure: str


LIBRARIES = {
    "echo_io_uring.c": Library(
        "liburing.h", "-luring", "liburing is not installed (Debian: apt-get install liburing-dev)"
    )
}


class CannotCompile(Exception):
    """No C compiler or library, or it refused; the message says what to do."""


def compiler() -> str:
    """Return the C compiler: ``$CC``, else ``cc``.

    :raises CannotCompile: there is none
    """
    name = os.environ.get("CC", "cc")
    path = shutil.which(name)
    if path is None:
        raise CannotCompile(
            f"the C compiler {name!r} is not installed (Debian: apt-get install gcc libc6-dev)"
        )
    return path


def build(source: str) -> Path:
    """Compile `source` (a file name in this directory) into the cache; return the program.

    :raises CannotCompile: there is no compiler, or it reports errors
    """
    path = HERE / source
    key = hashlib.sha256(" ".join((compiler(), *FLAGS)).encode())
    for file in (path, *sorted(HERE.glob("*.h"))):
        key.update(file.read_bytes())
    program = cache() / f"{path.stem}-{key.hexdigest()[:16]}"
    if program.exists():
        return program
    program.parent.mkdir(parents=True, exist_ok=True)
    # Another run may be compiling the same file: only a finished program takes the name.
    with tempfile.TemporaryDirectory(dir=program.parent) as scratch:
        output = Path(scratch) / path.stem
        library = LIBRARIES.get(source)
        command = [compiler(), *FLAGS, "-o", str(output), str(path)]
        command += [library.flag] if library else []
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            if library and library.header in result.stderr:
                raise CannotCompile(library.cure)
            raise CannotCompile(f"{source}: {result.stderr.strip()}")
        output.replace(program)
    return program


def cache() -> Path:
    """Return the directory of compiled programs (XDG base directories)."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "netpoll-benchmarks"
