"""Forget what callers said: of one unit, or everything older than a time. Versions, outcomes and counts stay."""

import datetime as dt

from sqlalchemy.ext.asyncio import AsyncConnection

from service.find import prompt_id_named
from storage.audit import append_audit
from storage.locks import lock_units
from storage.transcripts import delete_transcript, delete_transcripts_before

BATCH = 1_000  # transcripts a transaction: its locks are held for a moment


async def forget_unit(
    connection: AsyncConnection, prompt: str, unit_id: str, *, actor: str, now: dt.datetime
) -> int:
    """Delete the transcript of a unit; how many there were.

    It is audited also where there was none: somebody was asked to forget, and has.

    Raises
    ------
    PromptNotFound : there is no such prompt.
    """
    prompt_id = await prompt_id_named(connection, prompt)
    await lock_units(connection, [(prompt_id, unit_id)])
    number = await delete_transcript(connection, prompt_id, unit_id)
    await append_audit(
        connection,
        actor=actor,
        action="forget_transcript",
        record_type="unit",
        record_id=f"{prompt}/{unit_id}",
        now=now,
        after={"transcripts": number},
    )
    return number


async def forget_before(
    connection: AsyncConnection, before: dt.datetime, *, actor: str, now: dt.datetime
) -> int:
    """Delete some transcripts stored before a time, audited; how many. Call again until there are none."""
    number = await delete_transcripts_before(connection, before, limit=BATCH)
    if number:
        await append_audit(
            connection,
            actor=actor,
            action="forget_transcripts",
            record_type="transcripts",
            record_id=before.isoformat(),
            now=now,
            after={"transcripts": number},
        )
    return number
