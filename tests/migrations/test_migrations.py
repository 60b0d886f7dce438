"""The schema's history on both databases."""

import asyncio
import os
import subprocess
import sys
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import IntegrityError

from migrations.run import current_revision, downgrade, migrate, upgrade
from service.verify_audit import verify_audit
from storage.audit import list_audit
from storage.database import Database
from storage.schema import metadata
from tests.service.world import add, call, check, outcome, start, stop, tell

HEAD = "0008"


async def everything(database: Database) -> dict[str, list[Any]]:
    """Tables, views, indexes and triggers by name, as the database itself lists them."""
    query = (
        "SELECT type || ' ' || name FROM sqlite_master"
        if database.is_sqlite
        else "SELECT 'trigger ' || trigger_name FROM information_schema.triggers"
        " UNION ALL SELECT 'constraint ' || conname FROM pg_constraint WHERE connamespace = 'public'::regnamespace"
        " UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
    )

    def look(connection: Connection) -> dict[str, list[Any]]:
        seen = inspect(connection)
        return {
            "tables": sorted(seen.get_table_names()),
            "views": sorted(seen.get_view_names()),
            "others": sorted(connection.execute(text(query)).scalars()),
        }

    async with database.reading() as connection:
        return await connection.run_sync(look)


async def test_migrations_equal_the_metadata(database: Database):
    def differences(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))

    async with database.reading() as connection:
        assert await connection.run_sync(differences) == []


async def test_up_down_up_leaves_what_was_there(database: Database):
    before = await everything(database)
    assert {table.name for table in metadata.sorted_tables} < set(before["tables"])
    assert before["views"] == ["calls", "prompt_ab_tests"]
    async with database.writing() as connection:
        await connection.run_sync(downgrade, "base")
    empty = await everything(database)
    assert (empty["tables"], empty["views"]) == (["alembic_version"], [])
    assert not [name for name in empty["others"] if "refuse_change" in name or "no_update" in name]
    async with database.writing() as connection:
        await connection.run_sync(upgrade)
    assert await everything(database) == before


async def test_a_database_with_data_can_be_taken_back_and_used_again(database: Database):
    """Also where rows refer to each other in a circle: a prompt to its active version and back."""

    async def use() -> None:
        await start(database)
        await call(database, "call-1", segment="refund")
        await tell(database, outcome("call-1", quality=0.5))
        await tell(database, outcome("call-1", quality=0.75))
        await add(database, "c")
        await stop(database, winner="b")
        assert (await check(database)).differences == ()

    await use()
    async with database.writing() as connection:
        await connection.run_sync(downgrade, "base")
    async with database.writing() as connection:
        await connection.run_sync(upgrade)
    await use()


async def test_entries_of_old_become_a_chain_that_goes_on(database: Database):
    """As a database of version 0.1.0 holds them: written before there were hashes."""
    await start(database)
    async with database.reading() as connection:
        before = (await verify_audit(connection)).entries
    async with database.writing() as connection:
        await connection.run_sync(downgrade, "0002")
    columns = "at, actor, action, record_type, record_id, before, after"
    old = (
        "('2026-11-22 12:00:00.000007', 'me', 'a', 't', '1', NULL, '{\"b\":[1e-7,\"é\"],\"c\":{}}')",
        "('2026-11-22 12:00:01.500000', 'key:1 (x)', 'b', 't', '2', '{}', NULL)",
    )
    async with database.writing() as connection:
        if not database.is_sqlite:
            await connection.execute(text("SET LOCAL TIME ZONE 'UTC'"))
        for values in old:
            await connection.execute(
                text(f"INSERT INTO audit ({columns}) VALUES {values}".replace(":1", r"\:1"))
            )
    assert await migrate(database) == "0002"
    await add(database, "c")
    async with database.reading() as connection:
        found = await verify_audit(connection)
        entries = await list_audit(connection, limit=before + 4, offset=0)
    assert found.problem is None
    assert found.entries == len(entries) > before + 2
    assert found.head == entries[0].hash
    with pytest.raises(IntegrityError, match="never change"):
        async with database.writing() as connection:
            await connection.execute(text("UPDATE audit SET actor = 'nobody'"))


async def test_migrating_again_changes_nothing(database: Database):
    before = await everything(database)
    assert await migrate(database) == HEAD
    assert await everything(database) == before
    async with database.reading() as connection:
        assert await current_revision(connection) == HEAD


def test_processes_that_migrate_at_once_all_succeed(database_url: str):
    """Two servers that start together on an empty database."""
    program = (
        "import asyncio, sys; from migrations import migrate; from storage.database import Database;"
        "asyncio.run(migrate(Database(sys.argv[1])))"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, database_url], env=os.environ, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    problems = [process.communicate(timeout=120)[1].decode() for process in running]
    assert [process.returncode for process in running] == [0, 0], problems

    async def revision() -> str | None:
        database = Database(database_url)
        async with database.reading() as connection:
            found = await current_revision(connection)
        await database.close()
        return found

    assert asyncio.run(revision()) == HEAD
