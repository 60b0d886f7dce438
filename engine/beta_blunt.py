"""Quantiles of differences and ratios where an arm has few units of a kind, many at once.

Such an arm has mass where the other one, shifted or stretched, ends: the plain integral of `beta_pairs` has a kink
there. As in `beta_difference`, what lies within (0, 1) for both is mapped to the real line by x = start + span *
expit(u), where all is smooth again, and sums over even points in u are exact. Every answer is checked on a second
grid between the points of the first; what misses is left to `beta_difference`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy import special

from engine.beta_logit import log_peak, nats_at
from engine.beta_table import LEAST_TAIL, BetaTable

# Of the bluntest arm these are points 0.7 apart, and the poles of expit lie pi away: an error of e^(-2 pi^2 / 0.7).
POINTS_PER_SD = 2.0
FAR = 40.0  # e^-40 of the span is left out at either end
MOST_POINTS = 400
MOST_ARMS = 20  # at once: some megabytes
TURNS = 9
FINE = 1e-6
WHOLE = 1e-12
NEAR = 1e-11  # of a standard deviation: how far the answers of both grids may lie apart
ROOT_OF_TWO_PI = np.sqrt(2.0 * np.pi)

type Problems = Float64[np.ndarray, " problem"]
type AtPoints = Float64[np.ndarray, "problem point"]


@dataclass(frozen=True, slots=True, eq=False)
class _Pairs:
    """What is asked: the t with P(arm <= control + t), or P(arm <= control e^t), of the normal score `goal`.

    Attributes
    ----------
    carrier, other : Positions of the sharper arm, whose density is summed up, and of the one whose tails are asked.
    is_turned : Whether the carrier is the arm, and not the control.
    bound : What |t| cannot reach.
    """

    carrier: Int64[np.ndarray, " problem"]
    other: Int64[np.ndarray, " problem"]
    is_turned: Bool[np.ndarray, " problem"]
    is_ratio: Bool[np.ndarray, " problem"]
    goal: Problems
    start: Problems
    scale: Problems
    bound: Problems


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    """x = start + span * p and 1 - x = end + span * (1 - p): no difference is ever taken."""

    start: Problems
    end: Problems
    span: Problems

    def at(self, p: AtPoints, q: AtPoints) -> tuple[AtPoints, AtPoints]:
        """x and 1 - x, where q = 1 - p."""
        span = self.span[:, None]
        return self.start[:, None] + span * p, self.end[:, None] + span * q

    def inverse(self, t: Problems) -> Problems:
        """The u where logit(x) = t, roughly; FAR out where the line does not get there."""
        with np.errstate(divide="ignore"):
            inner = np.log(np.maximum(special.expit(t) - self.start, 0.0))
            outer = np.log(np.maximum(special.expit(-t) - self.end, 0.0))
        return np.asarray(np.clip(inner - outer, -FAR, FAR))


def _lines(t: Problems, pairs: _Pairs) -> tuple[_Line, _Line]:
    """Of the carrier and of the other."""
    up, down = np.maximum(t, 0.0), np.maximum(-t, 0.0)
    zero = np.zeros(t.size)
    ratio = pairs.is_ratio
    control = _Line(
        np.where(ratio, zero, down),
        np.where(ratio, -np.expm1(-up), up),
        np.where(ratio, np.exp(-up), 1.0 - up - down),
    )
    arm = _Line(
        np.where(ratio, zero, up),
        np.where(ratio, -np.expm1(-down), down),
        np.where(ratio, np.exp(-down), 1.0 - up - down),
    )
    return _chosen(pairs.is_turned, arm, control), _chosen(pairs.is_turned, control, arm)


def _chosen(which: np.ndarray, one: _Line, two: _Line) -> _Line:
    return _Line(
        np.where(which, one.start, two.start),
        np.where(which, one.end, two.end),
        np.where(which, one.span, two.span),
    )


def blunt_quantiles(
    table: BetaTable, control: int, arms: Int64[np.ndarray, " some"], tail: float
) -> Float64[np.ndarray, "some 5"]:
    """Both ends of arm - control, then median and both ends of arm / control - 1.

    Parameters
    ----------
    arms : Positions of the arms that are asked about.
    tail : Mass outside of each end.

    Returns
    -------
    nan wherever this module is not sure of 1e-10 of a standard deviation.
    """
    found = np.full((arms.size, 5), np.nan)
    if tail < LEAST_TAIL:
        return found
    for start in range(0, arms.size, MOST_ARMS):
        some = slice(start, start + MOST_ARMS)
        found[some] = _solved(table, _pairs(table, control, arms[some], tail)).reshape(-1, 5)
    found[:, 2:] = np.expm1(found[:, 2:])
    return found


def _solved(table: BetaTable, pairs: _Pairs) -> Problems:
    """Newton on the normal score of the probability, which is nearly linear; each step on the other grid."""
    peak = log_peak(table.alpha, table.beta)
    t, low, high = pairs.start, -pairs.bound, pairs.bound
    done = np.full(t.shape, np.nan)
    for turn in range(TURNS):
        below, above, slope = _sides(table, peak, pairs, t, turn % 2)
        score = special.ndtri(np.clip(np.minimum(below, above), 1e-300, 0.5))
        density = np.exp(-0.5 * score * score) / ROOT_OF_TWO_PI
        miss = pairs.goal - np.where(below < above, score, -score)
        low, high = np.where(miss > 0.0, t, low), np.where(miss > 0.0, high, t)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # no slope: as far as may be
            step = np.fmin(np.abs(miss) * density / slope, pairs.scale) * np.sign(miss)
        size = np.abs(step) / pairs.scale
        is_whole = np.abs(below + above - 1.0) < WHOLE
        is_done = np.isnan(done) & is_whole & (size < NEAR) & (np.abs(miss) < FINE)
        done[is_done] = (t + step)[is_done]
        if not np.isnan(done).any():
            break
        # A fine step is taken, bracket or not: between the roots of two grids halving would look like agreement.
        is_safe = ((t + step > low) & (t + step < high)) | ((size < FINE) & (np.abs(miss) < FINE))
        t = np.where(is_safe, t + step, 0.5 * (low + high))
    return done


def _pairs(table: BetaTable, control: int, arms: np.ndarray, tail: float) -> _Pairs:
    arm, is_ratio = np.repeat(arms, 5), np.tile([False, False, True, True, True], arms.size)
    level = np.tile([0, 2, 1, 0, 2], arms.size)
    mean, n = table.alpha / (table.alpha + table.beta), table.alpha + table.beta
    sd = np.sqrt(mean * (table.beta / n) / (n + 1.0))
    log_sd = np.sqrt(special.zeta(2, table.alpha) - special.zeta(2, n))
    own = special.betaincinv(table.alpha, table.beta, np.array([[tail], [0.5], [1.0 - tail]]))
    quantiles = np.where(is_ratio, np.log(own[:, arm]), own[:, arm])
    of_control = np.where(is_ratio, np.log(own[:, [control]]), own[:, [control]])
    each = np.arange(arm.size)
    # Each side of the difference reaches as far as the far sides of both together, at right angles (MOVER).
    rise, fall = quantiles[level, each] - quantiles[1], of_control[1] - of_control[2 - level, each]
    goal = special.ndtri([tail, 0.5, 1.0 - tail])[level]
    is_turned = sd[arm] < sd[control]
    return _Pairs(
        carrier=np.where(is_turned, arm, control),
        other=np.where(is_turned, control, arm),
        is_turned=is_turned,
        is_ratio=is_ratio,
        goal=goal,
        start=quantiles[1] - of_control[1] + np.sign(goal) * np.hypot(rise, fall),
        scale=np.where(is_ratio, np.hypot(log_sd[arm], log_sd[control]), np.hypot(sd[arm], sd[control])),
        bound=np.where(is_ratio, 700.0, 1.0 - 2.0**-53),
    )


def _sides(
    table: BetaTable, peak: np.ndarray, pairs: _Pairs, t: Problems, grid: int
) -> tuple[Problems, Problems, Problems]:
    """P(arm <= f(control)), P(>), and the derivative of the first by t."""
    x, y = _lines(t, pairs)
    mass, rate, rest = _mass(table, peak, pairs.carrier, x, y, grid)
    place = np.log(rate / rest) - table.peak[pairs.other, None]
    below = table.below(pairs.other, place)
    nats = nats_at(table.alpha[pairs.other, None], table.beta[pairs.other, None], place)
    density = np.exp(peak[pairs.other, None] - nats) / (rest * np.where(pairs.is_ratio[:, None], 1.0, rate))
    with np.errstate(divide="ignore"):  # where a line begins at 0 or ends at 1
        ends = np.log([x.start / (x.end + x.span), (x.start + x.span) / x.end])
    outside = table.below(pairs.carrier, ends.T - table.peak[pairs.carrier, None])
    under = outside[:, 0] + np.vecdot(mass, 1.0 - below)
    over = 1.0 - outside[:, 1] + np.vecdot(mass, below)
    slope = np.vecdot(mass, density)
    return np.where(pairs.is_turned, under, over), np.where(pairs.is_turned, over, under), slope


def _mass(
    table: BetaTable, peak: np.ndarray, carrier: np.ndarray, x: _Line, y: _Line, grid: int
) -> tuple[AtPoints, AtPoints, AtPoints]:
    """What the carrier has at each point, and the other's rate and 1 - rate there."""
    first = x.inverse(table.peak[carrier] + table.low[carrier])
    last = x.inverse(table.peak[carrier] + table.high[carrier])
    points = np.ceil(((last - first) * POINTS_PER_SD * table.sharpness[carrier]).max()) + 1.0
    points = int(min(points, MOST_POINTS))
    width = (last - first) / points
    u = first[:, None] + width[:, None] * (np.arange(points) + (0.25, 0.75)[grid])
    p, q = special.expit(u), special.expit(-u)
    rate, rest = x.at(p, q)
    nats = nats_at(
        table.alpha[carrier, None],
        table.beta[carrier, None],
        np.log(rate / rest) - table.peak[carrier, None],
    )
    stretch = (x.span * width)[:, None] * p * q / (rate * rest)
    return np.exp(peak[carrier, None] - nats) * stretch, *y.at(p, q)
