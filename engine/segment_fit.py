"""What a hierarchical model says, whoever computed it: populations, rates of segments, and whether to trust it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

from engine.metrics import Metric
from engine.statistics import Interval

# Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Rank-normalization, folding, and localization: an
# improved R-hat, Bayesian Analysis 16, section 5: R-hat below 1.01 and 100 effective draws of each of 4 chains.
R_HAT_BELOW = 1.01
LEAST_EFFECTIVE = 400.0


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """What speaks against a fit; the numbers are None for the quadrature, which draws nothing.

    Attributes
    ----------
    problems : One sentence each; empty if the fit may be used.
    r_hat : The largest of all parameters.
    ess_bulk, ess_tail : The smallest effective sample sizes.
    divergences : Draws after tuning at which the integrator left the posterior.
    mass_gap : Quadrature: the most by which a density's mass missed 1.
    """

    problems: tuple[str, ...] = ()
    r_hat: float | None = None
    ess_bulk: float | None = None
    ess_tail: float | None = None
    divergences: int | None = None
    mass_gap: float | None = None


class UnreliableFit(ArithmeticError):
    """A fit that its own diagnostics do not trust."""

    def __init__(self, diagnostics: Diagnostics) -> None:
        super().__init__(
            f"the fit is no sample of the posterior: {'; '.join(diagnostics.problems)}. "
            'Draw more, or use method="quadrature"; strict=False returns it with these problems'
        )
        self.diagnostics = diagnostics


def judged(*, r_hat: float, ess_bulk: float, ess_tail: float, divergences: int) -> Diagnostics:
    """The problems that these numbers of a sampler show; nan, of chains that never moved, is one.

    References
    ----------
    Vehtari et al. (2021), see above; Betancourt (2017), A conceptual introduction to Hamiltonian Monte
    Carlo, section 6.2: one divergence after tuning already tells of a region that was not explored.

    Examples
    --------
    >>> judged(r_hat=1.002, ess_bulk=1900.0, ess_tail=2100.0, divergences=3).problems
    ('3 divergences, must be 0',)
    """
    problems = []
    if not r_hat < R_HAT_BELOW:
        problems.append(f"R-hat {r_hat:.3f}, must be below {R_HAT_BELOW}")
    for name, size in (("bulk", ess_bulk), ("tail", ess_tail)):
        if not size > LEAST_EFFECTIVE:
            problems.append(f"{name} effective sample size {size:.0f}, must be above {LEAST_EFFECTIVE:.0f}")
    if divergences:
        problems.append(f"{divergences} divergences, must be 0")
    return Diagnostics(tuple(problems), r_hat, ess_bulk, ess_tail, divergences)


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """What is believed of each arm's segments as a whole; shape (arm,).

    Attributes
    ----------
    mean, mean_interval : Of the distribution that the arm's segments are drawn from, in the metric's unit.
    concentration, concentration_interval : Trials that the arm's mean is worth beside a segment's own; the
        median, because the mean is infinite.
    intraclass, intraclass_interval : 1 / (1 + concentration), its mean: the share of an outcome's variance
        that lies between segments.
    """

    mean: Float64[np.ndarray, " arm"]
    mean_interval: Interval
    concentration: Float64[np.ndarray, " arm"]
    concentration_interval: Interval
    intraclass: Float64[np.ndarray, " arm"]
    intraclass_interval: Interval


@dataclass(frozen=True, slots=True, eq=False)
class Rates:
    """Rates of arms, beside each other; shape (segment, arm), or (arm,) of all segments together.

    Attributes
    ----------
    mean, interval : Posterior mean and equal-tailed interval, in the unit of the metric.
    probability_best : That the arm has the highest rate; sums to 1 over the arms.
    probability_better : Than the control; 0.5 for the control itself.
    lift, lift_interval : Arm minus control; 0 for the control itself.
    """

    mean: Float64[np.ndarray, "*batch arm"]
    interval: Interval
    probability_best: Float64[np.ndarray, "*batch arm"]
    probability_better: Float64[np.ndarray, "*batch arm"]
    lift: Float64[np.ndarray, "*batch arm"]
    lift_interval: Interval


@dataclass(frozen=True, slots=True, eq=False)
class SegmentsFit:
    """What is believed of every arm in every segment.

    Attributes
    ----------
    population : Of each arm, shape (arm,).
    segments : Rates of shape (segment, arm).
    shrinkage : How far each segment's own rate was drawn to its arm's mean, in [0, 1]; (segment, arm).
    weights : Of the segments in `overall`, shape (segment,), sum 1.
    overall : Rates of all segments together, shape (arm,).
    confidence_level : Of all intervals.
    method : "quadrature" or "nuts".
    diagnostics : What the sampler, or the quadrature, says about itself.
    """

    population: Population
    segments: Rates
    shrinkage: Float64[np.ndarray, "segment arm"]
    weights: Float64[np.ndarray, " segment"]
    overall: Rates
    confidence_level: float
    method: Literal["quadrature", "nuts"]
    diagnostics: Diagnostics

    def plot(
        self,
        *,
        segments: Sequence[str],
        arms: Sequence[str],
        control: int,
        metric: Metric,
        theme: str = "light",
    ) -> Any:
        """A forest: how far every arm lies from the control in every segment, and in all together.

        Parameters
        ----------
        segments, arms : Names, in the order of the counts.
        control : As for `fit_segments`.
        metric : Names the axis.
        theme : "light" or "dark".

        Raises
        ------
        ValueError
            Names that do not fit.
        ExtraMissing
            Altair is not installed: the extra `science`.
        """
        from engine.pictures.lifts import fitted_segments

        return fitted_segments(
            self, segments=segments, arms=arms, control=control, metric=metric, theme=theme
        )
