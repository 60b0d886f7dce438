"""What must hold after every fault, read from the database and from the clients' ledger."""

import asyncio
import collections
import sqlite3
import statistics
import time
from collections.abc import Iterable
from contextlib import closing
from typing import Any

import psycopg
from sqlalchemy import make_url

from service.verify import verify
from storage.database import Database
from tests.outage.load import Ask, Load

IN_TIME_S = 1.0  # the promise is 0.3 s; a loaded test machine gets more
RECORDED_S = 30.0
NO_ANSWER = 0


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    """The rows of a query, asked of the database itself and not of our server."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(str(parsed.database), timeout=30)) as connection:
            return connection.execute(query).fetchall()
    dsn = parsed.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode()).fetchall()


def check_every_call_got_a_prompt(load: Load, *, unanswered: bool = False) -> None:
    """200 in time, and the same variant every time a unit asked."""
    assert load.asks
    refused = [ask for ask in load.asks if ask.status != 200 and not (unanswered and not ask.status)]
    assert not refused, f"{len(refused)} of {len(load.asks)}: {refused[:3]}; {load.problems[:3]}"
    assert max(ask.seconds for ask in load.asks) < IN_TIME_S, figures(load.asks)
    given: dict[str, set[tuple[str | None, str]]] = collections.defaultdict(set)
    for ask in load.asks:
        if ask.status == 200:
            given[ask.unit_id].add((ask.variant, ask.content_hash))
    assert [unit for unit, answers in given.items() if len(answers) > 1] == []


def check_outcomes_were_acknowledged_or_refused(load: Load, *, unanswered: bool = False) -> None:
    """200, or 503 with Retry-After; nothing rejected, and no value changed by a duplicate."""
    allowed = {200, 503} | ({NO_ANSWER} if unanswered else set())
    assert {told.status for told in load.told} <= allowed, load.problems[:3]
    assert all(told.retry_after for told in load.told if told.status == 503)
    assert set(load.statuses) <= {"accepted", "parked", "unchanged"}, load.problems[:3]


def check_assignments_are_recorded(url: str, load: Load, *, forgotten: bool = False) -> set[str]:
    """Every unit that was served has its row, with the variant that was served; the units that have one.

    Recordings under way at the end of a fault get a few seconds.

    Parameters
    ----------
    forgotten : a killed server may have forgotten assignments; those that an outcome's allocation tells
        are there all the same.
    """
    until = time.monotonic() + RECORDED_S
    while True:
        query = "SELECT a.unit_id, v.key FROM assignments a JOIN variants v ON v.id = a.variant_id"
        assigned = dict(rows(url, f"{query} WHERE a.prompt_id = {_id_of(load)}"))
        served = {ask.unit_id: ask.variant for ask in load.asks if ask.status == 200}
        if forgotten:
            told = {unit for unit, outcome in load.sent.items() if outcome.get("allocation")}
            served = {unit: variant for unit, variant in served.items() if unit in assigned or unit in told}
        if served.keys() <= assigned.keys() or time.monotonic() > until:
            assert {unit: assigned.get(unit) for unit in served} == served
            return set(assigned)
        time.sleep(0.1)


def _id_of(load: Load) -> str:
    return f"(SELECT id FROM prompts WHERE name = '{load.prompt}')"


def check_nothing_is_lost_or_counted_twice(url: str, load: Load, *, forgotten: bool = False) -> None:
    """Assignments are those that were served, outcomes those that were told, counts their sums."""
    assigned = check_assignments_are_recorded(url, load, forgotten=forgotten)
    stored: dict[str, dict[str, float]] = collections.defaultdict(dict)
    for unit, metric, value in rows(
        url, f"SELECT unit_id, metric, value FROM outcomes WHERE prompt_id = {_id_of(load)}"
    ):
        stored[unit][metric] = value
    assert {unit: stored.get(unit) for unit in load.acknowledged} == load.acknowledged
    counted = dict(
        rows(
            url,
            "SELECT c.metric, CAST(SUM(c.n) AS bigint) FROM counts c JOIN experiments e"
            f" ON e.id = c.experiment_id WHERE e.prompt_id = {_id_of(load)} GROUP BY c.metric",
        )
    )
    n = sum(unit in assigned for unit in stored)
    expected = {"assigned": len(assigned), "resolved": n, "duration_s": n}
    assert counted == {metric: number for metric, number in expected.items() if number}
    assert asyncio.run(_differences(url)) == ()


async def _differences(url: str) -> tuple[Any, ...]:
    database = Database(url)
    try:
        async with database.reading() as connection:
            return (await verify(connection)).differences
    finally:
        await database.close()


def figures(asks: Iterable[Ask]) -> dict[str, Any]:
    """p50, p99 and max in ms, and the share that was not recorded at once."""
    found = list(asks)
    if len(found) < 2:
        return {"asks": len(found)}
    ms = [ask.seconds * 1000 for ask in found]
    cuts = statistics.quantiles(ms, n=100, method="inclusive")
    late = sum(ask.reason in ("STALE", "DEFAULT") for ask in found) / len(found)
    return {
        "asks": len(found),
        "p50_ms": round(cuts[49], 1),
        "p99_ms": round(cuts[98], 1),
        "max_ms": round(max(ms), 1),
        "stale_share": round(late, 3),
    }
