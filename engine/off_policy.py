"""What would another split have earned? Answered from the log of one that was served, with its probabilities.

Each unit counts with the weight w = target probability / logged probability of the arm that it was served.
`ips` is unbiased, `snips` steadier and free of the outcome's origin, `doubly_robust` the sharpest where
outcomes can be predicted. The logged probability is the one at the unit's own assignment, so a split that
changed with the past does no harm; a probability that was guessed afterwards does.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import ndtri

from engine.checks import Numbers, check_confidence_level, finite_numbers, refuse_where, whole_numbers

# Quadrature and float splits sum to 1 within 1e-10; a row further off is no split.
SUM_TOLERANCE = 1e-6
# Below either, a few heavy units decide the estimate and its standard error alike.
ENOUGH_UNITS, ENOUGH_SHARE = 100.0, 0.05
# The weights average 1 if the probabilities are the true ones: 5 standard errors off is no chance.
WEIGHTS_OFF_BY = 5.0


@dataclass(frozen=True, slots=True)
class PolicyValue:
    """Mean outcome that a split would have had, in the unit of the metric.

    Attributes
    ----------
    estimate, standard_error : The error is nan where one unit alone has weight.
    lower, upper : Normal interval of the estimate; not cut to the range of the metric.
    effective_sample_size : Units served by the target itself that would say as much, by the weights alone.
    mean_weight : About 1 where the logged probabilities are true and the target asks for nothing impossible.
    n : Units in the log.
    small_sample : Effective sample size below 100 or below 5 % of n.
    weights_off : `mean_weight` further than 5 standard errors from 1, in a sample that is not small.
    reason : What the two flags mean in plain words, empty where neither is up.
    """

    estimate: float
    standard_error: float
    lower: float
    upper: float
    effective_sample_size: float
    mean_weight: float
    n: int
    small_sample: bool
    weights_off: bool
    reason: str
    confidence_level: float
    method: str


def ips(
    *,
    outcome: Numbers,
    arm: Numbers,
    probability: Numbers,
    target: Numbers,
    confidence_level: float = 0.95,
) -> PolicyValue:
    """Inverse propensity scoring, mean(w y): unbiased whatever the outcomes are.

    It depends on the origin of the outcome: ips(y) + ips(1 - y) is the mean weight, not 1. Prefer `snips`
    for a rate or a score unless unbiasedness is the point.

    Parameters
    ----------
    outcome : Shape (unit,), finite, in the unit of the metric; leave units without one out.
    arm : Arm that each unit was served, shape (unit,), whole numbers from 0.
    probability : Logged probability in (0, 1] of that arm, shape (unit,); or of every arm, shape (unit, arm),
        each row summing to 1, which lets an arm be possible that happened never to be served.
    target : The split asked about: shape (arm,), or (unit, arm) where it differs between units.
    confidence_level : Of the interval, in (0, 1).

    Returns
    -------
    The estimate with the standard error sd(w y) / sqrt(n).

    Raises
    ------
    ValueError
        No unit; an outcome that is not finite; a probability of 0 or above 1; an arm outside the target; a
        target that is negative or does not sum to 1 (within 1e-6), or that gives weight to an arm that was
        never served (impossible, where the probabilities of every arm are given); shapes that do not fit.

    References
    ----------
    Horvitz and Thompson (1952), A generalization of sampling without replacement from a finite universe,
    JASA 47, 663-685.

    Examples
    --------
    >>> log = {"outcome": [1, 0, 1, 1], "arm": [0, 0, 1, 1], "probability": [0.5, 0.5, 0.5, 0.5]}
    >>> ips(**log, target=[0.25, 0.75]).estimate
    0.875
    """
    log = _read(outcome, arm, probability, target)
    terms = log.weight * log.outcome
    return _value(log, float(terms.mean()), _error_of_mean(terms), confidence_level, "IPS")


def snips(
    *,
    outcome: Numbers,
    arm: Numbers,
    probability: Numbers,
    target: Numbers,
    confidence_level: float = 0.95,
) -> PolicyValue:
    """Self-normalised inverse propensity scoring, sum(w y) / sum(w): a weighted mean of the outcomes.

    Its bias shrinks like 1 / n. The estimate lies between the smallest and the largest outcome, and moves and
    scales with them.

    Parameters
    ----------
    outcome, arm, probability, target, confidence_level : As in `ips`.

    Returns
    -------
    The estimate V with the standard error sqrt(sum w^2 (y - V)^2) / sum w.

    Raises
    ------
    ValueError
        As `ips`; no unit that the target could have served in the same way.

    References
    ----------
    Swaminathan and Joachims (2015), The self-normalized estimator for counterfactual learning, NIPS 28.
    Owen (2013), Monte Carlo theory, methods and examples, section 9.2, for the standard error.

    Examples
    --------
    >>> log = {"outcome": [1, 0, 1, 1], "arm": [0, 0, 1, 1], "probability": [0.8, 0.8, 0.2, 0.2]}
    >>> round(snips(**log, target=[0.5, 0.5]).estimate, 3)
    0.9
    """
    log = _read(outcome, arm, probability, target)
    total = float(log.weight.sum())
    if total == 0.0:
        raise ValueError("target gives no weight to any unit of the log; use a longer log or another target")
    value = float(log.weight @ log.outcome) / total
    error = float(np.linalg.norm(log.weight * (log.outcome - value))) / total
    if np.count_nonzero(log.weight) < 2:
        error = np.nan
    return _value(log, value, error, confidence_level, "SNIPS")


def doubly_robust(
    *,
    outcome: Numbers,
    arm: Numbers,
    probability: Numbers,
    target: Numbers,
    prediction: Numbers,
    confidence_level: float = 0.95,
) -> PolicyValue:
    """Predictions corrected by weighted residuals: mean(sum_a target(a) q(a) + w (y - q(served arm))).

    Unbiased however bad the predictions are, as long as the probabilities are true; the better they are, the
    smaller the error.

    Parameters
    ----------
    prediction : Predicted outcome q of each unit under each arm, shape (unit, arm), made from OTHER units:
        other folds, or earlier units where the split followed the outcomes. A prediction that has seen the
        unit's own outcome hides its residual, and the standard error comes out too small.
    outcome, arm, probability, target, confidence_level : As in `ips`.

    Returns
    -------
    The estimate with the standard error sd(terms) / sqrt(n).

    Raises
    ------
    ValueError
        As `ips`; predictions that are not finite or not one per unit and arm.

    References
    ----------
    Dudík, Erhan, Langford and Li (2014), Doubly robust policy evaluation and optimization, Statistical
    Science 29, 485-511.

    Examples
    --------
    >>> log = {"outcome": [1, 0, 1, 1], "arm": [0, 0, 1, 1], "probability": [0.5, 0.5, 0.5, 0.5]}
    >>> round(doubly_robust(**log, target=[0.25, 0.75], prediction=[[0.6, 0.9]] * 4).estimate, 3)
    0.875
    """
    log = _read(outcome, arm, probability, target)
    q = finite_numbers(prediction, name="prediction")
    if q.shape != log.target.shape:
        raise ValueError(f"prediction has shape {q.shape}, must be {log.target.shape}; one per unit and arm")
    own = q[np.arange(log.arm.size), log.arm]
    terms = (log.target * q).sum(axis=1) + log.weight * (log.outcome - own)
    return _value(log, float(terms.mean()), _error_of_mean(terms), confidence_level, "doubly robust")


def effective_sample_size(weight: Numbers) -> float:
    """How many equally weighted units say as much as these: (sum w)^2 / sum w^2.

    Parameters
    ----------
    weight : Shape (unit,), finite and at least 0; their scale does not matter.

    Returns
    -------
    Between 1 and the number of units, 0 where no unit has weight.

    Raises
    ------
    ValueError
        A weight that is negative or not finite.

    References
    ----------
    Kong (1992), A note on importance sampling using standardized weights, University of Chicago, technical
    report 348. Owen (2013), Monte Carlo theory, methods and examples, section 9.3.

    Examples
    --------
    >>> effective_sample_size([1, 1, 1, 1]), round(effective_sample_size([3, 1, 0, 0]), 3)
    (4.0, 1.6)
    """
    w = np.atleast_1d(finite_numbers(weight, name="weight"))
    refuse_where(w < 0.0, w, name="weight", rule="must not be negative; it is a ratio of probabilities")
    if not w.any():
        return 0.0
    share = w / w.max()  # squares of weights beyond 1e154 would overflow
    return float(share.sum() ** 2 / (share @ share))


@dataclass(frozen=True, slots=True, eq=False)
class _Log:
    outcome: Float64[np.ndarray, " unit"]
    arm: Int64[np.ndarray, " unit"]
    target: Float64[np.ndarray, "unit arm"]
    weight: Float64[np.ndarray, " unit"]


def _read(outcome: Numbers, arm: Numbers, probability: Numbers, target: Numbers) -> _Log:
    y = np.atleast_1d(finite_numbers(outcome, name="outcome"))
    served = np.atleast_1d(whole_numbers(arm, name="arm"))
    asked = _split(target, name="target")
    if y.ndim != 1 or y.size == 0:
        raise ValueError(f"outcome has shape {y.shape}, must be (unit,) with at least one unit")
    wanted = {(y.size, asked.shape[-1]), (asked.shape[-1],)}
    for name, shape, right in (("arm", served.shape, {y.shape}), ("target", asked.shape, wanted)):
        if shape not in right:
            choices = " or ".join(str(one) for one in sorted(right))
            raise ValueError(f"{name} has shape {shape}, must be {choices}; the log has {y.size} units")
    arms = asked.shape[-1]
    refuse_where(
        served >= arms, served, name="arm", rule=f"must be in 0..{arms - 1}, a position in the target"
    )
    each = np.broadcast_to(asked, (y.size, arms))
    logged = _logged_probability(probability, served, each)
    rule = "must be in (0, 1]; it is the probability of the arm that was served"
    refuse_where(~((logged > 0.0) & (logged <= 1.0)), logged, name="probability", rule=rule)
    return _Log(y, served, each, each[np.arange(y.size), served] / logged)


def _logged_probability(probability: Numbers, arm: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Shape (unit,), of the arm that was served; refuses a target that asks for what was not possible."""
    given = np.atleast_1d(np.asarray(probability, dtype=np.float64))
    if given.shape == target.shape:
        rows = _split(given, name="probability")
        rule = "must be 0 where the probability is; nothing can be learned of an arm that was impossible"
        refuse_where((target > 0.0) & (rows == 0.0), target, name="target", rule=rule)
        return np.asarray(rows[np.arange(arm.size), arm])
    if given.shape != arm.shape:
        raise ValueError(
            f"probability has shape {given.shape}, must be {arm.shape} or {target.shape}; "
            f"give one per unit, or one per unit and arm"
        )
    most = target.max(axis=0)
    most[np.unique(arm)] = 0.0
    rule = "must be 0; that arm was never served, so the log says nothing about it"
    refuse_where(most > 0.0, most, name="target", rule=rule)
    return given


def _split(values: Numbers, *, name: str) -> np.ndarray:
    rows = np.atleast_1d(finite_numbers(values, name=name))
    refuse_where(rows < 0.0, rows, name=name, rule="must not be negative; give probabilities")
    sums = rows.sum(axis=-1)
    rule = f"must be 1 within {SUM_TOLERANCE:g}; divide by the sum"
    refuse_where(~(np.abs(sums - 1.0) <= SUM_TOLERANCE), np.asarray(sums), name=f"sum of {name}", rule=rule)
    return rows


def _error_of_mean(terms: np.ndarray) -> float:
    return float(terms.std(ddof=1) / np.sqrt(terms.size)) if terms.size > 1 else np.nan


def _value(log: _Log, estimate: float, error: float, confidence_level: float, method: str) -> PolicyValue:
    reach = -float(ndtri((1.0 - check_confidence_level(confidence_level)) / 2.0)) * error
    units, n, mean = effective_sample_size(log.weight), log.weight.size, float(log.weight.mean())
    enough = max(ENOUGH_UNITS, ENOUGH_SHARE * n)
    small = units < enough
    off = not small and abs(mean - 1.0) > WEIGHTS_OFF_BY * _error_of_mean(log.weight) + 1e-9
    reason = ""
    if small:
        reason = (
            f"{n} units say as much as {units:.0f} served by the target itself, at least {enough:.0f} are "
            f"needed; ask about a split nearer to the one that was served, or wait for more units"
        )
    if off:
        reason = (
            f"the weights average {mean:.3f} instead of 1: either the logged probabilities are not the ones "
            f"that were served, or the target gives weight to an arm where it was impossible"
        )
    return PolicyValue(
        estimate=estimate,
        standard_error=error,
        lower=estimate - reach,
        upper=estimate + reach,
        effective_sample_size=units,
        mean_weight=mean,
        n=n,
        small_sample=small,
        weights_off=off,
        reason=reason,
        confidence_level=confidence_level,
        method=method,
    )
