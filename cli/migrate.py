"""`promptbandit migrate`."""

import asyncio

import click

from api.settings import load_settings
from cli.running import COMMAND_TIMEOUT_MS
from migrations import migrate as bring_up_to_date
from storage.database import Database


@click.command()
def migrate() -> None:
    """Bring the database's tables up to date; may run any number of times.

    Example: PROMPTBANDIT_DATABASE_URL=postgresql+psycopg://bandit@db/bandit promptbandit migrate
    """

    async def go() -> str | None:
        database = Database(
            load_settings().database_url,
            statement_timeout_ms=COMMAND_TIMEOUT_MS,
            lock_timeout_ms=COMMAND_TIMEOUT_MS,
        )
        try:
            return await bring_up_to_date(database)
        finally:
            await database.close()

    before = asyncio.run(go())
    click.echo(f"database is up to date (was {before or 'empty'})")
