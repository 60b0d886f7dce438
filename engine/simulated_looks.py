"""What a watcher of simulated experiments would have seen, and claimed, looking after every batch.

Look b comes when the outcomes of batch b have matured. Arrays say for each run, look and arm whether a rule
speaks up there; "ever" is `.any()` over the looks. Arm 0 is the control.
"""

import numpy as np
from jaxtyping import Bool, Float64

from engine.adaptive import aipw_estimate
from engine.checks import check_arm
from engine.many_posteriors import probability_best_rates
from engine.proportions import z_test
from engine.sequential import ENOUGH_OF_EACH, ENOUGH_PER_ARM, EProcess
from engine.simulation import History
from engine.statistics import BinaryCounts, Interval, Moments

Statistics = BinaryCounts | Moments


def batch_statistics(history: History) -> Statistics:
    """Outcomes per run, batch and arm, shape (run, batch, arm): counts of 0 and 1, moments of scores."""
    runs, units = history.arm.shape
    shape = history.probability.shape
    cells = int(np.prod(shape))
    known = np.isfinite(history.outcome)
    cell = (np.arange(runs)[:, None] * shape[1] + np.arange(units) // history.batch) * shape[2] + history.arm
    y, cell = history.outcome[known], cell[known]
    n = np.bincount(cell, minlength=cells).reshape(shape)
    total = np.bincount(cell, y, minlength=cells).reshape(shape)
    if history.binary:
        return BinaryCounts(n=n, successes=total.astype(np.int64))
    return Moments(n=n, total=total, total_sq=np.bincount(cell, y * y, minlength=cells).reshape(shape))


def running_counts(history: History) -> BinaryCounts:
    """All outcomes up to each look, shape (run, look, arm); binary outcomes only."""
    counts = batch_statistics(history)
    if not isinstance(counts, BinaryCounts):
        raise ValueError("running_counts needs outcomes that are 0 or 1; take batch_statistics for scores")
    return BinaryCounts(n=np.cumsum(counts.n, axis=1), successes=np.cumsum(counts.successes, axis=1))


def pseudo_regret(history: History) -> Float64[np.ndarray, " run"]:
    """Expected successes lost against always serving the best live arm, per run."""
    units = history.arm.shape[1]
    batch = np.arange(units) // history.batch
    best = np.where(history.live[batch], history.mean, -np.inf).max(axis=1)
    served = history.mean[np.arange(units), history.arm]
    return np.asarray(units * best.mean() - served.sum(axis=1))


def contrast_units(
    history: History, arm: int
) -> tuple[
    Float64[np.ndarray, "run bet"],
    Bool[np.ndarray, "run bet"],
    Float64[np.ndarray, "run bet"],
    Float64[np.ndarray, "run bet"],
]:
    """Units of this arm and the control that have an outcome, as `EProcess.update` takes them.

    Returns
    -------
    outcome, treated, probability : In the order of assignment; runs with fewer units end in nan. The
        probability is the logged one of the arm among the two.
    unit : The position of each unit in the history.
    """
    check_arm(arm, arms=history.probability.shape[2], name="arm")
    used = np.isfinite(history.outcome) & ((history.arm == 0) | (history.arm == arm))
    most = int(used.sum(axis=1).max(initial=0))
    unit = np.argsort(~used, axis=1, kind="stable")[:, :most]
    outcome = np.where(
        np.take_along_axis(used, unit, axis=1), np.take_along_axis(history.outcome, unit, axis=1), np.nan
    )
    treated = np.take_along_axis(history.arm, unit, axis=1) == arm
    mine, control = history.probability[..., arm], history.probability[..., 0]
    pi = np.take_along_axis(mine / (mine + control), unit // history.batch, axis=1)
    return outcome, treated, pi, unit.astype(np.float64)


def first_claim(
    history: History, process: EProcess, *, arm: int, threshold: float
) -> Float64[np.ndarray, " run"]:
    """Units assigned by the first look at which the largest e-value so far reaches a threshold.

    Parameters
    ----------
    process : As started, with `batch=(runs,)`.
    threshold : Of the e-value; 1 / alpha, times the number of contrasts.

    Returns
    -------
    Shape (run,), inf for a run in which it never does.
    """
    outcome, treated, pi, unit = contrast_units(history, arm)
    if outcome.shape[1] == 0:
        return np.full(outcome.shape[0], np.inf)
    crossed = process.path(outcome, treated, pi) >= np.log(threshold)
    first = np.argmax(crossed, axis=1)
    at = np.take_along_axis(unit, first[:, None], axis=1)[:, 0]
    look = (at // history.batch + 1.0) * history.batch
    return np.where(crossed.any(axis=1), np.minimum(look, history.arm.shape[1]), np.inf)


def z_test_claims(
    counts: BinaryCounts, *, alpha: float = 0.05, least: int = 1
) -> Bool[np.ndarray, "run look arm"]:
    """Where the plain two-sided z-test of an arm against the control says p < alpha.

    Parameters
    ----------
    counts : `running_counts`.
    least : Outcomes that both arms must have. With 10 and alpha 0.05 it is the seed's rule.
    """
    p = z_test(counts, control=0).p_value
    enough = np.minimum(counts.n, counts.n[..., :1]) >= max(least, 1)
    enough[..., 0] = False
    return np.asarray(enough & (np.nan_to_num(p, nan=1.0) < alpha))


def probability_best_claims(
    counts: BinaryCounts, *, level: float = 0.95, least: int = 1
) -> Bool[np.ndarray, "run look arm"]:
    """Where P(an arm is best) reaches a level, for whichever arm, the control included.

    Parameters
    ----------
    counts : `running_counts`.
    least : Outcomes that every arm must have.
    """
    shape = counts.n.shape
    n, successes = (part.reshape(-1, shape[-1]).astype(np.float64) for part in (counts.n, counts.successes))
    best = probability_best_rates(1.0 + successes, 1.0 + n - successes).reshape(shape)
    return np.asarray((best >= level) & (counts.n.min(axis=-1, keepdims=True) >= least))


def running_sequences(history: History, *, planned: int, confidence_level: float = 0.95) -> Interval:
    """The AIPW confidence sequence at each look, shape (run, look, arm).

    It is nan until the arm and the control have 100 outcomes each, and 20 successes and 20 failures of a share.

    Parameters
    ----------
    planned : Units at which it shall be narrowest.
    """
    statistics = batch_statistics(history)
    enough = _have(statistics.n, ENOUGH_PER_ARM)
    if isinstance(statistics, BinaryCounts):
        enough &= _have(statistics.successes, ENOUGH_OF_EACH)
        enough &= _have(statistics.n - statistics.successes, ENOUGH_OF_EACH)
    lower, upper = np.full((2, *enough.shape), np.nan)
    for look in range(enough.shape[1]):
        if enough[:, look, 1:].any():
            found = aipw_estimate(
                _until(statistics, look), history.probability[:, : look + 1], control=0
            ).sequence(planned=planned, confidence_level=confidence_level)
            lower[:, look], upper[:, look] = found.lower, found.upper
    return Interval(lower=np.where(enough, lower, np.nan), upper=np.where(enough, upper, np.nan))


def _have(counts: np.ndarray, least: int) -> np.ndarray:
    """Where an arm and the control have so many by then, shape (run, look, arm)."""
    so_far = np.cumsum(counts, axis=1)
    return np.asarray(np.minimum(so_far, so_far[..., :1]) >= least)


def _until(statistics: Statistics, look: int) -> Statistics:
    part = slice(None), slice(look + 1)
    if isinstance(statistics, BinaryCounts):
        return BinaryCounts(n=statistics.n[part], successes=statistics.successes[part])
    return Moments(n=statistics.n[part], total=statistics.total[part], total_sq=statistics.total_sq[part])
