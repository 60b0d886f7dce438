"""The schema's history on both databases."""

import asyncio
import os
import subprocess
import sys

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect

from migrations.run import current_revision, downgrade, migrate, upgrade
from storage.database import Database
from storage.schema import metadata


async def test_migrations_equal_the_metadata(database):
    async with database.reading() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync, opts={"compare_type": True}), metadata)
        )
    assert differences == []


async def test_up_down_up_leaves_the_same_tables(database):
    async def tables() -> set[str]:
        async with database.reading() as connection:
            return await connection.run_sync(lambda sync: set(inspect(sync).get_table_names()))

    before = await tables()
    assert {table.name for table in metadata.sorted_tables} <= before
    async with database.writing() as connection:
        await connection.run_sync(downgrade, "base")
    assert await tables() == {"alembic_version"}
    async with database.writing() as connection:
        await connection.run_sync(upgrade)
    assert await tables() == before


async def test_migrating_again_changes_nothing(database):
    assert await migrate(database) == "0001"
    async with database.reading() as connection:
        assert await current_revision(connection) == "0001"


def test_processes_that_migrate_at_once_all_succeed(database_url):
    environment = os.environ | {"PROMPTBANDIT_DATABASE_URL": database_url}
    running = [
        subprocess.Popen([sys.executable, "-m", "cli", "migrate"], env=environment, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    problems = [process.communicate(timeout=120)[1].decode() for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], problems

    async def revision() -> str | None:
        database = Database(database_url)
        async with database.reading() as connection:
            found = await current_revision(connection)
        await database.close()
        return found

    assert asyncio.run(revision()) == "0001"
