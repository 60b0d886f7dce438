"""Fixtures: both databases for real, and a real server process."""

import datetime as dt
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest

from storage.database import Database
from tests.postgres import Postgres, PostgresUnavailable
from tests.running_server import RunningServer

DIALECTS = ("sqlite", "postgresql")
NOW = dt.datetime(2026, 11, 22, 12, 0, tzinfo=dt.UTC)

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


def _running_postgres(*settings: str) -> Iterator[Postgres]:
    try:
        server = Postgres(settings=settings)
    except PostgresUnavailable as reason:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no PostgreSQL here: {reason}")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server of this test session's own, on loopback.

    Nobody cuts its power, so it does not wait for the disk; those that are killed do (`own_postgres`).
    """
    yield from _running_postgres("fsync=off")


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Postgres]:
    """A PostgreSQL that the tests of one file may kill or set wrongly."""
    yield from _running_postgres()


@pytest.fixture(params=DIALECTS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'test.db'}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    name = f"test_{uuid.uuid4().hex}"
    yield server.create_database(name)
    server.drop_database(name)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open, migrated database."""
    from migrations import migrate

    opened = Database(database_url)
    await migrate(opened)
    yield opened
    await opened.close()


@pytest.fixture
def server(database_url: str, tmp_path: Path) -> Iterator[RunningServer]:
    """A real server process on an empty database (each of the two), with keys."""
    with RunningServer(database_url, tmp_path) as running:
        yield running


@pytest.fixture
def sqlite_server(tmp_path: Path) -> Iterator[RunningServer]:
    """A real server process on SQLite, for what does not depend on the database."""
    with RunningServer(f"sqlite:///{tmp_path / 'test.db'}", tmp_path) as running:
        yield running
