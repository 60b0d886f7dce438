"""Belief under drift: posteriors of a share or a mean, stratified by period.

When good days and large shares coincide, pooled counts mistake the day for the prompt. So each period is
estimated by itself and periods are weighed by their traffic, the same for every arm. A period is one
allocation or several: each arm served in it needs some outcomes, or its own estimate would be noise.

An arm that came later is compared with the control of its own periods only, and that lift is set upon the
control's level over all periods.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from engine.beta_binomial import SMALLEST_SHAPE, BetaPosterior
from engine.checks import Numbers, check_arm, finite_numbers
from engine.normal import NormalPosterior
from engine.statistics import BinaryCounts, Moments

LEAST_PER_ARM = 20  # outcomes of every served arm that make a period
FURTHEST = 1e-9  # from 0 and 1: a lift set upon the control's level may point out of [0, 1]


def merge_allocations(
    n: Numbers, served: Numbers, *, least: int = LEAST_PER_ARM
) -> Int64[np.ndarray, " allocation"]:
    """Which period each allocation belongs to, by how many outcomes there are, never by what they say.

    Parameters
    ----------
    n : Outcomes per allocation, in the order of time, and arm; shape (allocation, arm).
    served : Whether the arm had a share, same shape. A period never spans a change of the arms served.
    least : Outcomes that every served arm has in a period; what is left over joins the period before.

    Returns
    -------
    Shape (allocation,), from 0, never falling.

    Examples
    --------
    >>> merge_allocations([[30, 5], [30, 20], [9, 9]], [[1, 1], [1, 1], [1, 1]])
    array([0, 0, 0])
    >>> merge_allocations([[30, 25], [30, 20], [9, 9]], [[1, 1], [1, 1], [1, 1]])
    array([0, 1, 1])
    """
    counts = np.atleast_2d(finite_numbers(n, name="n"))
    shares = np.atleast_2d(np.asarray(served)).astype(bool)
    period = np.zeros(counts.shape[0], dtype=np.int64)
    current, have = 0, np.zeros(counts.shape[1])
    is_first = True  # of the periods with these arms
    for j in range(counts.shape[0]):
        if j and (shares[j] != shares[j - 1]).any():
            current, have, is_first = _close_rest(period, j, current, have, is_first), 0.0 * have, True
        period[j] = current
        have = have + counts[j]
        if (have[shares[j]] >= least).all():
            current, have, is_first = current + 1, 0.0 * have, False
    if counts.shape[0]:
        _close_rest(period, counts.shape[0], current, have, is_first)
    return period


def _close_rest(period: np.ndarray, end: int, current: int, have: np.ndarray, is_first: bool) -> int:
    """Join an unfinished period with the one before it, if that had the same arms; the next free number."""
    unfinished = period[:end] == current
    if not unfinished.any():
        return current
    if is_first:
        return current + 1
    period[:end][unfinished] = current - 1
    return current


@dataclass(frozen=True, slots=True, eq=False)
class _Level:
    """Mean and its variance per arm, shape (arm,), over all periods."""

    mean: np.ndarray
    variance: np.ndarray


def beta_posterior(
    counts: BinaryCounts, served: Numbers, *, control: int, prior: tuple[Numbers, Numbers] = (1.0, 1.0)
) -> BetaPosterior:
    """Posterior of each arm's success rate in the traffic of all periods.

    The prior is spread over an arm's periods, so it counts once, and one period gives the plain posterior.
    Mean and variance of the stratified rate become a Beta distribution again.

    Parameters
    ----------
    counts : Outcomes per period and arm, shape (period, arm); see `merge_allocations`.
    served : Whether the arm had a share in the period, same shape.
    control : Position of the control.
    prior : Successes and failures, scalars or shape (arm,).

    References
    ----------
    Cochran (1977), Sampling Techniques, 3rd ed., section 5A.9 (post-stratification).

    Examples
    --------
    >>> counts = BinaryCounts(n=[[90, 10], [10, 90]], successes=[[45, 5], [9, 81]])
    >>> pooled = counts.successes.sum(axis=0) / counts.n.sum(axis=0)
    >>> pooled, beta_posterior(counts, counts.n > 0, control=0).mean.round(2)
    (array([0.54, 0.86]), array([0.68, 0.7 ]))
    """
    used = _used(counts.n)
    counts = BinaryCounts.derived(counts.n[used], counts.successes[used])
    arms = counts.n.shape[1]
    check_arm(control, arms=arms)
    alpha, beta = (np.asarray(part, dtype=np.float64) for part in prior)
    if counts.n.shape[0] == 1:  # exactly, without the way through mean and variance
        return BetaPosterior(alpha + counts.successes[0], beta + (counts.n[0] - counts.successes[0]))
    present = _present(counts.n, np.asarray(served)[used], control)
    alpha, beta = (np.broadcast_to(part, (arms,)) for part in (alpha, beta))
    periods = np.maximum(present.sum(axis=0), 1)
    size = counts.n + (alpha + beta) / periods
    rate = (counts.successes + alpha / periods) / size
    level = _level(rate, rate * (1.0 - rate) / (size + 1.0), counts.n, present, control)
    known = np.isfinite(level.variance)
    mean = np.clip(np.where(known, level.mean, alpha / (alpha + beta)), FURTHEST, 1.0 - FURTHEST)
    strength = np.where(known, mean * (1.0 - mean) / level.variance - 1.0, alpha + beta)
    strength = np.maximum(strength, SMALLEST_SHAPE / np.minimum(mean, 1.0 - mean))
    # Once more: the product of a quotient may be smaller by a rounding error, and would be refused.
    alpha, beta = (np.maximum(part * strength, SMALLEST_SHAPE) for part in (mean, 1.0 - mean))
    return BetaPosterior(alpha, beta)


def normal_posterior(moments: Moments, served: Numbers, *, control: int) -> NormalPosterior:
    """Posterior of each arm's mean in the traffic of all periods; sd is inf where a mean is unknown.

    Parameters
    ----------
    moments : Outcomes per period and arm, shape (period, arm).
    served, control : As for `beta_posterior`.

    References
    ----------
    As `beta_posterior`.

    Examples
    --------
    >>> moments = Moments(n=[[2, 2], [2, 2]], total=[[2, 4], [6, 8]], total_sq=[[4, 10], [20, 34]])
    >>> normal_posterior(moments, moments.n > 0, control=0).mean
    array([2., 3.])
    """
    used = _used(moments.n)
    moments = Moments.derived(moments.n[used], moments.total[used], moments.total_sq[used])
    check_arm(control, arms=moments.n.shape[1])
    if moments.n.shape[0] == 1:
        first = Moments.derived(moments.n[0], moments.total[0], moments.total_sq[0])
        return NormalPosterior.from_moments(first)
    present = _present(moments.n, np.asarray(served)[used], control)
    # Where one outcome shows no spread, the arm's spread over all periods stands in.
    inside = np.where(present & (moments.n > 1), moments.variance * (moments.n - 1), 0.0).sum(axis=0)
    degrees = np.where(present, moments.n - 1, 0).sum(axis=0)
    pooled = np.divide(inside, degrees, out=np.full(degrees.shape, np.nan), where=degrees > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        own = np.where(moments.n >= LEAST_PER_ARM, moments.variance, pooled) / moments.n
    level = _level(moments.mean, own, moments.n, present & (moments.n > 0), control)
    known = np.isfinite(level.variance) & np.isfinite(level.mean)
    sd = np.sqrt(np.where(known, level.variance, np.inf))
    return NormalPosterior(mean=np.where(known, level.mean, np.nan), sd=sd)


def _used(n: np.ndarray) -> Bool[np.ndarray, " period"]:
    """Periods with any outcome; the last one where there is none."""
    if n.ndim != 2:
        raise ValueError(f"counts have shape {n.shape}, must be (period, arm)")
    used = np.asarray(n.sum(axis=1) > 0)
    used[-1] |= not used.any()
    return used


def _present(n: np.ndarray, served: Numbers, control: int) -> Bool[np.ndarray, "period arm"]:
    """Periods in which an arm is compared: it and the control were served."""
    check_arm(control, arms=n.shape[1])
    shares = np.broadcast_to(np.asarray(served).astype(bool), n.shape)
    together = shares & shares[:, [control]]
    return np.asarray(together if together.any() else shares)


def _level(
    value: np.ndarray, variance: np.ndarray, n: np.ndarray, present: np.ndarray, control: int
) -> _Level:
    traffic = n.sum(axis=1).astype(np.float64)[:, None]
    mine = np.where(present, traffic, 0.0)
    total = mine.sum(axis=0)
    weight = np.divide(mine, total, out=np.zeros_like(mine), where=total > 0.0)  # (period, arm)
    value, variance = np.where(weight > 0.0, value, 0.0), np.where(weight > 0.0, variance, 0.0)
    shift = weight[:, [control]] - weight  # how the control's periods differ from the arm's
    mean = (weight * value).sum(axis=0) + (shift * value[:, [control]]).sum(axis=0)
    spread = (weight**2 * variance).sum(axis=0) + (shift**2 * variance[:, [control]]).sum(axis=0)
    unknown = total == 0.0
    return _Level(mean=np.where(unknown, np.nan, mean), variance=np.where(unknown, np.inf, spread))


def discounted_beta(
    counts: BinaryCounts, *, half_life: float | int, prior: tuple[Numbers, Numbers] = (1.0, 1.0)
) -> BetaPosterior:
    """Posterior of each arm's success rate with old outcomes fading.

    Parameters
    ----------
    counts : Outcomes per allocation, in the order of time, and arm; shape (allocation, arm).
    half_life : After so many outcomes of all arms together, one counts half; inf forgets nothing.
    prior : Successes and failures, scalars or shape (arm,); they do not fade.

    References
    ----------
    Raj and Kalyani (2017), Taming non-stationary bandits: a Bayesian approach (discounted Thompson sampling).

    Examples
    --------
    >>> counts = BinaryCounts(n=[[100, 0], [0, 100]], successes=[[50, 0], [0, 60]])
    >>> discounted_beta(counts, half_life=100).alpha
    array([26., 61.])
    """
    weight = _fading(counts.n, half_life)
    alpha, beta = (np.asarray(part, dtype=np.float64) for part in prior)
    good = (weight * counts.successes).sum(axis=0)
    bad = (weight * (counts.n - counts.successes)).sum(axis=0)
    return BetaPosterior(alpha + good, beta + bad)


def discounted_normal(moments: Moments, *, half_life: float | int) -> NormalPosterior:
    """Posterior of each arm's mean with old outcomes fading; sd is inf with fewer than two outcomes' weight.

    Parameters
    ----------
    moments : Outcomes per allocation, in the order of time, and arm; shape (allocation, arm).
    half_life : As for `discounted_beta`.

    References
    ----------
    As `discounted_beta`; the variance of a weighted mean is that of Kish (1965), Survey Sampling, section 11.7.

    Examples
    --------
    >>> moments = Moments(n=[[4, 4]], total=[[8.0, 12.0]], total_sq=[[20.0, 40.0]])
    >>> posterior = discounted_normal(moments, half_life=100)
    >>> posterior.mean, posterior.sd.round(4)
    (array([2., 3.]), array([0.5774, 0.5774]))
    """
    weight = _fading(moments.n, half_life)
    size = (weight * moments.n).sum(axis=0)
    is_known = size >= 2.0
    safe = np.where(is_known, size, 2.0)
    mean = (weight * moments.total).sum(axis=0) / safe
    spread = np.maximum((weight * moments.total_sq).sum(axis=0) / safe - mean**2, 0.0) * safe / (safe - 1.0)
    error = np.sqrt(spread * (weight**2 * moments.n).sum(axis=0)) / safe
    return NormalPosterior(mean=np.where(is_known, mean, np.nan), sd=np.where(is_known, error, np.inf))


def _fading(n: np.ndarray, half_life: float | int) -> Float64[np.ndarray, "allocation 1"]:
    """What an outcome of each allocation still counts."""
    if not half_life > 0.0:
        raise ValueError(f"half_life == {half_life!r}, must be greater than 0; it counts outcomes")
    units = n.sum(axis=1).astype(np.float64)
    since = units.sum() - np.cumsum(units)
    return np.asarray(2.0 ** (-since / half_life))[:, None]
