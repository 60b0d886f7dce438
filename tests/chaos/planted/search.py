"""Look for a planted bug: round after round of faults, until its property is violated."""

from contextlib import nullcontext

from tests.chaos.plan import plan
from tests.chaos.planted import Bug
from tests.chaos.run import conduct
from tests.chaos.stage import Stage

ROUNDS = 12
RATE = 40.0
LASTING_S = (0.5, 1.0)
REST_S = (0.2, 0.4)


def search(bug: Bug, *, seed: int) -> dict[str, list[str]]:
    """What is violated when the bug is found, or after the last round."""
    found: dict[str, list[str]] = {}
    with Stage(seed=seed, rate=RATE, processes=1, entry=bug.entry, settings=bug.settings) as stage:
        for number in range(ROUNDS):
            planned = plan(seed + number, bug.kinds, faults=1, lasting_s=LASTING_S, rest_s=REST_S)
            with bug.meanwhile(stage) if bug.meanwhile else nullcontext():
                found = conduct(stage, planned).unsafe
            if bug.betrays in found:
                break
    stage.forget()
    return found
