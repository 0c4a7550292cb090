"""Each backend of this machine against selectors: one script, run on both, has the same outcomes,
operation by operation, up to the freedoms that the contract names.

Between two steps everything that is due is taken, or the two would differ rightly: a kernel that
has the receive takes the data at once, a readiness backend when somebody waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from backends.script_handles import KINDS, NEEDS, steps, weight
from backends.script_sockets import MOST
from backends.scripts import World

from netpoll.testing.attempts import pattern
from netpoll.testing.backends import targets
from netpoll.testing.wine import wine_version

if TYPE_CHECKING:
    from pathlib import Path

    from netpoll.testing.backends import Target

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, Phase, given, settings, strategies

REFERENCE, *OTHERS = sorted(targets(), key=lambda target: not target.id.startswith("selectors"))
"""The first of selectors, and all other targets."""

Step = tuple[str, str, int]
"""The name of a handle, which begins with its kind; what is done with it; a number."""

WINE = wine_version() is not None
NOT_WITH_WINE = {
    "peer_resets": "RECV-05: through select(), a reset may read as an end of stream",
    "peer_vanishes": "UDP-05: select() swallows reports of unreachable ports",
    "send_much": "SEND-04: a pending send may end as a success of no bytes",
}
"""Steps that Wine is known to get wrong, see netpoll/testing/wine.py."""


def scripts_of(names: list[str]) -> strategies.SearchStrategy[list[Step]]:
    """Scripts with those handles."""
    choices = [
        (name, step)
        for name in names
        for step in steps(name.split()[0])
        for _ in range(weight(step))
        if not (WINE and step in NOT_WITH_WINE)
    ]
    step = strategies.tuples(strategies.sampled_from(choices), strategies.integers(1, MOST))
    return strategies.lists(step.map(lambda each: (*each[0], each[1])), min_size=12, max_size=50)


names = strategies.lists(
    strategies.sampled_from(
        [f"{kind} {number}" for kind in KINDS for number in range(2) if kind != "port"]
    ),
    min_size=1,
    max_size=3,
    unique=True,
)
scripts = names.map(lambda chosen: [*chosen, "port"]).flatmap(scripts_of)


def outcomes(target: Target, script: list[Step], folder: Path) -> list[tuple[Any, ...]]:
    with target.open() as port:
        world = World(port, folder)
        with world.ends:
            for name, step, number in script:
                if name not in world.handles:
                    world.handles[name] = KINDS[name.split()[0]](world, name)
                handle = world.handles[name]
                if WINE and step != "connect" and not getattr(handle, "connected", True):
                    continue  # SEND-06, RECV-08: it has other errors for these
                world.tell(name, step)
                getattr(handle, step)(number)
                world.settle()
            world.close()
            return world.outcomes


def usable(target: Target) -> frozenset[str]:
    """The steps that the backend can take."""
    with target.open() as port:
        return frozenset(
            step
            for kind in KINDS
            for step in steps(kind)
            if step not in NEEDS or port.capability(NEEDS[step]) != "unsupported"
        )


@pytest.mark.parametrize("other", OTHERS, ids=str)
def test_both_backends_agree(other: Target, tmp_path: Path) -> None:
    can = usable(REFERENCE) & usable(other)
    (tmp_path / "file").write_bytes(pattern(3 * MOST))

    @settings(
        deadline=None,
        max_examples=200,
        # a failure here is mostly a wait that lasts to its deadline: shrinking would take an hour
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(script=scripts)
    def agree(script: list[Step]) -> None:
        possible = [step for step in script if step[1] in can]
        assert outcomes(other, possible, tmp_path) == outcomes(REFERENCE, possible, tmp_path)

    agree()
