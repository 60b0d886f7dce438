"""Quantiles of the differences and ratios of many pairs of ordinary Beta posteriors at once.

`beta_difference` solves any pair, one quantile at a time, in half a millisecond. Ordinary pairs, with some units
of either kind, need less: the density of one arm on the logit scale is so smooth that the trapezoid rule at two
points a standard deviation is exact to 1e-15, and the other arm's distribution function comes from a table that
is made once for all questions (`beta_table`). Every answer is checked on a second grid between the points of the
first; what misses is left to the other module.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy import special

from engine.beta_logit import alive_interval, nats_below_peak
from engine.beta_table import BetaTable, beta_table

LEAST_SHAPE = 5.0  # below, a shifted arm ends where the other still has mass, and the rule loses its digits
LEAST_SD = 1e-4  # below, x + d rounded to 1e-16 is a visible part of it
LEAST_TAIL = 1e-4
POINTS_PER_SD = 2.0
NATS = 34.0  # e^-34 = 2e-15 of the peak: less than that of the mass is left out
TURNS = 5
# Of a standard deviation: how far the answers of both grids may lie apart. Where x + d ends within the bulk of x,
# the integrand has a kink, and they do.
NEAR = 3e-12
# The questions: two ends of the difference, then median and two ends of the ratio, whose scale is logarithmic.
DIFFERENCES = 2
IS_RATIO = np.array([0, 0, 1, 1, 1])

type Arms = Float64[np.ndarray, " arm"]
type Answers = Float64[np.ndarray, "pair question"]
type AtPoints = Float64[np.ndarray, "pair question point"]


@dataclass(frozen=True, slots=True, eq=False)
class _Arms:
    """Ordinary arms: their distribution functions, and two grids of points with weights that sum to 1."""

    alpha: Arms
    beta: Arms
    table: BetaTable
    grids: Float64[np.ndarray, "grid arm point"]
    weights: Float64[np.ndarray, "grid arm point"]


@dataclass(frozen=True, slots=True, eq=False)
class _Problems:
    """Find t where the mean over x of F(x + t), or of F(x e^t), is `goal`.

    Attributes
    ----------
    carrier, other : Positions of arms: x is of the first one, F of the second.
    start, scale : First guess of t and the standard deviation that steps are measured by.
    """

    carrier: Int64[np.ndarray, "pair question"]
    other: Int64[np.ndarray, "pair question"]
    goal: Answers
    start: Answers
    scale: Answers


def lift_quantiles(alpha: Arms, beta: Arms, control: int, tail: float) -> Float64[np.ndarray, "arm 5"]:
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
    ordinary = _ordinary(alpha, beta)
    if tail < LEAST_TAIL or not ordinary[control] or ordinary.sum() < 2:
        return out
    known = np.flatnonzero(ordinary)
    arms, base = _arms(alpha[known], beta[known]), int(np.searchsorted(known, control))
    found = _solved(arms, base, np.array([tail, 1.0 - tail, 0.5, tail, 1.0 - tail]))
    found[:, DIFFERENCES:] = np.expm1(found[:, DIFFERENCES:])
    out[np.delete(known, base)] = found
    return out


def _ordinary(alpha: Arms, beta: Arms) -> Bool[np.ndarray, " arm"]:
    n = alpha + beta
    sd = np.sqrt(alpha * beta / (n + 1.0)) / n
    return np.asarray((np.minimum(alpha, beta) >= LEAST_SHAPE) & (sd >= LEAST_SD))


def _arms(alpha: Arms, beta: Arms) -> _Arms:
    """Tables, and two grids, one between the points of the other."""
    low, high = alive_interval(alpha, beta, NATS)
    sd = np.sqrt(1.0 / alpha + 1.0 / beta)
    points = int(np.ceil(((high - low) * POINTS_PER_SD / sd).max())) + 1
    place = (np.array([[0.25], [0.75]]) + np.arange(points)) / points
    u = low[:, None] + (high - low)[:, None] * place[:, None, :]
    weight = np.exp(-nats_below_peak(alpha[:, None], beta[:, None], u))
    weight /= weight.sum(axis=-1, keepdims=True)
    return _Arms(alpha, beta, beta_table(alpha, beta, low, high), special.expit(u), weight)


def _cumulants(arms: _Arms) -> Float64[np.ndarray, "2 4 arm"]:
    """The first four of theta, and of log theta."""
    a, b = arms.alpha, arms.beta
    n = a + b
    variance = a * b / (n * n * (n + 1.0))
    third = 2.0 * a * b * (b - a) / (n**3 * (n + 1.0) * (n + 2.0))
    excess = 6.0 * ((a - b) ** 2 * (n + 1.0) - a * b * (n + 2.0)) / (a * b * (n + 2.0) * (n + 3.0))
    # polygamma(m, x) is (-1)^(m + 1) m! zeta(m + 1, x), without the checks that cost more than the sum.
    both = np.array((a, n))
    logs = [special.psi(both), *(sign * special.zeta(m, both) for m, sign in ((2, 1.0), (3, -2.0), (4, 6.0)))]
    return np.array(
        ((a / n, variance, third, excess * variance * variance), [part[0] - part[1] for part in logs])
    )


def _solved(arms: _Arms, control: int, wanted: np.ndarray) -> Answers:
    """The quantiles of arm against control; the sharper one of both carries the grid."""
    index = np.delete(np.arange(arms.alpha.size), control)
    cumulants = _cumulants(arms)[IS_RATIO].transpose(1, 2, 0)  # each of shape (arm, question)
    mine, theirs = cumulants[:, index], cumulants[:, control, None]
    swapped = mine[1] < theirs[1]
    variance, fourth = mine[1] + theirs[1], mine[3] + theirs[3]
    scale = np.sqrt(variance)
    skewness, excess = (mine[2] - theirs[2]) / (variance * scale), fourth / (variance * variance)
    guess = mine[0] - theirs[0] + scale * _cornish_fisher(special.ndtri(wanted), skewness, excess)
    sign = np.where(swapped, -1.0, 1.0)
    problems = _Problems(
        carrier=np.where(swapped, index[:, None], control),
        other=np.where(swapped, control, index[:, None]),
        goal=np.where(swapped, 1.0 - wanted, wanted),
        start=sign * guess,
        scale=scale,
    )
    return np.asarray(sign * _iterated(arms, problems))


def _cornish_fisher(z: np.ndarray, skewness: np.ndarray, excess: np.ndarray) -> np.ndarray:
    """Quantiles in standard deviations; Cornish and Fisher (1938), Revue de l'Institut 5, 307-320."""
    bend = (z * z - 3.0) * z / 24.0 * excess - (2.0 * z * z - 5.0) * z / 36.0 * (skewness * skewness)
    return np.asarray(z + (z * z - 1.0) / 6.0 * skewness + bend)


def _iterated(arms: _Arms, problems: _Problems) -> Answers:
    """Steps of third order, each on the other one of two grids, until one confirms what the last one found."""
    t, miss, first = problems.start, np.full(problems.start.shape, np.inf), None
    for turn in range(TURNS):
        weight = arms.weights[turn % 2][problems.carrier]
        y = _shifted(arms.grids[turn % 2][problems.carrier], t)
        apart = problems.goal - _mean(arms.table.below(problems.other, y), weight)
        if first is not None and (np.abs(apart / first) < NEAR * problems.scale).all():
            return np.asarray(t + apart / first)  # the last slope is as good as a new one
        first, move = _move(arms, problems.other, y, weight, apart)
        move = np.minimum(np.maximum(move, -problems.scale), problems.scale)
        t, miss = t + move, np.abs(move) / problems.scale
    return np.where(miss < NEAR, t, np.nan)


def _shifted(x: AtPoints, t: Answers) -> AtPoints:
    """x + t and x e^t, in a copy; beyond these bounds nothing is left of an ordinary arm."""
    x[:, :DIFFERENCES] += t[:, :DIFFERENCES, None]
    x[:, DIFFERENCES:] *= np.exp(t[:, DIFFERENCES:, None])
    return np.asarray(np.minimum(np.maximum(x, 1e-30), 1.0 - 1e-16))


def _move(
    arms: _Arms, other: np.ndarray, y: AtPoints, weight: AtPoints, apart: Answers
) -> tuple[Answers, Answers]:
    """The slope, and the way to where the Taylor series of third order meets the goal."""
    c, d = arms.alpha[other][..., None] - 1.0, arms.beta[other][..., None] - 1.0
    log_norm = special.betaln(arms.alpha, arms.beta)[other][..., None]
    rest = 1.0 - y
    mass = weight * np.exp(c * np.log(y) + d * np.log(rest) - log_norm)
    once = np.array(y)  # the first derivative of y by t, and of a ratio the second and third as well
    once[:, :DIFFERENCES] = 1.0
    again = IS_RATIO[:, None]
    left, right = c / y, d / rest
    steep = (left - right) * once
    bend = steep * steep - (left / y + right / rest) * (once * once)
    mass *= once
    first = mass.sum(axis=-1)
    halves = _mean(mass, steep + again) / (2.0 * first)
    sixths = _mean(mass, bend + again * (3.0 * steep + 1.0)) / (6.0 * first)
    s = apart / first
    return first, s - halves * s * s + (2.0 * halves * halves - sixths) * s**3


def _mean(values: AtPoints, weight: AtPoints) -> Answers:
    """Sum over the points."""
    return np.asarray(np.einsum("...i,...i->...", values, weight))
