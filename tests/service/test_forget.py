"""Forgetting transcripts: of one call, and by age; what else was stored of a call stays."""

import datetime as dt

import pytest
import sqlalchemy as sa

from domain.errors import PromptNotFound
from service.forget import BATCH, forget_before, forget_unit
from storage.audit import list_audit
from storage.database import Database
from storage.prompts import find_prompt_id
from storage.schema import assignments, outcomes, transcripts
from tests.service.world import ACTOR, DAY, NOW, PROMPT, call, check, outcome, start, tell

NOWHERE_ELSE = {"suggestions": 0, "llm_calls": 0, "optimizer_runs": 0}
SAID = [{"role": "caller", "text": "My name is Mrs Miller."}]


async def store(database: Database, *unit_ids: str, at: dt.datetime = NOW, prompt: str = PROMPT) -> None:
    async with database.writing() as connection:
        prompt_id = await find_prompt_id(connection, prompt)
        rows = [
            {"prompt_id": prompt_id, "unit_id": unit, "turns": SAID, "redactions": {}, "stored_at": at}
            for unit in unit_ids
        ]
        await connection.execute(sa.insert(transcripts), rows)


async def units(database: Database, table: sa.Table = transcripts) -> set[str]:
    async with database.reading() as connection:
        return set((await connection.execute(sa.select(table.c.unit_id))).scalars())


async def forget(database: Database, unit_id: str, *, prompt: str = PROMPT) -> int:
    async with database.writing() as connection:
        return (await forget_unit(connection, prompt, unit_id, actor=ACTOR, now=NOW)).transcripts


async def expire(database: Database, before: dt.datetime) -> int:
    async with database.writing() as connection:
        return (await forget_before(connection, before, actor=ACTOR, now=NOW)).transcripts


async def audited(database: Database, action: str) -> list[tuple[str, object]]:
    async with database.reading() as connection:
        entries = await list_audit(connection, limit=10, offset=0)
    return [(entry.record_id, entry.after) for entry in entries if entry.action == action]


async def test_a_unit_is_forgotten_and_its_version_outcomes_and_counts_stay(database: Database):
    await start(database)
    for unit in ("call-1", "call-2"):
        await call(database, unit)
        await tell(database, outcome(unit, resolved=True))
    await store(database, "call-1", "call-2")
    assert await forget(database, "call-1") == 1
    assert await units(database) == {"call-2"}
    assert await units(database, assignments) == await units(database, outcomes) == {"call-1", "call-2"}
    assert (await check(database)).differences == ()


async def test_only_the_prompts_own_unit_is_meant(database: Database):
    await start(database)
    await start(database, key="other", prompt="sales")
    await store(database, "call-1")
    await store(database, "call-1", prompt="sales")
    assert await forget(database, "call-1", prompt="sales") == 1
    assert await units(database) == {"call-1"}


async def test_who_asked_to_forget_is_audited_without_what_was_said(database: Database):
    await start(database)
    await store(database, "call-1")
    assert [await forget(database, "call-1"), await forget(database, "call-1")] == [1, 0]
    assert await audited(database, "forget_transcript") == [
        ("support/call-1", {"transcripts": 0} | NOWHERE_ELSE),
        ("support/call-1", {"transcripts": 1} | NOWHERE_ELSE),
    ]


async def test_a_unit_of_a_prompt_that_does_not_exist_is_an_error(database: Database):
    with pytest.raises(PromptNotFound):
        await forget(database, "call-1")


async def test_old_transcripts_are_forgotten_and_younger_ones_kept(database: Database):
    await start(database)
    await store(database, "old", at=NOW - 91 * DAY)
    await store(database, "young", at=NOW - 89 * DAY)
    before = NOW - 90 * DAY
    assert [await expire(database, before), await expire(database, before)] == [1, 0]
    assert await units(database) == {"young"}
    assert await audited(database, "forget_transcripts") == [
        (before.isoformat(), {"transcripts": 1} | NOWHERE_ELSE)
    ]


async def test_a_transaction_forgets_a_bounded_number(database: Database):
    """The locks of a million rows would be held for minutes."""
    await start(database)
    await store(database, *(f"call-{number}" for number in range(BATCH + 1)), at=NOW - DAY)
    assert [await expire(database, NOW) for _ in range(3)] == [BATCH, 1, 0]
