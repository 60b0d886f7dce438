"""What the database itself refuses, whoever writes."""

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from storage import schema
from tests.service.world import NOW, call, create, outcome, start, tell

IMMUTABLE = ("prompt_versions", "allocations", "assignments", "outcome_revisions", "audit")
A_COLUMN = {
    "prompt_versions": {"system_prompt": "another"},
    "allocations": {"policy": "another"},
    "assignments": {"reason": "STATIC"},
    "outcome_revisions": {"value": 0.5},
    "audit": {"actor": "nobody"},
}


async def filled(database):
    """One row at least in every immutable table."""
    await start(database)
    await call(database, "call-1")
    await tell(database, outcome("call-1", quality=0.2))
    await tell(database, outcome("call-1", quality=0.9))


@pytest.mark.parametrize("name", IMMUTABLE)
async def test_rows_that_never_change_cannot_be_updated(database, name):
    await filled(database)
    table = schema.metadata.tables[name]
    with pytest.raises(IntegrityError, match="never change"):
        async with database.writing() as connection:
            await connection.execute(sa.update(table).values(**A_COLUMN[name]))


@pytest.mark.parametrize("name", IMMUTABLE)
async def test_rows_that_never_change_cannot_be_deleted(database, name):
    await filled(database)
    with pytest.raises(IntegrityError, match="never change"):
        async with database.writing() as connection:
            await connection.execute(sa.delete(schema.metadata.tables[name]))


async def test_a_second_running_experiment_on_a_prompt_is_refused(database):
    experiment = await start(database)
    row = {
        "key": "second",
        "key_folded": "second",
        "prompt_id": experiment.prompt_id,
        "status": "running",
        "policy": {"name": "fixed"},
        "goal": "resolved",
        "alpha": 0.05,
        "minimum_detectable_effect": 0.05,
        "baseline": 0.5,
        "maturity_s": 0.0,
        "min_days": 0.0,
        "salt": "s",
        "started_at": NOW,
    }
    with pytest.raises(IntegrityError):
        async with database.writing() as connection:
            await connection.execute(sa.insert(schema.experiments).values(**row))
    async with database.writing() as connection:
        await connection.execute(sa.insert(schema.experiments).values(**(row | {"status": "stopped"})))


async def test_a_version_of_another_prompt_cannot_be_active(database):
    mine = await create(database, "mine")
    theirs = await create(database, "theirs", name="other")
    with pytest.raises(IntegrityError):
        async with database.writing() as connection:
            change = sa.update(schema.prompts).where(schema.prompts.c.name == mine.prompt)
            await connection.execute(change.values(active_version_id=theirs.id))


async def test_naive_times_are_refused_before_they_are_stored(database):
    with pytest.raises(sa.exc.StatementError, match="naive"):
        async with database.writing() as connection:
            row = {"name": "n", "name_folded": "n", "created_at": NOW.replace(tzinfo=None)}
            await connection.execute(sa.insert(schema.prompts).values(**row))
