"""The state of the always-valid tests, and the units that they have not read yet."""

import datetime as dt
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.evidence import Evidence, Process
from domain.fields import Record
from storage.locks import is_sqlite
from storage.schema import assignments as a
from storage.schema import evidence as ev
from storage.schema import experiments as e
from storage.schema import outcomes as o


class UnitOutcome(Record, frozen=True, kw_only=True):
    """One unit of an experiment with its outcome of one metric, None where there is none."""

    assigned_at: dt.datetime
    unit_id: str
    variant_id: int
    allocation_id: int
    reason: str
    value: float | None


async def find_evidence(connection: AsyncConnection, experiment_id: int) -> dict[str, Evidence]:
    """The state after the last pass, by metric."""
    rows = await connection.execute(sa.select(ev).where(ev.c.experiment_id == experiment_id))
    return {row.metric: _evidence(row) for row in rows}


async def store_evidence(
    connection: AsyncConnection, experiment_id: int, evidence: Evidence, *, now: dt.datetime
) -> None:
    """Keep the state for the next pass. The caller holds the experiment's lock."""
    values = {
        "read_until": evidence.read_until,
        "unit_id": evidence.unit_id,
        "units": evidence.units,
        "missing": evidence.missing,
        "processes": msgspec.to_builtins(evidence.processes),
        "updated_at": now,
    }
    insert: Any = (sqlite if is_sqlite(connection) else postgresql).insert(ev)
    row = insert.values(experiment_id=experiment_id, metric=evidence.metric, **values)
    await connection.execute(
        row.on_conflict_do_update(index_elements=["experiment_id", "metric"], set_=values)
    )


async def unread_experiments(connection: AsyncConnection) -> list[int]:
    """Running experiments, and stopped ones whose last calls had not matured when their test read last."""
    same_goal = (ev.c.experiment_id == e.c.id) & (ev.c.metric == e.c.goal)
    query = (
        sa.select(e.c.id, e.c.status, e.c.stopped_at, e.c.maturity_s, ev.c.updated_at)
        .select_from(e.outerjoin(ev, same_goal))
        .order_by(e.c.id.desc())
    )
    return [
        row.id
        for row in await connection.execute(query)
        if row.status == "running"
        or row.updated_at is None
        or row.updated_at < row.stopped_at + dt.timedelta(seconds=row.maturity_s)
    ]


async def units_after(
    connection: AsyncConnection,
    experiment_id: int,
    evidence: Evidence,
    *,
    until: dt.datetime,
    limit: int,
) -> list[UnitOutcome]:
    """The next units in the order of their assignment, none assigned after `until`."""
    same_unit = (
        (o.c.prompt_id == a.c.prompt_id) & (o.c.unit_id == a.c.unit_id) & (o.c.metric == evidence.metric)
    )
    query = (
        sa.select(a.c.assigned_at, a.c.unit_id, a.c.variant_id, a.c.allocation_id, a.c.reason, o.c.value)
        .select_from(a.outerjoin(o, same_unit))
        .where(a.c.experiment_id == experiment_id, a.c.assigned_at <= until)
        .order_by(a.c.assigned_at, a.c.unit_id)
        .limit(limit)
    )
    if evidence.read_until is not None:
        later = (a.c.assigned_at > evidence.read_until) | (a.c.unit_id > evidence.unit_id)
        query = query.where(a.c.assigned_at >= evidence.read_until, later)
    return [
        UnitOutcome(
            assigned_at=row.assigned_at,
            unit_id=row.unit_id,
            variant_id=row.variant_id,
            allocation_id=row.allocation_id,
            reason=row.reason,
            value=row.value,
        )
        for row in await connection.execute(query)
    ]


def _evidence(row: sa.Row[Any]) -> Evidence:
    return Evidence(
        metric=row.metric,
        read_until=row.read_until,
        unit_id=row.unit_id,
        units=row.units,
        missing=row.missing,
        processes=msgspec.convert(row.processes, tuple[Process, ...]),
    )
