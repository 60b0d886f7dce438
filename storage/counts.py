"""Sufficient statistics per (experiment, allocation, variant, segment, metric).

They change only in the transaction that writes what they count, so they equal it, always; `verify`
recomputes them. The metric `assigned` counts units, the others count outcomes.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.assignments import Assignment
from domain.fields import Record
from domain.metrics import ASSIGNED, Metric
from domain.outcomes import Delta, Place
from storage.locks import is_sqlite
from storage.schema import assignments as a
from storage.schema import counts as c
from storage.schema import metrics as m
from storage.schema import outcomes as o

CountKey = tuple[Place, str]
_KEY = ("experiment_id", "allocation_id", "variant_id", "segment", "metric")


class CountRow(Record, frozen=True, kw_only=True):
    """One row of `counts`, or a sum of such rows (the fields that were summed over are 0 or empty)."""

    allocation_id: int = 0
    variant_id: int = 0
    segment: str = ""
    metric: str
    n: int
    total: float
    total_sq: float


def place_of(assignment: Assignment) -> Place | None:
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
        dict(zip(_KEY, key, strict=True)) | {"n": d.n, "total": d.total, "total_sq": d.total_sq}
        for key, d in sorted(merged.items(), key=lambda item: item[0])
    ]
    if not rows:
        return
    insert: Any = (sqlite if is_sqlite(connection) else postgresql).insert(c)
    grown = {name: c.c[name] + insert.excluded[name] for name in ("n", "total", "total_sq")}
    await connection.execute(insert.on_conflict_do_update(index_elements=list(_KEY), set_=grown), rows)


def is_countable(metric: Metric, value: float) -> bool:
    """Whether a stored value is possible for a declared metric.

    Values that were parked before their experiment was known were checked loosely; an impossible one
    stays stored and is not counted. `_countable` says the same in SQL.
    """
    return value in (0.0, 1.0) if metric.kind == "binary" else metric.kind == "amount" or value <= 1.0


def _countable() -> sa.ColumnElement[bool]:
    return sa.case(
        (m.c.kind == "binary", o.c.value.in_([0.0, 1.0])),
        (m.c.kind == "score", o.c.value <= 1.0),
        else_=sa.true(),
    )


def _counted_outcomes() -> sa.FromClause:
    same_unit = (a.c.prompt_id == o.c.prompt_id) & (a.c.unit_id == o.c.unit_id)
    declared = (m.c.experiment_id == a.c.experiment_id) & (m.c.name == o.c.metric)
    return a.join(o, same_unit).join(m, declared)


def assigned_deltas(assignments: Iterable[Assignment]) -> list[tuple[CountKey, Delta]]:
    """What new assignments add to `assigned`."""
    places = (place_of(assignment) for assignment in assignments)
    return [((place, ASSIGNED), Delta(n=1)) for place in places if place is not None]


def _sums() -> list[sa.Label[Any]]:
    return [sa.func.sum(c.c[name]).label(name) for name in ("n", "total", "total_sq")]


async def counts_by_variant(connection: AsyncConnection, experiment_id: int) -> list[CountRow]:
    """The experiment's statistics per variant and metric: a few rows, however many calls there were."""
    keys = (c.c.variant_id, c.c.metric)
    query = sa.select(*keys, *_sums()).where(c.c.experiment_id == experiment_id).group_by(*keys)
    return [
        CountRow(
            variant_id=row.variant_id,
            metric=row.metric,
            n=int(row.n),
            total=float(row.total),
            total_sq=float(row.total_sq),
        )
        for row in await connection.execute(query)
    ]


async def immature_counts(connection: AsyncConnection, experiment_id: int, since: Any) -> list[CountRow]:
    """What units assigned after `since` contribute, per variant and metric, from the events themselves.

    Its cost grows with the calls of the maturity window, not with the experiment's.
    """
    value = o.c.value
    query = (
        sa.select(
            a.c.variant_id,
            o.c.metric,
            sa.func.count().label("n"),
            sa.func.sum(value).label("total"),
            sa.func.sum(value * value).label("total_sq"),
        )
        .select_from(_counted_outcomes())
        .where(a.c.experiment_id == experiment_id, a.c.assigned_at > since, _countable())
        .group_by(a.c.variant_id, o.c.metric)
    )
    return [
        CountRow(
            variant_id=row.variant_id,
            metric=row.metric,
            n=int(row.n),
            total=float(row.total),
            total_sq=float(row.total_sq),
        )
        for row in await connection.execute(query)
    ]


StoredCounts = Mapping[tuple[Any, ...], Delta]


async def stored_counts(connection: AsyncConnection, experiment_id: int | None = None) -> StoredCounts:
    """Every row of `counts` by its key."""
    query = sa.select(c)
    if experiment_id is not None:
        query = query.where(c.c.experiment_id == experiment_id)
    return _by_key(await connection.execute(query))


async def recomputed_counts(connection: AsyncConnection, experiment_id: int | None = None) -> StoredCounts:
    """The same, recomputed from assignments and outcomes."""
    segment = sa.func.coalesce(a.c.segment, "").label("segment")
    keys = (a.c.experiment_id, a.c.allocation_id, a.c.variant_id, segment)
    mine = a.c.experiment_id.is_not(None) if experiment_id is None else a.c.experiment_id == experiment_id
    zero = sa.literal(0.0)
    units = sa.select(
        *_keys_named(keys),
        sa.literal(ASSIGNED).label("metric"),
        sa.func.count().label("n"),
        zero.label("total"),
        zero.label("total_sq"),
    ).where(mine)
    values = (
        sa.select(
            *_keys_named(keys),
            o.c.metric,
            sa.func.count().label("n"),
            sa.func.sum(o.c.value).label("total"),
            sa.func.sum(o.c.value * o.c.value).label("total_sq"),
        )
        .select_from(_counted_outcomes())
        .where(mine, _countable())
    )
    grouped = units.group_by(*keys).union_all(values.group_by(*keys, o.c.metric))
    return _by_key(await connection.execute(grouped))


def _keys_named(keys: tuple[Any, ...]) -> list[Any]:
    return [key.label(name) for key, name in zip(keys, _KEY, strict=False)]


def _by_key(rows: Iterable[Any]) -> StoredCounts:
    return {
        tuple(getattr(row, name) for name in _KEY): Delta(
            n=int(row.n), total=float(row.total), total_sq=float(row.total_sq)
        )
        for row in rows
    }
