"""The posterior of one arm's mean, and of how far its segments lie apart: quantiles of both."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float64
from numpy.polynomial import legendre
from scipy import optimize, special

from engine.quadrature import Panels, running_integrals

PANEL = 12  # nodes of a panel of u
RIGHT_PART = 1 / 16  # of the spread: there the concentration is below 0.14


@dataclass(frozen=True, slots=True, eq=False)
class Marginals:
    """The posterior of an arm's mean, and of the spread of its segments.

    Attributes
    ----------
    low, high, mass : Windows of means, one a row, and the mass at each node; of 1 - mean where `flipped`.
    spreads, shares : Rows of u, finer ones, and the mass of each.
    """

    low: Float64[np.ndarray, " row"]
    high: Float64[np.ndarray, " row"]
    mass: Float64[np.ndarray, "row node"]
    flipped: bool
    spreads: "Spreads"
    shares: Float64[np.ndarray, " spread"]

    def mean_quantile(self, probability: float) -> float:
        """The mean that lies above `probability` of the mass."""
        wanted = 1.0 - probability if self.flipped else probability
        nodes, weights = gauss(self.mass.shape[1])
        running = (self.mass / weights) @ running_of(nodes.size).T
        pull = (-1.0) ** np.arange(nodes.size) * np.sqrt((1.0 - nodes**2) * weights)
        whole = self.mass.sum(axis=1)

        def miss(mean: float) -> float:
            """P(the mean is below) minus what is wanted; between the nodes by barycentric interpolation."""
            z = np.clip(2.0 * (mean - self.low) / (self.high - self.low) - 1.0, -1.0, 1.0)
            gap = z[:, None] - nodes
            part = pull / np.where(gap == 0.0, 1e-300, gap)
            below = (part * running).sum(axis=1) / part.sum(axis=1)
            return float(np.where(z <= -1.0, 0.0, np.where(z >= 1.0, whole, below)).sum()) - wanted

        ends = float(self.low.min()), float(self.high.max())
        found = float(optimize.brentq(miss, *ends, xtol=1e-13, rtol=1e-12))
        return 1.0 - found if self.flipped else found

    def spread_quantile(self, probability: float) -> float:
        """The u that lies above `probability` of the mass."""
        below = 0.0
        for piece in self.spreads.pieces(self.shares):
            if below + piece.mass >= probability:
                return piece.inverse(probability - below)
            below += piece.mass
        return 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A part of the line of u: the mass of its nodes, and how u follows from the nodes' coordinate z."""

    shares: Float64[np.ndarray, " node"]
    start: float
    u_of: Callable[[float], float]

    @property
    def mass(self) -> float:
        """Of the part from z = `start` to 1."""
        return float(self.shares.sum()) * 0.5 * (1.0 - self.start)

    def inverse(self, mass: float) -> float:
        """The u with so much of this piece below."""
        nodes, _ = gauss(self.shares.size)
        degree = np.arange(nodes.size)
        terms = (degree + 0.5) * (self.shares @ legendre.legvander(nodes, nodes.size - 1))
        integral = legendre.legint(terms, lbnd=self.start)

        def miss(z: float) -> float:
            return float(legendre.legval(z, integral)) - mass

        return self.u_of(1.0 if miss(1.0) <= 0.0 else float(optimize.brentq(miss, self.start, 1.0)))


@dataclass(frozen=True, slots=True, eq=False)
class Spreads:
    """Nodes of u in three parts: an even polynomial on the left, panels in logit u, a panel on the right."""

    edge: float
    panels: Panels
    has_left: bool
    u: Float64[np.ndarray, " row"]
    complement: Float64[np.ndarray, " row"]
    measure: Float64[np.ndarray, " row"]

    @property
    def concentration(self) -> Float64[np.ndarray, " row"]:
        """1 / u^2 - 1, exact for u near 1."""
        return concentration_of(self.u, self.complement)

    def pieces(self, shares: np.ndarray) -> list[Piece]:
        """The parts in ascending order, with the mass of each row."""
        found = []
        start = 4 if self.has_left else 0
        if self.has_left:
            mirrored = np.concatenate([shares[3::-1], shares[:4]])
            found.append(Piece(mirrored, 0.0, lambda z: self.edge * z))
        for left, right in zip(self.panels.left, self.panels.right, strict=True):
            found.append(Piece(shares[start : start + PANEL], -1.0, _logistic(float(left), float(right))))
            start += PANEL
        if start < shares.size:
            found.append(Piece(shares[start:], -1.0, lambda z: 1.0 - 0.5 * RIGHT_PART * (1.0 - z)))
        return found


def concentration_of(u: np.ndarray, complement: np.ndarray) -> np.ndarray:
    """1 / u^2 - 1 from u and 1 - u."""
    return np.asarray(complement * (1.0 + u) / u**2)


def _logistic(left: float, right: float) -> Callable[[float], float]:
    return lambda z: float(special.expit(left + 0.5 * (right - left) * (1.0 + z)))


@cache
def gauss(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss and Legendre on [-1, 1]."""
    nodes, weights = legendre.leggauss(size)
    return np.asarray(nodes), np.asarray(weights)


@cache
def running_of(size: int) -> np.ndarray:
    """Row i integrates the polynomial through the nodes from -1 to node i."""
    return running_integrals(*gauss(size))
