#!/usr/bin/env python3
"""From a fresh clone on a bare machine to a running demo, or a finished test run.

    python3 tools/bootstrap.py demo            installs netpoll, runs ``netpoll demo``
    python3 tools/bootstrap.py test [TOX ARGS] installs tox, runs the whole suite (``tox -m tests``)
    python3 tools/bootstrap.py others          the suite less its slow tests (stress, real
                                               programs) and over epoll only, under the other
                                               CPythons of the machine, pyenv's included
    python3 tools/bootstrap.py wine [PYTEST ARGS]
                                               installs Wine, runs the suite in CPythons for
                                               Windows under it (``tox -e wine``)
    python3 tools/bootstrap.py programs        installs the programs that the suite talks to

Needs Python >= 3.11, standard library only. Everything goes to ``.venv`` and ``.tox`` beside this
folder, except Debian packages: those are installed where this may be done without asking for a
password (as root, or with a sudo that does not ask), and are named otherwise.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")

# What the suite runs, and the Debian packages that bring it.
PROGRAMS = {
    "git": ["git"],
    "gcc": ["gcc", "libc6-dev"],
    "curl": ["curl"],
    "wrk": ["wrk"],
    "socat": ["socat"],
    "nc": ["netcat-openbsd"],
    "strace": ["strace"],
    "redis-server": ["redis-server"],
    # only their headers are asked: the declarations for Windows are compared with those
    "x86_64-w64-mingw32-gcc": ["gcc-mingw-w64-x86-64-win32"],
    "i686-w64-mingw32-gcc": ["gcc-mingw-w64-i686-win32"],
}


def say(text: str) -> None:
    print(f"bootstrap: {text}", flush=True)


def run(*command: str | Path, quiet: bool = False) -> int:
    """Run a command with our streams, but no stdin: nothing here may ask a question."""
    say("$ " + " ".join(str(word) for word in command))
    stdout = subprocess.DEVNULL if quiet else None
    return subprocess.call(command, stdin=subprocess.DEVNULL, stdout=stdout, cwd=ROOT)


def need(*command: str | Path) -> None:
    if code := run(*command):
        sys.exit(f"bootstrap: that command failed with exit code {code}")


def as_root() -> list[str] | None:
    """The prefix under which apt-get may be run, or None if there is no way."""
    if not shutil.which("apt-get"):
        return None
    if os.geteuid() == 0:
        return []
    quiet = subprocess.DEVNULL
    if shutil.which("sudo") and subprocess.call(["sudo", "-n", "true"], stderr=quiet) == 0:
        return ["sudo", "-n"]
    return None


def apt_install(packages: list[str]) -> bool:
    """Install Debian packages; False, after saying what to install, where this cannot be done."""
    prefix = as_root() if sys.platform == "linux" else None
    if prefix is None:
        say(f"cannot install here; please install: {' '.join(packages)}")
        return False
    # dpkg refuses to work without the sbin folders, which a user's PATH may lack.
    path = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
    apt = [*prefix, "env", f"PATH={path}", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    if run(*apt, "update"):
        say("apt-get update complained; going on with the package lists there are")
    return run(*apt, "install", "-y", "--no-install-recommends", *packages, quiet=True) == 0


def missing_programs() -> list[str]:
    return [name for name in PROGRAMS if not shutil.which(name)]


def ensure_programs() -> list[str]:
    """Install what the suite's tests with real programs run; returns what is still missing."""
    if missing := missing_programs():
        say(f"missing programs: {', '.join(missing)}")
        apt_install([package for name in missing for package in PROGRAMS[name]])
    missing = missing_programs()
    if missing:
        say(f"still missing: {', '.join(missing)}; the tests that run them will be skipped")
    else:
        say(f"programs present: {', '.join(PROGRAMS)}")
    return missing


def ensure_cpython_tests() -> None:
    """CPython's own tests of asyncio, which are run on netpoll's loop: Debian has them in a package
    of their own."""
    with contextlib.suppress(ModuleNotFoundError):
        if importlib.util.find_spec("test.test_asyncio"):
            return
    say("this Python came without its own tests, of which those of asyncio are run")
    if not apt_install([f"libpython3.{sys.version_info.minor}-testsuite"]):
        say("the tests that run them will be skipped")


def ensure_venv() -> None:
    if not importlib.util.find_spec("ensurepip"):
        # Debian keeps this part of the standard library in a package of its own.
        version = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        if not apt_install([version]):
            sys.exit(f"bootstrap: this Python cannot make environments without {version}")
    python = BIN / "python"
    quiet = subprocess.DEVNULL
    if python.exists() and subprocess.call([python, "-m", "pip", "-V"], stdout=quiet) == 0:
        say(f"using {VENV}")
        return
    need(sys.executable, "-m", "venv", "--clear", VENV)


def pip_install(*what: str) -> None:
    need(BIN / "python", "-m", "pip", "--disable-pip-version-check", "install", "-q", *what)


def runs(python: str) -> bool:
    return subprocess.run([python, "-c", "pass"], capture_output=True, check=False).returncode == 0


def other_pythons() -> dict[str, str]:
    """The other CPythons here that netpoll supports: tox environment and executable of each."""
    folder = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    found: dict[str, str] = {}
    for tag in ("3.11", "3.12", "3.13", "3.14", "3.14t", "3.15"):
        # pyenv keeps its interpreters off PATH, and its stand-ins on PATH may refuse to run.
        candidates = [*map(str, sorted(folder.glob(f"*/bin/python{tag}")))]
        candidates += filter(None, [shutil.which(f"python{tag}")])
        for python in candidates:
            if runs(python):
                found["py" + tag.replace(".", "")] = python
    ours = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    found.pop(f"py3{sys.version_info.minor}{ours}", None)
    return found


def demo(arguments: list[str]) -> int:
    ensure_venv()
    pip_install(".[cli]")
    return run(BIN / "netpoll", "demo", *arguments)


def test(arguments: list[str]) -> int:
    ensure_programs()
    ensure_cpython_tests()
    ensure_venv()
    pip_install("tox>=4.22")
    # Arguments for pytest alone say nothing about which environments to run.
    which = ["-m", "tests"] if not arguments or arguments[0] == "--" else []
    return run(BIN / "tox", "run", *which, *arguments)


def others(arguments: list[str]) -> int:
    if not (pythons := other_pythons()):
        say("this machine has no other CPython that netpoll supports")
        return 0
    say(f"other CPythons: {', '.join(pythons.values())}")
    os.environ["TOX_DISCOVER"] = os.pathsep.join(pythons.values())
    # What differs is the interpreter: over poll(), select() and io_uring they would say once more
    # what the whole suite says of this one.
    quick = ["-m", "not stress and not real_programs"]
    quick += ["-k", "not (selectors-poll or selectors-select or io_uring)"]
    return test(["-e", ",".join(pythons), "--", *quick, *arguments])


def wine(arguments: list[str]) -> int:
    question = [sys.executable, str(ROOT / "tools" / "wine_python.py"), "packages"]
    if packages := subprocess.check_output(question, text=True).split():
        apt_install(packages)
    # What is still missing then, wine_python.py names.
    return test(["-e", "wine", *(["--", *arguments] if arguments else [])])


def programs(arguments: list[str]) -> int:
    ensure_cpython_tests()
    return 1 if ensure_programs() else 0


def main() -> int:
    actions = {"demo": demo, "test": test, "others": others, "wine": wine, "programs": programs}
    if len(sys.argv) < 2 or sys.argv[1] not in actions:
        print(__doc__)
        return 2
    return actions[sys.argv[1]](sys.argv[2:])


if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036 - an older Python is what this line is for
        sys.exit(f"bootstrap: netpoll needs Python 3.11 or newer, this is {sys.version.split()[0]}")
    sys.exit(main())
