"""`promptbandit report KEY`."""

import json

import click
import msgspec
from rich.console import Console

from cli.report_table import print_report
from cli.running import clock_of, run_with_database
from domain.report import Report
from service.report import report as read_report
from storage.database import Database


@click.command()
@click.argument("key")
@click.option("--json", "as_json", is_flag=True, help="Print the HTTP report as JSON.")
def report(key: str, as_json: bool) -> None:
    """Show what is known about experiment KEY: belief and evidence side by side, and what to do.

    Example: promptbandit report greeting
    """

    async def work(database: Database) -> Report:
        clock = await clock_of(database)
        async with database.reading() as connection:
            return await read_report(connection, key, now=clock())

    found = run_with_database(work)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found), indent=2, ensure_ascii=False))
        return
    print_report(found, Console())
