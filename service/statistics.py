"""From stored counts to the engine's values: arms in the order of the variants."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from domain.allocations import Allocation
from domain.experiments import Variant
from domain.fields import BASIS_POINTS
from domain.metrics import ASSIGNED, Metric
from engine.statistics import BinaryCounts, Moments
from storage.counts import CountRow

Statistics = BinaryCounts | Moments
Sums = tuple[np.ndarray, np.ndarray, np.ndarray]  # n, total, total_sq


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Counts as arrays of shape (place, variant), by metric; a place is an allocation, a stratum, or all.

    `units` are those that were assigned.
    """

    sums: Mapping[str, Sums]
    places: int
    variants: int

    @property
    def units(self) -> np.ndarray:
        """Units given to each variant, shape (place, variant)."""
        return self._of(ASSIGNED)[0]

    def by_place(self, metric: Metric) -> Statistics:
        """One metric's sufficient statistics, shape (place, variant), in its own unit and direction."""
        return _values(metric, *self._of(metric.name))

    def whole(self, metric: Metric) -> Statistics:
        """The same over all places, shape (variant,)."""
        n, total, total_sq = (part.sum(axis=0) for part in self._of(metric.name))
        return _values(metric, n, total, total_sq)

    def _of(self, name: str) -> Sums:
        shape = (self.places, self.variants)
        return self.sums.get(name) or (np.zeros(shape, dtype=np.int64), np.zeros(shape), np.zeros(shape))


def tally_by_allocation(
    variants: Sequence[Variant], allocations: Sequence[Allocation], rows: Sequence[CountRow]
) -> Tally:
    """Places are the allocations, in their order."""
    place = {allocation.id: index for index, allocation in enumerate(allocations)}
    return _tally(variants, rows, [place[row.allocation_id] for row in rows], len(place))


def tally_of_all(variants: Sequence[Variant], rows: Sequence[CountRow]) -> Tally:
    """One place holds everything."""
    return _tally(variants, rows, [0] * len(rows), 1)


def tally_by_cell(variants: Sequence[Variant], rows: Sequence[CountRow]) -> tuple[Tally, np.ndarray]:
    """Places are strata, segments within periods; and each stratum's period, shape (stratum,)."""
    keys = sorted({(row.allocation_id, row.segment) for row in rows})
    place = {key: index for index, key in enumerate(keys)}
    where = [place[row.allocation_id, row.segment] for row in rows]
    return _tally(variants, rows, where, len(place)), np.array([period for period, _ in keys], dtype=np.int64)


def _tally(variants: Sequence[Variant], rows: Sequence[CountRow], where: Sequence[int], places: int) -> Tally:
    arm = {variant.id: index for index, variant in enumerate(variants)}
    sums: dict[str, Sums] = {}
    shape = (places, len(variants))
    for row, place in zip(rows, where, strict=True):
        if row.variant_id not in arm:
            continue
        if row.metric not in sums:
            sums[row.metric] = (np.zeros(shape, dtype=np.int64), np.zeros(shape), np.zeros(shape))
        n, total, total_sq = sums[row.metric]
        at = place, arm[row.variant_id]
        n[at] += row.n
        total[at] += row.total
        total_sq[at] += row.total_sq
    return Tally(sums=sums, places=places, variants=len(variants))


def probabilities(variants: Sequence[Variant], allocations: Sequence[Allocation]) -> np.ndarray:
    """The splits that served, shape (allocation, variant); 0 for a variant that was not there yet."""
    shares = [[item.split.get(variant.key, 0) for variant in variants] for item in allocations]
    return np.array(shares, dtype=np.float64) / BASIS_POINTS


def only(statistics: Statistics, wanted: np.ndarray) -> Statistics:
    """The arms at these positions."""
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


def _values(metric: Metric, n: np.ndarray, total: np.ndarray, total_sq: np.ndarray) -> Statistics:
    if metric.kind == "binary":
        return BinaryCounts(n=n, successes=np.rint(total).astype(np.int64))
    # Sums that numbers >= 0 can have: 0.9 + 0.7 - 0.9 - 0.7 is 1.1e-16, the squares -5.6e-17.
    total = np.where(n > 0, np.maximum(total, 0.0), 0.0)
    least = total / np.maximum(n, 1) * total  # no numbers of this sum have smaller squares
    return Moments(n=n, total=total, total_sq=np.where(n > 0, np.maximum(total_sq, least), 0.0))
