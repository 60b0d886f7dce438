"""Differences from the control that stay right after a bandit, from counts per allocation.

Under a split that moved with the outcomes, the plain difference of means is wrong twice: a variant that was
unlucky early got few calls and keeps its bad luck, and when good days and large shares coincide, the mix of
days passes for an effect (Simpson). Within one allocation the split stands still. So each unit is weighed
by the logged probability of what it was given, around a prediction made without it.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.special import ndtri

from engine.checks import Numbers, check_arm, check_confidence_level, finite_numbers, refuse_where
from engine.sequential import SHRINKAGE, confidence_sequence
from engine.statistics import BinaryCounts, Interval, Moments

FIRST_GUESS = 0.5  # of a metric in [0, 1], before anything is known


@dataclass(frozen=True, slots=True, eq=False)
class AipwEstimate:
    """Arm minus control; shape (..., arm), nan for the control and where nothing can be compared.

    Attributes
    ----------
    estimate, standard_error : In the unit of the metric.
    n : Units behind it: all that had an outcome while both arms were served.
    """

    estimate: Float64[np.ndarray, "*batch arm"]
    standard_error: Float64[np.ndarray, "*batch arm"]
    n: Float64[np.ndarray, "*batch arm"]

    def interval(self, confidence_level: float = 0.95) -> Interval:
        """For one look at a size that was planned beforehand."""
        half = ndtri((1.0 + check_confidence_level(confidence_level)) / 2.0) * self.standard_error
        return Interval(lower=self.estimate - half, upper=self.estimate + half)

    def sequence(self, *, planned: float | int, confidence_level: float = 0.95) -> Interval:
        """For as many looks as one likes, narrowest at `planned` units; see `confidence_sequence`."""
        return confidence_sequence(
            self.estimate,
            self.standard_error,
            n=np.maximum(self.n, 1.0),
            planned=planned,
            confidence_level=confidence_level,
        )


def aipw_estimate(
    statistics: BinaryCounts | Moments, probability: Numbers, *, control: int, in_unit_interval: bool = True
) -> AipwEstimate:
    """Augmented inverse-probability-weighted differences from the control.

    A unit's pseudo-outcome for arm a is G = m + 1{given a} (y - m) / pi, and the estimate is the mean of
    G_a - G_control. The prediction m comes from earlier allocations and the other units of its own one, never
    from the unit itself, so G has exactly the mean of arm a, whatever m is worth. All of it is linear in the
    outcomes and needs only their sums. With one allocation it is the difference of means, but for
    1 / n of the way to the first guess.

    Parameters
    ----------
    statistics : Outcomes per allocation, in the order of time, and arm: shape (..., allocation, arm).
    probability : The splits, same shape or (allocation, arm); 0 where an arm was not served.
    control : Position of the control.
    in_unit_interval : Whether outcomes lie in [0, 1]; then each arm's sum of squares has 1 added, so that
        100 successes of 100 do not pass for certainty.

    Returns
    -------
    One estimate per arm; a contrast uses the allocations that served both arms (concurrent control).

    Raises
    ------
    ValueError
        Shapes that do not fit, a probability outside [0, 1], outcomes of an arm that was not served.

    References
    ----------
    Robins, Rotnitzky and Zhao (1994), JASA 89 (the estimator). Hadad, Hirshberg, Zhan, Wager and Athey (2021),
    PNAS 118 (under adaptive allocation). Wu and Gagnon-Bartsch (2018), Evaluation Review 42 (leave one out).

    Examples
    --------
    >>> counts = BinaryCounts(n=[[100, 100], [20, 180]], successes=[[60, 70], [8, 90]])
    >>> found = aipw_estimate(counts, [[0.5, 0.5], [0.1, 0.9]], control=0)
    >>> found.estimate.round(3), found.standard_error.round(3)
    (array([  nan, 0.101]), array([ nan, 0.07]))
    """
    moments = statistics.as_moments()
    if moments.n.ndim < 2:
        raise ValueError(f"statistics have shape {moments.n.shape}, must be (..., allocation, arm)")
    arms = moments.n.shape[-1]
    check_arm(control, arms=arms)
    pi = np.broadcast_to(_probabilities(probability), moments.n.shape)
    unserved = (pi == 0.0) & (moments.n > 0)
    rule = "must be 0 where the split has no share for the arm; check the order of the allocations"
    refuse_where(unserved, moments.n, name="statistics.n", rule=rule)
    lines = _pseudo_outcomes(moments, pi, in_unit_interval)
    found = [_contrast(lines, moments, pi, arm, control, in_unit_interval) for arm in range(arms)]
    estimate, error, n = (np.stack(part, axis=-1) for part in zip(*found, strict=True))
    return AipwEstimate(estimate=estimate, standard_error=error, n=n)


@dataclass(frozen=True, slots=True, eq=False)
class _Lines:
    """What each unit contributes to an arm, all of shape (..., allocation, arm).

    A unit given the arm has the pseudo-outcome slope y + offset, any other has `prediction`.
    """

    slope: np.ndarray
    offset: np.ndarray
    prediction: np.ndarray


def _pseudo_outcomes(moments: Moments, pi: np.ndarray, in_unit_interval: bool) -> _Lines:
    n = moments.n.astype(np.float64)
    past_n, past_total = _before(n), _before(moments.total)
    pool = _pool(past_n.sum(axis=-1), past_total.sum(axis=-1), in_unit_interval)[..., None]
    guess = (past_total + SHRINKAGE * pool) / (past_n + SHRINKAGE)
    strength = np.minimum(1.0 + past_n, SHRINKAGE)
    known = strength * guess + moments.total
    others = np.maximum(strength + n - 1.0, strength)
    weight = np.divide(1.0, pi, out=np.zeros_like(pi), where=pi > 0.0)
    return _Lines(
        slope=weight - (1.0 - weight) / others,
        offset=(1.0 - weight) * known / others,
        prediction=known / (strength + n),
    )


def _pool(n: np.ndarray, total: np.ndarray, in_unit_interval: bool) -> np.ndarray:
    if in_unit_interval:
        return np.asarray((total + 2.0 * FIRST_GUESS) / (n + 2.0))
    return np.asarray(total / np.maximum(n, 1.0))


def _before(values: np.ndarray) -> np.ndarray:
    """Sums over the earlier allocations."""
    return np.asarray(np.cumsum(values, axis=-2) - values)


def _contrast(
    lines: _Lines, moments: Moments, pi: np.ndarray, arm: int, control: int, in_unit_interval: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    both = (pi[..., arm] > 0.0) & (pi[..., control] > 0.0)
    n = np.where(both[..., None], moments.n, 0).astype(np.float64)
    units = np.asarray(n.sum(axis=(-2, -1)))
    nothing = np.full(units.shape, np.nan)
    if arm == control:
        return nothing, nothing, units
    apart = lines.prediction[..., arm] - lines.prediction[..., control]
    given = _Line(lines.slope[..., arm], lines.offset[..., arm] - lines.prediction[..., control])
    held = _Line(-lines.slope[..., control], lines.prediction[..., arm] - lines.offset[..., control])
    rest = n.sum(axis=-1) - n[..., arm] - n[..., control]
    first = np.where(both, given.total(moments, arm) + held.total(moments, control) + rest * apart, 0.0)
    second = np.where(
        both, given.squares(moments, arm) + held.squares(moments, control) + rest * apart**2, 0.0
    )
    known = (n[..., arm].sum(axis=-1) > 0) & (n[..., control].sum(axis=-1) > 0)
    size = np.where(known, units, np.nan)
    mean = first.sum(axis=-1) / size
    variance = np.maximum(second.sum(axis=-1) / size - mean**2, 0.0) / size
    if in_unit_interval:
        with np.errstate(divide="ignore"):
            variance = variance + n[..., arm].sum(axis=-1) ** -2.0 + n[..., control].sum(axis=-1) ** -2.0
    return np.asarray(mean), np.asarray(np.sqrt(variance)), units


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    """slope y + offset, shape (..., allocation)."""

    slope: np.ndarray
    offset: np.ndarray

    def total(self, moments: Moments, arm: int) -> np.ndarray:
        return np.asarray(self.slope * moments.total[..., arm] + moments.n[..., arm] * self.offset)

    def squares(self, moments: Moments, arm: int) -> np.ndarray:
        mixed = 2.0 * self.slope * self.offset * moments.total[..., arm]
        return np.asarray(
            self.slope**2 * moments.total_sq[..., arm] + mixed + moments.n[..., arm] * self.offset**2
        )


def _probabilities(values: Numbers) -> Float64[np.ndarray, "..."]:
    pi = finite_numbers(values, name="probability")
    rule = "must be in [0, 1]; give shares, not basis points"
    refuse_where((pi < 0.0) | (pi > 1.0), pi, name="probability", rule=rule)
    return pi
