"""Quantiles of the differences and ratios of many pairs of Beta posteriors with some units of either kind, at once.

`beta_difference` solves any pair, one quantile at a time, in two milliseconds. These need less: the density of one
arm on the logit scale is so smooth that the trapezoid rule at two points a standard deviation is exact to 1e-15, and
the other arm's distribution function comes from a table that is made once for all questions (`beta_table`). Every
answer is checked on a second grid between the points of the first; what misses is left to the other modules.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy import special

from engine.beta_logit import nats_at, reach
from engine.beta_table import LEAST_TAIL, BetaTable

LEAST_FOR_PAIRS = 5.0  # below, a shifted arm ends where the other still has mass, and even points lose digits
POINTS_PER_SD = 2.0
NATS = 34.0  # e^-34 = 2e-15 of the peak: less than that of the mass is left out
TURNS = 5
ROOT_OF_TWO_PI = np.sqrt(2.0 * np.pi)
# Of a standard deviation: how far the answers of both grids may lie apart. Where x + d ends within the bulk of x,
# the integrand has a kink, and they do.
NEAR = 3e-12
# The questions: two ends of the difference, then median and two ends of the ratio, whose scale is logarithmic.
DIFFERENCES = 2
IS_RATIO = np.array([0, 0, 1, 1, 1])

type Answers = Float64[np.ndarray, "pair question"]
type AtPoints = Float64[np.ndarray, "pair question point"]


@dataclass(frozen=True, slots=True, eq=False)
class _Grids:
    """Two grids of rates for each arm, one between the points of the other; the weights of each sum to 1."""

    rates: Float64[np.ndarray, "grid arm point"]
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


def lift_quantiles(table: BetaTable, control: int, tail: float) -> Float64[np.ndarray, "arm 5"]:
    """Both ends of arm - control, then median and both ends of arm / control - 1.

    Parameters
    ----------
    tail : Mass outside of each end.

    Returns
    -------
    Shape (arm, 5), to 1e-12 of their standard deviation; nan for the control and wherever this module is not
    sure of that.
    """
    out = np.full((table.alpha.size, 5), np.nan)
    known = np.minimum(table.alpha, table.beta) >= LEAST_FOR_PAIRS
    if tail < LEAST_TAIL or not known[control] or known.sum() < 2:
        return out
    wanted = np.array([tail, 1.0 - tail, 0.5, tail, 1.0 - tail])
    found = _solved(table.of(known), int(known[:control].sum()), wanted)
    found[:, DIFFERENCES:] = np.expm1(found[:, DIFFERENCES:])
    known[control] = False
    out[known] = found
    return out


def _grids(table: BetaTable) -> _Grids:
    low, high = reach(table.alpha, table.beta, NATS)
    sd = np.sqrt(1.0 / table.alpha + 1.0 / table.beta)
    points = int(np.ceil(((high - low) * POINTS_PER_SD / sd).max())) + 1
    along = (np.array([[0.25], [0.75]]) + np.arange(points)) / points
    place = low[:, None] + (high - low)[:, None] * along[:, None, :]
    weights = np.exp(-nats_at(table.alpha[:, None], table.beta[:, None], place))
    weights /= weights.sum(axis=-1, keepdims=True)
    return _Grids(special.expit(table.peak[:, None] + place), weights)


def _cumulants(table: BetaTable) -> Float64[np.ndarray, "2 4 arm"]:
    """The first four of theta, and of log theta."""
    a, b = table.alpha, table.beta
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


def _solved(table: BetaTable, control: int, wanted: np.ndarray) -> Answers:
    """The quantiles of arm against control; the sharper one of both carries the grid."""
    index = np.flatnonzero(np.arange(table.alpha.size) != control)
    cumulants = _cumulants(table)[IS_RATIO].transpose(1, 2, 0)  # each of shape (arm, question)
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
    return np.asarray(sign * _iterated(table, problems))


def _cornish_fisher(z: np.ndarray, skewness: np.ndarray, excess: np.ndarray) -> np.ndarray:
    """Quantiles in standard deviations; Cornish and Fisher (1938), Revue de l'Institut 5, 307-320."""
    bend = (z * z - 3.0) * z / 24.0 * excess - (2.0 * z * z - 5.0) * z / 36.0 * (skewness * skewness)
    return np.asarray(z + (z * z - 1.0) / 6.0 * skewness + bend)


def _iterated(table: BetaTable, problems: _Problems) -> Answers:
    """Steps, each on the other one of two grids, until one confirms what the last one found."""
    grids = _grids(table)
    t, miss, first = problems.start, np.full(problems.start.shape, np.inf), None
    for turn in range(TURNS):
        weight = grids.weights[turn % 2].take(problems.carrier, axis=0)
        y = _shifted(grids.rates[turn % 2].take(problems.carrier, axis=0), t)
        place = np.log(y / (1.0 - y)) - table.peak[problems.other][..., None]
        below = np.vecdot(table.below(problems.other, place), weight)
        apart = problems.goal - below
        if first is not None and (np.abs(apart / first) < NEAR * problems.scale).all():
            return np.asarray(t + apart / first)  # the last slope is as good as a new one
        first, bend = _slopes(table, problems.other, y, weight)
        move = _step(problems.goal, below, first, bend)
        move = np.minimum(np.maximum(move, -problems.scale), problems.scale)
        t, miss = t + move, np.abs(move) / problems.scale
    return np.where(miss < NEAR, t, np.nan)


def _shifted(x: AtPoints, t: Answers) -> AtPoints:
    """x + t and x e^t, in a copy; beyond these bounds nothing is left of an ordinary arm."""
    x[:, :DIFFERENCES] += t[:, :DIFFERENCES, None]
    x[:, DIFFERENCES:] *= np.exp(t[:, DIFFERENCES:, None])
    return np.asarray(np.minimum(np.maximum(x, 1e-30), 1.0 - 1e-16))


def _slopes(table: BetaTable, other: np.ndarray, y: AtPoints, weight: AtPoints) -> tuple[Answers, Answers]:
    """The derivative of the mean by t, and the half of the second one as a part of it."""
    c, d = table.alpha[other][..., None] - 1.0, table.beta[other][..., None] - 1.0
    log_norm = special.betaln(table.alpha, table.beta)[other][..., None]
    rest = 1.0 - y
    mass = weight * np.exp(c * np.log(y) + d * np.log(rest) - log_norm)
    once = np.array(y)  # the derivative of y by t, and of a ratio the second as well
    once[:, :DIFFERENCES] = 1.0
    mass *= once
    first = mass.sum(axis=-1)
    return first, np.vecdot(mass, (c / y - d / rest) * once + IS_RATIO[:, None]) / (2.0 * first)


def _step(goal: Answers, below: Answers, first: Answers, bend: Answers) -> Answers:
    """To where the Taylor series of second order of the normal score, which is all but a line, meets the goal's."""
    score = special.ndtri(np.minimum(np.maximum(below, 1e-15), 1.0 - 1e-15))
    steep = first * ROOT_OF_TWO_PI * np.exp(0.5 * score * score)
    step = (special.ndtri(goal) - score) / steep
    return np.asarray(step - (bend + 0.5 * score * steep) * step * step)
