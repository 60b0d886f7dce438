"""P(best), P(better) and expected losses of ordinary arms, from one lattice of even points.

On the logit scale densities are so smooth that sums over even points are integrals to 1e-15
(Trefethen and Weideman 2014, The exponentially convergent trapezoidal rule, SIAM Review 56, 385-458), and the tails
come from a table that is made once (`beta_table`).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from scipy import special

from engine.beta_logit import nats_at
from engine.beta_table import BetaTable

# Of the sharpest arm. An arm that is best although others are far ahead, or one with an outcome or two, has a narrower
# integrand: at 3 points its P(best) keeps 7 digits, at 4.5 it keeps 11.
POINTS_PER_SD = 4.5
MOST_ARMS = 20
MOST_POINTS = 1_200  # beyond either, the other ways are as fast

type Shares = Float64[np.ndarray, " arm"]


@dataclass(frozen=True, slots=True, eq=False)
class Lattice:
    """All arms at all points.

    Attributes
    ----------
    mass : Density times distance of the points; each arm's sums to 1.
    below, above : Both tails; the smaller one keeps its digits.
    log_below : Logarithm of `below`, exact near 0 and near 1.
    dx : What each point stands for on the scale of the rates.
    """

    mass: Float64[np.ndarray, "arm point"]
    below: Float64[np.ndarray, "arm point"]
    above: Float64[np.ndarray, "arm point"]
    log_below: Float64[np.ndarray, "arm point"]
    dx: Float64[np.ndarray, " point"]

    def of(self, wanted: Bool[np.ndarray, " arm"]) -> "Lattice":
        """Some of the arms."""
        if wanted.all():
            return self
        return Lattice(
            self.mass[wanted], self.below[wanted], self.above[wanted], self.log_below[wanted], self.dx
        )

    def best(self, leader: int) -> tuple[Shares, float]:
        """P(best) of all arms, and the expected loss of the leader."""
        logs = self.log_below
        probability = np.vecdot(self.mass, np.exp(logs.sum(axis=0) - logs))
        # Without the leader's own, and not minus it: near 1 the rivals' product has digits that would cancel.
        rivals = logs[:leader].sum(axis=0) + logs[leader + 1 :].sum(axis=0)
        return probability, -float((self.below[leader] * np.expm1(rivals)) @ self.dx)

    def against(self, control: int, leads: Bool[np.ndarray, " arm"]) -> tuple[Shares, Shares, Shares]:
        """P(better) and P(worse) of each arm, and the expected loss of the one that leads, arm or control.

        Parameters
        ----------
        leads : Whether the arm has the higher mean than the control.
        """
        better = self.mass @ self.below[control]
        worse = self.below @ self.mass[control]
        ahead = self.below @ (self.above[control] * self.dx)
        behind = self.above @ (self.below[control] * self.dx)
        return better, worse, np.where(leads, ahead, behind)


def lattice_of(table: BetaTable) -> Lattice | None:
    """The lattice of all arms in a table, `MOST_ARMS` at most; None where it had too many points."""
    low, high = float((table.peak + table.low).min()), float((table.peak + table.high).max())
    step = float(np.sqrt(1.0 / table.alpha + 1.0 / table.beta).min()) / POINTS_PER_SD
    points = int((high - low) / step) + 2
    if points > MOST_POINTS:
        return None
    # Told from the middle: what is rounded there is the same for all points of an arm.
    middle, offset = 0.5 * (low + high), step * (np.arange(points) - 0.5 * (points - 1))
    place = (middle - table.peak)[:, None] + offset
    mass = np.exp(-nats_at(table.alpha[:, None], table.beta[:, None], place))
    mass /= mass.sum(axis=1, keepdims=True)
    tail, is_above = table.tail(np.arange(table.peak.size), place)
    rest = 1.0 - tail
    log_below = np.log(np.where(is_above, 1.0, np.maximum(tail, 1e-300)))
    log_below += np.log1p(np.where(is_above, -tail, 0.0))
    t = middle + offset
    return Lattice(
        mass=mass,
        below=np.where(is_above, rest, tail),
        above=np.where(is_above, tail, rest),
        log_below=log_below,
        dx=step * special.expit(t) * special.expit(-t),
    )
