"""The numbered statements of behaviour that conformance tests decide."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from netpoll.backends import NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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

OTHERS: Final = "others"
"""The key of a reason that holds on every backend that has none of its own."""

_BEYOND: Final = ("What other implementations do", "Pipes, files and waits", "Emulation")
"""How the titles begin of what is not about ports, sockets and cancels on Windows."""
_ID: Final = re.compile(r"[A-Z]{2,5}-\d\d")


@dataclass(frozen=True, slots=True)
class Reason:
    """Why no test decides something."""

    kind: str
    """A key of `UNDECIDED`."""
    why: str
    """What stands in the way of a test."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.why}"


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
    undecided: Mapping[str, Reason]
    """Where no test decides it, and why: by the name of a backend, or `OTHERS`."""
    rest: Reason | None
    """Why one part of it is decided nowhere, while tests decide the others."""

    @property
    def family(self) -> str:
        """The part of the id before the number, "RECV"."""
        return self.id.partition("-")[0]

    @property
    def core(self) -> bool:
        """Whether it is about ports, sockets and cancels on Windows (families PORT to CAN)."""
        return not self.section.startswith(_BEYOND)

    def reason(self, backend: str) -> Reason | None:
        """Why no test decides it on a backend; `None` if tests do.

        :param backend: its name, or what `netpoll conformance` calls its column: "selectors-epoll",
            "iocp (Wine 8.0)"
        """
        name = backend.partition(" ")[0].partition("-")[0]
        return self.undecided.get(name) or self.undecided.get(OTHERS)


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
    wine = _one_paragraph(entry.get("wine", ""))
    undecided = dict(_reasons(name, entry, "undecided"))
    rest = dict(_reasons(name, entry, "rest")).get(OTHERS)
    if ("why" in entry) != bool(undecided or rest) or (undecided and rest):
        raise ValueError(f"{name}: a why is for one of undecided and rest")
    return Statement(name, text, evidence, section, wine, undecided, rest)


def _reasons(name: str, entry: dict[str, Any], key: str) -> Iterable[tuple[str, Reason]]:
    """`undecided = "needs real Windows"` with a `why`, or both by backend: `undecided.iocp`."""
    kinds: str | dict[str, str] = entry.get(key, {})
    whys: str | dict[str, str] = entry.get("why", "")
    by_backend = {OTHERS: kinds} if isinstance(kinds, str) else kinds
    for backend, kind in by_backend.items():
        if backend not in (*NAMES, OTHERS):
            raise ValueError(f"{name}: no backend is called {backend!r}")
        why = _one_paragraph(whys.get(backend, "") if isinstance(whys, dict) else whys)
        if kind not in UNDECIDED or not why:
            known = ", ".join(UNDECIDED)
            raise ValueError(f"{name}: {key} is one of {known}, with a why; not {kind!r}")
        yield backend, Reason(kind, why)


def _one_paragraph(text: str) -> str:
    return " ".join(text.split())
