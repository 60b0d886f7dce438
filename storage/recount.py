"""Counts recomputed from the events themselves: assignments joined with their outcomes.

For `verify`, for what young units contribute, and for rows whose sums lost digits to a correction.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.outcomes import Delta
from engine.metrics import ASSIGNED
from storage.counts import COUNT_KEY, CountColumn, CountKey, CountRow, column_of, count_rows, is_row
from storage.schema import assignments as a
from storage.schema import counts as c
from storage.schema import metrics as m
from storage.schema import outcomes as o

StoredCounts = Mapping[tuple[Any, ...], Delta]

# A sum keeps the rounding of the largest value it ever held: 1e-16 of its square. Taking away a square
# 1e4 times what is left leaves 12 digits; `verify` asks for 9.
DWARFS = 1e4

_SEGMENT = sa.func.coalesce(a.c.segment, "")
_UNIT_KEY = (a.c.experiment_id, a.c.allocation_id, a.c.variant_id, _SEGMENT.label("segment"))
_ZERO = sa.literal(0.0)
_SUMS = (
    sa.func.count().label("n"),
    sa.func.sum(o.c.value).label("total"),
    sa.func.sum(o.c.value * o.c.value).label("total_sq"),
)


def _counted_outcomes() -> sa.FromClause:
    same_unit = (a.c.prompt_id == o.c.prompt_id) & (a.c.unit_id == o.c.unit_id)
    declared = (m.c.experiment_id == a.c.experiment_id) & (m.c.name == o.c.metric)
    return a.join(o, same_unit).join(m, declared)


def _countable() -> sa.ColumnElement[bool]:
    """The same as `storage.counts.is_countable`, in SQL."""
    return sa.case(
        (m.c.kind == "binary", o.c.value.in_([0.0, 1.0])),
        (m.c.kind == "score", o.c.value <= 1.0),
        else_=sa.true(),
    )


async def stored_and_recomputed(connection: AsyncConnection) -> tuple[StoredCounts, StoredCounts]:
    """Every row of `counts`, and the same recomputed from assignments and outcomes.

    One statement, because only that sees one state on PostgreSQL: between two of them somebody commits.
    """
    stored = sa.select(sa.literal(1).label("stored"), c)
    units = (
        sa.select(
            sa.literal(0),
            *_UNIT_KEY,
            sa.literal(ASSIGNED).label("metric"),
            sa.func.count().label("n"),
            _ZERO.label("total"),
            _ZERO.label("total_sq"),
        )
        .where(a.c.experiment_id.is_not(None))
        .group_by(*_UNIT_KEY)
    )
    values = (
        sa.select(sa.literal(0), *_UNIT_KEY, o.c.metric, *_SUMS)
        .select_from(_counted_outcomes())
        .where(_countable())
        .group_by(*_UNIT_KEY, o.c.metric)
    )
    found: tuple[dict[tuple[Any, ...], Delta], ...] = ({}, {})
    for row in await connection.execute(sa.union_all(stored, units, values)):
        key = tuple(getattr(row, name) for name in COUNT_KEY)
        found[row.stored][key] = Delta(n=int(row.n), total=float(row.total), total_sq=float(row.total_sq))
    return found[1], found[0]


async def matured_counts_by(
    connection: AsyncConnection,
    experiment_id: int,
    keys: Sequence[CountColumn],
    *,
    since: dt.datetime,
    periods: Sequence[int] = (),
) -> list[CountRow]:
    """`storage.counts.counts_by` without what units assigned after `since` contribute.

    Their part is counted from the events, so the cost grows with the calls of the maturity window, not
    with the experiment's. One statement: an outcome that arrived between two would be taken away without
    having been counted.
    """
    all_ = sa.select(c.c.metric, *(c.c[key] for key in keys), c.c.n, c.c.total, c.c.total_sq)
    mine = [_SEGMENT.label("segment") if key == "segment" else a.c[key] for key in keys]
    young = (a.c.experiment_id == experiment_id) & (a.c.assigned_at > since)
    units = (
        sa.select(sa.literal(ASSIGNED), *mine, -sa.func.count(), _ZERO, _ZERO).where(young).group_by(*mine)
    )
    values = (
        sa.select(o.c.metric, *mine, *(-column.element for column in _SUMS))
        .select_from(_counted_outcomes())
        .where(young, _countable())
        .group_by(o.c.metric, *mine)
    )
    parts = sa.union_all(all_.where(c.c.experiment_id == experiment_id), units, values).subquery()
    sums = [sa.func.sum(parts.c[name]).label(name) for name in ("n", "total", "total_sq")]
    columns = [parts.c.metric, *(column_of(parts.c[key], periods) for key in keys)]
    return count_rows(await connection.execute(sa.select(*columns, *sums).group_by(*columns)))


async def restore_lost_digits(connection: AsyncConnection, taken: Mapping[CountKey, float]) -> None:
    """Recount the rows whose digits went with a value that dwarfed what is left.

    1 500 000 ms told as seconds and corrected to 1 500 s would leave a sum of squares that is wrong in its
    sixth digit. The caller has changed these rows in this transaction and so holds them: whoever writes
    more outcomes of them waits, and adds to what stands here.

    Parameters
    ----------
    taken : the largest value that was taken away, by row.
    """
    for key, value in taken.items():
        left = await connection.scalar(sa.select(c.c.total_sq).where(is_row(key)))
        if left is not None and value * value > DWARFS * left:
            await _recount(connection, key)


async def _recount(connection: AsyncConnection, key: CountKey) -> None:
    place, metric = key
    mine = (
        (a.c.experiment_id == place.experiment_id)
        & (a.c.allocation_id == place.allocation_id)
        & (a.c.variant_id == place.variant_id)
        & (place.segment == _SEGMENT)
        & (o.c.metric == metric)
    )
    query = sa.select(*_SUMS).select_from(_counted_outcomes()).where(mine, _countable())
    row = (await connection.execute(query)).one()
    sums = {"n": row.n, "total": row.total or 0.0, "total_sq": row.total_sq or 0.0}
    await connection.execute(sa.update(c).where(is_row(key)).values(**sums))
