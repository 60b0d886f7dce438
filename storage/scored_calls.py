"""Calls of a window that have a score and a transcript: what an optimizer can read."""

import datetime as dt
from collections.abc import Sequence

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.fields import Record
from domain.outcomes import Turn
from storage.bulk import select_among
from storage.schema import assignments as a
from storage.schema import outcomes as o
from storage.schema import transcripts as t

SCORE = "quality"
_TURNS = sa.select(t.c.unit_id, t.c.turns)


class StoredScore(Record, frozen=True, kw_only=True):
    """A call with its score; `characters` is how long its transcript is as JSON, `caller` a mark of who called."""

    unit_id: str
    version_id: int
    segment: str
    quality: float
    characters: int
    assigned_at: dt.datetime
    caller: str | None = None


async def read_scores(
    connection: AsyncConnection,
    prompt_id: int,
    *,
    experiment_id: int | None,
    version_ids: Sequence[int],
    window: tuple[dt.datetime, dt.datetime],
) -> list[StoredScore]:
    """The scored calls of these versions in the window: of this experiment, or those outside of any.

    One row a call without its words: those of the sample alone are read, later.
    """
    query = (
        sa.select(
            a.c.unit_id,
            a.c.version_id,
            sa.func.coalesce(a.c.segment, "").label("segment"),
            o.c.value.label("quality"),
            sa.func.length(sa.cast(t.c.turns, sa.Text)).label("characters"),
            a.c.assigned_at,
            t.c.caller,
        )
        .join(o, (o.c.prompt_id == a.c.prompt_id) & (o.c.unit_id == a.c.unit_id) & (o.c.metric == SCORE))
        .join(t, (t.c.prompt_id == a.c.prompt_id) & (t.c.unit_id == a.c.unit_id))
        .where(
            a.c.prompt_id == prompt_id,
            a.c.experiment_id.is_(None) if experiment_id is None else a.c.experiment_id == experiment_id,
            a.c.version_id.in_(version_ids),
            a.c.assigned_at >= window[0],
            a.c.assigned_at < window[1],
        )
    )
    rows = await connection.execute(query)
    return [
        StoredScore(**{name: getattr(row, name) for name in StoredScore.__struct_fields__}) for row in rows
    ]


async def read_turns(
    connection: AsyncConnection, prompt_id: int, unit_ids: Sequence[str]
) -> dict[str, tuple[Turn, ...]]:
    """What these units said, redacted as it is stored; one that was forgotten is left out."""
    if not unit_ids:
        return {}
    keys = [(prompt_id, unit_id) for unit_id in unit_ids]
    rows = await select_among(connection, _TURNS, (t.c.prompt_id, t.c.unit_id), keys)
    return {row.unit_id: msgspec.convert(row.turns, tuple[Turn, ...]) for row in rows}
