#!/usr/bin/env python3
"""A CPython for Windows that runs under Wine, with what netpoll's tests need.

    python3 tools/wine_python.py build                   every version that can be built here
    python3 tools/wine_python.py run -- -c "print(1)"    its python.exe, with these arguments
    python3 tools/wine_python.py run --path . -- -m pytest tests/unit

`run` builds first where that is needed. The result is kept in NETPOLL_WINE_CACHE (by default
netpoll-wine in the user's cache folder), one folder for each version of Python, with a Wine prefix
of its own. Everything in it comes from PyPI and from Debian packages:

* the interpreter's DLL and its extension modules are in panda3d's wheels for Windows;
* the standard library's sources are those of a CPython for Linux of the same minor version;
* python.exe (tools/wine/launcher.c) and python3.dll are compiled here, by mingw;
* the packages, for Windows, are what pyproject.toml names: the dependencies, the extra `cli` and
  the dependency group `test`.

Needs Linux, Python >= 3.11 with pip, Wine and mingw. Exits 2, with a way out, where one is missing.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

ROOT = Path(__file__).resolve().parent.parent
LAUNCHER = ROOT / "tools" / "wine" / "launcher.c"

SUPPORTED = ("3.11", "3.12", "3.13")
# Its wheels carry CPython 3.11.9, 3.12.10 and 3.13.11.
INTERPRETER = "panda3d==1.10.16"
# pip takes environment markers to speak of the machine that it runs on, so these would be left
# out: pytest and rich need colorama on Windows only, cffi needs pycparser on CPython only.
WINDOWS_ONLY = ["colorama", "pycparser"]
COMPILER = "x86_64-w64-mingw32-gcc"
OBJDUMP = "x86_64-w64-mingw32-objdump"
# The Debian packages of each program.
PROGRAMS = {
    "wine": ["wine", "wine64"],
    "wineserver": ["wine", "wine64"],
    COMPILER: ["gcc-mingw-w64-x86-64-win32"],
    OBJDUMP: ["binutils-mingw-w64-x86-64"],
}
# Parts of the standard library that are of no use here, or not for Windows.
UNUSED = ["site-packages", "dist-packages", "lib-dynload", "__pycache__", "test", "tests"]
UNUSED += ["idlelib", "idle_test", "turtledemo", "lib2to3", "ensurepip", "config-*", "*.so"]
UNUSED += ["_sysconfigdata*", "EXTERNALLY-MANAGED"]
PROBE = "import json, sys, sysconfig as s; print(json.dumps([*sys.version_info[:3], sys.implementation.name, s.get_path('stdlib')]))"
CHECK = "import sys, ssl, socket, ctypes, _overlapped, _cffi_backend, psutil, hypothesis, pytest, rich; print(sys.version)"


def say(text: str) -> None:
    print(f"wine_python: {text}", file=sys.stderr, flush=True)


def stop(text: str) -> NoReturn:
    say(text)
    sys.exit(2)


def need_programs() -> None:
    if missing := [name for name in PROGRAMS if not shutil.which(name)]:
        packages = sorted({package for name in missing for package in PROGRAMS[name]})
        install = f"apt-get install --no-install-recommends {' '.join(packages)}"
        stop(f"not found: {', '.join(missing)}; install them with: {install}")


def cache() -> Path:
    if folder := os.environ.get("NETPOLL_WINE_CACHE"):
        return Path(folder).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "netpoll-wine").absolute()


# --- what goes in


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
    probe = subprocess.run([executable, "-I", "-c", PROBE], capture_output=True, check=False)
    if probe.returncode:  # pyenv's stand-ins for versions that are not switched on
        return None
    *version, implementation, stdlib = json.loads(probe.stdout)
    if implementation != "cpython":
        return None
    return LinuxPython((version[0], version[1], version[2]), Path(stdlib), Path(executable))


def linux_pythons() -> dict[str, LinuxPython]:
    """The newest CPython for Linux of each supported minor version."""
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv", "versions")
    candidates = {sys.executable: None}
    for minor in SUPPORTED:
        candidates |= dict.fromkeys(map(str, sorted(versions.glob(f"*/bin/python{minor}"))))
        candidates |= dict.fromkeys(filter(None, [shutil.which(f"python{minor}")]))
    found = sorted(filter(None, map(look_at, candidates)))
    return {python.minor: python for python in found if python.minor in SUPPORTED}


def requirements(project: dict[str, Any]) -> list[str]:
    """What has to be installed, from the contents of pyproject.toml."""

    def group(name: str) -> Iterator[str]:
        for item in project["dependency-groups"][name]:
            if isinstance(item, str):
                yield item
            else:
                yield from group(item["include-group"])

    extras = project["project"]["optional-dependencies"]["cli"]
    return [*project["project"]["dependencies"], *extras, *group("test"), *WINDOWS_ONLY]


@dataclass(frozen=True)
class Build:
    """One version of Python, and where it is kept."""

    linux: LinuxPython
    needs: list[str]

    @property
    def folder(self) -> Path:
        return cache() / self.linux.minor

    @property
    def stamp(self) -> str:
        """Whatever decides what a build contains: another stamp, another build."""
        recipe = hashlib.sha256(Path(__file__).read_bytes() + LAUNCHER.read_bytes())
        python = [*self.linux.version, str(self.linux.stdlib)]
        return json.dumps([recipe.hexdigest(), python, self.needs])

    @property
    def fresh(self) -> bool:
        try:
            return (self.folder / "stamp").read_text(encoding="utf-8") == self.stamp
        except FileNotFoundError:
            return False


def choose(wanted: list[str]) -> list[Build]:
    """The builds of these versions; of all that can be built, if none are named."""
    found = linux_pythons()
    for minor in wanted:
        if minor not in found:
            here = ", ".join(f"{p.minor} ({p.executable})" for p in found.values()) or "none"
            stop(
                f"Python {minor} for Windows takes its standard library from a CPython {minor} for "
                f"Linux, and there is none on PATH or in pyenv. Found: {here}"
            )
    if not found:
        stop(f"found no CPython for Linux of any of the versions {', '.join(SUPPORTED)}")
    needs = requirements(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8")))
    return [Build(found[minor], needs) for minor in wanted or sorted(found)]


# --- putting it together


def call(*command: str | Path, env: dict[str, str] | None = None) -> str:
    """Run a step of the build, and return what it printed; end with all of it if it failed."""
    step = subprocess.run(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        env=env,
    )
    if step.returncode:
        line = " ".join(map(str, command))
        sys.exit(f"{step.stdout}\nwine_python: exit code {step.returncode} from {line}")
    return step.stdout


def pip(minor: str, *arguments: str | Path) -> None:
    beside = ROOT / ".venv" / "bin" / "python"
    for python in (sys.executable, beside):
        if Path(python).exists() and not subprocess.call(
            [python, "-c", "import pip"], stderr=subprocess.DEVNULL
        ):
            break
    else:
        stop("this Python has no pip; install it with: apt-get install python3-pip")
    target = ["--only-binary=:all:", "--platform=win_amd64", "--implementation=cp"]
    line = [python, "-m", "pip", "--disable-pip-version-check", *arguments]
    call(*line, "--quiet", *target, f"--python-version={minor}")


def unpack_interpreter(minor: str, root: Path, scratch: Path) -> None:
    """The DLLs and the extension modules, less what Wine has of its own."""
    pip(minor, "download", "--no-deps", "--dest", scratch, INTERPRETER)
    (root / "DLLs").mkdir(parents=True)
    with zipfile.ZipFile(next(scratch.glob("panda3d-*.whl"))) as wheel:
        for member in wheel.namelist():
            folder, _, name = member.rpartition("/")
            if folder != "deploy_libs" or name.startswith("api-ms-win-"):
                continue
            if name.endswith(".pyd"):
                (root / "DLLs" / name).write_bytes(wheel.read(member))
            elif name.endswith(".dll"):
                (root / name).write_bytes(wheel.read(member))


def compile_launchers(root: Path, scratch: Path) -> None:
    """python.exe, and the python3.dll that modules for the stable ABI are linked with."""
    dll = next(root.glob("python3[0-9]*.dll"))
    define = f'-DPYTHON_DLL=L"{dll.name}"'
    call(COMPILER, "-O2", "-Wall", "-municode", define, LAUNCHER, "-o", root / "python.exe")
    table = call(OBJDUMP, "-p", dll).partition("[Ordinal/Name Pointer] Table")[2]
    names = re.findall(r"^\t\[ *\d+\](?: \+base\[ *\d+\] +[0-9a-f]+)? (\w+)$", table, re.MULTILINE)
    exports = scratch / "python3.def"
    lines = [f"{name}={dll.stem}.{name}" for name in names]
    exports.write_text("\n".join(["LIBRARY python3.dll", "EXPORTS", *lines, ""]))
    call(COMPILER, "-shared", "-nostdlib", exports, "-o", root / "python3.dll")


def make_prefix(prefix: Path) -> None:
    prefix.mkdir()
    # Without these overrides Wine asks, in a window, whether to download Mono and Gecko.
    env = environment(prefix) | {"WINEDLLOVERRIDES": "mscoree,mshtml="}
    call("wine", "wineboot", "--init", env=env)
    call("wineserver", "--wait", env=env)


def assemble(build: Build, folder: Path, scratch: Path) -> None:
    minor, root = build.linux.minor, folder / "python"
    say(f"Python {minor}: the interpreter, from {INTERPRETER}")
    unpack_interpreter(minor, root, scratch)
    compile_launchers(root, scratch)
    say(f"Python {minor}: the standard library, from {build.linux.stdlib}")
    shutil.copytree(build.linux.stdlib, root / "Lib", ignore=shutil.ignore_patterns(*UNUSED))
    packages = root / "Lib" / "site-packages"
    say(f"Python {minor}: {', '.join(build.needs)}")
    pip(minor, "install", "--no-compile", "--target", packages, *build.needs)
    # Bytecode is the same on every system, and Linux compiles it much faster.
    compileall = ["-m", "compileall", "-q", "-j0", "--invalidation-mode=unchecked-hash"]
    call(build.linux.executable, "-I", *compileall, root / "Lib")
    say(f"Python {minor}: a Wine prefix")
    make_prefix(folder / "prefix")
    say(call("wine", root / "python.exe", "-c", CHECK, env=environment(folder / "prefix")).strip())
    call("wineserver", "--wait", env=environment(folder / "prefix"))
    (folder / "stamp").write_text(build.stamp, encoding="utf-8")


@contextlib.contextmanager
def locked(build: Build, how: int) -> Iterator[int]:
    """Hold the lock of a build: shared to run it, exclusive to make it or to stop its server."""
    cache().mkdir(parents=True, exist_ok=True)
    lock = os.open(cache() / f"{build.linux.minor}.lock", os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(lock, how | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Python {build.linux.minor} is in use by another process; waiting for that")
            fcntl.flock(lock, how)
        yield lock
    finally:
        os.close(lock)


def ensure(build: Build) -> None:
    """Build it, unless it is there and up to date."""
    if build.fresh:
        return
    with locked(build, fcntl.LOCK_EX):
        if build.fresh:  # by the process that had the lock before
            return
        need_programs()
        # A build that is interrupted leaves nothing behind that looks like a whole one.
        with tempfile.TemporaryDirectory(prefix="building-", dir=cache()) as scratch:
            folder = Path(scratch, "result")
            assemble(build, folder, Path(scratch))
            if build.folder.exists():
                build.folder.rename(Path(scratch, "replaced"))
            folder.rename(build.folder)
    say(f"Python {build.linux.minor}: ready in {build.folder}")


# --- running it


def windows_path(path: str | Path) -> str:
    """How a program under Wine names a file of Linux."""
    return "Z:" + str(Path(path).absolute()).replace("/", "\\")


def environment(prefix: Path) -> dict[str, str]:
    """Ours, less what would lead a Python for Windows to files for Linux, or open windows."""
    dropped = {"DISPLAY", "WAYLAND_DISPLAY", "PYTHONHOME", "PYTHONPATH", "PYTHONEXECUTABLE"}
    env = {name: value for name, value in os.environ.items() if name not in dropped}
    env.setdefault("PYTHONUTF8", "1")
    return env | {"WINEPREFIX": str(prefix), "WINEDEBUG": "-all", "PYTHONUNBUFFERED": "1"}


def copy_streams(process: subprocess.Popen[bytes]) -> None:
    """Pass on what it prints as it comes, until it has ended and is silent."""
    assert process.stdout and process.stderr
    with selectors.DefaultSelector() as waiting:
        waiting.register(process.stdout, selectors.EVENT_READ, sys.stdout)
        waiting.register(process.stderr, selectors.EVENT_READ, sys.stderr)
        while waiting.get_map():
            ended = process.poll() is not None
            events = waiting.select(timeout=0.5)
            if ended and not events:
                return  # the services of Wine, which it has started, still hold the pipes
            for key, _ in events:
                if chunk := os.read(key.fd, 65536):
                    key.data.buffer.write(chunk)
                    key.data.buffer.flush()
                else:
                    waiting.unregister(key.fileobj)


def run_python(folder: Path, arguments: list[str], env: dict[str, str]) -> int:
    """Its exit code. The streams are pipes: with anything else CPython stops at start-up."""
    process = subprocess.Popen(
        ["wine", folder / "python" / "python.exe", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        # out of the way of the terminal's Ctrl-C, which is passed on exactly once
        start_new_session=True,
    )
    heard = False

    def pass_on(number: int, frame: FrameType | None) -> None:
        nonlocal heard
        # Wine makes a Ctrl-C of the first. Who insists has no use for a traceback.
        os.kill(process.pid, signal.SIGKILL if heard else number)
        heard = True

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    subprocess.Popen(["cat"], stdout=process.stdin)
    assert process.stdin
    process.stdin.close()
    copy_streams(process)
    code = process.wait()
    return code if code >= 0 else 128 - code


def run(options: argparse.Namespace) -> int:
    build = choose([options.python] if options.python else [])[0]
    need_programs()
    ensure(build)
    with (
        locked(build, fcntl.LOCK_SH) as lock,
        tempfile.TemporaryDirectory(prefix="netpoll-wheel-") as unpacked,
    ):
        env = environment(build.folder / "prefix")
        paths = list(options.path)
        if options.wheel:
            with zipfile.ZipFile(options.wheel) as wheel:
                wheel.extractall(unpacked)
            paths.insert(0, unpacked)
        if paths:
            env["PYTHONPATH"] = ";".join(map(windows_path, paths))
        try:
            return run_python(build.folder, options.arguments, env)
        finally:
            # The last to leave stops what is left, Wine's services included.
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                subprocess.call(["wineserver", "--kill"], env=env)


# --- the command


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    b = commands.add_parser("build")
    b.add_argument("--python", action="append", default=[], choices=SUPPORTED)
    r = commands.add_parser("run")
    r.add_argument("--python", choices=SUPPORTED)
    r.add_argument("--wheel", type=Path)
    r.add_argument("--path", action="append", default=[])
    r.add_argument("arguments", nargs="*")
    options = parser.parse_args()
    if options.command == "run":
        return run(options)
    need_programs()
    for build in choose(options.python):
        ensure(build)
    return 0


if __name__ == "__main__":
    sys.exit(main())
