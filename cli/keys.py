"""`promptbandit keys create | list | revoke`."""

import click
from rich.console import Console
from rich.table import Table

from cli.running import clock_of, run_with_database
from domain.keys import SCOPES, ApiKey, Scope
from service.manage_keys import create_key, revoke_key
from storage.database import Database
from storage.keys import list_keys

ACTOR = "command line"


@click.group()
def keys() -> None:
    """Make, list and revoke API keys."""


@keys.command()
@click.option("--scope", required=True, type=click.Choice(SCOPES), help="What the key may do.")
@click.option("--name", default="", help="Who holds it; shown in lists and in the audit.")
def create(scope: Scope, name: str) -> None:
    """Print a new key, alone, on standard output; it is shown only now.

    Example: KEY=$(promptbandit keys create --scope agent --name "phone agent")
    """

    async def work(database: Database) -> str:
        clock = await clock_of(database)
        async with database.writing() as connection:
            return await create_key(connection, scope, name=name, actor=ACTOR, now=clock())

    click.echo(run_with_database(work))


@keys.command(name="list")
def show() -> None:
    """Show the keys; their secrets are not stored.

    Example: promptbandit keys list
    """

    async def work(database: Database) -> list[ApiKey]:
        async with database.reading() as connection:
            return await list_keys(connection)

    table = Table("prefix", "scopes", "name", "created", "last used", "revoked")
    for key in run_with_database(work):
        times = (key.created_at, key.last_used_at, key.revoked_at)
        shown = [at.isoformat(timespec="seconds") if at else "" for at in times]
        table.add_row(key.prefix, ", ".join(key.scopes), key.name, *shown)
    Console().print(table)


@keys.command()
@click.argument("prefix")
def revoke(prefix: str) -> None:
    """Make a key open nothing any more, within 5 seconds on every server.

    Example: promptbandit keys revoke 1f2e3d4c5b6a
    """

    async def work(database: Database) -> None:
        clock = await clock_of(database)
        async with database.writing() as connection:
            await revoke_key(connection, prefix, actor=ACTOR, now=clock())

    run_with_database(work)
    click.echo(f"revoked {prefix}")
