"""`netpoll doctor`: what this machine can do, and which backend a port would use."""

from __future__ import annotations

import json
import os
import platform
import sys
import sysconfig
from typing import TYPE_CHECKING, Any

import netpoll
from netpoll import backends, config
from netpoll.cli import limits
from netpoll.cli.options import explain
from netpoll.cli.tables import Table, show

if TYPE_CHECKING:
    import argparse

SUMMARY = "what this machine can do, and which backend a port would use"
DESCRIPTION = """\
Looks at each backend: whether it can be used here and why, how it performs each operation (in
brackets: how it does where it can be used), and which one a port would use as things are
configured.

Exit code 0 if a port can be opened here, 1 if not.
"""
EXAMPLES = """\
examples:
  netpoll doctor
  netpoll doctor --json | jq .selection
  NETPOLL_BACKEND=selectors netpoll doctor    what a setting leads to
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the same as one JSON object")


def run(options: argparse.Namespace) -> int:
    """Examine the machine and print what was found."""
    findings = examine()
    if options.json:
        print(json.dumps(findings, indent=1))
    else:
        _print(findings)
    return 0 if findings["selection"]["error"] is None else 1


def examine() -> dict[str, Any]:
    """Everything that the command reports, ready for JSON."""
    return {
        "netpoll": netpoll.__version__,
        "system": _system(),
        "backends": {name: _backend(name) for name in backends.NAMES},
        "configuration": _configuration(),
        "selection": _selection(),
    }


def _system() -> dict[str, Any]:
    soft, hard = limits.open_files()
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "gil": _gil(),
        "os": platform.platform(),
        "processors": os.cpu_count(),
        "open_files": {"soft": soft, "hard": hard},
    }


def _gil() -> bool:
    """Whether Python runs one thread at a time."""
    enabled = getattr(sys, "_is_gil_enabled", None)
    return bool(enabled()) if enabled else not sysconfig.get_config_var("Py_GIL_DISABLED")


def _backend(name: str) -> dict[str, Any]:
    candidate = backends.probe(name)
    found: dict[str, Any] = {
        "usable": candidate.usable,
        "reason": candidate.reason,
        "options": backends.options_of(name),
        "capabilities": {},
    }
    if not candidate.usable:
        for opcode in netpoll.Opcode:
            found["capabilities"][opcode.value] = ["unsupported", candidate.reason]
        elsewhere = backends.capabilities_elsewhere(name)
        if elsewhere is not None:
            found["elsewhere"] = {
                opcode.value: [str(elsewhere(opcode)), elsewhere(opcode).reason]
                for opcode in netpoll.Opcode
            }
        return found
    capability_of = backends.capabilities(name)  # no port: the configuration may be broken
    for opcode in netpoll.Opcode:
        capability = capability_of(opcode)
        found["capabilities"][opcode.value] = [str(capability), capability.reason]
    if name == "selectors":
        from netpoll.backends.selectors import readiness

        found["selectors"] = readiness.available()
    elif name == "io_uring":
        from netpoll.backends.io_uring import library

        support = library.probe()
        found["flags"] = list(support.flags)
        found["features"] = list(support.features)
    return found


def _configuration() -> dict[str, str | None]:
    """What the environment says; `configure()` speaks inside a program only."""
    return {name: os.environ.get(name) or None for name in ("NETPOLL_BACKEND", "NETPOLL_CONFIG")}


def _selection() -> dict[str, Any]:
    """What `CompletionPort()` would use, or why it would fail."""
    try:
        selection = config.select(None, {})
        netpoll.CompletionPort().close()
    except (ValueError, TypeError, OSError) as error:
        return {"backend": None, "source": None, "options": {}, "error": explain(error)}
    return {
        "backend": selection.backend,
        "source": selection.source,
        "options": selection.options,
        "error": None,
    }


# -- for people ------------------------------------------------------------------------------------


def _print(findings: dict[str, Any]) -> None:
    system = findings["system"]
    files = system["open_files"]
    facts = Table("System", ("what", "value"))
    facts.rows = [
        ("netpoll", findings["netpoll"]),
        ("Python", system["python"] + ("" if system["gil"] else ", free-threaded")),
        ("operating system", system["os"]),
        ("processors", str(system["processors"])),
        ("open files", _describe_limit(files["soft"], files["hard"])),
    ]
    show(facts)
    found: dict[str, dict[str, Any]] = findings["backends"]
    table = Table("Backends", ("backend", "here", "why"))
    for name, backend in found.items():
        table.rows.append(
            (name, "usable" if backend["usable"] else "not usable", backend["reason"])
        )
    show(table)
    _print_capabilities(found)
    _print_choice(findings)


def _describe_limit(soft: int | None, hard: int | None) -> str:
    if soft is None:
        return "no limit known"
    return f"{soft} at once, can be raised to {hard} (netpoll serve does)"


def _print_capabilities(found: dict[str, dict[str, Any]]) -> None:
    table = Table("Operations", ("operation", *found, "how"))
    for opcode in netpoll.Opcode:
        levels: list[str] = []
        reasons: list[str] = []
        for name, backend in found.items():
            level, reason = backend["capabilities"][opcode.value]
            if backend["usable"]:
                reasons.append(f"{name}: {reason}")
            elif "elsewhere" in backend:
                level = f"({backend['elsewhere'][opcode.value][0]})"
            levels.append(level)
        table.rows.append((opcode.value, *levels, "\n".join(reasons)))
    show(table)
    if any("elsewhere" in backend for backend in found.values()):
        print("In brackets: how a backend that is not usable here does it where it is.\n")


def _print_choice(findings: dict[str, Any]) -> None:
    table = Table("Configuration", ("source", "says"))
    for name, value in findings["configuration"].items():
        table.rows.append((name, value or "not set"))
    selection = findings["selection"]
    if selection["error"] is not None:
        table.rows.append(("a port", f"cannot be opened: {selection['error']}"))
        table.emphasis.add(len(table.rows) - 1)
    else:
        options = ", ".join(f"{name}={value!r}" for name, value in selection["options"].items())
        chosen = f"{selection['backend']} (source: {selection['source']})"
        table.rows.append(("a port", f"uses {chosen}" + (f", with {options}" if options else "")))
    show(table)
