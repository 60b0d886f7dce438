"""Transcripts, redacted before they come here: one a unit, the latest that was told."""

import datetime as dt
from collections.abc import Collection, Mapping
from itertools import batched
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.callers import mark_of
from domain.citations import CitedCall
from domain.outcomes import Turn
from domain.redaction import RedactedTranscript
from storage.bulk import insert_rows
from storage.installation import CALLERS, secret_of
from storage.outcomes import Unit
from storage.schema import transcripts as t


async def write_transcripts(
    connection: AsyncConnection, transcripts: Mapping[Unit, RedactedTranscript], *, now: dt.datetime
) -> None:
    """Store them in the place of what their units had before."""
    has_callers = any(transcript.caller for transcript in transcripts.values())
    # A second hash, by a key that stands here: the first one's key may be none.
    key = await secret_of(connection, CALLERS) if has_callers else ""
    rows = [
        {
            "prompt_id": prompt_id,
            "unit_id": unit_id,
            "turns": [_turn(turn) for turn in transcript.turns],
            "redactions": transcript.redactions,
            "caller": None if transcript.caller is None else mark_of(transcript.caller, key=key),
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
    replaced["caller"] = sa.func.coalesce(told.caller, t.c.caller)  # told again without: still the same one
    key = [t.c.prompt_id, t.c.unit_id]
    return insert.on_conflict_do_update(index_elements=key, set_=replaced).returning(t.c.prompt_id)


async def delete_transcripts(connection: AsyncConnection, prompt_id: int, units: Collection[str]) -> int:
    """Delete what the units said; how many rows that were."""
    number = 0
    for some in batched(sorted(units), 500):  # a statement takes so many parameters
        query = sa.delete(t).where(t.c.prompt_id == prompt_id, t.c.unit_id.in_(some))
        number += (await connection.execute(query)).rowcount
    return number


async def old_transcripts(connection: AsyncConnection, before: dt.datetime, *, limit: int) -> list[Unit]:
    """Units whose transcript was stored before a time, at most `limit` of them."""
    query = sa.select(t.c.prompt_id, t.c.unit_id).where(t.c.stored_at < before).limit(limit)
    return [(row.prompt_id, row.unit_id) for row in await connection.execute(query)]


async def units_with_transcript(
    connection: AsyncConnection, prompt_id: int, units: Collection[str]
) -> set[str]:
    """Those of the units that have one still."""
    found: set[str] = set()
    for some in batched(sorted(units), 500):
        query = sa.select(t.c.unit_id).where(t.c.prompt_id == prompt_id, t.c.unit_id.in_(some))
        found |= set((await connection.execute(query)).scalars())
    return found


async def calls_of(connection: AsyncConnection, prompt_id: int, units: Collection[str]) -> list[CitedCall]:
    """What was said in these calls, by unit; a call without a stored transcript is left out.

    One that told no caller counts as a caller of its own who did not say the same.
    """
    found: list[CitedCall] = []
    for some in batched(sorted(units), 500):  # a statement takes so many parameters
        query = sa.select(t.c.unit_id, t.c.turns, t.c.caller)
        query = query.where(t.c.prompt_id == prompt_id, t.c.unit_id.in_(some))
        found += [
            CitedCall(
                unit_id=row.unit_id, turns=msgspec.convert(row.turns, tuple[Turn, ...]), caller=row.caller
            )
            for row in await connection.execute(query)
        ]
    return sorted(found, key=lambda call: call.unit_id)
