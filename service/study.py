"""An experiment of a database as a value for a notebook: the numbers of its report, with nothing served.

from service.study import read_study
found = read_study("sqlite:///promptbandit.db", "greeting")
"""

import asyncio
import datetime as dt
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.allocations import Allocation
from domain.experiments import Experiment
from domain.fields import BASIS_POINTS
from engine.counts import Counts
from engine.findings import Findings
from service.find import experiment_of
from service.known import Known, matured_counts, read_known
from service.planning import days_left
from service.report import conclusion_of
from storage.clock import DatabaseClock
from storage.counts import CountRow
from storage.database import Database

PATIENCE_MS = 600_000  # nobody on the phone waits for a notebook


def read_study(database_url: str, key: str) -> Findings:
    """What is known of an experiment now: the same numbers as its HTTP report.

    Reads only. Works inside and outside of a running event loop, so also in a notebook.

    Parameters
    ----------
    database_url : As in `PROMPTBANDIT_DATABASE_URL`.
    key : Of the experiment.

    Raises
    ------
    ExperimentNotFound
        An unknown key.
    """
    # In a thread of its own: a notebook runs a loop already, and a loop cannot run in a loop.
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(lambda: asyncio.run(_read(database_url, key))).result()


async def _read(database_url: str, key: str) -> Findings:
    database = Database(database_url, statement_timeout_ms=PATIENCE_MS, pool_size=1)
    try:
        _check_file(database)
        clock = DatabaseClock(lambda: dt.datetime.now(dt.UTC))
        async with database.reading() as connection:
            await clock.compare(connection)
        async with database.reading() as connection:
            return await study_of(connection, key, now=clock.now())
    finally:
        await database.close()


def _check_file(database: Database) -> None:
    """SQLite would make an empty database of a name that is written wrong."""
    file = Path(database.url.database or "")
    if database.is_sqlite and not file.exists():
        raise FileNotFoundError(
            f"there is no database {file.resolve()}; give the file that the server writes"
        )


async def study_of(connection: AsyncConnection, key: str, *, now: dt.datetime) -> Findings:
    """The same on an open connection; ExperimentNotFound for an unknown key."""
    experiment = await experiment_of(connection, key)
    known = await read_known(connection, experiment, now=now)
    rows = await matured_counts(connection, experiment, ("allocation_id", "variant_id", "segment"), now=now)
    return await asyncio.to_thread(findings_of_known, known, rows, now=now)


def findings_of_known(known: Known, rows: Sequence[CountRow], *, now: dt.datetime) -> Findings:
    """The report's conclusion, with the counts that its segments are made of."""
    experiment = known.experiment
    return Findings(
        conclusion=conclusion_of(known, now=now),
        observed=known.observed,
        counts=counts_of(experiment, known.allocations, rows),
        days_left=days_left(experiment, now=now),
        ended=experiment.status == "stopped",
    )


def counts_of(experiment: Experiment, allocations: Sequence[Allocation], rows: Sequence[CountRow]) -> Counts:
    """Stored counts as the engine's; allocations by their number."""
    keys = {variant.id: variant.key for variant in experiment.variants}
    numbers = {allocation.id: allocation.number for allocation in allocations}
    told: list[dict[str, Any]] = [
        {
            "variant": keys[row.variant_id],
            "allocation": numbers[row.allocation_id],
            "segment": row.segment,
            "metric": row.metric,
            "n": row.n,
            "total": row.total,
            "total_sq": row.total_sq,
        }
        for row in rows
        if row.variant_id in keys
    ]
    splits = {
        allocation.number: {key: share / BASIS_POINTS for key, share in allocation.split.items()}
        for allocation in allocations
    }
    return Counts.from_rows(told, splits=splits)
