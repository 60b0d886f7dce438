"""What was observed of an experiment, and what it was planned for; everything that judges it starts here."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from engine.metrics import Claim, Metric
from engine.periods import LEAST_PER_ARM, merge_allocations
from engine.tally import Tally

MOST_PERIODS = 60  # more make no difference to a mean, and each costs a branch of a query


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The experiment without its outcomes: arms in the order of all arrays.

    Attributes
    ----------
    control : Position of the arm that the others are compared with.
    effect : The difference that was planned for; smaller ones do not matter (region of equivalence).
    planned_calls : Units after which that difference is found with the planned power; None where unknown.
    contrasts : Among how many comparisons each arm was when it came, shape (arm,).
    live : Arms that were not retired, shape (arm,).
    paused : Live arms that had been proven worse or harmful before and get no units, shape (arm,).
    split_moves : Whether the split follows the outcomes.
    """

    arms: tuple[str, ...]
    control: int
    metrics: tuple[Metric, ...]
    goal: str
    alpha: float
    effect: float
    planned_calls: int | None
    contrasts: Int64[np.ndarray, " arm"]
    live: Bool[np.ndarray, " arm"]
    paused: Bool[np.ndarray, " arm"]
    split_moves: bool = False

    @property
    def goal_metric(self) -> Metric:
        """The metric that decides."""
        return next(metric for metric in self.metrics if metric.name == self.goal)

    @property
    def others(self) -> list[int]:
        """Positions of all arms but the control."""
        return [index for index in range(len(self.arms)) if index != self.control]


@dataclass(frozen=True, slots=True)
class Wealth:
    """One always-valid test (`EProcess`) after its last unit; `n` of them had an outcome."""

    log_wealth: tuple[float, ...]
    log_e_max: float
    n: float


Tests = Mapping[tuple[str, str, Claim], Wealth]  # by metric, arm and claim


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """An experiment's counts.

    Attributes
    ----------
    tally : Counts per allocation, in the order of time.
    probability : The splits, shape (allocation, arm); 0 for an arm that was not there.
    period : Which period each allocation belongs to, shape (allocation,).
    strata : Counts per stratum, a segment within a period; None where units have one segment at most.
    stratum_period : The period of each stratum, shape (stratum,).
    tests : The always-valid tests; None where no units were read in the order of their assignment.
    priors : Successes and failures that each arm of a binary goal starts with, shape (arm, 2).
    untested_split : Why the sample ratio cannot be tested, such as splits that nobody told; None where it can.
    """

    plan: Plan
    tally: Tally
    probability: Float64[np.ndarray, "allocation arm"]
    period: Int64[np.ndarray, " allocation"]
    strata: Tally | None
    stratum_period: Int64[np.ndarray, " stratum"]
    tests: Tests | None
    priors: Float64[np.ndarray, "arm 2"]
    untested_split: str | None = None

    def log_e_max(self, metric: str, arm: int, claim: Claim) -> float:
        """Logarithm of the largest e-value of a claim so far; 0 where nothing was read."""
        wealth = self.tests.get((metric, self.plan.arms[arm], claim)) if self.tests else None
        return wealth.log_e_max if wealth else 0.0

    def log_wealth(self, metric: str, arm: int, claim: Claim) -> Float64[np.ndarray, " bet"]:
        """Logarithm of each bet's wealth now."""
        wealth = self.tests.get((metric, self.plan.arms[arm], claim)) if self.tests else None
        return np.array(wealth.log_wealth) if wealth else np.zeros(1)

    def units_read(self, metric: str, arm: int) -> int:
        """Units with an outcome that the test of this arm has read."""
        wealth = self.tests.get((metric, self.plan.arms[arm], "better")) if self.tests else None
        return round(wealth.n) if wealth else 0


def periods_of(
    n: Int64[np.ndarray, "allocation arm"], probability: Float64[np.ndarray, "allocation arm"]
) -> Int64[np.ndarray, " allocation"]:
    """Allocations merged into periods by the goal's outcomes `n`, at most about 60 of them."""
    if n.shape[0] == 1:
        return np.zeros(1, dtype=np.int64)
    least = max(LEAST_PER_ARM, int(n.sum()) // (MOST_PERIODS * n.shape[1]))
    return merge_allocations(n, probability > 0.0, least=least)
