"""The rate of one segment as a table: a mixture of thousands of Beta densities, summed up once.

On the scale t = logit(rate), in panels of 16 nodes. Between the nodes the density and its running integral
are Legendre series, so quantiles, differences and comparisons cost nothing more of the mixture.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy.polynomial import legendre
from scipy import optimize, special

from engine.beta_difference import Line, Sides, solve
from engine.beta_logit import alive_interval, log_density, tails, widest_panel
from engine.quadrature import NODES, WEIGHTS, Panels, panels_between
from engine.segment_marginals import gauss

NEGLIGIBLE_NATS = 27.0
# Rates below e^-200 = 1e-87 are all alike: the table holds them, evenly, in one more panel.
END, END_PANEL = 200.0, 8.0
# 16 nodes interpolate to 1e-9 of the peak over 2.6 standard deviations.
COARSER = 1.4
TOLERANCE = 1e-6  # that a table may miss a mass of 1, or probabilities of the best arm their sum
CHUNK = 2**15  # numbers at once: a quarter of a megabyte stays in the cache

_DEGREE = np.arange(16)
_TO_TERMS = ((_DEGREE + 0.5) * legendre.legvander(NODES, 15) * WEIGHTS[:, None]).T
# Powers are three times as fast as Legendre polynomials and cost 5 digits of 16.
_TO_POWERS = np.stack([np.append(legendre.leg2poly(row), np.zeros(17))[:17] for row in np.eye(17)])
_INTEGRATED = np.stack([np.append(legendre.legint(row, lbnd=-1), np.zeros(17))[:17] for row in np.eye(16)])


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """Beta distributions with weights that sum to 1.

    Attributes
    ----------
    alpha, beta, weight : Of each component.
    rough_alpha, rough_beta, rough_weight : A few Betas of the same shape: they say where panels are needed.
    """

    alpha: Float64[np.ndarray, " part"]
    beta: Float64[np.ndarray, " part"]
    weight: Float64[np.ndarray, " part"]
    rough_alpha: Float64[np.ndarray, " rough"]
    rough_beta: Float64[np.ndarray, " rough"]
    rough_weight: Float64[np.ndarray, " rough"]


@dataclass(frozen=True, slots=True, eq=False)
class Tabulated:
    """A distribution of a rate in (0, 1).

    Attributes
    ----------
    panels : On the logit scale, without gaps.
    powers : Of each panel, in z from -1 to 1 along it: the density, and the probability below.
    mean, sd : Of the rate itself.
    gap : How far the mass missed 1 before it was scaled.
    """

    panels: Panels
    powers: Float64[np.ndarray, "panel 17 2"]
    mean: float
    sd: float
    gap: float

    @property
    def edges(self) -> Float64[np.ndarray, " edge"]:
        """Ends of the panels."""
        return np.append(self.panels.left, self.panels.right[-1])

    def at(self, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Density of logit(rate) and P(logit(rate) <= t), shape of t."""
        left, right = self.panels.left, self.panels.right
        place = np.minimum(np.searchsorted(right, t), right.size - 1)
        z = np.clip(2.0 * (t - left[place]) / (right[place] - left[place]) - 1.0, -1.0, 1.0)
        found = np.einsum("tk,tks->st", _powers_of(z), self.powers[place])
        inside = (t >= left[0]) & (t <= right[-1])
        return np.where(inside, np.maximum(found[0], 0.0), 0.0), np.clip(found[1], 0.0, 1.0)

    def quantile(self, probability: float) -> float:
        """The rate that lies above `probability` of the mass."""
        ends = self.powers[:, :, 1].sum(axis=1)
        place = min(int(np.searchsorted(ends, probability)), ends.size - 1)
        powers = self.powers[place, ::-1, 1].tolist()

        def miss(z: float) -> float:
            found = 0.0
            for power in powers:
                found = found * z + power
            return found - probability

        z = 1.0 if miss(1.0) <= 0.0 else -1.0 if miss(-1.0) >= 0.0 else optimize.brentq(miss, -1.0, 1.0)
        left, right = self.panels.left[place], self.panels.right[place]
        return float(special.expit(left + 0.5 * (right - left) * (1.0 + float(z))))

    def interval(self, confidence_level: float) -> tuple[float, float]:
        """Equal-tailed credible interval."""
        tail = (1.0 - confidence_level) / 2.0
        return self.quantile(tail), self.quantile(1.0 - tail)


def _powers_of(z: np.ndarray) -> np.ndarray:
    """1, z, ..., z^16 in the last axis."""
    powers = np.empty((z.size, 17))
    powers[:, 0], powers[:, 1:] = 1.0, z[:, None]
    return np.asarray(np.multiply.accumulate(powers, axis=1, out=powers))


def tabulated(mixture: Mixture) -> Tabulated:
    """Sum the mixture up on its panels.

    Raises
    ------
    ArithmeticError
        The mass misses 1 by more than 1e-6.
    """
    panels = _panels(mixture)
    t, _ = panels.nodes()
    density = _density(mixture, t).reshape(-1, NODES.size)
    panels, density = _with_ends(mixture, panels, density)
    half = 0.5 * (panels.right - panels.left)
    mass = half * (density @ WEIGHTS)
    whole = float(mass.sum())
    if not abs(whole - 1.0) <= TOLERANCE:
        raise ArithmeticError(f"the density of a segment has mass {whole!r}, must be 1 within {TOLERANCE}")
    terms = density @ _TO_TERMS.T / whole
    below = half[:, None] * (terms @ _INTEGRATED)
    below[:, 0] += (np.cumsum(mass) - mass) / whole
    powers = np.stack([terms @ _TO_POWERS[:16], below @ _TO_POWERS], axis=2)
    mean = float(mixture.weight @ _ratio(mixture))
    return Tabulated(panels, powers, mean, _sd(mixture, mean), abs(whole - 1.0))


def _ratio(mixture: Mixture) -> np.ndarray:
    return np.asarray(mixture.alpha / (mixture.alpha + mixture.beta))


def _sd(mixture: Mixture, mean: float) -> float:
    each, n = _ratio(mixture), mixture.alpha + mixture.beta
    inner = each * (mixture.beta / n) / (n + 1.0)
    return float(np.sqrt(mixture.weight @ (inner + (each - mean) ** 2)))


def _panels(mixture: Mixture) -> Panels:
    """Narrow where a sharp part of the mixture lives, wide in the exponential ends."""
    alpha, beta = mixture.rough_alpha, mixture.rough_beta
    nats = np.maximum(NEGLIGIBLE_NATS + np.log(mixture.rough_weight), 1.0)
    low, high = alive_interval(alpha, beta, nats)
    ends = _ends(mixture)
    peak = np.log(alpha / beta)
    core = min(0.0, float(peak.min())), max(0.0, float(peak.max()))

    def widest(panels: Panels) -> np.ndarray:
        alive = (low[:, None] < panels.right) & (panels.left < high[:, None])
        steepest = np.clip(0.0, panels.left, panels.right)
        n = np.where(alive, (alpha + beta)[:, None], 0.0).max(axis=0)
        sharpness = np.sqrt(n * special.expit(steepest) * special.expit(-steepest))
        return widest_panel(panels, sharpness / COARSER, core)

    sharpest = np.argmax(alpha + beta)
    breaks = np.array([*ends, low[sharpest], peak[sharpest], high[sharpest]])
    return panels_between(np.clip(breaks, *ends), widest)


def _ends(mixture: Mixture) -> tuple[float, float]:
    """Where the last component is dead, or rather further out: the rough ones have thinner tails."""
    alpha, beta = mixture.alpha, mixture.beta
    nats = np.maximum(NEGLIGIBLE_NATS + np.log(mixture.weight), 1.0)
    peak, reach = np.log(alpha / beta), np.sqrt(2.0 * nats * (1.0 / alpha + 1.0 / beta))
    low, high = float((peak - reach - nats / alpha).min()), float((peak + reach + nats / beta).max())
    return max(low, -END), min(high, END)


def _density(mixture: Mixture, t: np.ndarray) -> np.ndarray:
    """All components at all nodes: around one point they differ by a straight line and one curve."""
    mean = float(mixture.weight @ _ratio(mixture))
    centre = float(np.clip(special.logit(mean), -END, END))
    at_centre = log_density(mixture.alpha, mixture.beta, np.array(centre)) + np.log(mixture.weight)
    delta = t - centre
    curve = _log_growth(centre, delta)
    lines = np.stack([at_centre, mixture.alpha, -(mixture.alpha + mixture.beta)], axis=1)
    nodes = np.stack([np.ones_like(t), delta, curve])
    size = max(CHUNK // mixture.alpha.size, 1)
    density = np.empty(t.size)
    for i in range(0, t.size, size):
        logs = lines @ nodes[:, i : i + size]
        np.exp(logs, out=logs).sum(axis=0, out=density[i : i + size])
    return density


def _log_growth(centre: float, delta: np.ndarray) -> np.ndarray:
    """Log of 1 - p + p e^delta with p = expit(centre), exact for small delta and for p near 1."""
    if centre <= 0.0:
        return np.asarray(np.log1p(special.expit(centre) * np.expm1(delta)))
    return np.asarray(delta + np.log1p(special.expit(-centre) * np.expm1(-delta)))


def _with_ends(mixture: Mixture, panels: Panels, density: np.ndarray) -> tuple[Panels, np.ndarray]:
    """What lies beyond the last panel, evenly in one more."""
    left, right = panels.left, panels.right
    edges = float(left[0]), float(right[-1])
    if edges[0] <= -END:
        mass = float(mixture.weight @ tails(mixture.alpha, mixture.beta, np.array(edges[0]))[0])
        left, right = np.append(edges[0] - END_PANEL, left), np.append(edges[0], right)
        density = np.vstack([np.full((1, NODES.size), mass / END_PANEL), density])
    if edges[1] >= END:
        mass = float(mixture.weight @ tails(mixture.alpha, mixture.beta, np.array(edges[1]))[1])
        left, right = np.append(left, edges[1]), np.append(right, edges[1] + END_PANEL)
        density = np.vstack([density, np.full((1, NODES.size), mass / END_PANEL)])
    return Panels(left, right), density


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """P(arm is best) and P(arm > control) of the arms in one segment, shape (arm,)."""

    best: Float64[np.ndarray, " arm"]
    better: Float64[np.ndarray, " arm"]


def compared(arms: Sequence[Tabulated], *, control: int) -> Compared:
    """Both from one sweep over the panels of all arms.

    Raises
    ------
    ArithmeticError
        The probabilities of the best arm miss a sum of 1 by more than 1e-6.
    """
    edges = np.unique(np.concatenate([arm.edges for arm in arms]))
    t, weight = _nodes(Panels(edges[:-1], edges[1:]))
    density, below = (np.stack(part) for part in zip(*(arm.at(t) for arm in arms), strict=True))
    log_below = np.log(np.maximum(below, 1e-300))
    best = (density * np.exp(log_below.sum(axis=0) - log_below)) @ weight
    gap = abs(float(best.sum()) - 1.0)
    if not gap <= TOLERANCE:
        raise ArithmeticError(f"probabilities of the best arm miss a sum of 1 by {gap:.1e}")
    better = np.clip((density * below[control]) @ weight, 0.0, 1.0)
    better[control] = 0.5
    return Compared(best / best.sum(), better)


def difference_interval(control: Tabulated, arm: Tabulated, confidence_level: float) -> tuple[float, float]:
    """Equal-tailed credible interval of the arm's rate minus the control's, two independent ones."""
    tail = (1.0 - confidence_level) / 2.0
    start = arm.mean - control.mean, float(np.hypot(arm.sd, control.sd))
    edge = 1.0 - 2.0**-53

    def at(d: float) -> Sides:
        gap, log_slope = abs(d), float(np.log1p(-abs(d)))
        near, far = Line(0.0, gap, log_slope), Line(gap, 0.0, log_slope)
        return _sides(control, arm, *((near, far) if d >= 0.0 else (far, near)))

    lower, upper = (solve(at, tail, side, start=start, bounds=(-edge, edge)) for side in (False, True))
    return lower, upper


def _sides(control: Tabulated, arm: Tabulated, x: Line, y: Line) -> Sides:
    """As for two Beta posteriors: integrate over the overlap, with the panels of both laid onto it."""
    marks = [line.inverses(table.edges) for line, table in ((x, control), (y, arm))]
    low, high = max(marks[0][0], marks[1][0]), min(marks[0][-1], marks[1][-1])
    below = 1.0 - float(control.at(x.logit(np.array([high])))[1][0])
    above = float(control.at(x.logit(np.array([low])))[1][0])
    slope = 0.0
    if low < high:
        u, weight = _nodes(_laid_on(np.clip([*marks[0], *marks[1]], low, high), abs(x.start - y.start)))
        t, arm_t = x.logit(u), y.logit(u)
        density, mass_below = arm.at(arm_t)
        mass = weight * control.at(t)[0] * np.exp(x.log_stretch(u, t))
        below, above = below + float(mass @ mass_below), above + float(mass @ (1.0 - mass_below))
        with np.errstate(over="ignore"):  # an infinite slope at d = 0: the solver brackets instead
            steepness = np.exp(-special.log_expit(arm_t) - special.log_expit(-arm_t))
            slope = float((mass * density) @ steepness) if np.isfinite(steepness).all() else 0.0
    whole = below + above
    if not abs(whole - 1.0) <= TOLERANCE:
        raise ArithmeticError(f"both sides of a difference sum to {whole!r}, must be 1 within {TOLERANCE}")
    return Sides(below / whole, above / whole, slope)


def _laid_on(edges: np.ndarray, gap: float) -> Panels:
    """The panels of both tables, cut where the way from one rate to the other bends."""
    bend = float(np.log(gap)) if gap > 0.0 else 0.0

    def widest(panels: Panels) -> np.ndarray:
        return widest_panel(panels, np.zeros(panels.left.size), (bend, -bend))

    return panels_between(edges, widest)


def _nodes(panels: Panels) -> tuple[np.ndarray, np.ndarray]:
    """8 a panel are enough for products: the panels of two tables are cut at each other's ends."""
    nodes, weights = gauss(8)
    half = 0.5 * (panels.right - panels.left)[:, None]
    return (panels.left[:, None] + half * (1.0 + nodes)).ravel(), (half * weights).ravel()
