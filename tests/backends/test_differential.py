"""Every backend of this machine against every other: one script, run on all of them, has the same
outcomes, operation by operation, up to the freedoms that the contract names
(`script_freedoms.py`).

Each script is run on all of them, and all of its outcomes are compared with those of the first. To
be the same is transitive, so that decides every pair, for the price of one run a backend; nothing
is left to hope in which pairs that were tried with different scripts would leave it. What not all
of them can do is in no script: on Linux each can do everything, on Windows there is one pair, of
iocp and selectors.

Between two steps everything that is due is taken, or they would differ rightly: a kernel that has
the receive takes the data at once, a readiness backend when somebody waits.
"""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from backends.script_freedoms import NOT_WITH_WINE, WINE
from backends.script_handles import KINDS, NEEDS, THEMES, steps, weight
from backends.script_sockets import MOST
from backends.scripts import World

from netpoll.testing.attempts import pattern
from netpoll.testing.backends import targets

if TYPE_CHECKING:
    from netpoll.testing.backends import Target

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, Phase, given, settings, strategies
from hypothesis.database import DirectoryBasedExampleDatabase

TARGETS = targets()

Step = tuple[str, str, int]
"""The name of a handle, which begins with its kind; what is done with it; a number."""


def scripts_of(names: list[str], can: frozenset[str]) -> strategies.SearchStrategy[list[Step]]:
    """Scripts with those handles."""
    choices = [
        (name, step)
        for name in names
        for step in steps(name.split()[0])
        if step in can
        for _ in range(weight(step))
    ]
    step = strategies.tuples(strategies.sampled_from(choices), strategies.integers(1, MOST))
    steps_of = step.map(lambda each: (*each[0], each[1]))
    # mostly long ones, which can be shrunk to short ones all the same
    return strategies.sampled_from((1, *[14] * 9)).flatmap(
        lambda least: strategies.lists(steps_of, min_size=least, max_size=50)
    )


def scripts_about(theme: str, can: frozenset[str]) -> strategies.SearchStrategy[list[Step]]:
    """Scripts with up to three handles, and the port."""
    names = [f"{kind} {number}" for kind in THEMES[theme] for number in range(2)]
    chosen = strategies.lists(strategies.sampled_from(names), min_size=1, max_size=3, unique=True)
    return chosen.flatmap(lambda some: scripts_of([*some, "port"], can))


def outcomes(
    target: Target, script: list[Step], folder: Path, patience: float
) -> list[tuple[Any, ...]]:
    """What that script comes to on that backend."""
    with target.open() as port:
        world = World(port, folder, patience)
        with world.ends:
            for name, step, number in script:
                if name not in world.handles:
                    world.handles[name] = KINDS[name.split()[0]](world, name)
                handle = world.handles[name]
                if WINE and step != "connect" and not getattr(handle, "connected", True):
                    continue  # SEND-06, RECV-08: it has other errors for these
                world.tell(name, step)
                getattr(handle, step)(number)
                if not world.is_open:
                    break
                world.settle()
            world.close()
            return world.outcomes


def usable(targets: tuple[Target, ...]) -> frozenset[str]:
    """The steps that all of them can take."""
    can = {step for kind in KINDS for step in steps(kind)}
    for target in targets:
        with target.open() as port:
            can -= {step for step in NEEDS if port.capability(NEEDS[step]) == "unsupported"}
    return frozenset(can) - (NOT_WITH_WINE.keys() if WINE else set())


@pytest.mark.parametrize("theme", THEMES)
def test_all_backends_agree(
    theme: str, tmp_path: Path, scripts: int, patience: float, shrinking: bool
) -> None:
    (tmp_path / "file").write_bytes(pattern(3 * MOST))
    phases = [Phase.explicit, Phase.reuse, Phase.generate]
    if shrinking:
        phases.append(Phase.shrink)

    @settings(
        deadline=None,
        max_examples=scripts,
        # each theme has its own: what fails in one means something else in another
        database=DirectoryBasedExampleDatabase(Path(".hypothesis", "scripts", theme)),
        phases=phases,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(script=scripts_about(theme, usable(TARGETS)))
    def agree(script: list[Step]) -> None:
        first, *others = TARGETS
        expected = outcomes(first, script, tmp_path, patience)
        for other in others:
            differ = [
                (ours, theirs)
                for ours, theirs in zip_longest(
                    outcomes(other, script, tmp_path, patience), expected
                )
                if ours != theirs
            ]
            assert not differ, f"{other} has the former, {first} the latter: {differ[0]}"

    agree()
