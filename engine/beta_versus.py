"""Each arm against the control, P(better) and expected loss, from one sweep over all of them.

As `beta_overlap`, but nothing is left out: panels go from the first arm's beginning to the last one's end, narrow
only where a sharp arm is alive. What is so improbable that it happens where both densities are steep keeps its
digits in the table of `beta_logit` alone; `beta_comparison` asks that one for it.
"""

import numpy as np
from jaxtyping import Float64
from scipy import special

from engine.beta_logit import PANEL_LOGITS, log_density
from engine.beta_overlap import (
    FROM_NODES,
    TO_NODES,
    WIDEST_LOGITS,
    Sweep,
    panel_mass,
    panel_sums,
    reach,
    resolved_width,
    swept,
)
from engine.quadrature import NODES

type Shapes = Float64[np.ndarray, " arm"]


def solve_versus(alpha: Shapes, beta: Shapes, leads: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """P(better), P(worse) and an expected loss of all later arms against the first.

    Parameters
    ----------
    leads : Whether the later arm has the higher mean, shape (arm - 1,).

    Returns
    -------
    The loss is that of the one that leads, arm or control: all of its terms are positive.
    """
    sweep = _whole_sweep(alpha, beta)
    a, b = alpha[:, None], beta[:, None]
    mass = panel_mass(a, b, sweep, log_density(a, b, sweep.centre))
    nothing = np.zeros(alpha.size)
    below = swept(mass, TO_NODES, nothing)
    above = swept(mass[:, ::-1], FROM_NODES, nothing)[:, ::-1]
    better = panel_sums(mass[1:] * below[0]).sum(axis=1)
    worse = panel_sums(below[1:] * mass[0]).sum(axis=1)
    t = sweep.centre[:, None] + sweep.offset
    dx = special.expit(t) * special.expit(-t) * sweep.half[:, None]
    behind = np.where(leads[:, None, None], below[1:] * above[0], below[0] * above[1:])
    return better, worse, panel_sums(behind * dx).sum(axis=1)


def _whole_sweep(alpha: np.ndarray, beta: np.ndarray) -> Sweep:
    peak, n = np.log(alpha / beta), alpha + beta
    ends = peak + reach(alpha, beta)
    order = (-n).argsort()
    arms = list(zip(n[order].tolist(), ends[0][order].tolist(), ends[1][order].tolist(), strict=True))
    core = min(0.0, float(peak.min())), max(0.0, float(peak.max()))
    edges = np.array(_edges(arms, core))
    half = 0.5 * (edges[1:] - edges[:-1])
    return Sweep(float(edges[0]), 1.0, edges[:-1] + half, half, half[:, None] * NODES)


def _edges(arms: list[tuple[float, float, float]], core: tuple[float, float]) -> list[float]:
    """Walk over arms (n, begin, end), the sharpest first; a sharper one that is to come shortens the step."""
    t, high = min(begin for _, begin, _ in arms), max(end for _, _, end in arms)
    edges = [t]
    while t < high:
        beyond = max(core[0] - t, t - core[1], 0.0)
        widest = width = min(PANEL_LOGITS + 0.25 * beyond, WIDEST_LOGITS)
        for n, begin, end in arms:
            if end > t:
                width = min(width, max(_width(t, n, widest), begin - t))
                if begin <= t:  # all others are blunter
                    break
        t += width
        edges.append(t)
    return edges


def _width(t: float, n: float, widest: float) -> float:
    width = min(resolved_width(t, n), widest)
    # The curvature n x (1 - x) grows towards 0: what counts is the right end.
    return width if t >= 0.0 else min(width, resolved_width(min(t + width, 0.0), n))
