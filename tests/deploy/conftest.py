"""The databases of the service's tests: migrated once a session and emptied for every test."""

from tests.service.conftest import database_url, migrated_postgres, sqlite_databases

__all__ = ["database_url", "migrated_postgres", "sqlite_databases"]
