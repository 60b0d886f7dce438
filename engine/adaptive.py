"""Differences from the control that stay right after a bandit, from counts per allocation.

Under a split that moved with the outcomes, the plain difference of means is wrong twice: a variant that was
unlucky early got few calls and keeps its bad luck, and when good days and large shares coincide, the mix of
days passes for an effect (Simpson). Within one allocation the split stands still. So each unit is weighed
by the logged probability of what it was given, around a prediction made without it.
"""

from collections.abc import Sequence
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
    statistics: BinaryCounts | Moments,
    probability: Numbers,
    *,
    control: int,
    in_unit_interval: bool | Sequence[bool] = True,
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
        100 successes of 100 do not pass for certainty. One for each entry of the first axis, where they differ.

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
    bounded = np.asarray(in_unit_interval, dtype=bool).reshape(-1, *[1] * (moments.n.ndim - 1))
    if bounded.size == 1:
        bounded = bounded.reshape(())
    lines = _pseudo_outcomes(moments, pi, bounded)
    return _contrasts(lines, moments, pi, control, bounded)


@dataclass(frozen=True, slots=True, eq=False)
class _Lines:
    """What each unit contributes to an arm, all of shape (..., allocation, arm).

    A unit given the arm has the pseudo-outcome slope y + offset, any other has `prediction`.
    """

    slope: np.ndarray
    offset: np.ndarray
    prediction: np.ndarray


def _pseudo_outcomes(moments: Moments, pi: np.ndarray, bounded: np.ndarray) -> _Lines:
    n = moments.n.astype(np.float64)
    both = np.array((n, moments.total))
    past = np.cumsum(both, axis=-2) - both  # sums over the earlier allocations
    past_n, past_total = past
    past_of_all = past.sum(axis=-1, keepdims=True)
    pool = _pool(past_of_all[0], past_of_all[1], bounded)
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


def _pool(n: np.ndarray, total: np.ndarray, bounded: np.ndarray) -> np.ndarray:
    """Two outcomes of the first guess come with what has bounds."""
    return np.asarray((total + 2.0 * FIRST_GUESS * bounded) / np.maximum(n + 2.0 * bounded, 1.0))


def _contrasts(
    lines: _Lines, moments: Moments, pi: np.ndarray, control: int, bounded: np.ndarray
) -> AipwEstimate:
    """All arms at once."""
    base = slice(control, control + 1)
    n, total, total_sq = moments.n.astype(np.float64), moments.total, moments.total_sq
    together = (pi > 0.0) & (pi[..., base] > 0.0)
    everyone, theirs = n.sum(axis=-1, keepdims=True) * together, n[..., base] * together
    slope, prediction = lines.slope, lines.prediction
    apart = prediction - prediction[..., base]
    given = _sums(n, total, total_sq, slope, lines.offset - prediction[..., base])
    held = _sums(
        theirs, total[..., base], total_sq[..., base], -slope[..., base], prediction - lines.offset[..., base]
    )
    rest = (everyone - n - theirs) * apart
    parts = np.array((given[0] + held[0] + rest, given[1] + held[1] + rest * apart, everyone, n, theirs))
    # Allocations last: along that axis numpy adds pairwise and loses least.
    parts = np.ascontiguousarray(np.swapaxes(parts * together, -1, -2)).sum(axis=-1)
    first, second, units, mine, theirs = parts
    known = (mine > 0) & (theirs > 0) & (np.arange(pi.shape[-1]) != control)
    size = np.where(known, units, np.nan)
    mean = first / size
    variance = np.maximum(second / size - mean**2, 0.0) / size
    with np.errstate(divide="ignore"):
        added = mine**-2.0 + theirs**-2.0
    variance = variance + np.where(bounded[..., 0] if bounded.ndim else bounded, added, 0.0)
    return AipwEstimate(estimate=mean, standard_error=np.sqrt(variance), n=units)


def _sums(
    n: np.ndarray, total: np.ndarray, total_sq: np.ndarray, slope: np.ndarray, offset: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sum of slope y + offset over n outcomes y, and of its square."""
    turned = slope * total
    found = turned + n * offset
    return found, slope * slope * total_sq + offset * (turned + found)


def _probabilities(values: Numbers) -> Float64[np.ndarray, "..."]:
    pi = finite_numbers(values, name="probability")
    rule = "must be in [0, 1]; give shares, not basis points"
    refuse_where((pi < 0.0) | (pi > 1.0), pi, name="probability", rule=rule)
    return pi
