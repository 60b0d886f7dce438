"""Allocations: append-only splits."""

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.allocations import Allocation
from storage.schema import allocations as a
from storage.schema import experiments as e


def _allocation(row: sa.Row[Any]) -> Allocation:
    return Allocation(
        id=row.id,
        experiment_id=row.experiment_id,
        number=row.number,
        split=row.split,
        probability_best=row.probability_best,
        policy=row.policy,
        counts=row.counts,
        seed=row.seed,
        engine_version=row.engine_version,
        created_at=row.created_at,
    )


async def append_allocation(
    connection: AsyncConnection,
    *,
    experiment_id: int,
    split: dict[str, int],
    probability_best: dict[str, float] | None,
    policy: str,
    counts: dict[str, Any],
    engine_version: str,
    now: dt.datetime,
) -> Allocation:
    """The experiment's next allocation. The caller holds the experiment's lock."""
    last = await connection.scalar(
        sa.select(sa.func.max(a.c.number)).where(a.c.experiment_id == experiment_id)
    )
    query = (
        sa.insert(a)
        .values(
            experiment_id=experiment_id,
            number=(last or 0) + 1,
            split=split,
            probability_best=probability_best,
            policy=policy,
            counts=counts,
            seed=None,  # quadrature needs no random numbers
            engine_version=engine_version,
            created_at=now,
        )
        .returning(*a.c)
    )
    return _allocation((await connection.execute(query)).one())


async def current_allocation(connection: AsyncConnection, experiment_id: int) -> Allocation | None:
    """The allocation that serves now (or served last)."""
    query = sa.select(a).where(a.c.experiment_id == experiment_id).order_by(a.c.number.desc()).limit(1)
    row = (await connection.execute(query)).first()
    return _allocation(row) if row else None


async def running_allocations(connection: AsyncConnection) -> dict[int, Allocation]:
    """The current allocation of every running experiment, by experiment id."""
    newest = (
        sa.select(a.c.experiment_id, sa.func.max(a.c.number).label("number"))
        .join(e, a.c.experiment_id == e.c.id)
        .where(e.c.status == "running")
        .group_by(a.c.experiment_id)
        .subquery()
    )
    same = (a.c.experiment_id == newest.c.experiment_id) & (a.c.number == newest.c.number)
    rows = await connection.execute(sa.select(a).join(newest, same))
    return {row.experiment_id: _allocation(row) for row in rows}


async def allocations_by_id(connection: AsyncConnection, ids: set[int]) -> dict[int, Allocation]:
    """Several allocations by id; unknown ids are left out."""
    rows = await connection.execute(sa.select(a).where(a.c.id.in_(ids)))
    return {row.id: _allocation(row) for row in rows}


async def list_allocations(
    connection: AsyncConnection, experiment_id: int, *, limit: int = 1_000, offset: int = 0
) -> list[Allocation]:
    """Allocations, the oldest first."""
    query = sa.select(a).where(a.c.experiment_id == experiment_id).order_by(a.c.number)
    return [_allocation(row) for row in await connection.execute(query.limit(limit).offset(offset))]
