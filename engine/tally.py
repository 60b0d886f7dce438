"""Counts of all metrics as arrays: places in rows, arms in columns."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from engine.metrics import ASSIGNED, Kind, Metric
from engine.statistics import BinaryCounts, Moments

Statistics = BinaryCounts | Moments
Sums = tuple[np.ndarray, np.ndarray, np.ndarray]  # n, total, total_sq


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Counts as arrays of shape (place, arm), by metric; a place is an allocation, a stratum, or all.

    `units` are those that were assigned.
    """

    sums: Mapping[str, Sums]
    places: int
    arms: int
    # Asked for by estimates and by beliefs; the check costs as much as a formula.
    _by_place: dict[Metric, Statistics] = field(default_factory=dict)

    @property
    def units(self) -> np.ndarray:
        """Units given to each arm, shape (place, arm)."""
        return self._of(ASSIGNED)[0]

    def by_place(self, metric: Metric) -> Statistics:
        """One metric's sufficient statistics, shape (place, arm), in its own unit and direction."""
        if metric not in self._by_place:
            self._by_place[metric] = _values(metric.kind, *self._of(metric.name))
        return self._by_place[metric]

    def whole(self, metric: Metric) -> Statistics:
        """The same over all places, shape (arm,)."""
        if self.places == 1:
            return _first_place(self.by_place(metric))
        n, total, total_sq = (part.sum(axis=0) for part in self._of(metric.name))
        return _values(metric.kind, n, total, total_sq)

    def merged(self, place: np.ndarray) -> "Tally":
        """The same counts in fewer places: row i is added to row `place[i]`."""
        places = int(place.max(initial=-1)) + 1
        return Tally(
            sums={
                name: (
                    summed(n, place, places),
                    summed(total, place, places),
                    summed(total_sq, place, places),
                )
                for name, (n, total, total_sq) in self.sums.items()
            },
            places=places,
            arms=self.arms,
        )

    def _of(self, name: str) -> Sums:
        return self.sums.get(name) or no_sums(self.places, self.arms)


def no_sums(places: int, arms: int) -> Sums:
    """Nothing was counted."""
    shape = (places, arms)
    return np.zeros(shape, dtype=np.int64), np.zeros(shape), np.zeros(shape)


def summed(values: np.ndarray, place: np.ndarray, places: int) -> np.ndarray:
    """Rows added up by their place."""
    out = np.zeros((places, values.shape[1]), dtype=values.dtype)
    np.add.at(out, place, values)
    return out


def _first_place(statistics: Statistics) -> Statistics:
    if isinstance(statistics, BinaryCounts):
        return BinaryCounts.derived(statistics.n[0], statistics.successes[0])
    return Moments.derived(statistics.n[0], statistics.total[0], statistics.total_sq[0])


def where_served(statistics: Statistics, served: np.ndarray) -> Statistics:
    """Nothing where an arm had no share."""
    if served.all():
        return statistics
    if isinstance(statistics, BinaryCounts):
        return BinaryCounts.derived(statistics.n * served, statistics.successes * served)
    return Moments.derived(statistics.n * served, statistics.total * served, statistics.total_sq * served)


def _values(kind: Kind, n: np.ndarray, total: np.ndarray, total_sq: np.ndarray) -> Statistics:
    if kind == "binary":
        return BinaryCounts(n=n, successes=np.rint(total).astype(np.int64))
    # Sums that numbers >= 0 can have: 0.9 + 0.7 - 0.9 - 0.7 is 1.1e-16, the squares -5.6e-17.
    total = np.where(n > 0, np.maximum(total, 0.0), 0.0)
    least = total / np.maximum(n, 1) * total  # no numbers of this sum have smaller squares
    return Moments(n=n, total=total, total_sq=np.where(n > 0, np.maximum(total_sq, least), 0.0))
