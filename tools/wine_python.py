#!/usr/bin/env python3
"""CPython for Windows under Wine, with what netpoll's tests need.

Everything comes from PyPI and from Debian packages:

* the interpreter's DLL and its extension modules are in panda3d's wheels for Windows;
* the standard library's sources are those of a CPython for Linux of the same minor version,
  which has to be here: the one that runs this program, or one on PATH or in pyenv;
* python.exe (tools/wine/launcher.c) and python3.dll are compiled here, by mingw;
* the packages, for Windows, are what pyproject.toml names: the dependencies of netpoll and of its
  extra `cli`, and the dependency group `test`.

The result is kept in NETPOLL_WINE_CACHE, or else in netpoll-wine in the user's cache folder: about
80 MB for each version of Python, and 700 MB of Wine, which no other program's Wine touches.

Needs Linux, Python >= 3.11 with pip, Wine and mingw. Exits with 2, naming the cure, where one of
them is missing.
"""

from __future__ import annotations

import argparse
import fcntl
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

# A program run by its path finds its neighbours only, and with PYTHONSAFEPATH not even them.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.wine.build import (
    SUPPORTED,
    Build,
    choose,
    ensure,
    missing_packages,
    need_programs,
)
from tools.wine.prefix import cache, locked, run_to_end, say, windows_path, wine


def run(build: Build, options: argparse.Namespace) -> int:
    paths = [windows_path(path) for path in options.path]
    with (
        locked(build.minor, fcntl.LOCK_SH),
        tempfile.TemporaryDirectory(prefix="netpoll-wheel-") as unpacked,
        wine() as env,
    ):
        if options.wheel:
            with zipfile.ZipFile(options.wheel) as wheel:
                wheel.extractall(unpacked)
            paths.insert(0, windows_path(unpacked))
        if paths:
            env["PYTHONPATH"] = ";".join(paths)
        if (build.linux.stdlib / "test" / "test_asyncio").is_dir():
            # what tests/asyncio_suite runs; the Python for Windows comes without
            env.setdefault("NETPOLL_CPYTHON_TESTS", windows_path(build.linux.stdlib))
        return run_to_end(build.executable, options.arguments, env)


def clean() -> None:
    for name in (*SUPPORTED, "prefix"):
        if (cache() / name).exists():
            with locked(name, fcntl.LOCK_EX):
                say(f"removing {cache() / name}")
                shutil.rmtree(cache() / name)


USAGE = {
    "build": "build, where that is needed (by default every version that can be built here)",
    "run": "run python.exe with the ARGUMENTS, built first where that is needed (by default the "
    "oldest version that can be built here); of several versions, the exit code is the first that "
    "is not 0; a Ctrl-C is passed on, a second one kills",
    "where": "print the path of python.exe, whether it is built or not",
    "packages": "print the Debian packages that are yet to be installed",
    "clean": "remove everything that was built",
}


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        usage="wine_python.py [-h] COMMAND ... [-- ARGUMENTS]",
        epilog="example: wine_python.py run --path . -- -m pytest tests/unit",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    parsers = {name: commands.add_parser(name, help=text) for name, text in USAGE.items()}
    for name in ("build", "run", "where"):
        parsers[name].add_argument(
            "--python",
            action="append",
            choices=[*SUPPORTED, "all"],
            help="a version (this option may come more than once), or every one there can be",
        )
    parsers["run"].add_argument("--wheel", type=Path, help="import from this wheel")
    parsers["run"].add_argument("--path", action="append", default=[], help="import from there")
    # What comes behind -- is not ours, whatever it looks like.
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser.parse_args(arguments[:end])
    options.arguments = arguments[end + 1 :]
    return options


def main() -> int:
    options = parse(sys.argv[1:])
    if options.command == "packages":
        print(" ".join(missing_packages()))
        return 0
    if options.command == "clean":
        clean()
        return 0
    if options.command != "where":
        need_programs()
    builds = choose(options.python or (["all"] if options.command == "build" else []))
    if options.command == "where":
        print(*(build.executable for build in builds), sep="\n")
        return 0
    codes = [0]
    for build in builds:
        ensure(build)
        if options.command == "run":
            codes.append(run(build, options))
    return next(filter(None, codes), 0)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # while building; what runs under Wine gets it passed on
        sys.exit(130)
