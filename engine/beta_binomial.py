"""Success rates as Beta posteriors: which arm is best, by how much, and what a wrong choice costs.

Everything is quadrature on the logit scale, no sampling: the same counts give the same 12 digits.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64
from scipy import special

from engine import beta_comparison
from engine.beta_blunt import blunt_quantiles
from engine.beta_comparison import Against, against_control, mean_difference
from engine.beta_difference import difference_quantile, ratio_quantile
from engine.beta_lattice import MOST_ARMS, Lattice, lattice_of
from engine.beta_pairs import lift_quantiles
from engine.beta_table import BetaTable, beta_table, is_ordinary
from engine.checks import (
    Numbers,
    check_arm,
    check_confidence_level,
    check_probability,
    finite_numbers,
    refuse_where,
)
from engine.statistics import BinaryCounts, Interval

SMALLEST_SHAPE = 0.01


@dataclass(frozen=True, eq=False)
class BetaPosterior:
    """One Beta distribution per arm: what is known about its success rate.

    Parameters
    ----------
    alpha : Shape (arm,), prior successes plus successes, at least 0.01.
    beta : Shape (arm,), prior failures plus failures, at least 0.01.

    Raises
    ------
    ValueError
        A shape parameter below 0.01 or not finite, no arm at all, or different lengths.

    Examples
    --------
    >>> posterior = BetaPosterior.from_counts(BinaryCounts(n=[10, 10], successes=[3, 7]))
    >>> posterior.mean.round(3)
    array([0.333, 0.667])
    """

    alpha: Float64[np.ndarray, " arm"]
    beta: Float64[np.ndarray, " arm"]

    def __post_init__(self) -> None:
        for name in ("alpha", "beta"):
            object.__setattr__(self, name, _shape_parameter(getattr(self, name), name))
        if self.alpha.shape != self.beta.shape:
            raise ValueError(
                f"beta has {self.beta.size} entries, must have {self.alpha.size}; give one per arm"
            )

    @classmethod
    def from_counts(
        cls, counts: BinaryCounts, prior: tuple[Numbers, Numbers] = (1.0, 1.0)
    ) -> "BetaPosterior":
        """Add the counts, shape (arm,), to the prior (successes, failures): scalars or shape (arm,)."""
        arms = counts.n.size
        alpha, beta = (_shape_parameter(part, f"prior[{i}]") for i, part in enumerate(prior))
        for i, part in enumerate((alpha, beta)):
            if part.size not in (1, arms):
                raise ValueError(
                    f"prior[{i}] has {part.size} entries, must have 1 or {arms}; give one per arm"
                )
        return cls(alpha + counts.successes, beta + (counts.n - counts.successes))

    @property
    def mean(self) -> Float64[np.ndarray, " arm"]:
        """Expected success rate, shape (arm,)."""
        return np.asarray(self.alpha / (self.alpha + self.beta))

    @property
    def sd(self) -> Float64[np.ndarray, " arm"]:
        """Standard deviation of the success rate, shape (arm,)."""
        n = self.alpha + self.beta
        return np.asarray(np.sqrt(self.alpha / n * (self.beta / n) / (n + 1.0)))

    @cached_property
    def ordinary(self) -> Bool[np.ndarray, " arm"]:
        """Arms that have a place in `table`."""
        return is_ordinary(self.alpha, self.beta)

    @cached_property
    def table(self) -> BetaTable:
        """Distribution functions of the ordinary arms."""
        return beta_table(self.alpha[self.ordinary], self.beta[self.ordinary])

    @cached_property
    def lattice(self) -> Lattice | None:
        """All arms on one lattice of points; None where they are too many or too unlike."""
        if self.alpha.size > MOST_ARMS or not self.ordinary.all():
            return None
        return lattice_of(self.table)

    def quantile(self, probability: float) -> Float64[np.ndarray, " arm"]:
        """Success rate that lies above `probability` of the posterior mass, shape (arm,)."""
        check_probability(probability, name="probability")
        return np.asarray(special.betaincinv(self.alpha, self.beta, probability))

    def interval(self, confidence_level: float = 0.95) -> Interval:
        """Equal-tailed credible interval, shape (arm,) each end.

        The upper end counts from above: 1 - 1e-10 is not a float64, so `quantile` would lose 9 digits.
        """
        tail = (1.0 - check_confidence_level(confidence_level)) / 2.0
        upper = np.asarray(special.betainccinv(self.alpha, self.beta, tail))
        return Interval(lower=self.quantile(tail), upper=upper)


@dataclass(frozen=True, slots=True, eq=False)
class Lift:
    """How far each arm lies above the control; shape (arm,), the control's own row is 0.

    Attributes
    ----------
    absolute_mean, absolute_lower, absolute_upper : Of arm minus control, in the unit of the metric.
    relative_median, relative_lower, relative_upper : Of arm / control - 1; 0.1 is 10 % more.
    relative_mean : Its mean; nan where infinite, which is where the control's alpha is at most 1.
    """

    absolute_mean: Float64[np.ndarray, " arm"]
    absolute_lower: Float64[np.ndarray, " arm"]
    absolute_upper: Float64[np.ndarray, " arm"]
    relative_mean: Float64[np.ndarray, " arm"]
    relative_median: Float64[np.ndarray, " arm"]
    relative_lower: Float64[np.ndarray, " arm"]
    relative_upper: Float64[np.ndarray, " arm"]


@dataclass(frozen=True, slots=True, eq=False)
class BestArm:
    """Which arm is best and what a wrong choice costs, both of shape (arm,).

    Attributes
    ----------
    probability : See `probability_best`.
    expected_loss : See `expected_loss`.
    """

    probability: Float64[np.ndarray, " arm"]
    expected_loss: Float64[np.ndarray, " arm"]


def best_arm(posterior: BetaPosterior) -> BestArm:
    """`probability_best` and `expected_loss` from one integration, for the time of one of them.

    Parameters
    ----------
    posterior : Beta posteriors in the order of the arms.

    Returns
    -------
    Both, with the same digits as the two functions.

    Raises
    ------
    ArithmeticError
        As `probability_best`.

    Examples
    --------
    >>> best = best_arm(BetaPosterior(alpha=np.array([2.0, 1.0]), beta=np.array([1.0, 1.0])))
    >>> best.probability.round(4), best.expected_loss.round(4)
    (array([0.6667, 0.3333]), array([0.0833, 0.25  ]))
    """
    best = beta_comparison.best_arm(posterior.alpha, posterior.beta)
    return BestArm(probability=best.probability, expected_loss=best.loss)


def probability_best(posterior: BetaPosterior) -> Float64[np.ndarray, " arm"]:
    """How probable it is that each arm has the highest success rate.

    Parameters
    ----------
    posterior : Beta posteriors in the order of the arms.

    Returns
    -------
    Shape (arm,), sums to 1; absolute error at most 1e-10, usually 1e-13.

    Raises
    ------
    ArithmeticError
        The quadrature misses a sum of 1 by more than 1e-10 even on finer panels.

    References
    ----------
    Scott (2010), A modern Bayesian look at the multi-armed bandit, equation 8, by Gauss-Legendre panels.

    Examples
    --------
    >>> probability_best(BetaPosterior(alpha=np.array([2.0, 1.0]), beta=np.array([1.0, 1.0])))
    array([0.66666667, 0.33333333])
    """
    return beta_comparison.best_arm(posterior.alpha, posterior.beta).probability


def expected_loss(posterior: BetaPosterior) -> Float64[np.ndarray, " arm"]:
    """What choosing each arm costs on average, in points of the success rate.

    Parameters
    ----------
    posterior : Beta posteriors in the order of the arms.

    Returns
    -------
    Shape (arm,), E[max_j theta_j - theta_i], each entry in [0, 1]; a loss of 1e-17 has 10 correct digits.

    Raises
    ------
    ArithmeticError
        As `probability_best`.

    References
    ----------
    Stucchio (2015), Bayesian A/B Testing at VWO, section 4.

    Examples
    --------
    >>> expected_loss(BetaPosterior(alpha=np.array([80.0, 60.0]), beta=np.array([20.0, 40.0]))).round(3)
    array([0. , 0.2])
    """
    return beta_comparison.best_arm(posterior.alpha, posterior.beta).loss


def probability_better(posterior: BetaPosterior, *, control: int) -> Float64[np.ndarray, " arm"]:
    """P(theta_arm > theta_control), each arm against the control alone.

    Parameters
    ----------
    posterior : Beta posteriors in the order of the arms.
    control : Position of the control.

    Returns
    -------
    Shape (arm,), 0.5 for the control itself; a probability of 1e-14 has 10 correct digits.

    Raises
    ------
    ValueError
        A control that is no arm.
    ArithmeticError
        Both tails miss a sum of 1 by more than 1e-10 even on finer panels.

    Examples
    --------
    >>> probability_better(BetaPosterior(np.array([1.0, 2.0]), np.array([2.0, 1.0])), control=0)
    array([0.5       , 0.83333333])
    """
    return _against(posterior, control).better


def probability_worse(posterior: BetaPosterior, *, control: int) -> Float64[np.ndarray, " arm"]:
    """P(theta_arm < theta_control): the other tail of `probability_better`, exact where that is 1 - 1e-20.

    Shapes and errors as there; their sum is 1.

    Examples
    --------
    >>> probability_worse(BetaPosterior(np.array([1.0, 2.0]), np.array([2.0, 1.0])), control=0)
    array([0.5       , 0.16666667])
    """
    return _against(posterior, control).worse


def expected_loss_against(posterior: BetaPosterior, *, control: int) -> Float64[np.ndarray, " arm"]:
    """What taking each arm instead of the control costs on average: E[(theta_control - theta_arm)^+].

    Parameters
    ----------
    posterior : Beta posteriors in the order of the arms.
    control : Position of the control.

    Returns
    -------
    Shape (arm,) in points of the success rate, 0 for the control itself; tiny losses keep 10 digits.

    Raises
    ------
    ValueError, ArithmeticError
        As `probability_better`.

    Examples
    --------
    >>> expected_loss_against(BetaPosterior(np.array([1.0, 2.0]), np.array([2.0, 1.0])), control=0).round(4)
    array([0.    , 0.0333])
    """
    return _against(posterior, control).loss


def against(posterior: BetaPosterior, *, control: int) -> Against:
    """`probability_better`, `probability_worse` and `expected_loss_against` from one table, with the same digits.

    Examples
    --------
    >>> found = against(BetaPosterior(np.array([1.0, 2.0]), np.array([2.0, 1.0])), control=0)
    >>> found.better.round(4), found.loss.round(4)
    (array([0.5   , 0.8333]), array([0.    , 0.0333]))
    """
    return _against(posterior, control)


def lift(posterior: BetaPosterior, *, control: int, confidence_level: float = 0.95) -> Lift:
    """Absolute and relative lift of each arm over the control, with exact equal-tailed intervals.

    Zero lies outside the absolute interval exactly when it lies outside the relative one, and exactly when
    P(theta_arm > theta_control) or its complement is below (1 - confidence_level) / 2.

    Parameters
    ----------
    posterior : Beta posteriors in the order of the arms.
    control : Position of the control.
    confidence_level : Of both intervals, in (0, 1).

    Returns
    -------
    Arrays of shape (arm,). The mean ratio is mean_arm (n_c - 1) / (alpha_c - 1) and infinite for
    alpha_c <= 1: the control's rate may be 0 with too much weight. It is nan then; show the median.

    Raises
    ------
    ValueError
        A confidence level outside (0, 1), a control that is no arm.
    ArithmeticError
        The two sides of the distribution of the difference miss a sum of 1 by more than 1e-10.

    Examples
    --------
    >>> result = lift(BetaPosterior(np.array([70.0, 75.0]), np.array([20.0, 15.0])), control=0)
    >>> result.absolute_lower.round(4), result.absolute_upper.round(4)
    (array([ 0.    , -0.0592]), array([0.    , 0.1706]))
    """
    tail = (1.0 - check_confidence_level(confidence_level)) / 2.0
    arms = posterior.alpha.size
    check_arm(control, arms=arms)
    shapes = list(zip(posterior.alpha.tolist(), posterior.beta.tolist(), strict=True))
    rows = _quantiles(posterior, control, tail)
    for arm in np.flatnonzero(np.isnan(rows).any(axis=1)).tolist():
        pair = shapes[control], shapes[arm]
        absolute = [difference_quantile(*pair, tail, upper=upper) for upper in (False, True)]
        quantiles = ((0.5, False), (tail, False), (tail, True))
        relative = [ratio_quantile(*pair, share, upper=upper) for share, upper in quantiles]
        rows[arm] = absolute + relative
    alpha, n = shapes[control][0], sum(shapes[control])
    ratio = posterior.mean * (n - 1.0) / (alpha - 1.0) - 1.0 if alpha > 1.0 else np.full(arms, np.nan)
    ratio[control] = 0.0
    return Lift(
        absolute_mean=mean_difference(posterior.alpha, posterior.beta, control),
        absolute_lower=rows[:, 0],
        absolute_upper=rows[:, 1],
        relative_mean=ratio,
        relative_median=rows[:, 2],
        relative_lower=rows[:, 3],
        relative_upper=rows[:, 4],
    )


def _quantiles(posterior: BetaPosterior, control: int, tail: float) -> Float64[np.ndarray, "arm 5"]:
    """Both ends of the difference, median and both ends of the ratio; nan for what is left to the slow way."""
    rows = np.full((posterior.alpha.size, 5), np.nan)
    known = posterior.ordinary
    if known[control]:
        base = int(known[:control].sum())
        found = lift_quantiles(posterior.table, base, tail)
        found[base] = 0.0
        few = np.flatnonzero(np.isnan(found).any(axis=1))
        if few.size:
            found[few] = blunt_quantiles(posterior.table, base, few, tail)
        rows[known] = found
    rows[control] = 0.0
    return rows


def _shape_parameter(values: Numbers, name: str) -> Float64[np.ndarray, " arm"]:
    array = np.atleast_1d(finite_numbers(values, name=name))
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}, must be (arm,) with at least one arm")
    rule = f"must be at least {SMALLEST_SHAPE}; below it quantiles underflow, a weak prior is 0.5"
    refuse_where(array < SMALLEST_SHAPE, array, name=name, rule=rule)
    return array


def _against(posterior: BetaPosterior, control: int) -> Against:
    return against_control(posterior.alpha, posterior.beta, control, posterior.lattice)
