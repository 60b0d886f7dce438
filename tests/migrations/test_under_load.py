"""Migrating while calls come in: a migration that has to wait must not make every call wait behind it."""

import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from migrations import migrate
from migrations.run import downgrade
from storage.database import Database
from tests.postgres import Postgres
from tests.running_server import RunningServer

DEADLINE_S = 60.0
WAITS = (
    "SELECT count(*) FROM pg_locks JOIN pg_class ON pg_class.oid = relation"
    " WHERE relname = 'experiments' AND mode = 'AccessExclusiveLock' AND NOT granted"
)


@pytest.fixture
async def older(postgres: Postgres) -> AsyncIterator[str]:
    """The name of a database at 0001; 0002 drops a column of `experiments`, which every call reads."""
    name = f"older_{time.monotonic_ns()}"
    database = Database(postgres.create_database(name))
    await migrate(database)
    async with database.writing() as connection:
        await connection.run_sync(downgrade, "0001")
    await database.close()
    yield name
    postgres.drop_database(name)


@contextmanager
def migrating(postgres: Postgres, name: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """`promptbandit migrate`, in a process of its own."""
    server = RunningServer(postgres.url(name), folder)
    server.manager.close()
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "migrate"],
        env=server.environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=30)


def wait_until_it_waits(watcher: psycopg.Connection, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not watcher.execute(WAITS).fetchone()[0]:
        assert process.poll() is None, "the migration did not wait for the transaction that uses its table"
        assert time.monotonic() < deadline, "the migration did not get as far as its table"
        time.sleep(0.01)


def test_calls_pass_while_a_migration_waits_for_a_long_transaction(postgres, older, tmp_path):
    """A report that runs for minutes holds `experiments`; each call that comes meanwhile reads it, too."""
    with (
        psycopg.connect(postgres.dsn(older)) as report,
        psycopg.connect(postgres.dsn(older), autocommit=True) as call,
        migrating(postgres, older, tmp_path) as process,
    ):
        report.execute("SELECT count(*) FROM experiments")
        call.execute(f"SET statement_timeout = {int(DEADLINE_S * 1000)}")
        for _ in range(2):  # it gives up, and comes again
            wait_until_it_waits(call, process)
            # Behind a waiting migration this would last as long as the report: for ever.
            call.execute("SELECT count(*) FROM experiments")
        report.commit()
        said, _ = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, said
        assert "database is up to date (was 0001)" in said


async def test_a_migration_that_never_gets_its_lock_ends_with_an_error_and_changes_nothing(postgres, older):
    database = Database(postgres.url(older))
    with psycopg.connect(postgres.dsn(older)) as report:
        report.execute("SELECT planned_look FROM experiments")
        with pytest.raises(Exception, match="lock timeout"):
            await migrate(database, patience_s=0.0)
        report.execute("SELECT planned_look FROM experiments")
    await database.close()
