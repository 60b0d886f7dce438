"""Which faults come when: a pure function of the seed."""

import random
from collections.abc import Sequence
from typing import NamedTuple

LASTING_S = (2.0, 4.0)
REST_S = (1.0, 1.6)


class Planned(NamedTuple):
    """A fault to come: how long it lasts, how long the rest after it; `luck` decides what it needs to choose."""

    kind: str
    lasting_s: float
    rest_s: float
    luck: float


def plan(
    seed: int,
    kinds: Sequence[str],
    *,
    faults: int,
    lasting_s: tuple[float, float] = LASTING_S,
    rest_s: tuple[float, float] = REST_S,
) -> tuple[Planned, ...]:
    """`faults` faults in random order, every kind as often as any other, give or take one.

    Parameters
    ----------
    lasting_s, rest_s : the least and the most of each.

    Examples
    --------
    >>> plan(7, ["freeze", "kill"], faults=3) == plan(7, ["freeze", "kill"], faults=3)
    True
    >>> sorted(item.kind for item in plan(7, ["freeze", "kill"], faults=4))
    ['freeze', 'freeze', 'kill', 'kill']
    """
    rng = random.Random(seed)
    order: list[str] = []
    while len(order) < faults:
        order += rng.sample(list(kinds), len(kinds))
    return tuple(
        Planned(kind, rng.uniform(*lasting_s), rng.uniform(*rest_s), rng.random()) for kind in order[:faults]
    )
