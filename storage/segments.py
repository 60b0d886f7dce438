"""The segments of an experiment: at most 200 distinct ones, what comes after counts as `other`."""

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.fields import MAX_SEGMENTS, OTHER_SEGMENT
from storage.bulk import select_among
from storage.locks import lock_experiment
from storage.schema import segments as s

Segment = tuple[int, str]  # experiment id and name
_SEGMENTS = sa.select(s)


async def known_segments(connection: AsyncConnection, wanted: Collection[Segment]) -> set[Segment]:
    """Those that were admitted before."""
    rows = await select_among(connection, _SEGMENTS, (s.c.experiment_id, s.c.name), wanted)
    return {(row.experiment_id, row.name) for row in rows}


async def admit_segment(connection: AsyncConnection, experiment_id: int, segment: str) -> str:
    """The segment under which a unit counts: its own while there is room, `other` afterwards."""
    known = sa.select(s.c.name).where(s.c.experiment_id == experiment_id, s.c.name == segment)
    if segment == OTHER_SEGMENT or await connection.scalar(known) is not None:
        return segment
    number = sa.select(sa.func.count()).select_from(s).where(s.c.experiment_id == experiment_id)
    if (await connection.scalar(number) or 0) >= MAX_SEGMENTS:
        return OTHER_SEGMENT
    # At most 200 times an experiment: hold it, so that two writers cannot admit the same or a 201st one.
    await lock_experiment(connection, experiment_id)
    if await connection.scalar(known) is not None:
        return segment
    if (await connection.scalar(number) or 0) >= MAX_SEGMENTS:
        return OTHER_SEGMENT
    await connection.execute(sa.insert(s).values(experiment_id=experiment_id, name=segment))
    return segment
