"""The numbered statements of behaviour that conformance tests decide."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

EVIDENCE: Final = {
    "windows": "Wine's own tests, which are run on Windows, assert it",
    "windows-not-wine": "the same, and Wine is known to fail it",
    "documentation": "Microsoft documents it",
    "implementations": "mature libraries rely on it",
    "field-reports": "single reports from users say so",
    "deduced": "it follows from the rest and is not confirmed",
    "emulation": "a rule of netpoll's own, not a fact about Windows",
}
"""What a statement may rest on, strongest first."""

UNDECIDED: Final = {
    "cannot be observed": "a program that uses netpoll sees no difference, or it is about others",
    "needs a second machine": "loopback cannot show it",
    "needs real Windows": "a version, an edition or a provider that Wine does not have",
    "platform cannot": "netpoll has nothing there to ask the system for",
}
"""Why no test may decide a statement: there are no other reasons."""

_ID: Final = re.compile(r"[A-Z]{2,5}-\d\d")


@dataclass(frozen=True, slots=True)
class Statement:
    """One numbered statement: what Windows does, or a rule of the emulation."""

    id: str
    """A family and a number, "RECV-05"."""
    text: str
    """What happens, in one paragraph."""
    evidence: tuple[str, ...]
    """Keys of `EVIDENCE`; a statement made of several parts may have several."""
    section: str
    """The title it stands under."""
    wine: str
    """Where Wine is known to differ, or to agree; empty where nothing is known."""
    undecided: str
    """The key of `UNDECIDED` if no test decides it, else empty."""
    why: str
    """What stands in the way of a test then."""

    @property
    def family(self) -> str:
        """The part of the id before the number, "RECV"."""
        return self.id.partition("-")[0]


def load() -> dict[str, Statement]:
    """Every statement by its id, in reading order."""
    source = resources.files("netpoll.testing").joinpath("statements.toml")
    return parse(source.read_text(encoding="utf-8"))


def parse(text: str) -> dict[str, Statement]:
    """The statements of a TOML text like netpoll's own, for suites that add theirs.

    Raises `ValueError` for text that is not TOML, an id that is malformed or used twice, an
    unknown kind of evidence or an empty statement.
    """
    statements: dict[str, Statement] = {}
    for section in tomllib.loads(text).get("section", []):
        for name, entry in section["statements"].items():
            if name in statements:
                raise ValueError(f"statement {name} appears twice")
            statements[name] = _statement(name, section["title"], entry)
    return statements


def _statement(name: str, section: str, entry: dict[str, Any]) -> Statement:
    if not _ID.fullmatch(name):
        raise ValueError(f"{name!r} is not an id such as RECV-05")
    evidence = tuple(entry.get("evidence", ()))
    unknown = [kind for kind in evidence if kind not in EVIDENCE]
    if unknown or not evidence:
        raise ValueError(f"{name}: evidence must be some of {', '.join(EVIDENCE)}, not {unknown}")
    text = _one_paragraph(entry.get("text", ""))
    if not text:
        raise ValueError(f"{name} says nothing")
    undecided, why = entry.get("undecided", ""), _one_paragraph(entry.get("why", ""))
    if undecided and (undecided not in UNDECIDED or not why):
        known = ", ".join(UNDECIDED)
        raise ValueError(f"{name}: undecided is one of {known}, with a why; not {undecided!r}")
    wine = _one_paragraph(entry.get("wine", ""))
    return Statement(name, text, evidence, section, wine, undecided, why)


def _one_paragraph(text: str) -> str:
    return " ".join(text.split())
