"""From stored counts to the engine's values: arms in the order of the variants."""

from collections.abc import Sequence

import numpy as np

from domain.allocations import Allocation
from domain.experiments import Variant
from domain.fields import BASIS_POINTS
from engine.tally import Sums, Tally, no_sums
from storage.counts import CountRow


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
    for row, place in zip(rows, where, strict=True):
        if row.variant_id not in arm:
            continue
        if row.metric not in sums:
            sums[row.metric] = no_sums(places, len(variants))
        n, total, total_sq = sums[row.metric]
        at = place, arm[row.variant_id]
        n[at] += row.n
        total[at] += row.total
        total_sq[at] += row.total_sq
    return Tally(sums=sums, places=places, arms=len(variants))


def probabilities(variants: Sequence[Variant], allocations: Sequence[Allocation]) -> np.ndarray:
    """The splits that served, shape (allocation, variant); 0 for a variant that was not there yet."""
    shares = [[item.split.get(variant.key, 0) for variant in variants] for item in allocations]
    return np.array(shares, dtype=np.float64) / BASIS_POINTS
