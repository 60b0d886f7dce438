"""Means of scores and amounts as normal posteriors: the questions of `beta_binomial`, in the metric's unit.

The variance within an arm is taken as known. An arm with sd 0 is a point; if any arm has no information at
all (sd inf), nothing can be said about which is best, and every probability and loss is nan.
"""

from dataclasses import dataclass
from math import inf, isnan, nan

import numpy as np
from jaxtyping import Float64
from scipy import special

from engine import normal_comparison
from engine.beta_binomial import BestArm, Lift
from engine.checks import check_arm, check_confidence_level, refuse_where
from engine.normal_comparison import shortfall, standardised
from engine.statistics import Interval, Moments

# The ratio's distribution ignores that the control's mean may have the other sign: 3e-5 at 4 sd.
RELATIVE_FROM_SD = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class NormalPosterior:
    """One normal distribution per arm: what is known about its mean.

    Parameters
    ----------
    mean : Shape (arm,), unit of the metric; finite, or nan where sd is inf.
    sd : Shape (arm,), same unit, at least 0; 0 (or below the rounding of the means, 1e-15 of
        their spread) is a known mean, inf no information.

    Raises
    ------
    ValueError
        A negative or nan sd, a mean that is not finite, no arm at all, or different lengths.

    Examples
    --------
    >>> posterior = NormalPosterior.from_moments(Moments(n=[4, 4], total=[8.0, 12.0], total_sq=[20.0, 40.0]))
    >>> posterior.mean, posterior.sd.round(4)
    (array([2., 3.]), array([0.5774, 0.5774]))
    """

    mean: Float64[np.ndarray, " arm"]
    sd: Float64[np.ndarray, " arm"]

    def __post_init__(self) -> None:
        mean, sd = (np.atleast_1d(np.array(value, dtype=np.float64)) for value in (self.mean, self.sd))
        if mean.ndim != 1 or mean.size == 0 or mean.shape != sd.shape:
            raise ValueError(
                f"mean and sd have shapes {mean.shape} and {sd.shape}, must be one entry per arm"
            )
        refuse_where(~(sd >= 0.0), sd, name="sd", rule="must be at least 0; use inf for no information")
        unknown = ~np.isfinite(mean) & np.isfinite(sd)
        refuse_where(unknown, mean, name="mean", rule="must be finite; use sd = inf for no information")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "sd", sd)

    @classmethod
    def from_moments(
        cls, moments: Moments, *, prior_mean: float = 0.0, prior_sd: float = inf
    ) -> "NormalPosterior":
        """Combine the moments, shape (arm,), with a normal prior on each mean; flat by default.

        An arm with fewer than two values, or with equal ones, borrows the pooled variance within the other
        arms. Where those have none either: equal values give sd 0, a single value leaves the prior.
        """
        if isnan(prior_mean) or abs(prior_mean) == inf:
            raise ValueError(
                f"prior_mean == {prior_mean!r}, must be finite; use prior_sd = inf for a flat prior"
            )
        if not prior_sd > 0.0:
            raise ValueError(f"prior_sd == {prior_sd!r}, must be greater than 0; inf is a flat prior")
        n = moments.n.astype(np.float64)
        noise = np.divide(_borrowed_variance(moments), n, out=np.full(n.shape, inf), where=n > 0.0)
        noise = np.where(np.isnan(noise), inf, noise)
        if prior_sd == inf:
            return cls(np.where(np.isfinite(noise), moments.mean, nan), np.sqrt(noise))
        with np.errstate(divide="ignore"):  # a noise of 0 leaves the prior no weight
            prior_weight = 1.0 / (1.0 + prior_sd**2 / noise)
        own = np.where(np.isfinite(noise), moments.mean, prior_mean)
        return cls(own + prior_weight * (prior_mean - own), prior_sd * np.sqrt(prior_weight))

    def interval(self, confidence_level: float = 0.95) -> Interval:
        """Equal-tailed credible interval, shape (arm,) each end; infinite where sd is."""
        tail = (1.0 - check_confidence_level(confidence_level)) / 2.0
        reach = -float(special.ndtri(tail)) * self.sd
        centre = np.where(np.isfinite(self.sd), self.mean, 0.0)
        return Interval(lower=centre - reach, upper=centre + reach)


def best_arm(posterior: NormalPosterior) -> BestArm:
    """`probability_best` and `expected_loss` from one integration, with the same digits.

    Examples
    --------
    >>> best = best_arm(NormalPosterior(np.array([0.0, 0.1]), np.array([0.03, 0.04])))
    >>> best.probability.round(4), best.expected_loss.round(4)
    (array([0.0228, 0.9772]), array([0.1004, 0.0004]))
    """
    best, loss = _best(posterior)
    return BestArm(probability=best, expected_loss=loss)


def probability_best(posterior: NormalPosterior) -> Float64[np.ndarray, " arm"]:
    """How probable it is that each arm has the highest mean.

    Parameters
    ----------
    posterior : Normal posteriors in the order of the arms.

    Returns
    -------
    Shape (arm,), sums to 1, absolute error at most 1e-10; points (sd 0) that tie share. All nan if an sd is
    inf.

    Raises
    ------
    ArithmeticError
        The quadrature misses a sum of 1 by more than 1e-10 even on finer panels.

    References
    ----------
    The integral of density_i prod_{j != i} Phi_j by Gauss-Legendre panels, as for the Beta posterior.

    Examples
    --------
    >>> probability_best(NormalPosterior(np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.5, 0.5]))).round(4)
    array([0.0013, 0.0783, 0.9203])
    """
    return _best(posterior)[0]


def expected_loss(posterior: NormalPosterior) -> Float64[np.ndarray, " arm"]:
    """What choosing each arm costs on average: E[max_j theta_j - theta_i] in the unit of the metric.

    Shape (arm,), errors and nan as `probability_best`; tiny losses keep 10 digits.

    Examples
    --------
    >>> expected_loss(NormalPosterior(np.array([0.0, 0.1]), np.array([0.03, 0.04]))).round(7)
    array([0.1004245, 0.0004245])
    """
    return _best(posterior)[1]


def probability_better(posterior: NormalPosterior, *, control: int) -> Float64[np.ndarray, " arm"]:
    """P(theta_arm > theta_control), shape (arm,): closed form; 0.5 for the control and for tied points.

    Raises ValueError for a control that is no arm; all nan if an sd is inf.

    Examples
    --------
    >>> probability_better(NormalPosterior(np.array([0.0, 1.0]), np.array([0.6, 0.8])), control=0).round(4)
    array([0.5   , 0.8413])
    """
    lead, spread = _difference(posterior, control)
    step = np.where(lead == 0.0, 0.5, np.where(lead > 0.0, 1.0, 0.0))
    better = np.where(spread > 0.0, special.ndtr(standardised(lead, spread)), step)
    return np.where(_unknown(posterior), nan, better)


def expected_loss_against(posterior: NormalPosterior, *, control: int) -> Float64[np.ndarray, " arm"]:
    """E[(theta_control - theta_arm)^+], shape (arm,), unit of the metric; 0 for the control itself.

    Errors and nan as `probability_better`.

    Examples
    --------
    >>> expected_loss_against(NormalPosterior(np.array([0.0, 1.0]), np.array([0.6, 0.8])), control=0).round(4)
    array([0.    , 0.0833])
    """
    lead, spread = _difference(posterior, control)
    loss = shortfall(np.abs(lead), spread) + np.maximum(-lead, 0.0)
    loss[control] = 0.0
    return np.where(_unknown(posterior), nan, loss)


def lift(posterior: NormalPosterior, *, control: int, confidence_level: float = 0.95) -> Lift:
    """Absolute and relative lift of each arm over the control, with equal-tailed intervals.

    Parameters
    ----------
    posterior : Normal posteriors in the order of the arms.
    control : Position of the control.
    confidence_level : Of both intervals, in (0, 1).

    Returns
    -------
    Arrays of shape (arm,). Absolute: exact. Relative: (theta_arm - theta_control) / |theta_control|, so that
    higher is better for a negated metric too, by Fieller's approximation, which takes the control's sign as
    known; nan unless the control's mean is at least 4 sd (and the interval's own quantile) from 0.
    `relative_mean` is always nan: the mean of a ratio of normals does not exist. Unknown arms are nan.

    Raises
    ------
    ValueError
        A confidence level outside (0, 1), a control that is no arm.

    References
    ----------
    Fieller (1954), Some problems in interval estimation, J. R. Statist. Soc. B 16, 175-185.

    Examples
    --------
    >>> result = lift(NormalPosterior(np.array([10.0, 11.0]), np.array([0.1, 0.1])), control=0)
    >>> result.relative_lower.round(4), result.relative_upper.round(4)
    (array([0.    , 0.0713]), array([0.    , 0.1296]))
    """
    z = -float(special.ndtri((1.0 - check_confidence_level(confidence_level)) / 2.0))
    lead, spread = _difference(posterior, control)
    missing = np.full(lead.shape, nan)
    own = np.arange(lead.size) == control
    missing[control] = 0.0
    median, lower, upper = missing, missing, missing
    mean, sd = float(posterior.mean[control]), float(posterior.sd[control])
    if abs(mean) >= RELATIVE_FROM_SD * sd and abs(mean) > z * sd:
        median, lower, upper = _fieller(lead, posterior.sd, mean, sd, z)

    def known(values: np.ndarray) -> np.ndarray:
        return np.where(own, 0.0, np.where(np.isfinite(spread), values, nan))

    with np.errstate(invalid="ignore"):  # an unknown arm: nan - inf
        ends = known(lead - z * spread), known(lead + z * spread)
    return Lift(
        absolute_mean=known(lead),
        absolute_lower=ends[0],
        absolute_upper=ends[1],
        relative_mean=missing,
        relative_median=known(median),
        relative_lower=known(lower),
        relative_upper=known(upper),
    )


def _fieller(
    lead: np.ndarray, sd: np.ndarray, control_mean: float, control_sd: float, z: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Median, lower and upper r = (arm - control) / |control|, where arm - (1 + r) control is z sd from 0.

    Two real roots of a quadratic, since the control's mean is more than z sd from 0. For a negative control
    the mirrored problem is solved.
    """
    if control_mean < 0.0:
        median, lower, upper = _fieller(-lead, sd, -control_mean, control_sd, z)
        return -median, -upper, -lower
    # In units of the control's mean: squares of a mean of 1e-200 would be 0.
    with np.errstate(over="ignore", invalid="ignore"):  # an arm 1e308 times as large, or unknown
        lead, sd, noise = lead / control_mean, sd / control_mean, control_sd / control_mean
        a, b = (1.0 - z * noise) * (1.0 + z * noise), lead + (z * noise) ** 2
        root = z * np.hypot(sd * np.sqrt(a), noise * (lead + 1.0))
        return lead, (b - root) / a, (b + root) / a


def _difference(posterior: NormalPosterior, control: int) -> tuple[np.ndarray, np.ndarray]:
    c = check_arm(control, arms=posterior.mean.size)
    return posterior.mean - posterior.mean[c], np.hypot(posterior.sd, posterior.sd[c])


def _unknown(posterior: NormalPosterior) -> bool:
    return bool(np.any(np.isinf(posterior.sd)))


def _borrowed_variance(moments: Moments) -> np.ndarray:
    """Variance within each arm, from the other arms where it has none of its own; nan if none has."""
    own, freedom = moments.variance, np.maximum(moments.n - 1.0, 0.0)
    squares = np.where(freedom > 0.0, freedom * own, 0.0)
    others, elsewhere = freedom.sum() - freedom, squares.sum() - squares
    pooled = np.divide(elsewhere, others, out=own.copy(), where=others > 0.0)
    return np.where(squares > 0.0, own, pooled)


def _best(posterior: NormalPosterior) -> tuple[np.ndarray, np.ndarray]:
    if _unknown(posterior):
        return np.full(posterior.mean.size, nan), np.full(posterior.mean.size, nan)
    return normal_comparison.best_arm(posterior.mean, posterior.sd)
