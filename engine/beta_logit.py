"""The Beta distribution seen from t = logit(x): density, both tails, and where it is sharp.

On this scale every Beta density is smooth and log-concave with exponential ends, whatever its shape:
Beta(0.1, 0.1) needs no special case, and x = 1e-300 and 1 - x = 1e-300 are equally exact.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import special

from engine.quadrature import Panels, panels_between, relevant

# Densities below e^-740 are zero in float64, and so are the tails beyond.
DEAD_NATS = 740.0

# 16 nodes resolve 2.2 standard deviations of the sharpest arm (2.6 leaves 1e-11 at 100 equal arms), and
# 4 units of the logistic curve, whose poles lie pi away from the real line.
PANEL_SD = 2.2
PANEL_LOGITS = 4.0


def log_density(alpha: np.ndarray, beta: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Logarithm of the density of logit(theta) at `t`; all three broadcast.

    Taken relative to the peak at logit(alpha / (alpha + beta)), because the textbook form
    alpha log x + beta log(1 - x) - betaln loses 1e-7 at 10^8 trials; this one loses 1e-12.
    """
    return _log_peak(alpha, beta) - nats_below_peak(alpha, beta, t)


def nats_below_peak(alpha: np.ndarray, beta: np.ndarray, t: np.ndarray) -> np.ndarray:
    """How far the log density at `t` lies below its peak: n KL(mean, x), never negative.

    The smaller shape carries the formula: with the larger one 10^8 * 40 nats would cancel.
    """
    delta = t - np.log(alpha / beta)
    delta = np.where(alpha <= beta, delta, -delta)
    shape = np.minimum(alpha, beta)
    n = alpha + beta
    bounded = np.minimum(delta, 700.0)  # expm1 overflows at 709
    growth = np.log1p(shape / n * np.expm1(bounded)) + (delta - bounded)
    return np.maximum(n * growth - shape * delta, 0.0)


def tails(alpha: np.ndarray, beta: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P(logit theta <= t) and P(logit theta > t), the smaller one with full relative accuracy.

    The smaller of x and 1 - x goes into the incomplete beta function: near 1 the other one carries
    8 digits where 16 are needed.
    """
    alpha, beta, t = np.broadcast_arrays(alpha, beta, t)
    left_half, below_peak = t <= 0.0, t <= np.log(alpha / beta)
    first = _off_integer(np.where(left_half, alpha, beta))
    second = _off_integer(np.where(left_half, beta, alpha))
    x = special.expit(-np.abs(t))
    alive = nats_below_peak(alpha, beta, t) < DEAD_NATS
    near = np.abs(t) < 600.0
    direct = left_half == below_peak
    small = np.zeros(t.shape)
    special.betainc(first, second, x, out=small, where=alive & near & direct)
    special.betaincc(first, second, x, out=small, where=alive & near & ~direct)
    far = alive & ~near  # x itself would underflow; the end of the density is e^(alpha t) to 1e-250
    if np.any(far):
        shape = np.where(left_half, alpha, beta)
        small = np.where(far, np.exp(log_density(alpha, beta, t)) / shape, small)
    return np.where(below_peak, small, 1.0 - small), np.where(below_peak, 1.0 - small, small)


def _off_integer(shape: np.ndarray) -> np.ndarray:
    # scipy 1.18 sums a binomial when both shapes are whole: Beta(4, 1e8) comes out 1.5e-9 wrong, while one
    # ulp beside it the error is 1e-14. Shape 1 has its own exact branch.
    return np.where((shape > 1.0) & (shape < 100.0), np.nextafter(shape, np.inf), shape)


def _log_peak(alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
    n = alpha + beta
    gauss = 0.5 * np.log(alpha / n * beta / (2.0 * np.pi))
    return gauss + _stirling_remainder(n) - _stirling_remainder(alpha) - _stirling_remainder(beta)


def _stirling_remainder(z: np.ndarray) -> np.ndarray:
    """Log gamma minus Stirling's formula; the series is exact to 1e-14 from 16 on."""
    big, small = np.maximum(z, 16.0), np.minimum(z, 16.0)
    inverse = 1.0 / (big * big)
    series = (1 / 12 - inverse * (1 / 360 - inverse * (1 / 1260 - inverse / 1680))) / big
    direct = special.gammaln(small) - ((small - 0.5) * np.log(small) - small + 0.5 * np.log(2.0 * np.pi))
    return np.where(z >= 16.0, series, direct)


def alive_interval(
    alpha: Float[np.ndarray, " arm"], beta: Float[np.ndarray, " arm"], nats: float
) -> tuple[Float[np.ndarray, " arm"], Float[np.ndarray, " arm"]]:
    """Ends outside of which each density lies more than `nats` below its peak, on the safe side.

    A left end is never steeper than the Poisson limit alpha (e^d - 1 - d), which has fallen by `nats` at
    d = -(sqrt(2 nats / alpha) + nats / alpha); the right end likewise with beta.
    """
    peak = np.log(alpha / beta)
    reach = np.sqrt(2.0 * nats * (1.0 / alpha + 1.0 / beta))
    return peak - reach - nats / alpha, peak + reach + nats / beta


def widest_panel(panels: Panels, sharpness: np.ndarray, core: tuple[float, float]) -> np.ndarray:
    """Widest panels that 16 nodes resolve, where `sharpness` is the inverse standard deviation there.

    Outside the `core` only exponential ends remain, so panels grow with the distance: Beta(0.01, 1)
    reaches to t = -4000.
    """
    beyond = np.maximum(np.maximum(core[0] - panels.right, panels.left - core[1]), 0.0)
    return np.minimum(PANEL_LOGITS + 0.5 * beyond, PANEL_SD / np.maximum(sharpness, 1e-9))


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
        return np.where(self.below < 0.5, rising, np.log1p(-np.minimum(self.above, 0.5)))


def tabulate(
    alpha: Float[np.ndarray, " arm"],
    beta: Float[np.ndarray, " arm"],
    integrands: Callable[[Sketch], Float[np.ndarray, "integrand edge"]],
    *,
    fineness: float = 1.0,
) -> Tables:
    """Evaluate all arms where one of the `integrands` (logarithms, from a sketch) is not negligible."""
    panels = _shared_panels(alpha, beta, fineness)
    edges = np.append(panels.left, panels.right[-1])
    height = integrands(_sketch(alpha[:, None], beta[:, None], edges))
    t, weight = panels.select(relevant(height[:, :-1], height[:, 1:])).nodes()
    nats = nats_below_peak(alpha[:, None], beta[:, None], t)
    density = np.exp(_log_peak(alpha, beta)[:, None] - nats)
    below, above = tails(alpha[:, None], beta[:, None], t)
    return Tables(weight, weight * special.expit(t) * special.expit(-t), density, below, above)


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
