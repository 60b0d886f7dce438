"""Quantiles of the differences and ratios of many pairs of ordinary Beta posteriors at once.

`beta_difference` solves any pair, one quantile at a time, in half a millisecond. Ordinary pairs, with some units
of either kind, need less: the density of one arm on the logit scale is so smooth that the trapezoid rule at two
points a standard deviation is exact to 1e-15, and all quantiles of all pairs fit into one array. Every answer is
checked on a second grid between the points of the first; what misses is left to the other module.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from scipy import special

from engine.beta_logit import alive_interval, nats_below_peak, off_integer

LEAST_SHAPE = 5.0  # below, a shifted arm ends where the other still has mass, and the rule loses its digits
LEAST_SD = 1e-4  # below, x + d rounded to 1e-16 is a visible part of it
LEAST_TAIL = 1e-4
POINTS_PER_SD = 2.0
NATS = 34.0  # e^-34 = 2e-15 of the peak: less than that of the mass is left out
TURNS = 5
# Of a standard deviation: how far the answers of both grids may lie apart. Where x + d ends within the bulk of x,
# the integrand has a kink, and they do.
NEAR = 3e-12

type Many = Float64[np.ndarray, " problem"]


@dataclass(frozen=True, slots=True, eq=False)
class _Problems:
    """Find t where the mean over x ~ Beta(a, b) of F(x + t), or of F(x e^t), is `goal`; F is Beta(c, d)'s.

    Attributes
    ----------
    is_ratio : Which of the two, shape (problem,).
    start, scale : First guess of t and the standard deviation that steps are measured by.
    """

    a: Many
    b: Many
    c: Many
    d: Many
    is_ratio: Bool[np.ndarray, " problem"]
    goal: Many
    start: Many
    scale: Many


def lift_quantiles(
    alpha: Float64[np.ndarray, " arm"], beta: Float64[np.ndarray, " arm"], control: int, tail: float
) -> Float64[np.ndarray, "arm 5"]:
    """Both ends of arm - control, then median and both ends of arm / control - 1.

    Parameters
    ----------
    tail : Mass outside of each end.

    Returns
    -------
    Shape (arm, 5), to 1e-12 of their standard deviation; nan for the control and wherever this module is not
    sure of that.
    """
    out = np.full((alpha.size, 5), np.nan)
    arms = _ordinary_arms(alpha, beta, control)
    if tail < LEAST_TAIL or arms.size == 0:
        return out
    wanted = np.array([tail, 1.0 - tail, 0.5, tail, 1.0 - tail])
    is_ratio = np.array([False, False, True, True, True])
    t, sign = _solved(
        alpha, beta, control, np.repeat(arms, 5), np.tile(wanted, arms.size), np.tile(is_ratio, arms.size)
    )
    found = (sign * t).reshape(-1, 5)
    found[:, 2:] = np.expm1(found[:, 2:])
    out[arms] = found
    return out


def _ordinary_arms(alpha: np.ndarray, beta: np.ndarray, control: int) -> np.ndarray:
    """Positions of the arms that can be compared here; none if the control is not ordinary."""
    sd = np.sqrt(_variance(alpha, beta))
    ordinary = (np.minimum(alpha, beta) >= LEAST_SHAPE) & (sd >= LEAST_SD)
    if not ordinary[control]:
        return np.zeros(0, dtype=np.int64)
    return np.flatnonzero(ordinary & (np.arange(alpha.size) != control))


def _variance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    n = a + b
    return np.asarray(a * b / (n * n * (n + 1.0)))


def _solved(
    alpha: np.ndarray,
    beta: np.ndarray,
    control: int,
    arm: np.ndarray,
    wanted: np.ndarray,
    is_ratio: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The solutions, and -1 where arm and control changed places: the sharper one carries the grid."""
    ca, cb = np.full(arm.size, alpha[control]), np.full(arm.size, beta[control])
    aa, ab = alpha[arm], beta[arm]
    of_arm, of_control = _cumulants(aa, ab, is_ratio), _cumulants(ca, cb, is_ratio)
    mean, variance, third = of_arm[0] - of_control[0], of_arm[1] + of_control[1], of_arm[2] - of_control[2]
    sd = np.sqrt(variance)
    z = special.ndtri(wanted)
    guess = mean + sd * (z + (z * z - 1.0) * third / (6.0 * sd**3))  # Cornish and Fisher
    swap = of_arm[1] < of_control[1]
    sign = np.where(swap, -1.0, 1.0)
    problems = _Problems(
        a=np.where(swap, aa, ca),
        b=np.where(swap, ab, cb),
        c=np.where(swap, ca, aa),
        d=np.where(swap, cb, ab),
        is_ratio=is_ratio,
        goal=np.where(swap, 1.0 - wanted, wanted),
        start=sign * guess,
        scale=sd,
    )
    return _iterated(problems), sign


def _cumulants(a: np.ndarray, b: np.ndarray, is_log: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first three of theta, or of log theta."""
    n = a + b
    plain = a / n, a * b / (n * n * (n + 1.0)), 2.0 * a * b * (b - a) / (n**3 * (n + 1.0) * (n + 2.0))
    logs = (
        special.psi(a) - special.psi(n),
        *(special.polygamma(order, a) - special.polygamma(order, n) for order in (1, 2)),
    )
    first, second, third = (np.where(is_log, of_log, own) for of_log, own in zip(logs, plain, strict=True))
    return first, second, third


def _iterated(problems: _Problems) -> np.ndarray:
    """Steps of third order, each on the other one of two grids, until one confirms what the last one found."""
    t, miss = problems.start, np.full(problems.start.shape, np.inf)
    # Five questions ask about each pair: its grid is made once.
    shapes, which = np.unique(np.stack([problems.a, problems.b]), axis=1, return_inverse=True)
    grids = [(x[which], weight[which]) for x, weight in _grids(*shapes)]
    for turn in range(TURNS):
        move = np.clip(_move(problems, *grids[turn % 2], t), -problems.scale, problems.scale)
        t, miss = t + move, np.abs(move) / problems.scale
        if (miss < NEAR).all():
            break
    return np.where(miss < NEAR, t, np.nan)


def _grids(a: np.ndarray, b: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Two grids, one between the points of the other: points x and weights, shape (arm, point)."""
    low, high = alive_interval(a, b, NATS)
    points = int(np.ceil(((high - low) * POINTS_PER_SD / np.sqrt(1.0 / a + 1.0 / b)).max())) + 1
    step = ((high - low) / points)[:, None]
    grids = []
    for shift in (0.25, 0.75):
        u = low[:, None] + step * (shift + np.arange(points))
        weight = np.exp(-nats_below_peak(a[:, None], b[:, None], u))
        grids.append((special.expit(u), weight / weight.sum(axis=1, keepdims=True)))
    return grids


def _move(problems: _Problems, x: np.ndarray, weight: np.ndarray, t: np.ndarray) -> np.ndarray:
    """From t to where the Taylor series of third order meets the goal."""
    is_ratio, c, d = problems.is_ratio[:, None], problems.c[:, None], problems.d[:, None]
    y = np.where(is_ratio, x * np.exp(t)[:, None], x + np.where(is_ratio, 0.0, t[:, None]))
    inside = (y > 0.0) & (y < 1.0)
    safe = np.where(inside, y, 0.5)
    below = np.where(inside, special.betainc(off_integer(c), off_integer(d), safe), y >= 1.0)
    log_density = (c - 1.0) * np.log(safe) + (d - 1.0) * np.log1p(-safe) - special.betaln(c, d)
    density = np.where(inside, weight * np.exp(log_density), 0.0)
    slope = (c - 1.0) / safe - (d - 1.0) / (1.0 - safe)
    bend = slope * slope - (c - 1.0) / safe**2 - (d - 1.0) / (1.0 - safe) ** 2
    once, twice = np.where(is_ratio, safe, 1.0), np.where(is_ratio, safe, 0.0)
    first = (density * once).sum(axis=1)
    second = (density * (slope * once * once + twice)).sum(axis=1)
    third = (density * (bend * once**3 + 3.0 * slope * twice * once + twice)).sum(axis=1)
    s = (problems.goal - (weight * below).sum(axis=1)) / first
    halves, sixths = second / (2.0 * first), third / (6.0 * first)
    return np.asarray(s - halves * s * s + (2.0 * halves * halves - sixths) * s**3)
