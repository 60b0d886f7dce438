"""What the database itself refuses, whoever writes."""

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, StatementError

from domain.experiments import Experiment
from storage import schema
from storage.database import Database
from storage.prompts import set_active
from tests.service.world import NOW, call, create, outcome, read_experiment, start, stop, tell

IMMUTABLE = ("prompt_versions", "allocations", "assignments", "outcome_revisions", "audit")
A_COLUMN: dict[str, dict[str, Any]] = {
    "prompt_versions": {"system_prompt": "another"},
    "allocations": {"policy": "another"},
    "assignments": {"reason": "STATIC"},
    "outcome_revisions": {"value": 0.5},
    "audit": {"actor": "nobody"},
}
ON_POSTGRESQL = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


async def filled(database: Database) -> None:
    """One row at least in every immutable table."""
    await start(database)
    await call(database, "call-1")
    await tell(database, outcome("call-1", quality=0.2))
    await tell(database, outcome("call-1", quality=0.9))


async def write(database: Database, statement: sa.Executable) -> None:
    async with database.writing() as connection:
        await connection.execute(statement)


async def rows(database: Database, table: sa.Table) -> list[Any]:
    async with database.reading() as connection:
        return list((await connection.execute(sa.select(table))).all())


@pytest.mark.parametrize("name", IMMUTABLE)
async def test_rows_that_never_change_can_be_neither_updated_nor_deleted(database: Database, name: str):
    await filled(database)
    table = schema.metadata.tables[name]
    before = await rows(database, table)
    assert before
    for change in (sa.update(table).values(**A_COLUMN[name]), sa.delete(table)):
        with pytest.raises(IntegrityError, match="never change"):
            await write(database, change)
    assert await rows(database, table) == before


@ON_POSTGRESQL
@pytest.mark.parametrize("name", IMMUTABLE)
async def test_tables_that_never_change_cannot_be_truncated(database: Database, name: str):
    await filled(database)
    with pytest.raises(IntegrityError, match="never change"):
        await write(database, sa.text(f"TRUNCATE {name} CASCADE"))


def another(experiment: Experiment, **fields: Any) -> sa.Insert:
    """A row of an experiment on the same prompt."""
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
    return sa.insert(schema.experiments).values(**(row | fields))


async def test_a_second_running_experiment_on_a_prompt_is_refused(database: Database):
    experiment = await start(database)
    with pytest.raises(IntegrityError):
        await write(database, another(experiment))
    await write(database, another(experiment, status="stopped"))
    await stop(database)
    await write(database, another(experiment, key="third", key_folded="third"))


async def test_a_stopped_experiment_cannot_run_again_beside_another(database: Database):
    experiment = await start(database)
    await stop(database)
    await start(database, key="second")
    again = sa.update(schema.experiments).where(schema.experiments.c.id == experiment.id)
    with pytest.raises(IntegrityError):
        await write(database, again.values(status="running"))


async def test_a_version_of_another_prompt_cannot_be_active(database: Database):
    """Neither by the storage function nor by hand: the foreign key holds prompt and version together."""
    await create(database, "mine")
    theirs = await create(database, "theirs", name="other")
    mine = sa.select(schema.prompts.c.id).where(schema.prompts.c.name == "support")
    async with database.reading() as connection:
        prompt_id = int(await connection.scalar(mine) or 0)

    async def activate() -> None:
        async with database.writing() as connection:
            await set_active(connection, prompt_id, theirs.id)

    with pytest.raises(IntegrityError):
        await activate()
    change = sa.update(schema.prompts).where(schema.prompts.c.id == prompt_id)
    with pytest.raises(IntegrityError):
        await write(database, change.values(active_version_id=10**6))


@pytest.mark.parametrize(
    "fields",
    [
        {"experiment_id": None},
        {"probability": None},
        {"variant_id": None, "allocation_id": None, "probability": None},
        {"reason": "GUESSED"},
        {"prompt_id": 10**6},
        {"allocation_id": 10**6},
    ],
)
async def test_an_assignment_is_whole_or_refused(database: Database, fields: dict[str, Any]):
    """Experiment, variant, allocation and probability come together, and each refers to what is there."""
    await start(database)
    given = await call(database, "call-1")
    row = {
        "prompt_id": given.prompt_id,
        "unit_id": "call-2",
        "version_id": given.version.id,
        "experiment_id": given.experiment_id,
        "variant_id": given.variant_id,
        "allocation_id": given.allocation,
        "probability": given.probability,
        "reason": "SPLIT",
        "content_hash": "",
        "assigned_at": NOW,
    }
    with pytest.raises(IntegrityError):
        await write(database, sa.insert(schema.assignments).values(**(row | fields)))
    await write(database, sa.insert(schema.assignments).values(**row))


async def test_a_negative_count_is_refused(database: Database):
    await start(database)
    await call(database, "call-1")
    with pytest.raises(IntegrityError):
        await write(database, sa.update(schema.counts).values(n=-1))


@pytest.mark.parametrize("twice", ["key", "version_id", "position"])
async def test_two_variants_of_an_experiment_differ_in_key_version_and_position(
    database: Database, twice: str
):
    await start(database)
    version = await create(database, "a third text")
    experiment = await read_experiment(database)
    first = experiment.variants[0]
    taken = {"key": first.key, "version_id": first.version_id, "position": first.position}
    row = {
        "experiment_id": experiment.id,
        "key": "c",
        "version_id": version.id,
        "position": 7,
        "is_control": False,
        "status": "live",
        "created_at": NOW,
    }
    with pytest.raises(IntegrityError):
        await write(database, sa.insert(schema.variants).values(**(row | {twice: taken[twice]})))
    await write(database, sa.insert(schema.variants).values(**row))


async def test_naive_times_are_refused_before_they_are_stored(database: Database):
    row = {"name": "n", "name_folded": "n", "created_at": NOW.replace(tzinfo=None)}
    with pytest.raises(StatementError, match="naive"):
        await write(database, sa.insert(schema.prompts).values(**row))
