"""From stored counts to the engine's values: arms in the order of the variants."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from domain.allocations import Allocation
from domain.experiments import Variant
from domain.fields import BASIS_POINTS
from domain.metrics import ASSIGNED, Metric
from engine.statistics import BinaryCounts, Moments
from storage.counts import CountRow

Statistics = BinaryCounts | Moments


def statistics_of(metric: Metric, variants: Sequence[Variant], rows: Sequence[CountRow]) -> Statistics:
    """One metric's sufficient statistics, shape (variant,), in the metric's own unit and direction."""
    return _values(metric, *(part[0] for part in _sums(metric.name, variants, {0: 0}, rows, lambda row: 0)))


def statistics_by_allocation(
    metric: Metric, variants: Sequence[Variant], allocations: Sequence[Allocation], rows: Sequence[CountRow]
) -> Statistics:
    """The same per allocation, shape (allocation, variant)."""
    place = {allocation.id: index for index, allocation in enumerate(allocations)}
    return _values(metric, *_sums(metric.name, variants, place, rows, lambda row: row.allocation_id))


def statistics_by_cell(
    metric: Metric, variants: Sequence[Variant], rows: Sequence[CountRow]
) -> tuple[Statistics, np.ndarray]:
    """The same per stratum, shape (stratum, variant), and each stratum's period, shape (stratum,)."""
    keys = sorted({(row.allocation_id, row.segment) for row in rows if row.metric == metric.name})
    place = {key: index for index, key in enumerate(keys)}
    sums = _sums(metric.name, variants, place, rows, lambda row: (row.allocation_id, row.segment))
    return _values(metric, *sums), np.array([allocation for allocation, _ in keys], dtype=np.int64)


def assigned_by_allocation(
    variants: Sequence[Variant], allocations: Sequence[Allocation], rows: Sequence[CountRow]
) -> np.ndarray:
    """How many units each variant was given, shape (allocation, variant)."""
    place = {allocation.id: index for index, allocation in enumerate(allocations)}
    return _sums(ASSIGNED, variants, place, rows, lambda row: row.allocation_id)[0]


def assigned_units(variants: Sequence[Variant], rows: Sequence[CountRow]) -> np.ndarray:
    """How many units each variant was given, shape (variant,)."""
    return np.asarray(_sums(ASSIGNED, variants, {0: 0}, rows, lambda row: 0)[0][0])


def probabilities(variants: Sequence[Variant], allocations: Sequence[Allocation]) -> np.ndarray:
    """The splits that served, shape (allocation, variant); 0 for a variant that was not there yet."""
    shares = [[item.split.get(variant.key, 0) for variant in variants] for item in allocations]
    return np.array(shares, dtype=np.float64) / BASIS_POINTS


def higher_is_better(metric: Metric, statistics: Statistics) -> Statistics:
    """The same statistics turned so that more is better; with `evidence`, where direction is resolved."""
    return statistics.flipped() if metric.direction == "decrease" else statistics


def only(statistics: Statistics, wanted: np.ndarray) -> Statistics:
    """The arms that are wanted, a mask or positions."""
    if isinstance(statistics, BinaryCounts):
        return BinaryCounts(n=statistics.n[..., wanted], successes=statistics.successes[..., wanted])
    return Moments(
        n=statistics.n[..., wanted],
        total=statistics.total[..., wanted],
        total_sq=statistics.total_sq[..., wanted],
    )


def where_served(statistics: Statistics, served: np.ndarray) -> Statistics:
    """Nothing where an arm had no share."""
    if isinstance(statistics, BinaryCounts):
        return BinaryCounts(n=statistics.n * served, successes=statistics.successes * served)
    return Moments(
        n=statistics.n * served,
        total=statistics.total * served,
        total_sq=statistics.total_sq * served,
    )


def _sums(
    name: str,
    variants: Sequence[Variant],
    place: dict[Any, int],
    rows: Sequence[CountRow],
    key_of: Callable[[CountRow], Any],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """n, total and total_sq, shape (place, variant); rows of one place add up."""
    arm = {variant.id: index for index, variant in enumerate(variants)}
    n = np.zeros((len(place), len(variants)), dtype=np.int64)
    total, total_sq = np.zeros(n.shape), np.zeros(n.shape)
    for row in rows:
        if row.metric == name and row.variant_id in arm:
            at = place[key_of(row)], arm[row.variant_id]
            n[at] += row.n
            total[at] += row.total
            total_sq[at] += row.total_sq
    return n, total, total_sq


def _values(metric: Metric, n: np.ndarray, total: np.ndarray, total_sq: np.ndarray) -> Statistics:
    if metric.kind == "binary":
        return BinaryCounts(n=n, successes=np.rint(total).astype(np.int64))
    # Sums that numbers >= 0 can have: 0.9 + 0.7 - 0.9 - 0.7 is 1.1e-16, the squares -5.6e-17.
    total = np.where(n > 0, np.maximum(total, 0.0), 0.0)
    least = total / np.maximum(n, 1) * total  # no numbers of this sum have smaller squares
    return Moments(n=n, total=total, total_sq=np.where(n > 0, np.maximum(total_sq, least), 0.0))
