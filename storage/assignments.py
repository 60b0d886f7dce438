"""Assignments: inserted once, read for ever."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.assignments import Assignment, Given
from domain.prompts import ServedVersion
from storage.bulk import insert_rows, select_among
from storage.schema import assignments as a
from storage.schema import experiments as e
from storage.schema import prompt_versions as pv
from storage.schema import prompts as p
from storage.schema import variants as v

_ASSIGNMENTS = sa.select(
    a,
    p.c.name.label("prompt"),
    e.c.key.label("experiment"),
    v.c.key.label("variant"),
    pv.c.number,
    pv.c.system_prompt,
    pv.c.tools_config,
    pv.c.metadata,
).select_from(
    a.join(p, a.c.prompt_id == p.c.id)
    .outerjoin(e, a.c.experiment_id == e.c.id)
    .outerjoin(v, a.c.variant_id == v.c.id)
    .outerjoin(pv, a.c.version_id == pv.c.id)
)
_UNIT = (a.c.prompt_id, a.c.unit_id)
_GIVEN = sa.select(
    *_UNIT,
    a.c.experiment_id,
    a.c.variant_id,
    a.c.allocation_id,
    a.c.segment,
    a.c.reason,
    a.c.content_hash,
    a.c.assigned_at,
)


def _assignment(row: sa.Row[Any]) -> Assignment:
    return Assignment(
        prompt=row.prompt,
        prompt_id=row.prompt_id,
        unit_id=row.unit_id,
        version=ServedVersion(
            id=row.version_id,
            number=row.number,
            name=row.prompt,
            system_prompt=row.system_prompt or "",
            tools_config=row.tools_config if row.tools_config is not None else [],
            metadata=row.metadata or {},
            content_hash=row.content_hash,
        ),
        experiment=row.experiment,
        experiment_id=row.experiment_id,
        variant=row.variant,
        variant_id=row.variant_id,
        allocation=row.allocation_id,
        probability=row.probability,
        segment=row.segment,
        reason=row.reason,
        assigned_at=row.assigned_at,
    )


async def find_assignment(connection: AsyncConnection, prompt_id: int, unit_id: str) -> Assignment | None:
    """What the unit was given; the text is empty where it came from the fallback file or was imported."""
    query = _ASSIGNMENTS.where(a.c.prompt_id == prompt_id, a.c.unit_id == unit_id)
    row = (await connection.execute(query)).first()
    return _assignment(row) if row else None


async def find_assignments(
    connection: AsyncConnection, units: Sequence[tuple[int, str]]
) -> dict[tuple[int, str], Assignment]:
    """What these units (prompt id, unit id) were given; units without assignment are left out."""
    rows = await select_among(connection, _ASSIGNMENTS, _UNIT, units)
    return {(row.prompt_id, row.unit_id): _assignment(row) for row in rows}


async def find_given(
    connection: AsyncConnection, units: Sequence[tuple[int, str]]
) -> dict[tuple[int, str], Given]:
    """The same without the texts: what the units' outcomes need to know."""
    rows = await select_among(connection, _GIVEN, _UNIT, units)
    return {
        (row.prompt_id, row.unit_id): Given(
            experiment_id=row.experiment_id,
            variant_id=row.variant_id,
            allocation=row.allocation_id,
            segment=row.segment,
            reason=row.reason,
            content_hash=row.content_hash,
            assigned_at=row.assigned_at,
        )
        for row in rows
    }


async def insert_assignments(connection: AsyncConnection, new: Sequence[Assignment]) -> set[tuple[int, str]]:
    """Record the assignments of units that have none yet; which units those are."""
    rows = [
        {
            "prompt_id": item.prompt_id,
            "unit_id": item.unit_id,
            "version_id": item.version.id,
            "experiment_id": item.experiment_id,
            "variant_id": item.variant_id,
            "allocation_id": item.allocation,
            "probability": item.probability,
            "segment": item.segment,
            "reason": item.reason,
            "content_hash": item.version.content_hash,
            "assigned_at": item.assigned_at,
        }
        for item in new
    ]
    written = await insert_rows(connection, a, rows, _unless_recorded)
    return {(row.prompt_id, row.unit_id) for row in written}


def _unless_recorded(insert: Any) -> Any:
    return insert.on_conflict_do_nothing(index_elements=_UNIT).returning(*_UNIT)
