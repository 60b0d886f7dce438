"""`promptbandit export`."""

import datetime as dt
import sys
from pathlib import Path
from typing import Literal, TextIO

import click
from rich.console import Console
from rich.progress import Progress

from cli.running import clock_of, run_with_database
from service.arrow_calls import FIRST, ArrowFormat
from service.export_calls import calls_csv
from service.export_days import Exported, export_days
from service.find import experiment_of
from storage.calls import count_calls_since
from storage.database import Database


@click.command()
@click.argument("key")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="CSV: a file; default: standard output. Parquet and Arrow: the folder that the folders come into.",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["csv", "parquet", "arrow"]),
    default="csv",
    show_default=True,
    help="Parquet and Arrow need the extra `science`.",
)
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="Only calls from this day (UTC) on.")
@click.option("--again", is_flag=True, help="Write finished days anew, too.")
@click.option("--transcripts", is_flag=True, help="With the redacted transcripts, as JSON.")
def export(
    key: str,
    output: Path | None,
    file_format: Literal["csv", "parquet", "arrow"],
    since: dt.datetime | None,
    again: bool,
    transcripts: bool,
) -> None:
    """Write every call of experiment KEY: unit, segment, variant, probability, outcomes.

    As CSV into one file; as Parquet or Arrow into OUTPUT/experiment=KEY/day=YYYY-MM-DD/part-0.parquet, one
    file a day (UTC) of assignments. A file gets its name when it is whole. Run it again and again: days that
    were over for a day when they were written (or for the experiment's maturity window, if that is longer)
    stand, the others are written anew.

    \b
    Example:
      promptbandit export greeting -o greeting.csv
      promptbandit export greeting --format parquet -o lake
    """
    if file_format == "csv":
        if since or again or transcripts:
            raise click.UsageError("--since, --again and --transcripts go with --format parquet or arrow")
        run_with_database(lambda database: _csv(database, key, output))
        return
    if output is None:
        raise click.UsageError(f"--format {file_format} writes a folder; name it with --output")
    start = since.replace(tzinfo=dt.UTC) if since else FIRST
    done = run_with_database(
        lambda database: _days(
            database, key, output, file_format=file_format, start=start, again=again, with_turns=transcripts
        )
    )
    click.echo(
        f"{done.calls} calls of {len(done.written)} days written to {output}, {len(done.kept)} finished days kept"
    )


async def _csv(database: Database, key: str, output: Path | None) -> None:
    async with database.reading() as connection:
        experiment = await experiment_of(connection, key)
        target: TextIO = output.open("w", encoding="utf-8", newline="") if output else sys.stdout
        try:
            async for text in calls_csv(connection, experiment):
                target.write(text)
        finally:
            if output:
                target.close()


async def _days(
    database: Database,
    key: str,
    folder: Path,
    *,
    file_format: ArrowFormat,
    start: dt.datetime,
    again: bool,
    with_turns: bool,
) -> Exported:
    now = (await clock_of(database))()
    async with database.reading() as connection:
        experiment = await experiment_of(connection, key)
        total = await count_calls_since(connection, experiment, start)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("exporting", total=total)
        return await export_days(
            database,
            experiment,
            folder,
            file_format=file_format,
            start=start,
            now=now,
            again=again,
            with_turns=with_turns,
            tell=lambda calls: progress.advance(task, calls),
        )
