"""Sufficient statistics per (experiment, allocation, variant, segment, metric).

They change only in the transaction that writes what they count, so they equal it, always; `verify`
recomputes them. The metric `assigned` counts units, the others count outcomes.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.assignments import Assignment, Given
from domain.fields import Record
from domain.metrics import Metric
from domain.outcomes import Delta, Place
from engine.metrics import ASSIGNED
from storage.bulk import insert_rows
from storage.schema import counts as c

CountKey = tuple[Place, str]
CountColumn = Literal["allocation_id", "variant_id", "segment"]
COUNT_KEY = ("experiment_id", "allocation_id", "variant_id", "segment", "metric")


class CountRow(Record, frozen=True, kw_only=True):
    """One row of `counts`, or a sum of such rows (the fields that were summed over are 0 or empty)."""

    allocation_id: int = 0
    variant_id: int = 0
    segment: str = ""
    metric: str
    n: int
    total: float
    total_sq: float


def place_of(assignment: Assignment | Given) -> Place | None:
    """Where a unit is counted; None where it is in no experiment."""
    if assignment.experiment_id is None or assignment.allocation is None or assignment.variant_id is None:
        return None
    return Place(
        experiment_id=assignment.experiment_id,
        allocation_id=assignment.allocation,
        variant_id=assignment.variant_id,
        segment=assignment.segment or "",
    )


async def add_counts(connection: AsyncConnection, deltas: Iterable[tuple[CountKey, Delta]]) -> None:
    """Add deltas to their rows; rows are taken in the order of their keys, so writers cannot deadlock."""
    merged: dict[tuple[Any, ...], Delta] = defaultdict(Delta)
    for (place, metric), delta in deltas:
        merged[place.experiment_id, place.allocation_id, place.variant_id, place.segment, metric] += delta
    rows = [
        dict(zip(COUNT_KEY, key, strict=True)) | {"n": d.n, "total": d.total, "total_sq": d.total_sq}
        for key, d in sorted(merged.items(), key=lambda item: item[0])
    ]
    await insert_rows(connection, c, rows, _adding)


def _adding(insert: Any) -> Any:
    grown = {name: c.c[name] + insert.excluded[name] for name in ("n", "total", "total_sq")}
    return insert.on_conflict_do_update(index_elements=list(COUNT_KEY), set_=grown).returning(c.c.n)


def is_countable(metric: Metric, value: float) -> bool:
    """Whether a stored value is possible for a declared metric.

    Values that were parked before their experiment was known were checked loosely; an impossible one
    stays stored and is not counted. `storage.recount` says the same in SQL.
    """
    return value in (0.0, 1.0) if metric.kind == "binary" else metric.kind == "amount" or value <= 1.0


def assigned_deltas(assignments: Iterable[Assignment]) -> list[tuple[CountKey, Delta]]:
    """What new assignments add to `assigned`."""
    places = (place_of(assignment) for assignment in assignments)
    return [((place, ASSIGNED), Delta(n=1)) for place in places if place is not None]


def _sums() -> list[sa.Label[Any]]:
    return [sa.func.sum(c.c[name]).label(name) for name in ("n", "total", "total_sq")]


async def counts_by(
    connection: AsyncConnection,
    experiment_id: int,
    keys: Sequence[CountColumn],
    *,
    periods: Sequence[int] = (),
) -> list[CountRow]:
    """The experiment's statistics per metric and `keys`: few rows, however many calls there were.

    Parameters
    ----------
    periods : the first allocation of each period, rising; then `allocation_id` is that of the period.
    """
    columns = [c.c.metric, *(column_of(c.c[key], periods) for key in keys)]
    query = sa.select(*columns, *_sums()).where(c.c.experiment_id == experiment_id).group_by(*columns)
    return count_rows(await connection.execute(query))


def column_of(column: sa.ColumnElement[Any], periods: Sequence[int]) -> sa.ColumnElement[Any]:
    """The column itself, or, of an allocation, the first allocation of its period."""
    if column.key != "allocation_id" or not periods:
        return column
    # As numbers in the text: parameters of a grouped expression would not be the selected ones.
    branches: list[tuple[Any, Any]] = [
        (column >= start, sa.literal_column(str(int(start)))) for start in reversed(periods)
    ]
    return sa.case(*branches).label("allocation_id")


def count_rows(rows: Iterable[Any]) -> list[CountRow]:
    """Rows of metric, any keys and the three sums as records."""
    return [
        CountRow(
            allocation_id=getattr(row, "allocation_id", 0),
            variant_id=getattr(row, "variant_id", 0),
            segment=getattr(row, "segment", ""),
            metric=row.metric,
            n=int(row.n),
            total=float(row.total),
            total_sq=float(row.total_sq),
        )
        for row in rows
    ]


def is_row(key: CountKey) -> sa.ColumnElement[bool]:
    """The condition that picks one row."""
    place, metric = key
    wanted = (place.experiment_id, place.allocation_id, place.variant_id, place.segment, metric)
    return sa.and_(*(c.c[name] == value for name, value in zip(COUNT_KEY, wanted, strict=True)))
