"""The machine and the versions that a result belongs to."""

import datetime
import importlib.metadata
import platform
import ssl
import subprocess
import sys
import sysconfig
from pathlib import Path

from benchmarks import native
from benchmarks.processes import ROOT, Placement

PACKAGES = ("netpoll", "cffi", "uvloop", "rloop", "trio", "gevent", "aiohttp")


def describe(placement: Placement) -> dict[str, str]:
    """Return what the reader of a result needs to know, as text."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "CPU": _cpu(),
        "placement": f"server on CPU {placement.server}, load on CPU {placement.load}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}, "
        f"{platform.python_compiler()}, {_optimized()}, {_gil()}",
        "TLS": ssl.OPENSSL_VERSION,
        "C compiler": _first_line([native.compiler(), "--version"]),
        "packages": ", ".join(filter(None, map(_version, PACKAGES))),
        "revision": _first_line(["git", "-C", str(ROOT), "describe", "--always", "--dirty"]),
    }


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    virtual = any(line.startswith("flags") and " hypervisor" in line for line in lines)
    name = models[0] if models else platform.processor() or "unknown"
    return f"{name} x {len(models) or 1}" + (" (virtual machine)" if virtual else "")


def _optimized() -> str:
    """Profile-guided builds run Python code a good deal faster, and C code no faster."""
    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    flags = f"{arguments} {sysconfig.get_config_var('PY_CFLAGS') or ''}"
    profiled = "--enable-optimizations" in flags or "-fprofile-use" in flags
    return "profile-guided build" if profiled else "no profile-guided build on record"


def _gil() -> str:
    enabled = getattr(sys, "_is_gil_enabled", lambda: True)()
    return "with the GIL" if enabled else "free-threaded"


def _version(package: str) -> str:
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return ""


def _first_line(command: list[str]) -> str:
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return result.stdout.partition("\n")[0]
