"""`promptbandit verify`."""

import re
import sys

import click
from rich.console import Console

from cli.running import clock_of, run_with_database
from service.verify import Verified, note_verified
from service.verify import verify as check
from service.verify_audit import VerifiedAudit, verify_audit
from storage.database import Database


def _hash(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[0-9a-f]{64}", value):
        raise click.BadParameter("is no head of an audit; it has 64 of the digits 0 to 9 and a to f")
    return value


@click.command()
@click.option("--audit-head", callback=_hash, help="A head that was printed before: it must still be there.")
def verify(audit_head: str | None) -> None:
    """Recompute the counts from assignments and outcomes, and follow the audit; exit 1 if anything differs.

    Prints the audit's head (its number of entries and last hash). Keep it elsewhere, and give it to a later
    run as --audit-head: only so is it seen when the newest entries were removed.

    The result is kept, so that dashboards show when the counts were verified last.

    Example: promptbandit verify
    """

    async def work(database: Database) -> tuple[Verified, VerifiedAudit]:
        async with database.reading() as connection:
            found = await check(connection), await verify_audit(connection, kept_head=audit_head)
        now = (await clock_of(database))()
        async with database.writing() as connection:
            await note_verified(connection, found[0], now=now)
        return found

    with Console(stderr=True).status("recomputing counts, following the audit"):
        counts, audit = run_with_database(work)
    problems = [*_count_problems(counts), *_audit_problems(audit)]
    for problem in problems:
        click.echo(problem, err=True)
    sys.exit(1 if problems else 0)


def _count_problems(found: Verified) -> list[str]:
    if not found.differences:
        click.echo(f"counts equal outcomes ({found.rows} rows of counts)")
        return []
    first = found.differences[0]
    return [
        f"{len(found.differences)} of {found.rows} rows of counts differ; the first: "
        f"experiment {first.experiment_id}, allocation {first.allocation_id}, variant {first.variant_id}, "
        f"segment {first.segment!r}, metric {first.metric}: stored {first.stored}, outcomes say {first.recomputed}"
    ]


def _audit_problems(found: VerifiedAudit) -> list[str]:
    if found.problem is not None:
        return [f"the audit is broken after {found.entries} entries: {found.problem}"]
    click.echo(f"audit is as written ({found.entries} entries, head {found.head})")
    if not found.has_kept_head:
        return ["no entry has the hash of --audit-head: entries were removed since, or written anew"]
    return []
