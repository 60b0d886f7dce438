"""`promptbandit verify`."""

import sys

import click
from rich.console import Console

from api.clock import utc_now
from cli.running import run_with_database
from service.verify import Verified, note_verified
from service.verify import verify as check
from storage.database import Database


@click.command()
def verify() -> None:
    """Recompute the counts from assignments and outcomes; exit 1 and name the first difference if any.

    The result is kept, so that dashboards show when the counts were verified last.

    Example: promptbandit verify
    """

    async def work(database: Database) -> Verified:
        async with database.reading() as connection:
            found = await check(connection)
        async with database.writing() as connection:
            await note_verified(connection, found, now=utc_now())
        return found

    with Console(stderr=True).status("recomputing counts"):
        found = run_with_database(work)
    if not found.differences:
        click.echo(f"counts equal outcomes ({found.rows} rows of counts)")
        return
    first = found.differences[0]
    click.echo(
        f"{len(found.differences)} of {found.rows} rows of counts differ; the first: "
        f"experiment {first.experiment_id}, allocation {first.allocation_id}, variant {first.variant_id}, "
        f"segment {first.segment!r}, metric {first.metric}: stored {first.stored}, outcomes say {first.recomputed}",
        err=True,
    )
    sys.exit(1)
