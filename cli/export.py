"""`promptbandit export`."""

import sys
from pathlib import Path
from typing import TextIO

import click

from cli.running import run_with_database
from service.export_calls import calls_csv
from service.find import experiment_of
from storage.database import Database


@click.command()
@click.argument("key")
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="File; default: standard output."
)
def export(key: str, output: Path | None) -> None:
    """Write every call of experiment KEY as CSV: unit, segment, variant, probability, outcomes.

    Example: promptbandit export greeting -o greeting.csv
    """

    async def work(database: Database) -> None:
        async with database.reading() as connection:
            experiment = await experiment_of(connection, key)
            target: TextIO = output.open("w", encoding="utf-8", newline="") if output else sys.stdout
            try:
                async for text in calls_csv(connection, experiment):
                    target.write(text)
            finally:
                if output:
                    target.close()

    run_with_database(work)
