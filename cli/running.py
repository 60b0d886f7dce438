"""What every command shares: the database from the settings, an event loop, errors as one sentence."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import click

from api.clock import Clock, utc_now
from api.settings import Settings, load_settings
from domain.errors import DomainError
from migrations import migrate_if_empty
from storage.away import is_storage_away
from storage.clock import DatabaseClock
from storage.database import Database

COMMAND_TIMEOUT_MS = 600_000  # verify and export read everything


@contextmanager
def exit_on_errors() -> Iterator[None]:
    """Turn errors that the user can mend into a sentence on standard error and exit code 1."""
    try:
        yield
    except (DomainError, ValueError) as error:
        _fail(str(error))
    except Exception as error:
        if not is_storage_away(error):
            raise
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        _fail(f"the database does not answer ({reason}); check PROMPTBANDIT_DATABASE_URL and that it runs")


def _fail(text: str) -> None:
    click.echo(f"promptbandit: {text}", err=True)
    sys.exit(1)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Database]:
    """The database of the settings, with its tables; closed at the end."""
    database = Database(
        settings.database_url, statement_timeout_ms=COMMAND_TIMEOUT_MS, lock_timeout_ms=COMMAND_TIMEOUT_MS
    )
    try:
        await migrate_if_empty(database)
        yield database
    finally:
        await database.close()


async def clock_of(database: Database) -> Clock:
    """The database's clock: a command on any machine tells the time that the servers tell."""
    clock = DatabaseClock(utc_now)
    async with database.reading() as connection:
        await clock.compare(connection)
    return clock.now


def run_with_database[T](work: Callable[[Database], Coroutine[Any, Any, T]]) -> T:
    """Run `work` on the database of the environment's settings."""

    async def go() -> T:
        async with opened(load_settings()) as database:
            return await work(database)

    return asyncio.run(go())
