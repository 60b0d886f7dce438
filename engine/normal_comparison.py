"""Which of several normal posteriors is best, and what the wrong choice costs.

Arms with sd 0 are points: only what lies above the highest of them, the *floor*, is integrated. Where there is
none, the stretch on which the arms overlap answers all but hopeless arms, as in `beta_overlap`.
"""

from math import exp, inf, pi, sqrt

import numpy as np
from scipy import special

from engine.quadrature import NODES, TOLERANCE, WEIGHTS, Panels, panels_between, relevant, sum_of_others

# A normal density is zero in float64 beyond 38.5 standard deviations.
ALIVE_SD = 38.5
PANEL_SD = 1.8
# Densities are e^-60 of their peak that far out.
REACH_SD = sqrt(120.0)
# Below, an arm is the best outside of the overlap.
HOPELESS = 1e-13


def best_arm(mean: np.ndarray, sd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P(best) and expected loss; means are taken from the leader's, which keeps the digits of 1e6 ± 1e-3."""
    leader = int(np.argmax(mean))
    mean = mean - mean[leader]
    points = sd <= 4.0 * np.spacing(np.abs(mean)) * (mean < 0.0)  # 0, or lost in the rounding of the mean
    floor = float(mean[points].max(initial=-inf))
    if mean.size > 1 and not points.any():
        best, loss = _on_overlap(mean, sd, leader)
        if abs(float(best.sum()) - 1.0) <= TOLERANCE and best.min() >= HOPELESS:
            return np.minimum(best, 1.0), loss - mean
    for fineness in (1.0, 2.0, 4.0):
        best, loss = _above_floor(mean, sd, points, leader, floor, fineness)
        gap = abs(float(best.sum()) - 1.0)
        if gap <= TOLERANCE:
            return np.minimum(best, 1.0), loss - mean
    raise ArithmeticError(
        f"probabilities miss a sum of 1 by {gap:.1e}, must be at most {TOLERANCE}; "
        f"report mean={mean.tolist()}, sd={sd.tolist()}"
    )


def _on_overlap(mean: np.ndarray, sd: np.ndarray, leader: int) -> tuple[np.ndarray, float]:
    """P(best) and the leader's loss from the highest of all beginnings on; below it, somebody is surely better."""
    ends = mean + REACH_SD * sd
    low = float((mean - REACH_SD * sd).max())
    order = ends.argsort()
    sharpest = np.minimum.accumulate(sd[order][::-1])[::-1].tolist()
    edges = np.array(_edges(low, ends[order].tolist(), sharpest))
    half = 0.5 * (edges[1:] - edges[:-1])
    # From the edge, as `Panels.distance`: a node itself is rounded to 1e-16 of its size.
    distance = (edges[:-1] - mean[:, None])[:, :, None] + half[:, None] * (1.0 + NODES)
    score = distance.reshape(mean.size, -1) / sd[:, None]
    weight = (half[:, None] * WEIGHTS).ravel()
    log_below = special.log_ndtr(score)
    others = sum_of_others(log_below)
    best = (np.exp(others - 0.5 * score * score) @ weight) / (sd * sqrt(2.0 * pi))
    loss = float((np.exp(log_below[leader]) * -np.expm1(others[leader])) @ weight)
    return best, loss + float(shortfall(mean[leader] - low, sd[leader]))


def _edges(low: float, ends: list[float], sharpest: list[float]) -> list[float]:
    """Walk from `low` to the last end; `sharpest[i]` is the least sd of the arms that end at `ends[i]` or later."""
    edges, t, arm = [low], low, 0
    while t < ends[-1]:
        while ends[arm] <= t:
            arm += 1
        t += PANEL_SD * sharpest[arm]
        edges.append(t)
    return edges


def _above_floor(
    mean: np.ndarray, sd: np.ndarray, points: np.ndarray, leader: int, floor: float, fineness: float
) -> tuple[np.ndarray, float]:
    """P(best) and the leader's loss, by integration above the highest of the known means."""
    arms = np.flatnonzero(~points)
    centre, width = mean[arms, None], sd[arms, None]
    lead = np.flatnonzero(arms == leader)

    def rivals(log_below: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log P(leader below), and log P(all others below)."""
        return log_below[lead].sum(axis=0), np.delete(log_below, lead, axis=0).sum(axis=0)

    def integrands(x: np.ndarray) -> np.ndarray:
        score = _score(x - centre, width)
        log_below = special.log_ndtr(score)
        above = np.delete(special.log_ndtr(-score), lead, axis=0).max(axis=0, initial=-inf)
        best = -0.5 * score * score + log_below.sum(axis=0) - log_below
        return np.vstack([best, rivals(log_below)[0] + above])

    panels = _panels(centre.ravel(), width.ravel(), floor, fineness)
    if panels.left.size:
        height = integrands(np.append(panels.left, panels.right[-1]))
        panels = panels.select(relevant(height[:, :-1], height[:, 1:]))
    score, weight = _score(panels.distance(centre), width), panels.nodes()[1]
    log_below = special.log_ndtr(score)
    density = np.exp(-0.5 * score * score) / (width * sqrt(2.0 * pi))
    best = np.zeros(mean.size)
    best[arms] = (density * np.exp(sum_of_others(log_below))) @ weight
    own, others = rivals(log_below)
    loss = float((np.exp(own) * -np.expm1(others)) @ weight)
    if floor > -inf:
        best[points & (mean == floor)] = exp(float(special.log_ndtr(_score(floor - centre, width)).sum()))
        best[points] /= max(int(np.sum(points & (mean == floor))), 1)
        loss += float(shortfall(mean[leader] - floor, sd[leader]))
    return best, loss


def _score(distance: np.ndarray, width: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.asarray(np.clip(distance / width, -1e8, 1e8))


def _panels(mean: np.ndarray, sd: np.ndarray, floor: float, fineness: float) -> Panels:
    low, high = mean - ALIVE_SD * sd, mean + ALIVE_SD * sd

    def widest(panels: Panels) -> np.ndarray:
        middle = 0.5 * (panels.left + panels.right)
        alive = (low[:, None] < middle) & (middle < high[:, None])
        sharpest: np.ndarray = np.where(alive, sd[:, None], inf).min(axis=0, initial=inf)
        return PANEL_SD / fineness * sharpest

    breaks = np.concatenate([low, mean, high])
    if floor > -inf:
        breaks = np.append(np.maximum(breaks, floor), floor)
    return panels_between(breaks, widest)


def shortfall(lead: np.ndarray | float, spread: np.ndarray | float) -> np.ndarray:
    """E[(-D)^+] for D normal around `lead` >= 0; all of spread * (phi(z) - z Phi(-z))."""
    z = standardised(np.asarray(lead, dtype=np.float64), np.asarray(spread, dtype=np.float64))
    z = np.minimum(z, 1e3)
    mills = sqrt(pi / 2.0) * special.erfcx(z / sqrt(2.0))
    return np.asarray(spread * np.exp(-0.5 * z * z) / sqrt(2.0 * pi) * (1.0 - z * mills))


def standardised(lead: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return lead / spread, 0 where spread is 0."""
    return np.asarray(np.divide(lead, spread, out=np.zeros(lead.shape), where=spread > 0.0))
