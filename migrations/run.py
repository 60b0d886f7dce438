"""Bring a database to a revision, from an open connection."""

import asyncio
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database import Database

if TYPE_CHECKING:  # loaded when there is something to migrate: a server that starts seldom has to wait for it
    from alembic.config import Config

HERE = Path(__file__).resolve().parent
# Two processes that start together must not both create the tables.
MIGRATION_LOCK = 0x50424D4947
# ALTER TABLE waits for every transaction that uses the table, and all calls wait behind it. So it waits for
# a moment only, then lets the calls pass and tries again.
LOCK_MS = 500
PAUSE_S = 1.0
PATIENCE_S = 600.0
_LOCK_NOT_AVAILABLE = "55P03"


def config_for(connection: Connection) -> "Config":
    """Alembic's configuration for one open connection; there is no ini file."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(HERE).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run the missing migrations; none is missing when nothing has to be done."""
    from alembic import command

    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {LOCK_MS}")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
    command.upgrade(config_for(connection), revision)


def downgrade(connection: Connection, revision: str) -> None:
    """Take migrations back, for tests and for a rollback that loses data knowingly."""
    from alembic import command

    command.downgrade(config_for(connection), revision)


async def current_revision(connection: AsyncConnection) -> str | None:
    """The revision of the database; None for an empty one."""
    return await connection.run_sync(_revision)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


async def migrate(database: Database, *, patience_s: float = PATIENCE_S) -> str | None:
    """Bring the database up to date in one transaction; returns the revision it had before.

    Parameters
    ----------
    patience_s : how long it is tried anew while other transactions hold the tables.
    """
    until = time.monotonic() + patience_s
    while True:
        try:
            async with database.writing() as connection:
                before = await current_revision(connection)
                await connection.run_sync(upgrade)
            return before
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE or time.monotonic() > until:
                raise
        await asyncio.sleep(PAUSE_S * random.uniform(0.5, 1.5))


async def migrate_if_empty(database: Database) -> str | None:
    """Create the tables of an empty database; an older schema is left to `promptbandit migrate`.

    Returns the revision it had before: None for an empty one.
    """
    async with database.reading() as connection:
        revision = await current_revision(connection)
    return await migrate(database) if revision is None else revision
