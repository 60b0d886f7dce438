"""The posterior of arms by segments without sampling: points of each arm, tables of each rate."""

from collections.abc import Sequence

import numpy as np

from engine.segment_fit import Diagnostics, Population, Rates, SegmentsFit
from engine.segment_nodes import Nodes, nodes_of
from engine.segment_trials import Trials
from engine.statistics import Interval
from engine.tabulated import Mixture, Tabulated, compared, difference_interval, tabulated


def integrated(trials: Trials, *, weights: np.ndarray, control: int, confidence_level: float) -> SegmentsFit:
    """Everything that a fit holds; see `hierarchical.fit_segments`."""
    arms = [nodes_of(good, bad) for good, bad in zip(trials.successes.T, trials.failures.T, strict=True)]
    tables = [
        [
            tabulated(_of_segment(nodes, float(good), float(bad)))
            for nodes, good, bad in zip(arms, *row, strict=True)
        ]
        for row in zip(trials.successes, trials.failures, strict=True)
    ]
    together = [
        _together(nodes, trials, weights, arm, [row[arm] for row in tables]) for arm, nodes in enumerate(arms)
    ]
    gap = max(table.gap for row in [*tables, together] for table in row)
    rows = [_compare(row, control, confidence_level) for row in tables]
    return SegmentsFit(
        population=_population(arms, confidence_level),
        segments=_stacked(rows),
        shrinkage=_shrinkage(arms, trials),
        weights=weights,
        overall=_compare(together, control, confidence_level),
        confidence_level=confidence_level,
        method="quadrature",
        diagnostics=Diagnostics(mass_gap=gap),
    )


def _of_segment(nodes: Nodes, successes: float, failures: float) -> Mixture:
    """The rate of one segment: at each point of its arm a Beta distribution."""
    alpha = nodes.mean * nodes.concentration + successes
    beta = nodes.rest * nodes.concentration + failures
    n = alpha + beta
    mean, rest = alpha / n, beta / n
    rough = _matched(nodes, mean, rest, mean * rest / (n + 1.0))
    return Mixture(alpha, beta, nodes.weight, *rough)


def _together(
    nodes: Nodes, trials: Trials, weights: np.ndarray, arm: int, tables: Sequence[Tabulated]
) -> Tabulated:
    """The weighted mean of an arm's segments: given the concentration, a Beta with its two moments."""
    used = np.flatnonzero(weights)
    if used.size == 1:
        return tables[int(used[0])]
    mean, variance = np.zeros_like(nodes.mean), np.zeros_like(nodes.mean)
    for segment in used:
        alpha = nodes.mean * nodes.concentration + trials.successes[segment, arm]
        beta = nodes.rest * nodes.concentration + trials.failures[segment, arm]
        n, weight = alpha + beta, weights[segment]
        mean += weight * alpha / n
        variance += weight**2 * (alpha / n) * (beta / n) / (n + 1.0)
    rough = _matched(nodes, mean, 1.0 - mean, variance)
    return tabulated(Mixture(*rough, *rough))


def _matched(
    nodes: Nodes, mean: np.ndarray, rest: np.ndarray, variance: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shapes and weight of the Beta distribution that each row of points resembles."""
    weight = np.add.reduceat(nodes.weight, nodes.first)
    middle, other = (np.add.reduceat(nodes.weight * side, nodes.first) / weight for side in (mean, rest))
    sizes = np.diff(np.append(nodes.first, nodes.weight.size))
    spread = variance + (mean - np.repeat(middle, sizes)) ** 2
    whole = np.add.reduceat(nodes.weight * spread, nodes.first) / weight
    n = np.maximum(middle * other / whole - 1.0, 1e-6)
    return middle * n, other * n, weight


def _shrinkage(arms: Sequence[Nodes], trials: Trials) -> np.ndarray:
    def share(nodes: Nodes, n: float) -> float:
        return float(nodes.weight @ (nodes.concentration / (nodes.concentration + n)))

    return np.array(
        [[share(nodes, float(n)) for nodes, n in zip(arms, row, strict=True)] for row in trials.n]
    )


def _population(arms: Sequence[Nodes], confidence_level: float) -> Population:
    tail = (1.0 - confidence_level) / 2.0
    means = [[nodes.marginals.mean_quantile(p) for nodes in arms] for p in (tail, 1.0 - tail)]
    low, middle, high = (
        np.array([nodes.marginals.spread_quantile(p) for nodes in arms]) for p in (tail, 0.5, 1.0 - tail)
    )
    return Population(
        mean=np.array([float(nodes.weight @ nodes.mean) for nodes in arms]),
        mean_interval=Interval(np.array(means[0]), np.array(means[1])),
        concentration=_concentration(middle),
        concentration_interval=Interval(_concentration(high), _concentration(low)),
        intraclass=np.array([float(nodes.weight @ (1.0 / (1.0 + nodes.concentration))) for nodes in arms]),
        intraclass_interval=Interval(low**2, high**2),
    )


def _concentration(u: np.ndarray) -> np.ndarray:
    return np.asarray((1.0 - u) * (1.0 + u) / u**2)


def _compare(tables: Sequence[Tabulated], control: int, confidence_level: float) -> Rates:
    """One row of rates."""
    both = compared(tables, control=control)
    ends = np.array([table.interval(confidence_level) for table in tables])
    lifts = np.zeros((len(tables), 2))
    for arm, table in enumerate(tables):
        if arm != control:
            lifts[arm] = difference_interval(tables[control], table, confidence_level)
    mean = np.array([table.mean for table in tables])
    return Rates(
        mean=mean,
        interval=Interval(ends[:, 0], ends[:, 1]),
        probability_best=both.best,
        probability_better=both.better,
        lift=mean - mean[control],
        lift_interval=Interval(lifts[:, 0], lifts[:, 1]),
    )


def _stacked(rows: Sequence[Rates]) -> Rates:
    def intervals(parts: Sequence[Interval]) -> Interval:
        return Interval(np.stack([part.lower for part in parts]), np.stack([part.upper for part in parts]))

    return Rates(
        mean=np.stack([row.mean for row in rows]),
        interval=intervals([row.interval for row in rows]),
        probability_best=np.stack([row.probability_best for row in rows]),
        probability_better=np.stack([row.probability_better for row in rows]),
        lift=np.stack([row.lift for row in rows]),
        lift_interval=intervals([row.lift_interval for row in rows]),
    )
