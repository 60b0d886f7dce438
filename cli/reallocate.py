"""`promptbandit reallocate`."""

import click

from cli.running import clock_of, run_with_database
from service.reallocate import Reallocated, ids_to_pass, reallocate_fully
from storage.database import Database


@click.command()
@click.option("--force", is_flag=True, help="Do not wait for the policy's interval.")
def reallocate(force: bool) -> None:
    """One pass over the running experiments: the tests read on, harmful variants are paused, splits move.

    Made for cron, systemd timers or Kubernetes CronJobs: any number may run at once, exit code 0 when
    there is nothing to do. A running server does the same on its own timer.

    Example: */5 * * * * promptbandit reallocate
    """

    async def work(database: Database) -> list[Reallocated]:
        clock = await clock_of(database)
        async with database.reading() as connection:
            ids = await ids_to_pass(connection)
        return [await reallocate_fully(database, item, clock, force=force) for item in ids]

    for item in run_with_database(work):
        split = ", ".join(f"{key} {bp / 100:.1f} %" for key, bp in item.split.items())
        click.echo(f"{item.experiment}: {item.outcome.replace('_', ' ')} ({split})")
