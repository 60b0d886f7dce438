"""Counts of an experiment as a value that adds: per allocation, segment and arm."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from engine.metrics import ASSIGNED
from engine.observed import Observed, Plan, Tests, periods_of
from engine.tally import Sums, Tally, no_sums

type Label = Any  # of an allocation: a number, a text, a time
Splits = Mapping[Label, Mapping[str, float | int]]
ALMOST = 1e-6  # shares that add up to 1
NO_SPLIT = "the split is not known: name the column of probabilities, or tell the splits"
NO_UNITS = "only outcomes were counted: tell the units without one, too, as `assigned`"


class Place(NamedTuple):
    """Where units are counted."""

    allocation: Label
    segment: str
    arm: str


class Cell(NamedTuple):
    """n, total and total_sq of one metric in one place; of `assigned`, n counts the units."""

    n: int
    total: float
    total_sq: float


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """Sufficient statistics of an experiment; `+` merges them.

    Attributes
    ----------
    cells : By place and metric; `assigned` counts units, with or without an outcome.
    splits : The share of each arm in each allocation, as far as it is known.

    Examples
    --------
    >>> rows = [{"variant": "a", "metric": "assigned", "n": 12, "total": 0, "total_sq": 0}]
    >>> rows += [{"variant": "a", "metric": "resolved", "n": 10, "total": 7, "total_sq": 7}]
    >>> monday = Counts.from_rows(rows)
    >>> (monday + monday).arms, (monday + monday).units
    (['a'], 24)
    """

    cells: Mapping[tuple[Place, str], Cell]
    splits: Splits

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any]], *, splits: Splits | None = None) -> "Counts":
        """Counts from rows such as those of the table `counts`.

        Parameters
        ----------
        rows : Each with `variant`, `metric`, `n`, `total`, `total_sq`, and maybe `allocation` and `segment`; the
            metric "assigned" counts units. Rows of the same place are added.
        splits : The share of each arm, by allocation.
        """
        cells: dict[tuple[Place, str], Cell] = {}
        for row in rows:
            place = Place(row.get("allocation", 0), str(row.get("segment") or ""), str(row["variant"]))
            cell = Cell(int(row["n"]), float(row["total"]), float(row["total_sq"]))
            add_cell(cells, (place, str(row["metric"])), cell)
        return cls(cells, splits or {})

    def __add__(self, other: "Counts") -> "Counts":
        cells = dict(self.cells)
        for key, cell in other.cells.items():
            add_cell(cells, key, cell)
        for label in self.splits.keys() & other.splits.keys():
            if not _same(self.splits[label], other.splits[label]):
                raise ValueError(
                    f"allocation {label!r} has the splits {dict(self.splits[label])} and {dict(other.splits[label])}, "
                    "must be one; give each split an allocation of its own"
                )
        labels = self.splits.keys() | other.splits.keys()
        splits = {label: {**self.splits.get(label, {}), **other.splits.get(label, {})} for label in labels}
        return Counts(cells, splits)

    @property
    def arms(self) -> list[str]:
        """Names of the arms that have units or a share, in the order of numbers within text."""
        served = {arm for split in self.splits.values() for arm, share in split.items() if share > 0.0}
        return in_order({place.arm for place, _ in self.cells} | served)

    @property
    def segments(self) -> list[str]:
        """The segments, "" where none was known."""
        return sorted({place.segment for place, _ in self.cells})

    @property
    def allocations(self) -> list[Label]:
        """Labels of the allocations in their order, which is that of time."""
        return in_order({place.allocation for place, _ in self.cells} | self.splits.keys())

    @property
    def units(self) -> int:
        """All units."""
        return sum(cell.n for (_, metric), cell in self.cells.items() if metric == ASSIGNED)

    def of_segment(self, segment: str) -> "Counts":
        """What was counted in one segment."""
        mine = {key: cell for key, cell in self.cells.items() if key[0].segment == segment}
        return Counts(mine, self.splits)

    def of_allocations(self, labels: Iterable[Label]) -> "Counts":
        """What was counted in some allocations."""
        wanted = set(labels)
        mine = {key: cell for key, cell in self.cells.items() if key[0].allocation in wanted}
        return Counts(mine, {label: split for label, split in self.splits.items() if label in wanted})


def observed_of(
    counts: Counts, plan: Plan, *, priors: np.ndarray | None = None, tests: Tests | None = None
) -> Observed:
    """The counts as arrays, and the splits that served."""
    labels = counts.allocations or [0]
    place = {label: index for index, label in enumerate(labels)}
    tally = _tally(counts, plan, lambda key: place[key.allocation], len(labels))
    probability = _probability(counts, plan, labels, tally)
    period = periods_of(tally.by_place(plan.goal_metric).n, probability)
    strata, stratum_period = _strata(counts, plan, {label: int(period[place[label]]) for label in labels})
    return Observed(
        plan=plan,
        tally=tally,
        probability=probability,
        period=period,
        strata=strata,
        stratum_period=stratum_period,
        tests=tests,
        priors=np.ones((len(plan.arms), 2)) if priors is None else priors,
        untested_split=NO_SPLIT if not counts.splits else NO_UNITS if not counts.units else None,
    )


def _strata(counts: Counts, plan: Plan, period: Mapping[Label, int]) -> tuple[Tally | None, np.ndarray]:
    if len(counts.segments) < 2:
        return None, np.zeros(0, dtype=np.int64)
    keys = sorted({(period[place.allocation], place.segment) for place, _ in counts.cells})
    stratum = {key: index for index, key in enumerate(keys)}
    tally = _tally(counts, plan, lambda key: stratum[period[key.allocation], key.segment], len(keys))
    return tally, np.array([when for when, _ in keys], dtype=np.int64)


def _tally(counts: Counts, plan: Plan, where: Any, places: int) -> Tally:
    arm = {name: index for index, name in enumerate(plan.arms)}
    sums: dict[str, Sums] = {}
    # In one order, whatever the order in which they came: the last digit of a sum depends on it.
    for (place, metric), cell in sorted(counts.cells.items(), key=lambda item: _name(item[0])):
        if metric not in sums:
            sums[metric] = no_sums(places, len(plan.arms))
        at = where(place), arm[place.arm]
        for part, value in zip(sums[metric], cell, strict=True):
            part[at] += value
    return Tally(sums=sums, places=places, arms=len(plan.arms))


def _probability(counts: Counts, plan: Plan, labels: Sequence[Label], tally: Tally) -> np.ndarray:
    """The logged splits; where there are none, the shares that arrived."""
    if not counts.splits:
        units = np.max([n for n, _, _ in tally.sums.values()] or [tally.units], axis=0).astype(np.float64)
        total = units.sum(axis=1, keepdims=True)
        even = np.full_like(units, 1.0 / len(plan.arms))
        return np.divide(units, total, out=even, where=total > 0.0)
    unknown = [label for label in labels if label not in counts.splits]
    if unknown:
        raise ValueError(f"splits lack allocation {unknown[0]!r}, must have every one of {labels}")
    return np.array([completed(label, counts.splits[label], plan.arms) for label in labels])


def completed(label: Label, split: Mapping[str, float | int], arms: Sequence[str]) -> list[float]:
    """The share of each arm; the one arm that does not say its own, because it got no unit, has the rest."""
    silent = [arm for arm in arms if arm not in split]
    rest = 1.0 - sum(split.values())
    if rest > ALMOST and len(silent) == 1:
        split = {**split, silent[0]: rest}
    elif abs(rest) > ALMOST or min(split.values(), default=0.0) < 0.0:
        raise ValueError(
            f"the split of allocation {label!r} adds up to {1.0 - rest:.6g}, must be 1 with no negative share; "
            "tell the share of every arm"
        )
    return [float(split.get(arm, 0.0)) for arm in arms]


def add_cell(cells: dict[tuple[Place, str], Cell], key: tuple[Place, str], cell: Cell) -> None:
    """Add to what stands in one place for one metric."""
    old = cells.get(key, Cell(0, 0.0, 0.0))
    cells[key] = Cell(old.n + cell.n, old.total + cell.total, old.total_sq + cell.total_sq)


def _name(key: tuple[Place, str]) -> tuple[str, str, str, str]:
    place, metric = key
    return str(place.allocation), place.segment, place.arm, metric


def _same(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    return all(abs(one[arm] - other[arm]) <= ALMOST for arm in one.keys() & other.keys())


def in_order(labels: Iterable[Any]) -> list[Any]:
    """Sorted; numbers within text count as numbers, so v2 comes before v10.

    Examples
    --------
    >>> in_order({"v10", "v2", "v1"})
    ['v1', 'v2', 'v10']
    """
    everything = list(labels)
    if len(everything) < 2:
        return everything
    try:
        return sorted(everything, key=lambda label: _parts(label) if isinstance(label, str) else label)
    except TypeError:  # of several types
        return sorted(everything, key=lambda label: _parts(str(label)))


def _parts(text: str) -> list[tuple[int, str]]:
    found = re.split(r"(\d+)", text)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in found]
