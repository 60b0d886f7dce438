"""A backup that was never restored is none: dump, restore, verify, compare."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from storage.database import Database
from storage.schema import metadata
from tests.deploy.programs import postgres_program
from tests.outage.judge import rows
from tests.postgres import Postgres
from tests.service.world import LATER, add, call, check, outcome, read_experiment, start, tell


async def fill(url: str) -> None:
    """Something in most tables."""
    database = Database(url)
    try:
        await start(database)
        for number in range(40):
            await call(database, f"call-{number}", segment="refund" if number % 2 else None)
            await tell(database, outcome(f"call-{number}", resolved=number % 3 == 0, quality=0.5))
        await tell(database, outcome("call-1", quality=0.75), now=LATER)
        await add(database, "c", now=LATER)
    finally:
        await database.close()


def numbers(url: str) -> dict[str, int]:
    """Rows by table."""
    return {
        table.name: rows(url, f'SELECT count(*) FROM "{table.name}"')[0][0]
        for table in metadata.tables.values()
    }


async def check_the_same(original: str, copy: str) -> None:
    """As many rows everywhere, the same counts, which equal the outcomes; and life goes on."""
    assert numbers(copy) == numbers(original)
    assert numbers(copy)["outcomes"] == 80
    query = "SELECT * FROM counts ORDER BY 1, 2, 3, 4, 5"
    assert rows(copy, query) == rows(original, query)
    database = Database(copy)
    try:
        verified = await check(database)
        assert (verified.differences, verified.rows > 0) == ((), True)
        before = (await read_experiment(database)).variants
        await add(database, "d", now=LATER)  # ids go on where they stopped
        assert len((await read_experiment(database)).variants) == len(before) + 1
        await call(database, "call-after", now=LATER)
        await tell(database, outcome("call-after", resolved=True), now=LATER)
        assert (await check(database)).differences == ()
    finally:
        await database.close()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_dump_restored_into_a_new_database_is_the_same(
    database_url: str, postgres: Postgres, tmp_path: Path
):
    await fill(database_url)
    dump = tmp_path / "bandit.dump"
    postgres_program(
        postgres, "pg_dump", "--format=custom", f"--file={dump}", database_url.rpartition("/")[2]
    )
    copy = postgres.create_database(f"restored_{tmp_path.name}")
    try:
        postgres_program(
            postgres,
            "pg_restore",
            "--exit-on-error",
            "--no-owner",
            f"--dbname={copy.rpartition('/')[2]}",
            str(dump),
        )
        await check_the_same(database_url, copy)
        with pytest.raises(Exception, match="never change"):  # the triggers came along
            rows(copy, "DELETE FROM assignments RETURNING 1")
    finally:
        postgres.drop_database(f"restored_{tmp_path.name}")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_copy_of_sqlite_taken_while_it_is_written_is_one_state(database_url: str, tmp_path: Path):
    """`.backup` of the sqlite3 program is this call; the transaction beside it is not in the copy."""
    await fill(database_url)
    file, copy = tmp_path / "copy.db", f"sqlite:///{tmp_path / 'copy.db'}"
    source = Database(database_url)
    try:
        async with source.writing() as connection:
            await connection.exec_driver_sql("UPDATE counts SET n = n + 1")
            with (
                closing(sqlite3.connect(str(source.url.database))) as live,
                closing(sqlite3.connect(file)) as kept,
            ):
                live.backup(kept)
            await connection.rollback()
    finally:
        await source.close()
    await check_the_same(database_url, copy)
