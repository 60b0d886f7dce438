"""What earlier experiments on a prompt showed, for the prior of a new variant."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.statistics import BinaryCounts
from storage.schema import counts as c
from storage.schema import experiments as e
from storage.schema import metrics as m
from storage.schema import prompt_versions as v


async def past_arms(
    connection: AsyncConnection, prompt_id: int, metric: str, *, besides: int
) -> BinaryCounts:
    """Counts of a binary metric per variant of the prompt's other experiments, in no order."""
    query = (
        sa.select(sa.func.sum(c.c.n), sa.func.sum(c.c.total))
        .join(e, e.c.id == c.c.experiment_id)
        .join(m, (m.c.experiment_id == e.c.id) & (m.c.name == c.c.metric))
        .where(e.c.prompt_id == prompt_id, e.c.id != besides, c.c.metric == metric, m.c.kind == "binary")
        .group_by(c.c.variant_id)
    )
    rows = [(int(n), round(total)) for n, total in await connection.execute(query)]
    return BinaryCounts(n=[n for n, _ in rows if n], successes=[good for n, good in rows if n])


async def parents_of(connection: AsyncConnection, version_ids: Sequence[int]) -> dict[int, int]:
    """The version that each of these was made from, where one is known."""
    query = sa.select(v.c.id, v.c.parent_id).where(v.c.id.in_(version_ids), v.c.parent_id.is_not(None))
    return {row.id: row.parent_id for row in await connection.execute(query)}
