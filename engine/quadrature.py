"""Gauss-Legendre panels on the real line, shared by the Beta and the normal posterior.

A *panel* is an interval [left, right] that carries 16 nodes. Arms differ in sharpness by four orders
of magnitude (10 trials beside 10^8), so panels are narrow only where a sharp arm is alive.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

NODES, WEIGHTS = np.polynomial.legendre.leggauss(16)


def running_integrals(
    nodes: Float[np.ndarray, " node"], weights: Float[np.ndarray, " node"]
) -> Float[np.ndarray, "node node"]:
    """Row i integrates the polynomial through the nodes from -1 to node i (Legendre series, term by term)."""
    size = nodes.size
    legendre = np.polynomial.legendre.legvander(nodes, size)
    degree = np.arange(size)
    integrals = np.empty((size, size))
    integrals[:, 0] = nodes + 1.0
    integrals[:, 1:] = (legendre[:, 2:] - legendre[:, :-2]) / (2 * degree[1:] + 1)
    return np.asarray((integrals * (degree + 0.5)) @ (legendre[:, :size].T * weights))


FROM_LEFT = running_integrals(NODES, WEIGHTS)
FROM_RIGHT = FROM_LEFT[::-1, ::-1]

# Probabilities that must sum to 1 may miss it by this much; usually they miss it by 1e-14.
TOLERANCE = 1e-10

# e^-40 = 4e-18: what lies that far below the peak of an integrand does not change its sum.
NEGLIGIBLE_NATS = 40.0


@dataclass(frozen=True, slots=True, eq=False)
class Panels:
    """Disjoint intervals in ascending order: `left` and `right`, shape (panel,)."""

    left: Float[np.ndarray, " panel"]
    right: Float[np.ndarray, " panel"]

    def nodes(self) -> tuple[Float[np.ndarray, " node"], Float[np.ndarray, " node"]]:
        """Return positions and weights of all nodes, shape (16 * panel,) each."""
        half = 0.5 * (self.right - self.left)[:, None]
        middle = 0.5 * (self.right + self.left)[:, None]
        return (middle + half * NODES).ravel(), (half * WEIGHTS).ravel()

    def distance(self, points: Float[np.ndarray, "arm 1"]) -> Float[np.ndarray, "arm node"]:
        """Return node minus point, exact where they are close: the node itself is rounded to 1e-16 of its size."""
        offsets = 0.5 * (self.right - self.left)[:, None] * (1.0 + NODES)
        near = (self.left - points)[..., None]
        return np.asarray((near + offsets).reshape(points.shape[0], offsets.size))

    def running(
        self, heights: Float[np.ndarray, "arm node"], rising: Bool[np.ndarray, "arm panel"]
    ) -> Float[np.ndarray, "arm node"]:
        """Integrate from the left end of the panel to each node, or from the node to the right end.

        `rising` says which: the side where the integral starts small keeps its relative accuracy.
        """
        by_panel = heights.reshape(*rising.shape, NODES.size)
        half = 0.5 * (self.right - self.left)[:, None]
        sums = np.where(rising[..., None], by_panel @ FROM_LEFT.T, by_panel @ FROM_RIGHT.T)
        return np.asarray((sums * half).reshape(heights.shape))

    def select(self, keep: Bool[np.ndarray, " panel"]) -> "Panels":
        """Return the panels where `keep` is true."""
        return Panels(self.left[keep], self.right[keep])

    def split(self, parts: Int[np.ndarray, " panel"]) -> "Panels":
        """Cut panel i into `parts[i]` equal pieces."""
        owner = np.repeat(np.arange(parts.size), parts)
        piece = np.arange(owner.size) - (np.cumsum(parts) - parts)[owner]
        step = ((self.right - self.left) / parts)[owner]
        start = self.left[owner]  # neighbours must share their edge to the last bit
        end = np.where(piece == parts[owner] - 1, self.right[owner], start + (piece + 1) * step)
        return Panels(start + piece * step, end)


def panels_between(
    breaks: Float[np.ndarray, " edge"],
    widest: Callable[[Panels], Float[np.ndarray, " panel"]],
) -> Panels:
    """Cut the line at `breaks`, then until no panel is wider than `widest` allows there.

    At most eight pieces a round: `widest` looks at the sharpest point of a panel, and cutting a long one
    at once by that measure would give its blunt end the same tiny panels.
    """
    edges = np.unique(breaks)
    panels = Panels(edges[:-1], edges[1:])
    for _ in range(60):
        parts = np.ceil((panels.right - panels.left) / widest(panels) * (1.0 - 1e-9))
        if parts.max(initial=1.0) <= 1.0:
            break
        panels = panels.split(np.clip(parts, 1, 8).astype(np.int64))
    return panels


def relevant(
    log_at_left: Float[np.ndarray, "integrand panel"], log_at_right: Float[np.ndarray, "integrand panel"]
) -> Bool[np.ndarray, " panel"]:
    """Say which panels matter to at least one integrand, each judged against its own peak.

    Arguments are logarithms of the integrands at both ends of each panel. Integrands below e^-745 are
    zero in float64 and need no panel.
    """
    height = np.maximum(log_at_left, log_at_right)
    peak = height.max(axis=1, keepdims=True, initial=-np.inf)
    return np.asarray(np.any((height > peak - NEGLIGIBLE_NATS) & (peak > -745.0), axis=0))


def sum_of_others(values: Float[np.ndarray, "arm node"]) -> Float[np.ndarray, "arm node"]:
    """Return for each arm the sum over all other arms, without subtracting.

    Total minus own would cancel: log F of a loser is -700, of the winner -1e-17.
    """
    before = np.zeros_like(values)
    after = np.zeros_like(values)
    np.cumsum(values[:-1], axis=0, out=before[1:])
    after[:-1] = np.cumsum(values[:0:-1], axis=0)[::-1]
    return np.asarray(before + after)
