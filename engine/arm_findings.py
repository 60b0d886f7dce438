"""One arm on one metric, by the names that a data scientist asks for."""

from dataclasses import dataclass

from engine.results import (
    Adaptive,
    AlwaysValid,
    BayesSummary,
    Comparison,
    MetricSummary,
    Pair,
    PosteriorSummary,
    TestSummary,
)


@dataclass(frozen=True, slots=True)
class Lifted:
    """How far an arm lies above the control, as belief; in the metric's own direction.

    Attributes
    ----------
    absolute : Posterior mean of arm minus control, in the metric's unit.
    relative : Posterior median of arm / control - 1; 0.1 is 10 % more.
    """

    absolute: float | None
    absolute_interval: Pair
    relative: float | None
    relative_interval: Pair


@dataclass(frozen=True, slots=True)
class ArmFindings:
    """One arm on one metric. What compares it with the control is None for the control itself."""

    arm: str
    is_control: bool
    summary: MetricSummary
    comparison: Comparison | None

    @property
    def n(self) -> int:
        """Units with an outcome."""
        return self.summary.n

    @property
    def missing(self) -> float | None:
        """Share of units without an outcome; None where nobody counted units."""
        return self.summary.missing

    @property
    def mean(self) -> float | None:
        """Mean of the outcomes, in the metric's unit."""
        return self.summary.mean

    @property
    def rate(self) -> float | None:
        """The same, as a binary metric calls it."""
        return self.summary.mean

    @property
    def interval(self) -> Pair:
        """Confidence interval of the mean: Wilson's for a rate, else the t interval."""
        return self.summary.interval

    @property
    def posterior(self) -> PosteriorSummary:
        """Belief about the rate or mean."""
        return self.summary.posterior

    @property
    def probability_best(self) -> float | None:
        """P(no arm is better)."""
        return self.summary.probability_best

    @property
    def expected_loss(self) -> float | None:
        """What choosing it costs on average, in the metric's unit."""
        return self.summary.expected_loss

    @property
    def probability_better(self) -> float | None:
        """P(better than the control)."""
        return self.bayes.probability_better if self.bayes else None

    @property
    def lift(self) -> Lifted | None:
        """Belief about the difference to the control."""
        if self.bayes is None:
            return None
        absolute, relative = self.bayes.lift, self.bayes.relative_lift
        return Lifted(absolute.mean, absolute.interval, relative.median, relative.interval)

    @property
    def bayes(self) -> BayesSummary | None:
        """All belief about the arm against the control."""
        return self.comparison.bayes if self.comparison else None

    @property
    def z_test(self) -> TestSummary | None:
        """Pooled z-test of a binary metric, for one look."""
        return self.comparison.z_test if self.comparison else None

    @property
    def welch_test(self) -> TestSummary | None:
        """Welch's t-test of a score or an amount, for one look."""
        return self.comparison.welch_test if self.comparison else None

    @property
    def always_valid(self) -> AlwaysValid | None:
        """Evidence that may be looked at as often as one likes."""
        return self.comparison.always_valid if self.comparison else None

    @property
    def adaptive(self) -> Adaptive | None:
        """The difference, right after a bandit, and adjusted for segments."""
        return self.comparison.adaptive if self.comparison else None
