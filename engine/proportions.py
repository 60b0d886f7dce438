"""Success rates compared with the control's: the pooled z-test and intervals that never leave [-1, 1]."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from scipy.special import erfc, log_ndtr, ndtri

from engine.checks import check_arm, check_confidence_level
from engine.statistics import BinaryCounts, Interval

# Below 5 expected in a cell the pooled test misses its level: at n = 50, p = .02 its size is .013, not .05.
SMALL_CELL = 5.0
LEAST_MULTIPLIER = 1e-300  # not 0, which a level of 1e-17 asks for: its z is 0
FLOATS_ARE_EXACT = 9e7  # the product of two counts below has at most 53 bits


@dataclass(frozen=True, slots=True, eq=False)
class ZTest:
    """Each arm against the control, shape (..., arm); nan for an arm without units.

    In the control's own row the estimate and the statistic are 0, p is 1 and the interval is nan.

    Attributes
    ----------
    estimate : Success rate of the arm minus the control's, in [-1, 1].
    lower, upper : Ends of Mee's score interval; 0 lies outside exactly when p < 1 - confidence_level.
    statistic : Pooled z; positive when the arm is better.
    p_value : Two-sided; 0 below 1e-323.
    log10_p : Its decimal logarithm, finite where `p_value` underflows.
    small_counts : An expected count below 5 (or an empty arm): p and interval are rough.
    """

    estimate: Float64[np.ndarray, "*batch arm"]
    lower: Float64[np.ndarray, "*batch arm"]
    upper: Float64[np.ndarray, "*batch arm"]
    statistic: Float64[np.ndarray, "*batch arm"]
    p_value: Float64[np.ndarray, "*batch arm"]
    log10_p: Float64[np.ndarray, "*batch arm"]
    small_counts: Bool[np.ndarray, "*batch arm"]
    confidence_level: float
    method: str = "pooled z-test, Mee's score interval"


def z_test(counts: BinaryCounts, *, control: int, confidence_level: float = 0.95) -> ZTest:
    """Two-sided pooled z-test of each arm against the control, with its exact inversion as the interval.

    No success or no failure at all in both arms says nothing about the difference: statistic 0, p 1.

    Parameters
    ----------
    counts : Units and successes, shape (..., arm).
    control : Position of the control.
    confidence_level : Of the interval, in (0, 1).

    Returns
    -------
    Estimates and intervals as differences of rates; limits accurate to 1e-12 up to 1e9 units an arm.

    Raises
    ------
    ValueError
        A confidence level outside (0, 1), a control that is no arm.

    References
    ----------
    Mee (1984), Confidence bounds for the difference between two probabilities, Biometrics 40, 1175-1176.
    Newcombe (1998), Interval estimation for the difference between independent proportions, Statist. Med.
    17, 873-890, method 7 without the factor N / (N - 1).

    Examples
    --------
    >>> test = z_test(BinaryCounts(n=[80, 70], successes=[48, 56]), control=0)
    >>> test.p_value.round(4), test.lower.round(4), test.upper.round(4)
    (array([1.   , 0.008]), array([   nan, 0.0533]), array([   nan, 0.3377]))
    """
    level = check_confidence_level(confidence_level)
    arm, base, own, empty = _pairs(counts, control)
    n, successes = _sides(arm, base)
    estimate = _exact_difference(arm, base)
    statistic = np.where(empty, np.nan, _pooled_z(estimate, n, successes))
    lower, upper = _mee_limits(estimate, n, successes, float(-ndtri((1.0 - level) / 2)))
    unknown = empty | own
    return ZTest(
        estimate=np.where(empty, np.nan, estimate),
        lower=np.where(unknown, np.nan, lower),
        upper=np.where(unknown, np.nan, upper),
        statistic=statistic,
        p_value=erfc(np.abs(statistic) / np.sqrt(2.0)),
        log10_p=np.minimum((np.log(2.0) + log_ndtr(-np.abs(statistic))) / np.log(10.0), 0.0),
        small_counts=(_has_small_cell(n, successes) | empty) & ~own,
        confidence_level=level,
    )


def newcombe_interval(counts: BinaryCounts, *, control: int, confidence_level: float = 0.95) -> Interval:
    """Newcombe's hybrid score interval for the difference of each arm's rate to the control's.

    Closed form and close to Mee's interval, but not the inversion of a test: it may disagree with p.

    Parameters
    ----------
    counts : Units and successes, shape (..., arm).
    control : Position of the control; its own row is nan, as is an arm without units.
    confidence_level : In (0, 1).

    Returns
    -------
    Limits in [-1, 1].

    Raises
    ------
    ValueError
        A confidence level outside (0, 1), a control that is no arm.

    References
    ----------
    Newcombe (1998), Statist. Med. 17, 873-890, method 10.

    Examples
    --------
    >>> interval = newcombe_interval(BinaryCounts(n=[80, 70], successes=[48, 56]), control=0)
    >>> interval.lower.round(4), interval.upper.round(4)
    (array([   nan, 0.0524]), array([   nan, 0.3339]))
    """
    arm, base, own, empty = _pairs(counts, control)
    estimate = _exact_difference(arm, base)
    of_arm, of_base = (wilson_interval(side, confidence_level=confidence_level) for side in (arm, base))
    down = np.hypot(arm.rate - of_arm.lower, of_base.upper - base.rate)
    up = np.hypot(of_arm.upper - arm.rate, base.rate - of_base.lower)
    unknown = empty | own
    return Interval(
        lower=np.where(unknown, np.nan, np.maximum(estimate - down, -1.0)),
        upper=np.where(unknown, np.nan, np.minimum(estimate + up, 1.0)),
    )


def wilson_interval(counts: BinaryCounts, *, confidence_level: float = 0.95) -> Interval:
    """Wilson's score interval of each arm's success rate.

    At n = 50 and a rate of 0.9 the textbook interval (Wald) covers 88 % instead of 95 %, Wilson's 97 %.

    Parameters
    ----------
    counts : Units and successes, shape (..., arm).
    confidence_level : In (0, 1).

    Returns
    -------
    Limits in [0, 1]; exactly 0 below no success, exactly 1 above no failure; nan for an arm without units.

    Raises
    ------
    ValueError
        A confidence level outside (0, 1).

    References
    ----------
    Wilson (1927), Probable inference, the law of succession, and statistical inference, JASA 22, 209-212.

    Examples
    --------
    >>> interval = wilson_interval(BinaryCounts(n=[10, 10], successes=[0, 5]))
    >>> interval.lower.round(4), interval.upper.round(4)
    (array([0.    , 0.2366]), array([0.2775, 0.7634]))
    """
    z = float(-ndtri((1.0 - check_confidence_level(confidence_level)) / 2))
    upper = _wilson_upper(counts, z)
    # The product of both limits is rate * x / (n + z^2): a lower limit of 1e-9 keeps its digits.
    lower = counts.rate * counts.successes / ((counts.n + z * z) * np.where(upper > 0, upper, 1.0))
    return Interval(lower=lower, upper=upper)


def _wilson_upper(counts: BinaryCounts, z: float) -> np.ndarray:
    n, x = counts.n.astype(np.float64), counts.successes.astype(np.float64)
    rest = 4.0 * x * (1.0 - counts.rate)
    upper = (2.0 * x + z * z + z * np.sqrt(z * z + rest)) / (2.0 * (n + z * z))
    return np.asarray(np.where(counts.successes == counts.n, np.where(n > 0, 1.0, np.nan), upper))


def _pairs(counts: BinaryCounts, control: int) -> tuple[BinaryCounts, BinaryCounts, np.ndarray, np.ndarray]:
    arms = counts.n.shape[-1]
    check_arm(control, arms=arms)
    base = BinaryCounts.derived(counts.n[..., [control]], counts.successes[..., [control]])
    return counts, base, np.arange(arms) == control, (counts.n == 0) | (base.n == 0)


def _exact_difference(arm: BinaryCounts, base: BinaryCounts) -> np.ndarray:
    # As one fraction: 0.30002 - 0.3 loses 5 of 16 digits.
    if max(arm.n.max(initial=0), base.n.max(initial=0)) < FLOATS_ARE_EXACT:
        n1, n0 = arm.n.astype(np.float64), base.n.astype(np.float64)
        return np.asarray((arm.successes * n0 - base.successes * n1) / np.maximum(n1 * n0, 1.0))
    # In Python's integers: x * n overflows int64 at 3e9 units.
    n1, x1, n0, x0 = (part.astype(object) for part in (arm.n, arm.successes, base.n, base.successes))
    return np.asarray((x1 * n0 - x0 * n1) / np.maximum(n1 * n0, 1), dtype=np.float64)


def _sides(arm: BinaryCounts, base: BinaryCounts) -> tuple[np.ndarray, np.ndarray]:
    """Units and successes as float64, shape (side, ..., arm): each arm, and the control beside it."""
    counts = np.empty((2, 2, *arm.n.shape))
    counts[:, 0], counts[:, 1] = (arm.n, arm.successes), (base.n, base.successes)
    return counts[0], counts[1]


def _pooled_z(estimate: np.ndarray, n: np.ndarray, successes: np.ndarray) -> np.ndarray:
    good, bad = successes[0] + successes[1], (n[0] - successes[0]) + (n[1] - successes[1])
    information = np.zeros_like(estimate)
    weight = n[0] * n[1] * (n[0] + n[1])
    np.divide(weight, good * bad, out=information, where=(good > 0) & (bad > 0))
    return np.asarray(estimate * np.sqrt(information))


def _has_small_cell(n: np.ndarray, successes: np.ndarray) -> np.ndarray:
    good, both = successes[0] + successes[1], n[0] + n[1]
    rarer = np.minimum(good, both - good)
    return np.asarray(np.minimum(n[0], n[1]) * rarer < SMALL_CELL * both)


def _mee_limits(
    estimate: np.ndarray, n: np.ndarray, successes: np.ndarray, z: float
) -> tuple[np.ndarray, np.ndarray]:
    """Differences d at which the score test of "rate - control's rate = d" has exactly |z|.

    At the maximum of the likelihood under that constraint the two rates have moved by s_i from the observed
    ones, and Lagrange's condition ties both to one multiplier m: n_i s_i = m p_i (1 - p_i), a quadratic in
    s_i. The statistic is then m * sqrt(V) and the distance |d - estimate| is s_1 + s_0 = m * V, so the limit
    is where m * (s_1 + s_0) = z^2. That function of m is convex and increasing, so Newton from its right end
    cannot miss. The usual way, a root search in d over the roots of Farrington and Manning's cubic (1990,
    Statist. Med. 9, appendix), loses digits where the cubic's roots meet.
    """
    good, bad = successes / np.maximum(n, 1.0), (n - successes) / np.maximum(n, 1.0)
    # Axes (side, direction, ..., arm). Upwards the arm's rate rises and the control's falls, that is, its rate
    # of failures rises.
    rising = np.array(((good[0], bad[0]), (bad[1], good[1])))
    rest = np.array(((bad[0], good[0]), (good[1], bad[1])))
    up, down = _reach(n[:, None], rising, rest, z)
    return np.maximum(estimate - down, -1.0), np.minimum(estimate + up, 1.0)


def _reach(n: np.ndarray, rate: np.ndarray, rest: np.ndarray, z: float) -> np.ndarray:
    """How far the difference can move until the score test rejects: s_1 + s_0 = z^2 / m."""
    # Certainly large enough, from s_i >= rest - n / m; certainly small enough, from s_i <= m / (4 n).
    with np.errstate(divide="ignore"):
        m = ((z * z + n) / rest).min(axis=0)
        least = 2.0 * z / np.sqrt((1.0 / n).sum(axis=0))
    can_move = np.isfinite(m)  # 1 against 0 cannot differ more
    spread, tilt = rate * rest, rest - rate
    # Begun where a series in m says, m s_i = m^2 spread_i / n_i (1 + m tilt_i / n_i), a step or two are saved.
    with np.errstate(divide="ignore", invalid="ignore"):  # nan without a unit
        variance = spread / n
        square = variance[0] + variance[1]
        wald = z / np.sqrt(square)
        bent = (variance * tilt / n).sum(axis=0)
        guess = wald * (1.0 - 0.5 * wald * bent / square)
    most = np.where(can_move, m, 1.0)
    least = np.minimum(np.maximum(least, LEAST_MULTIPLIER), most)
    m = np.minimum(np.maximum(np.where(np.isnan(guess), most, guess), least), most)
    for _ in range(100):
        value, slope = (part[0] + part[1] for part in _moved(n, spread, tilt, m))
        step = np.where(can_move & (slope > 0), (value - z * z) / np.where(slope > 0, slope, 1.0), 0.0)
        m = np.minimum(np.maximum(m - step, least), most)
        if (np.abs(step) <= 1e-7 * m).all():  # the error after a step is about its square
            break
    return np.asarray(np.where(can_move, z * z / m, 0.0))


def _moved(
    n: np.ndarray, spread: np.ndarray, tilt: np.ndarray, m: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """m * s for s from n s = m (rate + s)(rest - s), and its derivative in m.

    `spread` is rate * rest, `tilt` is rest - rate.
    """
    b = n - m * tilt
    square = 4.0 * m * m * spread
    root = np.hypot(b, np.sqrt(square))
    safe = np.where(root > 0, root, 1.0)
    # No subtraction of equals on either branch.
    value = 0.5 * np.where(b > 0, square / (np.maximum(b, 0.0) + safe), root - b)
    return value, np.where(root > 0, value / m * (1.0 + n / safe), 1.0)
