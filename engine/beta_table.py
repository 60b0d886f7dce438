"""Distribution functions of Beta posteriors from a table: asked a thousand times, tabulated once.

On the logit scale, around each arm's peak, in even panels of 16 nodes. In each stands the polynomial through the
tail that begins at its own end of the density, so that a small tail keeps its digits; ten times as fast as the
incomplete beta function.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from numpy.polynomial import legendre
from scipy import special

from engine.beta_logit import nats_at, reach
from engine.quadrature import FROM_LEFT, FROM_RIGHT, NODES, WEIGHTS

END_NATS = 45.0  # a table ends where densities are e^-45 = 3e-20 of their peak
LEAST_SHAPE = 0.9  # below, a density has ends that reach further than a table should
LEAST_SD = 1e-4  # of the rate; below, a rate rounded to 1e-16 is a visible part of it
LEAST_TAIL = 1e-4  # a quantile with less mass beyond it wants more digits of both tails
# In a steep tail a polynomial through 16 nodes keeps fewer digits, the more the tail changes over a panel.
PANEL_SD = 1.1
PANEL_LOGITS = 2.0  # the logistic curve has its poles pi away from the real line
# Of the way from the peak to either end: how far a tail must keep its digits. The curvature n x (1 - x) grows towards
# x = 1/2, so a skewed density is sharper in its short tail than at its peak.
WITHIN = 0.7

_DEGREE = np.arange(NODES.size)
_TO_TERMS = (_DEGREE + 0.5) * legendre.legvander(NODES, NODES.size - 1) * WEIGHTS[:, None]
_TO_POWERS = np.array([np.pad(legendre.leg2poly(row), (0, 16))[:16] for row in np.eye(NODES.size)])


@dataclass(frozen=True, slots=True, eq=False)
class BetaTable:
    """Both tails of several arms: absolute error 2e-12, most of it from rounded places, and 10 digits of a small one
    as long as the density there is e^-20 of its peak or more.

    Attributes
    ----------
    peak : log(alpha / beta), where the density of logit theta is highest. Places are told from there.
    low, high : Places where the panels of each arm begin and end.
    sharpness : Square root of the largest curvature of the log density, within `WITHIN` of the way to the ends.
    width : Of one panel of each arm.
    falling : From which panel on the upper tail is the one that stands in the table.
    powers : Coefficients of 1, z, ..., z^15, with z from -1 to 1 along a panel; all of one arm, then of the next.
    """

    alpha: Float64[np.ndarray, " arm"]
    beta: Float64[np.ndarray, " arm"]
    peak: Float64[np.ndarray, " arm"]
    low: Float64[np.ndarray, " arm"]
    high: Float64[np.ndarray, " arm"]
    sharpness: Float64[np.ndarray, " arm"]
    width: Float64[np.ndarray, " arm"]
    falling: Float64[np.ndarray, " arm"]
    powers: Float64[np.ndarray, "16 row"]

    def of(self, wanted: Bool[np.ndarray, " arm"]) -> "BetaTable":
        """Some of the arms."""
        if wanted.all():
            return self
        powers = self.powers.reshape(NODES.size, self.peak.size, -1)[:, wanted]
        return BetaTable(
            alpha=self.alpha[wanted],
            beta=self.beta[wanted],
            peak=self.peak[wanted],
            low=self.low[wanted],
            high=self.high[wanted],
            sharpness=self.sharpness[wanted],
            width=self.width[wanted],
            falling=self.falling[wanted],
            powers=powers.reshape(NODES.size, -1),
        )

    def below(self, arm: np.ndarray, place: np.ndarray) -> np.ndarray:
        """P(logit theta <= peak + place), shape (..., point); `arm` says whose, shape (...)."""
        tail, is_above = self.tail(arm, place)
        return np.asarray(np.where(is_above, 1.0 - tail, tail))

    def tail(self, arm: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, Bool[np.ndarray, "..."]]:
        """The tail that stands in the table, and whether it is the upper one; shapes as for `below`."""
        panels = self.powers.shape[1] // self.peak.size
        along = (place - self.low[arm][..., None]) / self.width[arm][..., None]
        # Beyond either end nothing, or everything, lies below.
        along = np.minimum(np.maximum(along, 0.0), float(panels))
        panel = np.minimum(np.floor(along), panels - 1.0)
        row = (panel + (arm * panels)[..., None]).astype(np.int64).ravel()
        powers = _powers((2.0 * (along - panel) - 1.0).ravel())
        tail = np.einsum("ij,ij->j", powers, self.powers.take(row, axis=1)).reshape(place.shape)
        # In steep tails the polynomial may dip under 0.
        return np.maximum(tail, 0.0), panel >= self.falling[arm][..., None]


def is_ordinary(
    alpha: Float64[np.ndarray, " arm"], beta: Float64[np.ndarray, " arm"]
) -> Bool[np.ndarray, " arm"]:
    """Arms that a table is exact for: with a prior of one unit of either kind, and not too many units."""
    n = alpha + beta
    sd = np.sqrt(alpha * beta / (n + 1.0)) / n
    return np.asarray((np.minimum(alpha, beta) >= LEAST_SHAPE) & (sd >= LEAST_SD))


def beta_table(alpha: Float64[np.ndarray, " arm"], beta: Float64[np.ndarray, " arm"]) -> BetaTable:
    """Tabulate ordinary arms."""
    peak, (low, high) = np.log(alpha / beta), reach(alpha, beta, END_NATS)
    steepest = np.minimum(np.maximum(peak + WITHIN * low, 0.0), peak + WITHIN * high)
    x = special.expit(steepest)
    sharpness = np.sqrt((alpha + beta) * x * (1.0 - x))
    panels = int(np.ceil(((high - low) * np.maximum(sharpness / PANEL_SD, 1.0 / PANEL_LOGITS)).max()))
    width = (high - low) / panels
    along = np.arange(panels)[:, None] + 0.5 * (1.0 + NODES)
    place = low[:, None, None] + width[:, None, None] * along
    density = np.exp(-nats_at(alpha[:, None, None], beta[:, None, None], place))
    mass = density @ WEIGHTS
    falling = np.floor(-low / width)
    is_above = np.arange(panels) >= falling[:, None]
    swept = np.where(is_above[..., None], density @ FROM_RIGHT.T, density @ FROM_LEFT.T)
    swept += np.where(is_above, _after(mass), _after(mass[:, ::-1])[:, ::-1])[..., None]
    swept /= mass.sum(axis=1)[:, None, None]
    powers = (swept.reshape(-1, NODES.size) @ _TO_TERMS) @ _TO_POWERS
    return BetaTable(alpha, beta, peak, low, high, sharpness, width, falling, np.ascontiguousarray(powers.T))


def _after(mass: Float64[np.ndarray, "arm panel"]) -> Float64[np.ndarray, "arm panel"]:
    """Sums over the later panels; nothing is subtracted."""
    after = np.zeros_like(mass)
    after[:, :-1] = mass[:, :0:-1].cumsum(axis=1)[:, ::-1]
    return after


def _powers(z: Float64[np.ndarray, " point"]) -> Float64[np.ndarray, "16 point"]:
    """1, z, ..., z^15."""
    powers = np.empty((NODES.size, z.size))
    powers[0], powers[1] = 1.0, z
    for size in (2, 4, 8):
        np.multiply(powers[:size], powers[size - 1] * z, out=powers[size : 2 * size])
    return powers
