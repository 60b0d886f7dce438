"""The always-valid tests of a metric, arm by arm: which there are, how they bet, and how they read units.

Units are read in the order of their assignment, in blocks of any size; the order decides, the blocks do not.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from engine.metrics import Claim, Metric
from engine.observed import Plan, Tests, Wealth
from engine.sequential import Direction, EProcess

READINGS = 30  # enough for a line; each is one more pass through the tests
Processes = Mapping[tuple[str, str, Claim], EProcess]  # by metric, arm and claim


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Some units in the order of their assignment.

    Attributes
    ----------
    arm : Position of what each was given, shape (unit,).
    probability : The split that it was given under, shape (unit, arm).
    values : Outcomes by metric, in its own unit and direction, shape (unit,); nan where missing.
    """

    arm: Int64[np.ndarray, " unit"]
    probability: Float64[np.ndarray, "unit arm"]
    values: Mapping[str, Float64[np.ndarray, " unit"]]


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """The state of the tests after so many units, in the order of their assignment."""

    units: int
    tests: Tests


def claims_about(metric: Metric) -> tuple[Claim, ...]:
    """What is tested about a metric; an amount has no bounds, so only whether it is there."""
    if metric.kind == "amount":
        return () if metric.role == "secondary" else ("missing",)
    if metric.role == "goal":
        return ("better", "worse", "not_above", "not_below", "missing")
    if metric.role == "guardrail":
        return ("better", "worse", "harmed", "missing")
    return ("better", "worse")


def begin(claim: Claim, metric: Metric, *, effect: float) -> EProcess:
    """The test of one claim, before its first unit.

    Parameters
    ----------
    effect : The difference that was planned for.
    """
    if claim == "missing":
        return EProcess.start()
    # Bets on half, all and twice the effect that was planned for: what is found soonest is what matters.
    effects = np.minimum(np.array([0.5, 1.0, 2.0]) * effect, 1.0)
    region = min(effect, 0.99)  # differences below what was planned for do not matter
    rules: dict[Claim, tuple[Direction, float]] = {
        "better": ("better", 0.0),
        "worse": ("worse", 0.0),
        "not_above": ("worse", -region),
        "not_below": ("better", -region),
        "harmed": ("worse", min(metric.margin or 0.0, 0.99)),
    }
    direction, margin = rules[claim]
    return EProcess.start(direction=direction, margin=margin, effects=effects)


def possible(metric: Metric, values: Float64[np.ndarray, " unit"]) -> Float64[np.ndarray, " unit"]:
    """Values turned so that higher is better; nan where missing, or impossible and so not counted."""
    if metric.kind == "amount":
        return values
    is_possible = (
        (values == 0.0) | (values == 1.0) if metric.kind == "binary" else (values >= 0.0) & (values <= 1.0)
    )
    values = np.where(is_possible, values, np.nan)
    return 1.0 - values if metric.direction == "decrease" else values


def read_pair(
    metric: Metric,
    tests: Mapping[Claim, EProcess],
    value: Float64[np.ndarray, " unit"],
    treated: np.ndarray,
    share: Float64[np.ndarray, " unit"],
) -> dict[Claim, EProcess]:
    """The tests of one arm after more units of it and of the control.

    Parameters
    ----------
    value : Higher is better, nan where missing.
    treated : Whether the unit was given the arm.
    share : Probability of the arm among the two; 0 where the unit is no bet.
    """
    is_missing = np.isnan(value).astype(float)
    return {
        claim: test.update(is_missing if claim == "missing" else value, treated, share)
        for claim, test in tests.items()
    }


def no_units_yet(plan: Plan) -> Processes:
    """All tests of an experiment, before its first unit."""
    return {
        (metric.name, plan.arms[index], claim): begin(claim, metric, effect=plan.effect)
        for metric in plan.metrics
        for index in plan.others
        for claim in claims_about(metric)
    }


def read_block(processes: Processes, plan: Plan, block: Block) -> Processes:
    """All tests after one more block of units."""
    after = dict(processes)
    theirs = block.probability[:, plan.control]
    for metric in plan.metrics:
        value = possible(metric, block.values[metric.name])
        for index in plan.others:
            both = (block.arm == index) | (block.arm == plan.control)
            mine = block.probability[:, index]
            share = np.divide(mine, mine + theirs, out=np.zeros_like(mine), where=mine + theirs > 0.0)
            key = metric.name, plan.arms[index]
            tests = {claim: after[*key, claim] for claim in claims_about(metric)}
            read = read_pair(metric, tests, value[both], block.arm[both] == index, share[both])
            after |= {(*key, claim): test for claim, test in read.items()}
    return after


def readings_of(plan: Plan, blocks: Iterable[Block], *, units: int) -> tuple[Reading, ...]:
    """The tests before the first unit, now and then, and after the last.

    Parameters
    ----------
    units : About how many there are in all blocks.
    """
    processes, read = no_units_yet(plan), 0
    found = [Reading(0, tests_of(processes))]
    for block in blocks:
        for part in _parts(block, max(1, -(-units // READINGS))):
            processes, read = read_block(processes, plan, part), read + len(part.arm)
            found.append(Reading(read, tests_of(processes)))
    return tuple(found)


def _parts(block: Block, size: int) -> Iterator[Block]:
    for start in range(0, len(block.arm), size):
        part = slice(start, start + size)
        values = {name: value[part] for name, value in block.values.items()}
        yield Block(block.arm[part], block.probability[part], values)


def tests_of(processes: Processes) -> Tests:
    """The state of the tests as a report reads it."""
    return {
        key: Wealth(
            log_wealth=tuple(float(value) for value in test.log_wealth),
            log_e_max=float(test.log_e_max),
            n=float(test.n.sum()),
        )
        for key, test in processes.items()
    }
