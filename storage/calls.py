"""Calls as rows: an assignment with its outcomes, page by page in the order of unit ids."""

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.experiments import Experiment
from domain.fields import Record
from storage.outcomes import find_outcomes
from storage.schema import assignments as a
from storage.schema import variants as v


class CallRow(Record, frozen=True, kw_only=True):
    """One call of an experiment."""

    unit_id: str
    segment: str | None
    variant: str
    allocation: int
    probability: float
    reason: str
    assigned_at: dt.datetime
    values: dict[str, float]


async def read_calls(
    connection: AsyncConnection, experiment: Experiment, *, after: str, limit: int
) -> list[CallRow]:
    """The next calls whose unit id comes after `after`."""
    query = (
        sa.select(a, v.c.key.label("variant"))
        .join(v, a.c.variant_id == v.c.id)
        .where(
            a.c.prompt_id == experiment.prompt_id,
            a.c.experiment_id == experiment.id,
            a.c.unit_id > after,
        )
        .order_by(a.c.unit_id)
        .limit(limit)
    )
    rows = (await connection.execute(query)).all()
    outcomes = await find_outcomes(connection, [(row.prompt_id, row.unit_id) for row in rows]) if rows else {}
    return [
        CallRow(
            unit_id=row.unit_id,
            segment=row.segment,
            variant=row.variant,
            allocation=row.allocation_id,
            probability=row.probability,
            reason=row.reason,
            assigned_at=row.assigned_at,
            values={
                name: value.value for name, value in outcomes.get((row.prompt_id, row.unit_id), {}).items()
            },
        )
        for row in rows
    ]
