"""P(best) and the leader's expected loss from one sweep over the stretch where the arms overlap.

Below the highest of the lower ends some arm is surely above that value, beyond the highest upper end none is:
the best arm is decided in between, on some 15 panels whatever the sizes of the arms. The price: an arm that is
best with probability 1e-30 is so somewhere else, and `beta_comparison` asks the table of `beta_logit` for it.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64
from scipy import special

from engine.beta_logit import PANEL_LOGITS, PANEL_SD, log_density, off_integer, reach
from engine.quadrature import FROM_LEFT, FROM_RIGHT, NODES, WEIGHTS

# The sweep ends where densities are e^-60 = 9e-27 of their peak.
END_NATS = 60.0
# expit(-600) is 1e-261; beyond it only priors below 0.1 are alive, and F is x^alpha / (alpha B) to the last digit.
SMALLEST_LOGIT = -600.0
# Relative error of the loss that F may cause by missing 1 at the upper end; beyond it, upper tails are asked.
LOSS_DIGITS = 3e-12
WIDEST_LOGITS = 400.0  # e^(half of it) must be a float64

_TO_NODES = np.ascontiguousarray(FROM_LEFT.T)
_FROM_NODES = np.ascontiguousarray(FROM_RIGHT.T)


@dataclass(frozen=True, slots=True, eq=False)
class _Sweep:
    """Panels on the logit scale: where they begin and how much of the rates' scale they cover; their centres, half
    widths and offsets of the nodes from the centres.
    """

    low: float
    width: float
    centre: Float[np.ndarray, " panel"]
    half: Float[np.ndarray, " panel"]
    offset: Float[np.ndarray, "panel 16"]


def solve_overlap(
    alpha: Float64[np.ndarray, " arm"], beta: Float64[np.ndarray, " arm"], leader: int
) -> tuple[Float64[np.ndarray, " arm"], float]:
    """P(best) of all arms, and the expected loss of the leader.

    Each arm's F is its value at the left end plus what has been swept since: all terms are positive, so small
    values keep their digits, and the incomplete beta function is asked once per arm instead of once per node.
    """
    sweep = _sweep(alpha, beta)
    a, b = alpha[:, None], beta[:, None]
    heights = log_density(a, b, np.concatenate(((sweep.low,), sweep.centre)))
    mass = _panel_mass(a, b, sweep, heights[:, 1:])
    start = _below(alpha, beta, sweep.low, heights[:, 0])
    below = _swept(mass, _TO_NODES, start)
    log_below = np.log(below)
    others = log_below.sum(axis=0) - log_below
    probability = _panel_sums(mass * np.exp(others)).sum(axis=1)
    t = sweep.centre[:, None] + sweep.offset
    dx = (special.expit(t) * special.expit(-t) * WEIGHTS * sweep.half[:, None]).ravel()
    below_leader = below[leader].ravel() * dx
    loss = -float(below_leader @ np.expm1(others[leader].ravel()))
    missed = max(abs(end - 1.0) for end in below[:, -1, -1].tolist())
    if loss * LOSS_DIGITS < missed * sweep.width:
        loss = -float(below_leader @ np.expm1(_log_below_rivals(mass, below, leader)).ravel())
    first = _integral_of_below(
        float(alpha[leader]), float(beta[leader]), sweep.low, float(start[leader]), float(heights[leader, 0])
    )
    return probability, first + loss


def _sweep(alpha: np.ndarray, beta: np.ndarray) -> _Sweep:
    """Panels of 1.8 standard deviations of the sharpest arm that has not ended, as in `beta_logit`."""
    peak, n = np.log(alpha / beta), alpha + beta
    ends = peak + reach(alpha, beta, END_NATS)
    low, high = float(ends[0].max()), float(ends[1].max())
    order = ends[1].argsort()
    sharpest = np.maximum.accumulate(n[order][::-1])[::-1].tolist()
    core = min(0.0, float(peak.min())), max(0.0, float(peak.max()))
    edges = np.array(_edges(low, high, ends[1][order].tolist(), sharpest, core))
    half = 0.5 * (edges[1:] - edges[:-1])
    width = float(special.expit(high) - special.expit(low))
    return _Sweep(low, width, edges[:-1] + half, half, half[:, None] * NODES)


def _edges(
    low: float, high: float, ends: list[float], sharpest: list[float], core: tuple[float, float]
) -> list[float]:
    """Walk from `low` to `high`; `sharpest[i]` is the largest n of the arms that end at `ends[i]` or later.

    Plain floats: a step takes 1 µs, as much as one call of numpy.
    """
    edges, t, arm = [low], low, 0
    while t < high:
        while ends[arm] <= t:
            arm += 1
        beyond = max(core[0] - t, t - core[1], 0.0)
        width = min(PANEL_LOGITS + 0.25 * beyond, WIDEST_LOGITS, _resolved_width(t, sharpest[arm]))
        if t < 0.0:  # the curvature n x (1 - x) grows towards 0: what counts is the right end
            width = min(width, _resolved_width(min(t + width, 0.0), sharpest[arm]))
        t += width
        edges.append(t)
    return edges


def _resolved_width(t: float, n: float) -> float:
    """How wide a panel at `t` may be for an arm of `n` units that is alive there."""
    tail = math.exp(-min(abs(t), 600.0))
    return PANEL_SD * (1.0 + tail) / math.sqrt(n * tail)


def _panel_mass(alpha: np.ndarray, beta: np.ndarray, sweep: _Sweep, height: np.ndarray) -> np.ndarray:
    """Density times half the panel's width, shape (arm, panel, 16).

    Around the centre c of a panel all arms share one curve, so that the logarithms are those of one arm:
    log g(c + d) = log g(c) + (alpha - n x) d - n psi(d), psi(d) = log(1 + x (e^d - 1)) - x d, x = expit(c).
    """
    centre, offset = sweep.centre, sweep.offset
    x, y = special.expit(centre), special.expit(-centre)
    small = np.minimum(x, y)[:, None]  # psi is the same for y and -d; with x near 1 it would cancel
    outward = np.copysign(1.0, -centre)[:, None] * offset
    psi = np.log1p(small * np.expm1(outward)) - small * outward
    mass = (alpha * y - beta * x)[:, :, None] * offset
    mass += (height + np.log(sweep.half))[:, :, None]
    mass -= (alpha + beta)[:, :, None] * psi
    return np.asarray(np.exp(mass))


def _swept(mass: np.ndarray, to_nodes: np.ndarray, start: np.ndarray) -> np.ndarray:
    """What has been swept when each node is reached, `start` included; shape (arm, panel, 16)."""
    entry = np.empty(mass.shape[:2])
    entry[:, 0] = start
    _panel_sums(mass)[:, :-1].cumsum(axis=1, out=entry[:, 1:])
    entry[:, 1:] += start[:, None]
    reached = (mass.reshape(-1, NODES.size) @ to_nodes).reshape(mass.shape)
    reached += entry[:, :, None]
    # In steep tails the polynomial through the nodes may dip under its start.
    return np.asarray(np.maximum(reached, entry[:, :, None], out=reached))


def _log_below_rivals(mass: np.ndarray, below: np.ndarray, leader: int) -> np.ndarray:
    """Logarithm of the product of the rivals' F, exact near 0; shape (panel, 16)."""
    mass, below = np.delete(mass, leader, axis=0), np.delete(below, leader, axis=0)
    above = _swept(mass[:, ::-1], _FROM_NODES, np.zeros(mass.shape[0]))[:, ::-1]
    rising, falling = np.log(np.minimum(below, 0.5)), np.log1p(-np.minimum(above, 0.5))
    return np.asarray(np.where(below < 0.5, rising, falling).sum(axis=0))


def _panel_sums(heights: np.ndarray) -> np.ndarray:
    """Integral over each panel, where `heights` have its half width in them; shape (arm, panel)."""
    return np.asarray((heights.reshape(-1, NODES.size) @ WEIGHTS).reshape(heights.shape[:2]))


def _below(alpha: np.ndarray, beta: np.ndarray, t: float, log_density: np.ndarray) -> np.ndarray:
    """P(logit theta <= t) of each arm, from the side on which x is not rounded."""
    if t < SMALLEST_LOGIT:
        return np.asarray(np.exp(log_density) / alpha)
    a, b = off_integer(alpha), off_integer(beta)
    if t <= 0.0:
        return np.asarray(special.betainc(a, b, special.expit(t)))
    return np.asarray(special.betaincc(b, a, special.expit(-t)))


def _integral_of_below(alpha: float, beta: float, t: float, below: float, log_density: float) -> float:
    """Integral of F over x from 0 to expit(t), from `below` = F and the log density on the logit scale there.

    (x - mean) F + density / n; far below a blunt arm's mean that would cancel, and x F - mean I_x(alpha + 1,
    beta) does not.
    """
    n, tail = alpha + beta, math.exp(-abs(t))
    if t <= 0.0 and 2.0 * tail < alpha / n:
        x = tail / (1.0 + tail)
        return float(x * below - alpha / n * special.betainc(alpha + 1.0, beta, x))
    ahead = tail / (1.0 + tail) - alpha / n if t <= 0.0 else beta / n - tail / (1.0 + tail)
    return ahead * below + math.exp(log_density) / n
