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
    past_n, past_total = _before(n), _before(moments.total)
    pool = _pool(past_n.sum(axis=-1, keepdims=True), past_total.sum(axis=-1, keepdims=True), bounded)
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


def _before(values: np.ndarray) -> np.ndarray:
    """Sums over the earlier allocations."""
    return np.asarray(np.cumsum(values, axis=-2) - values)


def _contrasts(
    lines: _Lines, moments: Moments, pi: np.ndarray, control: int, bounded: np.ndarray
) -> AipwEstimate:
    """All arms at once; from here on arrays have shape (..., arm, allocation)."""
    slope, offset, prediction = _turned(lines.slope), _turned(lines.offset), _turned(lines.prediction)
    sums = _Sums(_turned(moments.n), _turned(moments.total), _turned(moments.total_sq))
    n, base = sums.n.astype(np.float64), slice(control, control + 1)
    of_control = sums.of(base)
    served = _turned(pi) > 0.0
    both = served & served[..., base, :]
    mine, theirs = np.where(both, n, 0.0), np.where(both, n[..., base, :], 0.0)
    everyone = np.where(both, n.sum(axis=-2, keepdims=True), 0.0)
    apart = prediction - prediction[..., base, :]
    given = _Line(slope, offset - prediction[..., base, :])
    held = _Line(-slope[..., base, :], prediction - offset[..., base, :])
    rest = everyone - mine - theirs
    first = np.where(both, given.total(sums) + held.total(of_control) + rest * apart, 0.0)
    second = np.where(both, given.squares(sums) + held.squares(of_control) + rest * apart**2, 0.0)
    units, mine, theirs = everyone.sum(axis=-1), mine.sum(axis=-1), theirs.sum(axis=-1)
    known = (mine > 0) & (theirs > 0) & (np.arange(pi.shape[-1]) != control)
    size = np.where(known, units, np.nan)
    mean = first.sum(axis=-1) / size
    variance = np.maximum(second.sum(axis=-1) / size - mean**2, 0.0) / size
    with np.errstate(divide="ignore"):
        added = mine**-2.0 + theirs**-2.0
    variance = variance + np.where(bounded[..., 0] if bounded.ndim else bounded, added, 0.0)
    return AipwEstimate(estimate=mean, standard_error=np.sqrt(variance), n=units)


def _turned(values: np.ndarray) -> np.ndarray:
    """Arms before allocations: sums run over the last axis, where numpy adds pairwise and loses least."""
    return np.ascontiguousarray(np.swapaxes(values, -1, -2))


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    """Moments, shape (..., arm, allocation)."""

    n: np.ndarray
    total: np.ndarray
    total_sq: np.ndarray

    def of(self, arms: slice) -> "_Sums":
        return _Sums(self.n[..., arms, :], self.total[..., arms, :], self.total_sq[..., arms, :])


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    """slope y + offset, shape (..., arm, allocation)."""

    slope: np.ndarray
    offset: np.ndarray

    def total(self, sums: _Sums) -> np.ndarray:
        return np.asarray(self.slope * sums.total + sums.n * self.offset)

    def squares(self, sums: _Sums) -> np.ndarray:
        mixed = 2.0 * self.slope * self.offset * sums.total
        return np.asarray(self.slope**2 * sums.total_sq + mixed + sums.n * self.offset**2)


def _probabilities(values: Numbers) -> Float64[np.ndarray, "..."]:
    pi = finite_numbers(values, name="probability")
    rule = "must be in [0, 1]; give shares, not basis points"
    refuse_where((pi < 0.0) | (pi > 1.0), pi, name="probability", rule=rule)
    return pi
