"""Which backend, and why: the first that speaks of the argument, the environment, the file, the
program.

`NETPOLL_CONFIG` names a TOML file:

    backend = "selectors"

    [selectors]
    selector = "poll"

A backend that is named is used or fails. Only automatic choice falls back, and it records why.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from netpoll import backends
from netpoll import status as nt
from netpoll.errors import UnsupportedOperation

if TYPE_CHECKING:
    from netpoll.backends import Candidate

AUTOMATIC = "auto"


@dataclass(frozen=True, slots=True)
class Selection:
    """The backend of a port and how it was chosen; `str()` of it is for people."""

    backend: str
    source: str
    """Who chose: "argument", "NETPOLL_BACKEND", "NETPOLL_CONFIG (path)", "configure()" or
    "automatic"."""
    candidates: tuple[Candidate, ...]
    """What was tried, in order; the last one is in use."""
    options: dict[str, Any]
    """The backend's options, from the same sources."""

    def __str__(self) -> str:
        tried = [
            f"  {each.name}: {'usable' if each.usable else 'not usable'}, {each.reason}"
            for each in self.candidates
        ]
        return "\n".join([f"{self.backend}, chosen by {self.source}", *tried])


@dataclass(slots=True)
class _Program:
    """What `configure` was told."""

    backend: str | None
    options: dict[str, dict[str, Any]]


_program = _Program(None, {})


def configure(backend: str | None = None, **options: dict[str, Any]) -> None:
    """The program's own default, for ports made from now on; it replaces what an earlier call said.

    The environment and the configuration file go before it.

    :param backend: a backend's name, or `None` to let netpoll choose
    :param options: a backend's name with a dict of its options: `selectors={"selector": "poll"}`
    :raises ValueError: no such backend
    :raises TypeError: no such option
    """
    if backend is not None:
        _check_name(backend, "configure()")
    _check_tables(options, "configure()")
    _program.backend = backend
    _program.options = options


def select(backend: str | None, options: dict[str, Any]) -> Selection:
    """Choose the backend for a port.

    :param backend: the argument of the port, which goes before everything
    :param options: the port's options for its backend, which go before those of the file and the
        program
    :raises ValueError: a name or a value that is not known, and where it was given
    :raises UnsupportedOperation: the named backend cannot be used here; says why
    """
    path = os.environ.get("NETPOLL_CONFIG")
    in_file = _read(path) if path else _Program(None, {})
    tried: tuple[Candidate, ...]
    for name, source in (
        (backend, "argument"),
        (os.environ.get("NETPOLL_BACKEND") or None, "NETPOLL_BACKEND"),
        (in_file.backend, f"NETPOLL_CONFIG ({path})"),
        (_program.backend, "configure()"),
    ):
        if name is not None and name != AUTOMATIC:
            _check_name(name, source)
            tried = (backends.probe(name),)
            break
        if name == AUTOMATIC:
            source, tried = "automatic", _first_usable()
            break
    else:
        source, tried = "automatic", _first_usable()
    chosen = tried[-1]
    if not chosen.usable:
        usable = [each.name for each in map(backends.probe, backends.NAMES) if each.usable]
        raise nt.make_exception(
            nt.STATUS_NOT_SUPPORTED,
            kind=UnsupportedOperation,
            message=f"the backend {chosen.name!r}, named by {source}, cannot be used here: "
            f"{chosen.reason}. Usable: {', '.join(usable)}, or leave the choice to netpoll",
        )
    name = chosen.name
    merged = {**_program.options.get(name, {}), **in_file.options.get(name, {}), **options}
    return Selection(name, source, tried, merged)


def _first_usable() -> tuple[Candidate, ...]:
    tried: list[Candidate] = []
    for name in backends.NAMES:
        tried.append(backends.probe(name))
        if tried[-1].usable:
            break
    return tuple(tried)


def _read(path: str) -> _Program:
    """The configuration file.

    :raises OSError: it cannot be read
    :raises ValueError: it is not TOML, or says what netpoll does not know
    """
    where = f"NETPOLL_CONFIG ({path})"
    try:
        with open(path, "rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise OSError(error.errno, f"NETPOLL_CONFIG: {error.strerror}", path) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{where} is not valid TOML: {error}") from None
    backend = content.pop("backend", None)
    if backend is not None:
        if not isinstance(backend, str):
            raise ValueError(f'{where}: backend is a name in quotes, as in backend = "selectors"')
        _check_name(backend, where)
    try:
        _check_tables(content, where)
    except TypeError as error:
        raise ValueError(str(error)) from None
    return _Program(backend, cast("dict[str, dict[str, Any]]", content))


def _check_name(name: str, source: str) -> None:
    if name != AUTOMATIC and name not in backends.NAMES:
        known = ", ".join(repr(each) for each in (*backends.NAMES, AUTOMATIC))
        raise ValueError(f"{source}: there is no backend {name!r}; choose from {known}")


def _check_tables(tables: dict[str, Any], source: str) -> None:
    for name, options in tables.items():
        if name not in backends.NAMES:
            known = ", ".join(backends.NAMES)
            raise ValueError(f"{source}: {name!r} is neither 'backend' nor a backend ({known})")
        if not isinstance(options, dict):
            raise TypeError(
                f"{source}: {name!r} is a table of that backend's options, not {options!r}"
            )
        known_options = backends.options_of(name)
        for option in cast("dict[str, Any]", options):
            if option not in known_options:
                takes = ", ".join(known_options) or "none"
                raise TypeError(
                    f"{source}: the backend {name!r} has no option {option!r}; it takes: {takes}"
                )
