"""`promptbandit forget`."""

import datetime as dt
import re

import click

from cli.running import clock_of, run_with_database
from service.forget import Forgotten, forget_before, forget_unit
from storage.database import Database

ACTOR = "command line"
_AGE = re.compile(r"(\d{1,6})([dh])")


class Age(click.ParamType[dt.timedelta]):
    """A number of days or hours: 90d, 36h."""

    name = "AGE"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> dt.timedelta:
        """The time; a usage error for anything else."""
        found = _AGE.fullmatch(value)
        if found is None:
            self.fail(f"{value!r} is no age; write 90d or 36h", param, ctx)
        number, unit = int(found[1]), found[2]
        return dt.timedelta(days=number) if unit == "d" else dt.timedelta(hours=number)


@click.command()
@click.option("--prompt", help="With --unit: the prompt that the call ran with.")
@click.option("--unit", help="The unit_id whose transcript is deleted.")
@click.option(
    "--transcripts-older-than", "age", type=Age(), help="Delete what was stored longer ago, such as 90d."
)
def forget(prompt: str | None, unit: str | None, age: dt.timedelta | None) -> None:
    """Delete transcripts: of one call when its caller asks for it, or all that are older than a time.

    Quotes of them in suggestions, in answers of a model and in runs of the optimizer go as well. The call's version,
    outcomes and counts stay; docs/operations.md says what that means. Both are audited.

    Example: 30 3 * * * promptbandit forget --transcripts-older-than 90d
    """
    if (unit is None) == (age is None) or (prompt is None) != (unit is None):
        raise click.UsageError("give --prompt and --unit, or --transcripts-older-than")

    async def of_unit(database: Database) -> Forgotten:
        clock = await clock_of(database)
        async with database.writing() as connection:
            return await forget_unit(connection, prompt or "", unit or "", actor=ACTOR, now=clock())

    async def of_age(database: Database) -> Forgotten:
        clock = await clock_of(database)
        before = clock() - (age or dt.timedelta())
        total = Forgotten()
        while True:
            async with database.writing() as connection:
                done = await forget_before(connection, before, actor=ACTOR, now=clock())
            total += done
            if not done.transcripts:
                return total

    click.echo(_told(run_with_database(of_unit if age is None else of_age)))


def _told(done: Forgotten) -> str:
    number = done.transcripts
    elsewhere = [
        f"{count} {what}{'' if count == 1 else 's'}"
        for count, what in (
            (done.suggestions, "suggestion"),
            (done.llm_calls, "answer"),
            (done.optimizer_runs, "run"),
        )
        if count
    ]
    quoted = f", with its words in {', '.join(elsewhere)}" if elsewhere else ""
    return f"{number} transcript{'' if number == 1 else 's'} forgotten{quoted}"
