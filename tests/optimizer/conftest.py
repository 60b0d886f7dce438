"""The databases of the service's tests: migrated once a session and emptied for every test."""

from collections.abc import AsyncIterator

import pytest

from storage.database import Database
from tests.service.conftest import EmptyDatabases, database, database_url, migrated_postgres, sqlite_databases

__all__ = ["database", "database_url", "migrated_postgres", "sqlite_databases"]


@pytest.fixture
async def shop(sqlite_databases: EmptyDatabases) -> AsyncIterator[Database]:
    """SQLite alone, for what does not depend on the database."""
    opened = Database(sqlite_databases.sqlite())
    yield opened
    await opened.close()
