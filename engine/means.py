"""Means compared with the control's: Welch's t-test for scores and amounts."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.special import betainc, betaincc, betainccinv, betaincinv, betaln

from engine.checks import check_arm, check_confidence_level
from engine.statistics import Moments

# Below this the tail integral takes over from scipy's incomplete beta, which ends at 1e-308.
SMALLEST_DIRECT_P = 1e-280
# The integrand of the tail is almost constant there (t > 35): 40 nodes leave 1e-15.
LAGUERRE_NODES, LAGUERRE_WEIGHTS = np.polynomial.laguerre.laggauss(40)
# Means of arms without any spread are equal if they agree to the precision that `Moments` asks of its sums.
EQUAL_MEANS = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class WelchTest:
    """Each arm against the control, shape (..., arm); nan where either has fewer than 2 values.

    In the control's own row the estimate and the statistic are 0, p is 1, interval and degrees of freedom
    nan. Where neither arm varies at all: p 1 and statistic 0 if the means are equal, else p 0 (its logarithm
    -inf) and an infinite statistic; the interval is the estimate itself, the degrees of freedom are nan.

    Attributes
    ----------
    estimate : Mean of the arm minus the control's, in the unit of the metric.
    lower, upper : Ends of its interval; 0 lies outside exactly when p < 1 - confidence_level.
    statistic : Welch's t.
    degrees_of_freedom : Welch and Satterthwaite's, between min(n) - 1 and n + n_control - 2.
    p_value : Two-sided; 0 below 1e-323.
    log10_p : Its decimal logarithm, finite where `p_value` underflows.
    """

    estimate: Float64[np.ndarray, "*batch arm"]
    lower: Float64[np.ndarray, "*batch arm"]
    upper: Float64[np.ndarray, "*batch arm"]
    statistic: Float64[np.ndarray, "*batch arm"]
    degrees_of_freedom: Float64[np.ndarray, "*batch arm"]
    p_value: Float64[np.ndarray, "*batch arm"]
    log10_p: Float64[np.ndarray, "*batch arm"]
    confidence_level: float
    method: str = "Welch's t-test"


def welch_test(moments: Moments, *, control: int, confidence_level: float = 0.95) -> WelchTest:
    """Two-sided t-test of each arm's mean against the control's, without assuming equal variances.

    Parameters
    ----------
    moments : Number, sum and sum of squares, shape (..., arm).
    control : Position of the control.
    confidence_level : Of the interval, in (0, 1).

    Returns
    -------
    Estimates and intervals in the unit of the metric.

    Raises
    ------
    ValueError
        A confidence level outside (0, 1), a control that is no arm.

    References
    ----------
    Welch (1947), The generalization of Student's problem when several different population variances are
    involved, Biometrika 34, 28-35. Satterthwaite (1946), Biometrics Bulletin 2, 110-114.

    Examples
    --------
    >>> test = welch_test(Moments(n=[4, 4], total=[10.0, 22.0], total_sq=[30.0, 126.0]), control=0)
    >>> test.estimate, test.p_value.round(4), test.degrees_of_freedom.round(1)
    (array([0., 3.]), array([1.    , 0.0167]), array([nan,  6.]))
    """
    level = check_confidence_level(confidence_level)
    check_arm(control, arms=moments.n.shape[-1])
    estimate = moments.mean - moments.mean[..., [control]]
    error, freedom = _standard_error(moments, control)
    statistic = _statistic(estimate, error, moments.mean)
    p_value, log10_p = _two_sided_p(statistic, freedom)
    reach = np.where(error > 0, _t_quantile(freedom, 1.0 - level), 0.0) * error
    own = np.arange(moments.n.shape[-1]) == control
    untested = np.isnan(error)
    return WelchTest(
        estimate=np.where(untested, np.nan, estimate),
        lower=np.where(own, np.nan, estimate - reach),
        upper=np.where(own, np.nan, estimate + reach),
        statistic=statistic,
        degrees_of_freedom=np.where(own, np.nan, freedom),
        p_value=p_value,
        log10_p=log10_p,
        confidence_level=level,
    )


def _standard_error(moments: Moments, control: int) -> tuple[np.ndarray, np.ndarray]:
    n = moments.n.astype(np.float64)
    squared = moments.variance / np.maximum(n, 1.0)
    base, base_n = squared[..., [control]], n[..., [control]]
    total = squared + base
    positive = total > 0
    share = np.divide(squared, total, out=np.full_like(total, np.nan), where=positive)
    # As shares: the squares of variances of 1e-200 would underflow.
    inverse = share**2 / np.maximum(n - 1.0, 1.0) + (1.0 - share) ** 2 / np.maximum(base_n - 1.0, 1.0)
    return np.sqrt(total), 1.0 / inverse


def _statistic(estimate: np.ndarray, error: np.ndarray, mean: np.ndarray) -> np.ndarray:
    equal = np.abs(estimate) <= EQUAL_MEANS * np.abs(mean)
    without_spread = np.where(equal, 0.0, np.copysign(np.inf, estimate))
    without_spread = np.where(np.isnan(error), np.nan, without_spread)
    return np.asarray(np.divide(estimate, error, out=without_spread, where=error > 0))


def _two_sided_p(t: np.ndarray, freedom: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    finite = np.isfinite(t) & np.isfinite(freedom)
    p = np.where(np.isnan(t), np.nan, np.where(t == 0, 1.0, 0.0))
    log10_p = np.where(p == 1.0, 0.0, np.where(np.isnan(p), np.nan, -np.inf))
    p[finite] = _incomplete_beta_p(np.abs(t[finite]), freedom[finite])
    direct = finite & (p > SMALLEST_DIRECT_P)
    log10_p[direct] = np.log10(p[direct])
    far = finite & ~direct
    log10_p[far] = _log_tail(np.abs(t[far]), freedom[far]) / np.log(10.0)
    return p, log10_p


def _incomplete_beta_p(t: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    # I_x(v/2, 1/2) with x = v / (v + t^2), by whichever of x and 1 - x is small.
    with np.errstate(over="ignore"):
        ratio = t * (t / freedom)
    near = betaincc(0.5, freedom / 2, ratio / (1.0 + np.minimum(ratio, 1e300)))
    far = betainc(freedom / 2, 0.5, 1.0 / (1.0 + ratio))
    return np.asarray(np.where(ratio < 1.0, near, far))


def _log_tail(t: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """ln P(|T| > t) for large t.

    With w = ln((v + u^2) / (v + t^2)) the integral of the density over u > t becomes the density at t times
    (v + t^2) / v times the integral of exp(-s) / sqrt(t^2 + v (1 - exp(-2 s / v))) over s = v w / 2 > 0.
    """
    v = freedom[..., None]
    root = np.sqrt(1.0 - (v / t[..., None]) / t[..., None] * np.expm1(-2.0 * LAGUERRE_NODES / v))
    integral = (LAGUERRE_WEIGHTS / root).sum(axis=-1) / t
    log_growth = np.logaddexp(0.0, 2.0 * np.log(t) - np.log(freedom))  # ln(1 + t^2 / v) without its overflow
    log_density = -0.5 * np.log(freedom) - betaln(freedom / 2, 0.5) - (freedom + 1.0) / 2 * log_growth
    return np.asarray(np.log(2.0) + log_density + log_growth + np.log(integral))


def _t_quantile(freedom: np.ndarray, alpha: float) -> np.ndarray:
    # t^2 / (v + t^2) and v / (v + t^2), each from the side on which it is exact.
    near = betainccinv(0.5, freedom / 2, alpha)
    far = betaincinv(freedom / 2, 0.5, alpha)
    return np.asarray(np.sqrt(freedom * near / far))
