"""`promptbandit optimize`."""

import datetime as dt
import os
import secrets
import sys
from collections.abc import Callable, Sequence

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncConnection

from cli.running import clock_of, run_with_database
from domain.environment import read_settings
from domain.optimizer_settings import OptimizerSettings
from domain.suggestions import NewSuggestion
from domain.text_forms import shown
from optimizer.candidates import Candidate
from optimizer.estimate import Estimate, estimate
from optimizer.plan import MAX_DAYS, Scope
from optimizer.run import Ended, optimize, prompt_id_of
from optimizer.work import Door, Entry, Means
from service.propose import judge, propose
from storage.database import Database
from storage.prompts import list_prompts

ACTOR = "optimizer"
MINUTE_S = 60.0


@click.command("optimize")
@click.option("--prompt", help="One prompt; all that have an active version when it is left out.")
@click.option(
    "--days",
    type=click.IntRange(1, MAX_DAYS),
    default=7,
    show_default=True,
    help="How far back calls are read.",
)
@click.option(
    "--limit", type=click.IntRange(2, 500), default=50, show_default=True, help="Failing calls in the sample."
)
@click.option("--dry-run", is_flag=True, help="Show the sample and the cost; send and store nothing.")
def optimize_command(prompt: str | None, days: int, limit: int, dry_run: bool) -> None:
    """Read failing calls, let a model say what they have in common, and store suggestions for a manager.

    Made for cron, systemd timers or Kubernetes CronJobs: one run a prompt at a time across machines, exit code 0
    when there is nothing to do. A run that was killed is continued, and nothing is paid twice. A suggestion
    changes no call: a manager approves or rejects it.

    Example: promptbandit optimize --prompt support --days 7 --limit 50 --dry-run
    """
    settings = read_settings(OptimizerSettings, os.environ)
    scope = Scope(days=days, limit=limit)
    if dry_run:
        _show_estimates(prompt, settings, scope)
    else:
        _run_all(prompt, settings, scope)


def _run_all(prompt: str | None, settings: OptimizerSettings, scope: Scope) -> None:
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("optimizing", total=None)

        def watch(state: str, done: int, total: int) -> None:
            progress.update(task, description=state, completed=done, total=total or None)

        async def work(database: Database) -> list[Ended]:
            clock = await clock_of(database)
            ended = []
            for name in await _names(database, prompt):
                means = Means(
                    database=database,
                    settings=settings,
                    clock=clock,
                    door=door_of(database, clock),
                    seed=secrets.token_hex(16),
                    lease_s=lease_s(settings),
                    watch=watch,
                )
                ended.append(await optimize(means, name, scope))
            return ended

        found = run_with_database(work)
    for item in found:
        _tell(item)
    sys.exit(1 if any(item.status == "failed" for item in found) else 0)


def door_of(database: Database, clock: Callable[[], dt.datetime]) -> Door:
    """The service's own: it judges each suggestion by the gate and stores it for a manager.

    The gate takes 0.4 s for 75 transcripts; on SQLite calls would wait for it inside of the transaction.
    """

    async def door(candidate: Candidate) -> Entry:
        new = msgspec.convert(msgspec.to_builtins(candidate), NewSuggestion)
        async with database.reading() as connection:
            judged = await judge(connection, new)

        async def enter(connection: AsyncConnection) -> int:
            stored = await propose(connection, new, actor=ACTOR, now=clock(), judged=judged)
            return int(stored.id)

        return enter

    return door


def lease_s(settings: OptimizerSettings) -> float:
    """Longer than the longest question: all its attempts, and the waits between them."""
    attempts = settings.optimizer_max_retries + 1
    return attempts * (settings.optimizer_timeout_s + settings.optimizer_max_retry_wait_s) + MINUTE_S


def _tell(item: Ended) -> None:
    cost = f" ({item.cost_usd:.4f} USD)" if item.run_id is not None else ""
    click.echo(
        f"{item.prompt}: {item.status}: {shown(item.reason, limit=500)}{cost}", err=item.status == "failed"
    )
    for told in item.handed:
        became = (
            f"suggestion {told['suggestion_id']}"
            if told["refusal"] is None
            else f"refused: {shown(told['refusal'], limit=300)}"
        )
        click.echo(f"  {shown(told['title'])}: {became}")
    for found in item.beyond:
        pattern, calls = found["pattern"], found["calls"]
        click.echo(
            f"  no prompt can mend ({pattern['fault']}): {shown(pattern['title'])}: {calls} of the calls read, "
            f"{100 * found['share']:.0f} % of all that failed"
        )


async def _names(database: Database, prompt: str | None) -> Sequence[str]:
    if prompt is not None:
        return [prompt]
    async with database.reading() as connection:
        return [name for _, name, active_id in await list_prompts(connection) if active_id is not None]


def _show_estimates(prompt: str | None, settings: OptimizerSettings, scope: Scope) -> None:
    async def work(database: Database) -> list[tuple[str, Estimate]]:
        now = (await clock_of(database))()
        seen = []
        for name in await _names(database, prompt):
            prompt_id = await prompt_id_of(database, name)
            async with database.reading() as connection:
                seen.append(
                    (
                        name,
                        await estimate(
                            connection,
                            prompt_id,
                            settings=settings,
                            scope=scope,
                            seed=secrets.token_hex(16),
                            now=now,
                        ),
                    )
                )
        return seen

    console = Console()
    for name, found in run_with_database(work):
        _show(console, name, found, settings)


def _show(console: Console, name: str, found: Estimate, settings: OptimizerSettings) -> None:
    would = "would run" if found.trigger.run else "would be skipped"
    console.print(f"{name}: {would}: {found.trigger.reason}", highlight=False, markup=False, soft_wrap=True)
    if found.drawn is None:
        return
    console.print(_strata(found))
    console.print(_requests(found))
    console.print(
        f"about {found.usual_usd:.2f} USD, {found.most_usd:.2f} if every answer is as long as it may be; "
        f"a run may spend {settings.optimizer_max_cost_usd:g}, a month {settings.optimizer_max_month_usd:g}",
        highlight=False,
        soft_wrap=True,
    )


def _strata(found: Estimate) -> Table:
    assert found.drawn is not None
    failing, good = len(found.drawn.failing), len(found.drawn.good)
    table = Table(
        "segment", "variant", "failing", "taken", title=f"{failing} failing calls, {good} good ones"
    )
    for stratum in found.drawn.strata:
        # What a segment or a variant is called comes from outside: no markup, nothing unseen.
        segment = escape(shown(stratum.segment or "(none)"))
        table.add_row(segment, escape(stratum.variant or "(any)"), str(stratum.available), str(stratum.taken))
    return table


def _requests(found: Estimate) -> Table:
    table = Table("stage", "model", "requests", "bytes", "about USD", "at most USD")
    for item in found.stages:
        numbers = [str(item.requests), str(item.bytes), f"{item.usual_usd:.4f}", f"{item.most_usd:.4f}"]
        table.add_row(item.stage, item.model, *numbers)
    return table
