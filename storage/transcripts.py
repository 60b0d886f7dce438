"""Transcripts, redacted before they come here: one a unit, the latest that was told."""

import datetime as dt
from collections.abc import Collection, Mapping
from itertools import batched
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.citations import CitedCall
from domain.outcomes import Turn
from domain.redaction import RedactedTranscript
from storage.bulk import insert_rows
from storage.outcomes import Unit
from storage.schema import transcripts as t


async def write_transcripts(
    connection: AsyncConnection, transcripts: Mapping[Unit, RedactedTranscript], *, now: dt.datetime
) -> None:
    """Store them in the place of what their units had before."""
    rows = [
        {
            "prompt_id": prompt_id,
            "unit_id": unit_id,
            "turns": [_turn(turn) for turn in transcript.turns],
            "redactions": transcript.redactions,
            "stored_at": now,
        }
        for (prompt_id, unit_id), transcript in transcripts.items()
    ]
    await insert_rows(connection, t, rows, _replacing)


def _turn(turn: Turn) -> dict[str, Any]:
    """Without what it does not have: most turns are a role and a text."""
    fields: dict[str, Any] = msgspec.to_builtins(turn)
    return {name: value for name, value in fields.items() if value is not None}


def _replacing(insert: Any) -> Any:
    told = insert.excluded
    replaced = {"turns": told.turns, "redactions": told.redactions, "stored_at": told.stored_at}
    key = [t.c.prompt_id, t.c.unit_id]
    return insert.on_conflict_do_update(index_elements=key, set_=replaced).returning(t.c.prompt_id)


async def delete_transcript(connection: AsyncConnection, prompt_id: int, unit_id: str) -> int:
    """Delete what a unit said; how many rows that were."""
    gone = await connection.execute(sa.delete(t).where(t.c.prompt_id == prompt_id, t.c.unit_id == unit_id))
    return gone.rowcount


async def delete_transcripts_before(connection: AsyncConnection, before: dt.datetime, *, limit: int) -> int:
    """Delete transcripts stored before a time, at most `limit` of them; how many that were."""
    keys = sa.tuple_(t.c.prompt_id, t.c.unit_id)
    old = sa.select(t.c.prompt_id, t.c.unit_id).where(t.c.stored_at < before).limit(limit)
    return (await connection.execute(sa.delete(t).where(keys.in_(old)))).rowcount


async def calls_of(connection: AsyncConnection, prompt_id: int, units: Collection[str]) -> list[CitedCall]:
    """What was said in these calls, by unit; a call without a stored transcript is left out.

    Nobody's pseudonym is stored, so every call counts as a caller of its own who did not say the same.
    """
    found: list[CitedCall] = []
    for some in batched(sorted(units), 500):  # a statement takes so many parameters
        query = sa.select(t.c.unit_id, t.c.turns).where(t.c.prompt_id == prompt_id, t.c.unit_id.in_(some))
        found += [
            CitedCall(unit_id=row.unit_id, turns=msgspec.convert(row.turns, tuple[Turn, ...]))
            for row in await connection.execute(query)
        ]
    return sorted(found, key=lambda call: call.unit_id)
