"""The Beta distribution seen from t = logit(x): density, both tails, and where it is sharp.

On this scale every Beta density is smooth and log-concave with exponential ends, whatever its shape:
Beta(0.1, 0.1) needs no special case, and x = 1e-300 and 1 - x = 1e-300 are equally exact.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import special

from engine.quadrature import NEGLIGIBLE_NATS, NODES, Panels, panels_between, relevant

# Densities below e^-740 are zero in float64, and so are the tails beyond.
DEAD_NATS = 740.0

# What 16 nodes resolve. At 2.2 standard deviations of the sharpest arm the P(best) of 100 equal arms miss a
# sum of 1 by 9e-12, at 1.8 by 4e-13. The logistic curve has its poles pi away from the real line. A running
# integral over a panel keeps 12 digits where the density changes by 6 nats.
PANEL_SD = 1.8
PANEL_LOGITS = 4.0
PANEL_NATS = 6.0


def log_density(alpha: np.ndarray, beta: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Logarithm of the density of logit(theta) at `t`; all three broadcast.

    Taken relative to the peak at logit(alpha / (alpha + beta)), because the textbook form
    alpha log x + beta log(1 - x) - betaln loses 1e-7 at 10^8 trials; this one loses 1e-12.
    """
    return np.asarray(log_peak(alpha, beta) - nats_below_peak(alpha, beta, t))


def nats_below_peak(alpha: np.ndarray, beta: np.ndarray, t: np.ndarray) -> np.ndarray:
    """How far the log density at `t` lies below its peak: n KL(mean, x), never negative."""
    return nats_at(alpha, beta, np.asarray(t - np.log(alpha / beta)))


def nats_at(alpha: np.ndarray, beta: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The same at the distance `place` from the peak, to the right if positive.

    The smaller shape carries the formula: with the larger one 10^8 * 40 nats would cancel.
    """
    delta = np.where(alpha <= beta, 1.0, -1.0) * place
    shape = np.minimum(alpha, beta)
    n = alpha + beta
    bounded = np.minimum(delta, 700.0)  # expm1 overflows at 709
    growth = np.log1p(shape / n * np.expm1(bounded)) + (delta - bounded)
    return np.asarray(np.maximum(n * growth - shape * delta, 0.0))


def tails(alpha: np.ndarray, beta: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P(logit theta <= t) and P(logit theta > t), the smaller one with full relative accuracy."""
    small = small_tail(alpha, beta, t)
    below_peak = t <= np.log(alpha / beta)
    return np.where(below_peak, small, 1.0 - small), np.where(below_peak, 1.0 - small, small)


def small_tail(alpha: np.ndarray, beta: np.ndarray, t: np.ndarray) -> np.ndarray:
    """P(logit theta <= t) up to the peak, P(logit theta > t) beyond it, with full relative accuracy.

    `betainc` gets that tail directly. Where x is so near 1 that rounding it would move the tail (half an
    ulp is 5e-17 sqrt(n / x(1-x)) standard deviations), `betaincc` of 1 - x gives it, five times slower.
    """
    alpha, beta, t = np.broadcast_arrays(alpha, beta, t)
    below_peak = t <= np.log(alpha / beta)
    first, second = np.where(below_peak, alpha, beta), np.where(below_peak, beta, alpha)
    outward = np.where(below_peak, t, -t)
    p, q = special.expit(outward), special.expit(-outward)
    alive = (nats_below_peak(alpha, beta, t) < DEAD_NATS) & (outward > -600.0)
    fine = (p <= 0.5) | (alpha + beta <= 1e9 * p * q)
    small = np.zeros(t.shape)
    one, two = off_integer(first), off_integer(second)
    special.betainc(one, two, p, out=small, where=alive & fine)
    special.betaincc(two, one, q, out=small, where=alive & ~fine)
    if outward.min(initial=0.0) > -600.0:
        return small
    # Further out p would underflow, and the end of the density is e^(first t) to 1e-250.
    return np.where(outward > -600.0, small, np.exp(log_density(alpha, beta, t)) / first)


def off_integer(shape: np.ndarray) -> np.ndarray:
    """Whole shapes moved by one ulp, as `betainc` needs them."""
    # scipy 1.18 sums a binomial when both shapes are whole: Beta(4, 1e8) comes out 1.5e-9 wrong, while one
    # ulp beside it the error is 1e-14. Shape 1 has its own exact branch.
    return np.where((shape > 1.0) & (shape < 100.0), np.nextafter(shape, np.inf), shape)


def log_peak(alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Logarithm of the density of logit(theta) at its peak."""
    n = alpha + beta
    whole, first, second = stirling_remainder(np.array((n, alpha, beta)))
    return np.asarray(0.5 * np.log(alpha / n * beta / (2.0 * np.pi)) + whole - first - second)


def stirling_remainder(z: np.ndarray) -> np.ndarray:
    """Log gamma minus Stirling's formula; the series is exact to 1e-14 from 16 on."""
    if z.min() >= 16.0:
        return _stirling_series(z)
    big, small = np.maximum(z, 16.0), np.minimum(z, 16.0)
    direct = special.gammaln(small) - (small - 0.5) * np.log(small) + small - 0.5 * np.log(2.0 * np.pi)
    return np.asarray(np.where(z >= 16.0, _stirling_series(big), direct))


def _stirling_series(z: np.ndarray) -> np.ndarray:
    inverse = 1.0 / (z * z)
    return np.asarray((1 / 12 - inverse * (1 / 360 - inverse * (1 / 1260 - inverse / 1680))) / z)


def alive_interval(
    alpha: np.ndarray, beta: np.ndarray, nats: float | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Ends outside of which each density lies more than `nats` below its peak, at most 25 % too wide.

    A left end is never steeper than the Poisson limit alpha (e^d - 1 - d), which has fallen by `nats` at
    d = -(sqrt(2 nats / alpha) + nats / alpha); the right end likewise with beta. Of ever shorter
    distances the last one that is still far enough is taken: 0 of 10^8 is dead after 7, not after 38.
    """
    peak = np.log(alpha / beta)
    reach = np.sqrt(2.0 * nats * (1.0 / alpha + 1.0 / beta))
    distance = np.stack([-reach - nats / alpha, reach + nats / beta])
    shrink = 0.8 ** np.arange(12.0).reshape(-1, *[1] * distance.ndim)
    depth = nats_below_peak(alpha, beta, peak + distance * shrink)
    far_enough = np.maximum((depth >= nats).sum(axis=0), 1)
    low, high = peak + distance * 0.8 ** (far_enough - 1.0)
    return np.asarray(low), np.asarray(high)


def reach(alpha: np.ndarray, beta: np.ndarray, nats: float) -> np.ndarray:
    """Places of both ends as seen from the peak, shape (2, arm): the density there is e^-nats of it, or less.

    Newton on the nats below the peak, which are convex: from outside no step falls short. The first guess is
    outside, see `alive_interval`, and often good enough.
    """
    inner, outer = np.array((beta, alpha)), np.array((alpha, beta))
    n = alpha + beta
    share = inner / n
    d = np.sqrt(2.0 * nats * n / (alpha * beta)) + nats / outer
    for _ in range(60):
        bounded = np.minimum(d, 700.0)
        growth = np.expm1(bounded)
        ratio = 1.0 + share * growth
        depth = n * np.log(ratio) - inner * bounded + outer * (d - bounded)
        if depth.max() < 1.4 * nats:
            break
        d -= (depth - nats) / (inner * ((growth + 1.0) / ratio - 1.0))
    d[0] *= -1.0
    return np.asarray(d)


def widest_panel(panels: Panels, sharpness: np.ndarray, core: tuple[float, float]) -> np.ndarray:
    """Widest panels that 16 nodes resolve, where `sharpness` is the inverse standard deviation there.

    Outside the `core` only exponential ends remain, so panels grow with the distance: Beta(0.01, 1)
    reaches to t = -4000.
    """
    beyond = np.maximum(np.maximum(core[0] - panels.right, panels.left - core[1]), 0.0)
    return np.asarray(np.minimum(PANEL_LOGITS + 0.5 * beyond, PANEL_SD / np.maximum(sharpness, 1e-9)))


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """Rough logarithms at the panel edges, within a few nats: enough to see which panels matter."""

    log_density: Float[np.ndarray, "arm edge"]
    log_below: Float[np.ndarray, "arm edge"]
    log_above: Float[np.ndarray, "arm edge"]
    log_dx: Float[np.ndarray, " edge"]


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """All arms at the nodes that matter: sums over `weight` are integrals dt, over `dx` integrals dx."""

    weight: Float[np.ndarray, " node"]
    dx: Float[np.ndarray, " node"]
    density: Float[np.ndarray, "arm node"]
    below: Float[np.ndarray, "arm node"]
    above: Float[np.ndarray, "arm node"]

    @property
    def log_below(self) -> Float[np.ndarray, "arm node"]:
        """Logarithm of `below`, exact near 0 and near 1; at least -708."""
        rising = np.log(np.clip(self.below, np.finfo(np.float64).tiny, 0.5))
        falling = np.log1p(-np.minimum(self.above, 0.5))
        return np.asarray(np.where(self.below < 0.5, rising, falling))


def tabulate(
    alpha: Float[np.ndarray, " arm"],
    beta: Float[np.ndarray, " arm"],
    integrands: Callable[[Sketch], Float[np.ndarray, "integrand edge"]],
    *,
    fineness: float = 1.0,
) -> Tables:
    """Evaluate all arms where one of the `integrands` (logarithms, from a sketch) is not negligible."""
    panels = _shared_panels(alpha, beta, fineness)
    a, b = alpha[:, None], beta[:, None]
    height = integrands(_sketch(a, b, np.append(panels.left, panels.right[-1])))
    panels = _gentle(panels.select(relevant(height[:, :-1], height[:, 1:])), a, b)
    t, weight = panels.nodes()
    density = np.exp(log_density(a, b, t))
    rising = panels.right <= np.log(a / b)
    start = small_tail(a, b, np.where(rising, panels.left, panels.right))
    small = np.repeat(start, NODES.size, axis=1) + panels.running(density, rising)
    rising = np.repeat(rising, NODES.size, axis=1)
    below, above = np.where(rising, small, 1.0 - small), np.where(rising, 1.0 - small, small)
    return Tables(weight, weight * special.expit(t) * special.expit(-t), density, below, above)


def _gentle(panels: Panels, alpha: np.ndarray, beta: np.ndarray) -> Panels:
    """Cut panels in which a density changes by more than 6 nats: its running integral would lose digits.

    Lower tails multiply each other, so all of them count; of the upper tails only those near the thickest.
    """
    ends = np.stack([panels.left, panels.right])
    slope = np.abs(alpha * special.expit(-ends[:, None]) - beta * special.expit(ends[:, None])).max(axis=0)
    nats = nats_below_peak(alpha, beta, ends[:, None]).min(axis=0)
    rising = panels.right <= np.log(alpha / beta)
    thickest = np.where(rising, DEAD_NATS, nats).min(axis=0)
    counts = nats < np.where(rising, DEAD_NATS, np.minimum(thickest + NEGLIGIBLE_NATS, DEAD_NATS))
    steepest = np.where(counts, slope, 0.0).max(axis=0)
    return panels.split(
        np.ceil(np.maximum(steepest * (panels.right - panels.left) / PANEL_NATS, 1.0)).astype(np.int64)
    )


def _shared_panels(alpha: np.ndarray, beta: np.ndarray, fineness: float) -> Panels:
    low, high = alive_interval(alpha, beta, DEAD_NATS)
    peak = np.log(alpha / beta)
    core = min(0.0, float(peak.min())), max(0.0, float(peak.max()))
    n = alpha + beta

    def widest(panels: Panels) -> np.ndarray:
        middle = 0.5 * (panels.left + panels.right)
        alive = (low[:, None] < middle) & (middle < high[:, None])
        steepest = np.clip(0.0, panels.left, panels.right)
        variance = np.where(alive, n[:, None], 0.0).max(axis=0)
        variance = variance * special.expit(steepest) * special.expit(-steepest)
        return widest_panel(panels, np.sqrt(variance), core) / fineness

    return panels_between(np.concatenate([low, peak, high]), widest)


def _sketch(alpha: np.ndarray, beta: np.ndarray, t: np.ndarray) -> Sketch:
    """Signed root of the log density as a normal score (Lugannani and Rice's leading term)."""
    nats = nats_below_peak(alpha, beta, t)
    score = np.copysign(np.sqrt(2.0 * nats), t - np.log(alpha / beta))
    log_dx = special.log_expit(t) + special.log_expit(-t)
    return Sketch(-nats, special.log_ndtr(score), special.log_ndtr(-score), log_dx)
