"""What is known of one arm's segments as a whole: its (mean, concentration) as weighted points.

The model: a segment's rate is drawn from Beta(mean * concentration, (1 - mean) * concentration), its
successes from a binomial distribution. With the rates integrated out, the posterior of the two numbers
has a closed density on a plane. Here it becomes a few thousand points with weights, by Gauss-Legendre
panels: over the *spread* u = (1 + concentration)^(-1/2), in which the prior is flat, and for each u over
the window of means that matters.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy import special

from engine.beta_logit import alive_interval, stirling_remainder
from engine.quadrature import NODES, Panels
from engine.segment_marginals import PANEL, RIGHT_PART, Marginals, Spreads, concentration_of, gauss

# e^-27 = 2e-12 of the peak: what lies below changes no sum that we tell.
NEGLIGIBLE_NATS = 27.0
FAINT = 1e-12  # weight of a point that is left out
# Seen in log u, everything has its poles pi / 2 away: 12 nodes keep 12 digits over a factor of 7.
WIDEST = 2.0
# The spread of many segments is known to sqrt(1 / 2S) of itself: 12 nodes integrate over 6 standard deviations
# to 1e-9, and interpolate over 3 to 1e-7.
INTEGRATED_SD, INTERPOLATED_SD = 6.0, 3.0
# Below half of 1 / sqrt(trials) the spread hardly matters and everything is an even polynomial of it.
LEFT_PART = 0.5
CHUNK = 2**14  # numbers at once: they stay in the cache
SIZES = (24, 32, 48, 64, 96, 128, 192, 256, 384)
INTERPOLATED = 48  # nodes of a window in which the mean is looked up, not only summed over


@dataclass(frozen=True, slots=True, eq=False)
class Nodes:
    """Points of an arm's posterior; points of one row share their concentration.

    Attributes
    ----------
    mean, rest : The arm's mean and 1 - mean, each with its own digits.
    concentration, weight : Weights sum to 1.
    first : Where each row begins.
    marginals : Of the mean and of the spread, before faint points were left out.
    """

    mean: Float64[np.ndarray, " node"]
    rest: Float64[np.ndarray, " node"]
    concentration: Float64[np.ndarray, " node"]
    weight: Float64[np.ndarray, " node"]
    first: Int64[np.ndarray, " row"]
    marginals: Marginals


def nodes_of(successes: np.ndarray, failures: np.ndarray) -> Nodes:
    """The posterior of one arm from its segments, shape (segment,) each.

    References
    ----------
    Gelman et al. (2013), Bayesian Data Analysis, 3rd edition, section 5.3, with a proper prior.
    """
    flipped = bool(successes.sum() > failures.sum())  # the smaller side keeps its digits
    arm = Evidence.of(failures, successes) if flipped else Evidence.of(successes, failures)
    spreads = _spreads(arm, INTEGRATED_SD)
    low, high = arm.windows(spreads.concentration)
    sizes = arm.sizes(spreads.concentration, low, high)
    rows, means, masses = [], [], []
    for size in np.unique(sizes):
        row = np.flatnonzero(sizes == size)
        mean, log_mass = _slice(arm, spreads, row, low[row], high[row], int(size))
        rows.append(np.repeat(row, size))
        means.append(mean.ravel())
        masses.append(log_mass.ravel())
    row, mean, log_mass = (np.concatenate(parts) for parts in (rows, means, masses))
    weight = np.exp(log_mass - log_mass.max())
    slices = _scaled(_slice(arm, spreads, np.arange(low.size), low, high, INTERPOLATED)[1])
    marginals = Marginals(low, high, slices, flipped, *_spread_marginal(arm))
    return _kept(row, mean, weight / weight.sum(), spreads.concentration, marginals)


def _kept(
    row: np.ndarray, mean: np.ndarray, weight: np.ndarray, concentration: np.ndarray, marginals: Marginals
) -> Nodes:
    kept = np.flatnonzero(weight > FAINT)
    kept = kept[np.argsort(row[kept], kind="stable")]
    row, mean, weight = row[kept], mean[kept], weight[kept]
    own, rest = (1.0 - mean, mean) if marginals.flipped else (mean, 1.0 - mean)
    first = np.flatnonzero(np.diff(row, prepend=-1))
    return Nodes(own, rest, concentration[row], weight / weight.sum(), first, marginals)


def _spread_marginal(arm: "Evidence") -> tuple[Spreads, np.ndarray]:
    """Finer rows of u, and the mass of each."""
    spreads = _spreads(arm, INTERPOLATED_SD)
    return spreads, _scaled(_log_heights(arm, spreads.concentration) + np.log(spreads.measure))


def _scaled(log_mass: np.ndarray) -> np.ndarray:
    mass = np.exp(log_mass - log_mass.max())
    return np.asarray(mass / mass.sum())


def _slice(
    arm: "Evidence", spreads: Spreads, rows: np.ndarray, low: np.ndarray, high: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = gauss(size)
    half = 0.5 * (high - low)[:, None]
    mean = low[:, None] + half * (1.0 + nodes)
    log_density = arm.log_density(mean, spreads.concentration[rows, None])
    return mean, log_density + np.log(half * weights) + np.log(spreads.measure[rows, None])


def log_rising(a: np.ndarray, n: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Log of Gamma(a + n) / (Gamma(a) a^n), how a rising factorial exceeds its power; to eps * n.

    Summed over `n` with the weights `times`, shape of a. Equal n are looked at once, and as many together as
    fit into the cache; from 16 on they need no gamma function.
    """
    numbers, place = np.unique(n, return_inverse=True)
    weights = np.bincount(place, weights=times)
    start, total = stirling_remainder(a), np.zeros(a.shape)
    for some in (numbers < 16.0, numbers >= 16.0):
        step = max(CHUNK // a.size, 1)
        for first in range(0, int(some.sum()), step):
            more, weight = (part[some][first : first + step, None, None] for part in (numbers, weights))
            rest = stirling_remainder(a + more) - start
            logs = (a + more - 0.5) * np.log1p(more / a) - more + rest
            total += (weight * np.where(more > 0.0, logs, 0.0)).sum(axis=0)
    return total


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """An arm's segments, equal ones taken together: their density as a function of mean and concentration."""

    successes: Float64[np.ndarray, " kind"]
    failures: Float64[np.ndarray, " kind"]
    times: Float64[np.ndarray, " kind"]

    @classmethod
    def of(cls, successes: np.ndarray, failures: np.ndarray) -> "Evidence":
        """Segments without trials say nothing."""
        some = successes + failures > 0.0
        if not some.any():
            return cls(np.zeros(0), np.zeros(0), np.zeros(0))
        kinds, times = np.unique(np.stack([successes[some], failures[some]]), axis=1, return_counts=True)
        return cls(kinds[0], kinds[1], times.astype(np.float64))

    @property
    def totals(self) -> tuple[float, float]:
        """All successes and failures."""
        return float(self.successes @ self.times), float(self.failures @ self.times)

    def log_density(self, mean: np.ndarray, concentration: np.ndarray) -> np.ndarray:
        """Log density of the posterior in (mean, u), up to a constant; `mean` (row, node), the other (row, 1).

        A beta-binomial likelihood, taken relative to full pooling: n log(concentration) cancels there, and
        at 10^6 trials and a concentration of 10^8 it would take 8 digits with it.
        """
        good, bad = self.totals
        centre = (good + 1.0) / (good + bad + 2.0)
        density = good * np.log(mean / centre) + bad * np.log((1.0 - mean) / (1.0 - centre))
        density += log_rising(mean * concentration, self.successes, self.times)
        density += log_rising((1.0 - mean) * concentration, self.failures, self.times)
        return np.asarray(density - log_rising(concentration, self.successes + self.failures, self.times))

    def windows(self, concentration: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the means that matter at each concentration, shape (row,).

        In the mean the density is log-concave. A first window is guessed from what each segment is worth,
        then twice cut (or widened) to where a few nodes find the density alive. An end that was cut at a dead
        node stays: opened again, the window would be three times as wide, and its nodes too far apart.
        """
        low, high = self._guess(concentration)
        is_cut = np.zeros((2, low.size), dtype=bool)
        for _ in range(2):
            means = low[:, None] + 0.5 * (high - low)[:, None] * (1.0 + NODES)
            depth = self.log_density(means, concentration[:, None])
            alive = depth > depth.max(axis=1, keepdims=True) - NEGLIGIBLE_NATS
            first, last = alive.argmax(axis=1), NODES.size - 1 - alive[:, ::-1].argmax(axis=1)
            row = np.arange(low.size)
            width = high - low
            wider = (
                np.where(is_cut[0], low, np.maximum(low - width, 0.0)),
                np.where(is_cut[1], high, np.minimum(high + width, 1.0)),
            )
            is_at_end = np.stack([first == 0, last == NODES.size - 1])
            low, high = (
                np.where(is_at_end[0], wider[0], means[row, np.maximum(first - 1, 0)]),
                np.where(is_at_end[1], wider[1], means[row, np.minimum(last + 1, NODES.size - 1)]),
            )
            is_cut |= ~is_at_end
        return low, high

    def _guess(self, concentration: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n = self.successes + self.failures
        worth = self.times * concentration[:, None] * n / (concentration[:, None] + n)
        good = worth @ (self.successes / n)
        ends = alive_interval(1.0 + good, 1.0 + worth.sum(axis=1) - good, 1.6 * NEGLIGIBLE_NATS)
        return np.asarray(special.expit(ends[0])), np.asarray(special.expit(ends[1]))

    def sizes(self, concentration: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Nodes for each window: the rates of a segment, given each mean, must not lie apart.

        At a high concentration a segment without trials lies within sqrt(m (1 - m) / concentration) of the
        mean; with a node in every standard deviation the sum of such peaks ripples by 5e-9.
        """
        middle = 0.5 * (low + high)
        peak = np.sqrt(middle * (1.0 - middle) / np.maximum(concentration, 1e-3))
        needed = 0.5 * np.pi * (high - low) / peak
        return np.asarray(np.array(SIZES)[np.minimum(np.searchsorted(SIZES, needed), len(SIZES) - 1)])


def _spreads(arm: Evidence, resolved_sd: float) -> Spreads:
    """Where u matters: panels whose ends lie within e^-27 of the peak, each `resolved_sd` wide at most."""
    trials = sum(arm.totals)
    edge = LEFT_PART / np.sqrt(max(trials, 1.0))
    start, end = float(special.logit(edge)), float(special.logit(1.0 - RIGHT_PART))
    widest = min(WIDEST, resolved_sd * np.sqrt(0.5 / max(float(arm.times.sum()), 1.0)))
    edges = np.linspace(start, end, int(np.ceil((end - start) / widest)) + 1)
    height = _log_heights(arm, concentration_of(special.expit(edges), special.expit(-edges)))
    alive = height > height.max() - NEGLIGIBLE_NATS
    panels = Panels(edges[:-1], edges[1:]).select(alive[:-1] | alive[1:])
    nodes, weights = gauss(PANEL)
    half = 0.5 * (panels.right - panels.left)[:, None]
    w = (panels.left[:, None] + half * (1.0 + nodes)).ravel()
    u, complement = special.expit(w), special.expit(-w)
    parts = [(u, complement, (half * weights).ravel() * u * complement)]
    nodes, weights = gauss(8)
    if alive[0]:
        parts.insert(0, (edge * nodes[4:], 1.0 - edge * nodes[4:], edge * weights[4:]))
    if alive[-1]:
        complement = 0.5 * RIGHT_PART * (1.0 - nodes)
        parts.append((1.0 - complement, complement, 0.5 * RIGHT_PART * weights))
    joined = [np.concatenate(part) for part in zip(*parts, strict=True)]
    return Spreads(float(edge), panels, bool(alive[0]), *joined)


def _log_heights(arm: Evidence, concentration: np.ndarray) -> np.ndarray:
    """Log density of u at these concentrations, from 24 nodes each; up to a constant."""
    low, high = arm.windows(concentration)
    nodes, weights = gauss(SIZES[0])
    half = 0.5 * (high - low)[:, None]
    density = arm.log_density(low[:, None] + half * (1.0 + nodes), concentration[:, None])
    return np.asarray(special.logsumexp(density + np.log(half * weights), axis=1))
