"""The numbers of a report, one frozen record each: plain Python, unrounded, None for what is unknown.

Every result of the front and every line of the HTTP report is one of these.
"""

import math
from dataclasses import dataclass

import numpy as np

from engine.metrics import Role
from engine.statistics import Interval

type Pair = tuple[float | None, float | None]


@dataclass(frozen=True, slots=True)
class PosteriorSummary:
    """Belief about an arm's rate or mean: its mean and equal-tailed interval."""

    mean: float | None
    interval: Pair


@dataclass(frozen=True, slots=True)
class MetricSummary:
    """One metric of one arm, in the metric's unit.

    Attributes
    ----------
    n : Units with an outcome.
    missing : Share of units without one; None where there are no units.
    mean : Of the outcomes; of a binary metric, the rate.
    interval : Wilson's of a rate, the t interval of a mean.
    probability_best, expected_loss : Among the arms that get units; None for the others.
    """

    n: int
    missing: float | None
    mean: float | None
    interval: Pair
    posterior: PosteriorSummary
    probability_best: float | None
    expected_loss: float | None


@dataclass(frozen=True, slots=True)
class TestSummary:
    """A test of arm minus control for one look, at the planned sample size, under a split that stood still."""

    __test__ = False  # not one of pytest's

    estimate: float | None
    interval: Pair
    statistic: float | None
    p_value: float | None
    p_value_adjusted: float | None
    log10_p: float | None
    method: str
    small_counts: bool = False


@dataclass(frozen=True, slots=True)
class LiftSummary:
    """Belief about a difference: posterior mean, interval, and for a relative one the median."""

    mean: float | None
    interval: Pair
    median: float | None = None


@dataclass(frozen=True, slots=True)
class BayesSummary:
    """Belief about arm against control; `probability_better` and the loss know the metric's direction."""

    probability_better: float | None
    lift: LiftSummary
    relative_lift: LiftSummary
    expected_loss: float | None


@dataclass(frozen=True, slots=True)
class SeedRule:
    """What "n >= 10 and p < 0.05 at any look" says; shown for comparison, nothing acts on it."""

    declares_winner: bool
    warning: str


@dataclass(frozen=True, slots=True)
class AlwaysValid:
    """The test that may be looked at as often as one likes, under any split that moves.

    Attributes
    ----------
    e_value, log_e_value : Two-sided evidence now.
    p_value : 1 / the largest e-value so far; `p_value_adjusted` for the number of arms on the goal, and for the
        false discovery rate over all comparisons on the other metrics.
    interval : Confidence sequence of arm minus control.
    n : Units read.
    reason : Why something of this is None.
    """

    e_value: float | None = None
    log_e_value: float | None = None
    p_value: float | None = None
    p_value_adjusted: float | None = None
    interval: Pair = (None, None)
    n: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class SegmentAdjusted:
    """The difference with the segments held equal; see `StratifiedEstimate`."""

    estimate: float | None
    standard_error: float | None
    interval: Pair
    variance_explained: float | None
    gain: float | None


@dataclass(frozen=True, slots=True)
class Adaptive:
    """The difference weighed by the logged probabilities: right after any bandit; for one look."""

    estimate: float | None
    standard_error: float | None
    interval: Pair
    n: int
    segment_adjusted: SegmentAdjusted | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One arm (`variant`) against the control on one metric: evidence beside belief."""

    variant: str
    control: str
    metric: str
    role: Role
    n: dict[str, int]
    z_test: TestSummary | None
    welch_test: TestSummary | None
    always_valid: AlwaysValid
    bayes: BayesSummary
    adaptive: Adaptive
    seed_rule: SeedRule | None


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """Whether the split that was served is the one that arrived.

    Attributes
    ----------
    e_value : Evidence against it now, None beyond 1e300.
    p_value : Valid at every look; `fixed_p_value` (chi-square with exact variance) for one look.
    expected : Units that the splits promised, by arm.
    reason : Why there is no test, None where there is one.
    """

    e_value: float | None
    p_value: float | None
    fixed_p_value: float | None
    mismatch: bool
    expected: dict[str, float]
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class GuardrailSummary:
    """One guardrail of one arm: "harmed" and "safe" are proven, "unknown" is neither."""

    metric: str
    variant: str
    margin: float
    status: str
    e_value: float | None


def number(value: float | np.floating) -> float | None:
    """A plain number; None for what is unknown (nan) or unbounded (inf)."""
    plain = float(value)
    return plain if math.isfinite(plain) else None


def numbers(values: np.ndarray) -> list[float | None]:
    """The same for an array of shape (arm,)."""
    return [value if math.isfinite(value) else None for value in values.tolist()]


def pair(interval: Interval, index: int) -> Pair:
    """Both ends of one arm's interval."""
    return number(interval.lower[index]), number(interval.upper[index])


def pairs(interval: Interval) -> list[Pair]:
    """Both ends of every arm's interval."""
    return list(zip(numbers(interval.lower), numbers(interval.upper), strict=True))
