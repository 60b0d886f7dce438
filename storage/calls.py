"""Calls as rows: an assignment with its outcomes, page by page, by unit id or by the time of the assignment."""

import datetime as dt
from collections import defaultdict
from collections.abc import AsyncGenerator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.experiments import Experiment
from domain.fields import Record
from storage.outcomes import find_outcomes
from storage.schema import assignments as a
from storage.schema import outcomes as o
from storage.schema import prompt_versions as n
from storage.schema import transcripts as t
from storage.schema import variants as v


class CallRow(Record, frozen=True, kw_only=True):
    """One call of an experiment; `turns` of its transcript where they were asked for."""

    unit_id: str
    segment: str | None
    variant: str
    version: int | None
    allocation: int
    probability: float
    reason: str
    content_hash: str
    assigned_at: dt.datetime
    values: dict[str, float]
    turns: list[Any] | None = None


_CALLS = (
    sa.select(a, v.c.key.label("variant"), n.c.number.label("version"))
    .join(v, a.c.variant_id == v.c.id)
    .outerjoin(n, a.c.version_id == n.c.id)
)
_order = sa.tuple_(a.c.assigned_at, a.c.unit_id)


async def read_calls(
    connection: AsyncConnection, experiment: Experiment, *, after: str, limit: int
) -> list[CallRow]:
    """The next calls whose unit id comes after `after`."""
    query = (
        _CALLS.where(
            a.c.prompt_id == experiment.prompt_id,
            a.c.experiment_id == experiment.id,
            a.c.unit_id > after,
        )
        .order_by(a.c.unit_id)
        .limit(limit)
    )
    rows = (await connection.execute(query)).all()
    outcomes = await find_outcomes(connection, [(row.prompt_id, row.unit_id) for row in rows]) if rows else {}
    values = {
        unit_id: {name: value.value for name, value in found.items()}
        for (_, unit_id), found in outcomes.items()
    }
    return [_call(row, values.get(row.unit_id, {}), None) for row in rows]


async def read_calls_since(
    connection: AsyncConnection,
    experiment: Experiment,
    start: dt.datetime,
    end: dt.datetime,
    *,
    limit: int,
    with_turns: bool = False,
) -> AsyncGenerator[list[CallRow]]:
    """The calls assigned from `start` to before `end`, by time, in pages of at most `limit`."""
    mine = (a.c.experiment_id == experiment.id) & (a.c.assigned_at < end)
    place = mine & (a.c.assigned_at >= start)
    while True:
        query = _CALLS.where(place).order_by(a.c.assigned_at, a.c.unit_id).limit(limit)
        rows = (await connection.execute(query)).all()
        if not rows:
            return
        last = _place(rows[-1])
        # By ranges, not by lists of units: a statement takes so many parameters.
        page = place & (a.c.assigned_at <= rows[-1].assigned_at) & (_order <= last)
        values = await _values(connection, page)
        turns = await _turns(connection, page) if with_turns else {}
        yield [_call(row, values.get(row.unit_id, {}), turns.get(row.unit_id)) for row in rows]
        # The time alone, which the row implies, lets the index find the place.
        place = mine & (a.c.assigned_at >= rows[-1].assigned_at) & (_order > last)


async def next_call_at(
    connection: AsyncConnection, experiment: Experiment, start: dt.datetime
) -> dt.datetime | None:
    """When the first call at or after `start` was assigned."""
    query = sa.select(sa.func.min(a.c.assigned_at, type_=a.c.assigned_at.type)).where(
        a.c.experiment_id == experiment.id, a.c.assigned_at >= start
    )
    found: dt.datetime | None = (await connection.execute(query)).scalar_one()
    return found


async def count_calls_since(connection: AsyncConnection, experiment: Experiment, start: dt.datetime) -> int:
    """How many calls were assigned at or after `start`."""
    query = (
        sa.select(sa.func.count())
        .select_from(a)
        .where(a.c.experiment_id == experiment.id, a.c.assigned_at >= start)
    )
    return int((await connection.execute(query)).scalar_one())


def _place(row: sa.Row[Any]) -> sa.Tuple:
    when, unit = (
        sa.literal(getattr(row, column.name), column.type) for column in (a.c.assigned_at, a.c.unit_id)
    )
    return sa.tuple_(when, unit)


async def _values(connection: AsyncConnection, page: sa.ColumnElement[bool]) -> dict[str, dict[str, float]]:
    same = (o.c.prompt_id == a.c.prompt_id) & (o.c.unit_id == a.c.unit_id)
    query = sa.select(o.c.unit_id, o.c.metric, o.c.value).select_from(a.join(o, same)).where(page)
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for row in await connection.execute(query):
        found[row.unit_id][row.metric] = row.value
    return found


async def _turns(connection: AsyncConnection, page: sa.ColumnElement[bool]) -> dict[str, list[Any]]:
    same = (t.c.prompt_id == a.c.prompt_id) & (t.c.unit_id == a.c.unit_id)
    query = sa.select(t.c.unit_id, t.c.turns).select_from(a.join(t, same)).where(page)
    return {row.unit_id: row.turns for row in await connection.execute(query)}


def _call(row: sa.Row[Any], values: dict[str, float], turns: list[Any] | None) -> CallRow:
    return CallRow(
        unit_id=row.unit_id,
        segment=row.segment,
        variant=row.variant,
        version=row.version,
        allocation=row.allocation_id,
        probability=row.probability,
        reason=row.reason,
        content_hash=row.content_hash,
        assigned_at=row.assigned_at,
        values=values,
        turns=turns,
    )
