"""Running programs under a Wine of our own, and what it is kept in."""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType


def say(text: str) -> None:
    print(f"wine_python: {text}", file=sys.stderr, flush=True)


def stop(text: str) -> NoReturn:
    say(text)
    sys.exit(2)


def cache() -> Path:
    if folder := os.environ.get("NETPOLL_WINE_CACHE"):
        return Path(folder).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "netpoll-wine").absolute()


def windows_path(path: str | Path) -> str:
    """How a program under Wine names a file of Linux."""
    return "Z:" + str(Path(path).absolute()).replace("/", "\\")


def environment(prefix: Path) -> dict[str, str]:
    """Ours, less what would make Wine open windows or a Python for Windows look among Linux's."""
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "PYTHONHOME", "PYTHONPATH", "PYTHONEXECUTABLE")
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    env.setdefault("PYTHONUTF8", "1")
    env.setdefault("PYTHONUNBUFFERED", "1")
    # The overrides are two programs that Wine would otherwise offer to download.
    env |= {"WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree,mshtml="}
    return env | {"WINEPREFIX": str(prefix)}


def call(*command: str | Path, env: dict[str, str] | None = None) -> str:
    """Run one step of a build. Its output is returned, or shown if it fails, which ends all."""
    pipe = subprocess.PIPE
    step = subprocess.run(
        command, input="", stdout=pipe, stderr=subprocess.STDOUT, text=True, env=env, check=False
    )
    if step.returncode:
        line = " ".join(map(str, command))
        sys.exit(f"{step.stdout}\nwine_python: exit code {step.returncode} from: {line}")
    return step.stdout


@contextlib.contextmanager
def locked(name: str, how: int) -> Generator[int]:
    """Hold one of the cache's locks: shared for its users, exclusive for who changes something."""
    cache().mkdir(parents=True, exist_ok=True)
    lock = os.open(cache() / f"{name}.lock", os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(lock, how | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{name} is in use by another process; waiting until that has ended")
            fcntl.flock(lock, how)
        yield lock
    finally:
        os.close(lock)


@contextlib.contextmanager
def wine() -> Generator[dict[str, str]]:
    """The environment to run Wine in. Whoever is the last to leave stops what still runs."""
    prefix = cache() / "prefix"
    with locked("prefix", fcntl.LOCK_SH) as lock:
        if not prefix.exists():
            fcntl.flock(lock, fcntl.LOCK_EX)
            make_prefix(prefix)
            fcntl.flock(lock, fcntl.LOCK_SH)
        env = environment(prefix)
        try:
            yield env
        finally:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                subprocess.call(["wineserver", "--kill"], env=env)


def make_prefix(prefix: Path) -> None:
    if prefix.exists():  # made by the process that had the lock before
        return
    say("a folder for Wine")
    with tempfile.TemporaryDirectory(prefix="making-", dir=cache()) as scratch:
        env = environment(Path(scratch, "prefix"))
        call("wine", "wineboot", "--init", env=env)
        call("wineserver", "--wait", env=env)
        Path(scratch, "prefix").rename(prefix)


def feed(stdin: IO[bytes]) -> None:
    """Pass on our standard input, as long as somebody reads it."""
    with contextlib.suppress(BrokenPipeError), stdin:
        while chunk := os.read(0, 65536):
            stdin.write(chunk)
            stdin.flush()


def copy_streams(process: subprocess.Popen[bytes]) -> None:
    """Pass on what it prints, as it comes, until it has ended and all is out."""
    assert process.stdout
    assert process.stderr
    with selectors.DefaultSelector() as waiting:
        waiting.register(process.stdout, selectors.EVENT_READ, sys.stdout.buffer)
        waiting.register(process.stderr, selectors.EVENT_READ, sys.stderr.buffer)
        while waiting.get_map():
            ended = process.poll() is not None
            ready = waiting.select(timeout=0.5)
            if ended and not ready:
                return  # what still holds the pipes are services that Wine has started by the way
            for key, _ in ready:
                if chunk := os.read(key.fd, 65536):
                    key.data.write(chunk)
                    key.data.flush()
                else:
                    waiting.unregister(key.fileobj)


SERVER_CRASHED = 75
"""The exit code if Wine's own server ended under the program (EX_TEMPFAIL of sysexits.h)."""


@contextlib.contextmanager
def server_watched(env: dict[str, str]) -> Generator[threading.Event]:
    """End what runs in the prefix if Wine's server dies: it would wait for its answers for ever.

    That of Wine 8 dies of an assertion now and then (release_object: obj->refcount), most often
    while thousands of sockets are reset. Yields an event that tells whether it has.
    """
    # Asked to stay for a while it is there to be waited for; if it runs already, it says so.
    quiet = subprocess.DEVNULL
    subprocess.call(["wineserver", "--persistent=60"], env=env, stdout=quiet, stderr=quiet)
    server = subprocess.Popen(["wineserver", "--wait"], env=env)
    leaving = threading.Event()
    crashed = threading.Event()

    def watch() -> None:
        server.wait()
        if not leaving.is_set():
            crashed.set()
            say("Wine's server has died; ending what ran under it")
            for pid in processes_of(env["WINEPREFIX"]):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield crashed
    finally:
        leaving.set()
        server.terminate()
        watcher.join()


def processes_of(prefix: str) -> list[int]:
    """The programs that run under Wine in `prefix`, its services and its server."""
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if f"WINEPREFIX={prefix}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return [pid for pid in found if pid != os.getpid()]


def run_to_end(executable: Path, arguments: list[str], env: dict[str, str]) -> int:
    """Its exit code, or `SERVER_CRASHED`."""
    with server_watched(env) as crashed:
        code = run_program(executable, arguments, env)
    return SERVER_CRASHED if crashed.is_set() else code


def run_program(executable: Path, arguments: list[str], env: dict[str, str]) -> int:
    """Its exit code. Every stream is a pipe, because CPython does not start with anything else."""
    process = subprocess.Popen(
        ["wine", executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        start_new_session=True,  # or a terminal's Ctrl-C would come twice: from it, and from us
    )
    first = 0.0

    def pass_on(number: int, frame: FrameType | None) -> None:
        nonlocal first
        # Wine makes a Ctrl-C of an interrupt. The second one means it, unless it is the same one,
        # from the terminal and from tox.
        now = time.monotonic()
        if not first or now - first > 1:
            process.send_signal(signal.SIGKILL if first else number)
        first = first or now

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    threading.Thread(target=feed, args=(process.stdin,), daemon=True).start()
    copy_streams(process)
    code = process.wait()
    return code if code >= 0 else 128 - code
