"""Transcripts of calls: what is personal in them must be forgotten one day."""

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.schema import transcripts as t


async def delete_transcript(connection: AsyncConnection, prompt_id: int, unit_id: str) -> int:
    """Delete what a unit said; how many rows that were."""
    gone = await connection.execute(sa.delete(t).where(t.c.prompt_id == prompt_id, t.c.unit_id == unit_id))
    return gone.rowcount


async def delete_transcripts_before(connection: AsyncConnection, before: dt.datetime, *, limit: int) -> int:
    """Delete transcripts stored before a time, at most `limit` of them; how many that were."""
    keys = sa.tuple_(t.c.prompt_id, t.c.unit_id)
    old = sa.select(t.c.prompt_id, t.c.unit_id).where(t.c.stored_at < before).limit(limit)
    return (await connection.execute(sa.delete(t).where(keys.in_(old)))).rowcount
