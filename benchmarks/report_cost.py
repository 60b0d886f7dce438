"""Does a report cost the same after a thousand outcomes and after a million?

Fills one database per size by bulk SQL (calls, three outcomes each, their counts over 20 allocations and
10 segments), reads the reports in turn and prints medians, and the part of them that the database takes.
Then the same with the outcomes fixed and more allocations: 2 016 are a week of moves every 5 minutes.

    python -m benchmarks.report_cost [--sizes 1000,10000,100000,1000000] [--allocations 20,200,2000]
"""

import argparse
import asyncio
import datetime as dt
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable

import sqlalchemy as sa

from domain.experiments import Experiment, NewExperiment, NewPolicy, NewVariant
from domain.prompts import NewVersion
from engine.version import ENGINE_VERSION
from migrations import migrate
from service.create_version import create_version
from service.report import report
from service.start_experiment import start_experiment
from service.verify import verify
from storage.allocations import append_allocation
from storage.counts import counts_by
from storage.database import Database
from storage.types import UtcDateTime

NOW = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
ALLOCATIONS = 20
ROUNDS = 21
WARM_UP = 3  # turns that fill caches and connections

NUMBERS = {
    "sqlite": "WITH RECURSIVE numbers(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM numbers WHERE i + 1 < :calls)",
    "postgresql": "WITH numbers(i) AS (SELECT generate_series(0, :calls - 1))",
}
CALLS = """
INSERT INTO assignments (prompt_id, unit_id, version_id, experiment_id, variant_id, allocation_id,
                         probability, segment, reason, content_hash, assigned_at)
{numbers}
SELECT e.prompt_id, 'call-' || i, v.version_id, e.id, v.id, a.id,
       1.0 / 3, 'intent-' || (i % 10), 'SPLIT', '', :now
FROM numbers
JOIN experiments e ON e.id = :experiment
JOIN variants v ON v.experiment_id = e.id AND v.position = i % 3
JOIN allocations a ON a.experiment_id = e.id AND a.number = 1 + (i / 30) % :allocations
"""
OUTCOMES = """
INSERT INTO outcomes (prompt_id, unit_id, metric, value, occurred_at, received_at, revision)
{numbers}
SELECT e.prompt_id, 'call-' || i, '{metric}', {value}, :now, :now, 0
FROM numbers JOIN experiments e ON e.id = :experiment
"""
VALUES = {
    "resolved": "CASE WHEN i * 7 % 10 < 7 THEN 1.0 ELSE 0.0 END",
    "quality": "i % 17 / 16.0",
    "duration_s": "60.0 + i % 240",
}
COUNTS = """
INSERT INTO counts (experiment_id, allocation_id, variant_id, segment, metric, n, total, total_sq)
SELECT a.experiment_id, a.allocation_id, a.variant_id, a.segment, {metric}, COUNT(*), {total}, {total_sq}
FROM assignments a {outcomes}
GROUP BY a.experiment_id, a.allocation_id, a.variant_id, a.segment {by}
"""
JOINED = "JOIN outcomes o ON o.prompt_id = a.prompt_id AND o.unit_id = a.unit_id"


async def begin(database: Database, allocations: int) -> Experiment:
    """A running experiment with three variants and that many allocations."""
    await migrate(database)
    async with database.writing() as connection:
        versions = [
            await create_version(connection, NewVersion(name="p", system_prompt=f"v{i}"), actor="b", now=NOW)
            for i in range(3)
        ]
        new = NewExperiment(
            key="bench",
            prompt="p",
            control="a",
            variants=[NewVariant(key=k, version_id=v.id) for k, v in zip("abc", versions, strict=True)],
            policy=NewPolicy(name="thompson"),
        )
        experiment = await start_experiment(connection, new, actor="b", now=NOW)
        for _ in range(allocations - 1):
            await append_allocation(
                connection,
                experiment_id=experiment.id,
                split={"a": 3_334, "b": 3_333, "c": 3_333},
                probability_best=None,
                policy="thompson",
                counts={},
                engine_version=ENGINE_VERSION,
                now=NOW,
            )
    return experiment


async def fill(database: Database, outcomes: int, allocations: int) -> int:
    """That many stored outcomes and their counts; how many rows of counts there are."""
    experiment = await begin(database, allocations)
    known = {"calls": outcomes // 3, "experiment": experiment.id, "allocations": allocations, "now": NOW}
    numbers = NUMBERS["sqlite" if database.is_sqlite else "postgresql"]
    steps = [CALLS.format(numbers=numbers)]
    steps += [OUTCOMES.format(numbers=numbers, metric=name, value=value) for name, value in VALUES.items()]
    steps.append(COUNTS.format(metric="'assigned'", total="0.0", total_sq="0.0", outcomes="", by=""))
    sums = {"total": "SUM(o.value)", "total_sq": "SUM(o.value * o.value)"}
    steps.append(COUNTS.format(metric="o.metric", outcomes=JOINED, by=", o.metric", **sums))
    for step in steps:
        statement = sa.text(step).bindparams(
            *(
                sa.bindparam(name, value, type_=UtcDateTime() if name == "now" else sa.BigInteger())
                for name, value in known.items()
                if f":{name}" in step
            )
        )
        async with database.writing() as connection:
            await connection.execute(statement)
    async with database.reading() as connection:
        found = await verify(connection)
    assert not found.differences, found.differences[0]
    return found.rows


async def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    await work()  # type: ignore[misc]
    return (time.perf_counter() - started) * 1_000


async def measure(databases: dict[int, Database]) -> dict[int, tuple[float, float]]:
    """Median ms of a report and of its one sum in the database; the databases take turns, so noise hits all."""
    times: dict[int, list[tuple[float, float]]] = {name: [] for name in databases}
    for turn in range(ROUNDS + WARM_UP):
        for name, database in databases.items():
            async with database.reading() as connection:
                sums = await timed(lambda connection=connection: counts_by(connection, 1, ("variant_id",)))
                whole = await timed(lambda connection=connection: report(connection, "bench", now=NOW))
            if turn >= WARM_UP:
                times[name].append((whole, sums))
    return {
        name: (statistics.median(w for w, _ in values), statistics.median(s for _, s in values))
        for name, values in times.items()
    }


async def compare(title: str, urls: dict[int, str], fills: dict[int, tuple[int, int]]) -> None:
    """Fill, measure, print; `fills` has outcomes and allocations per column."""
    databases = {name: Database(url, statement_timeout_ms=3_600_000) for name, url in urls.items()}
    rows = {name: await fill(database, *fills[name]) for name, database in databases.items()}
    found = await measure(databases)
    smallest = found[min(found)][0]
    print(f"\n{title}  (load {os.getloadavg()[0]:.1f})")
    print(f"{'':>10} {'rows of counts':>15} {'report, ms':>11} {'ratio':>6} {'of it the sum, ms':>18}")
    for name, (whole, sums) in found.items():
        print(f"{name:>10} {rows[name]:>15} {whole:>11.1f} {whole / smallest:>6.2f} {sums:>18.2f}")
    for database in databases.values():
        await database.close()


def question(name: str, new_url: Callable[[str], str], sizes: list[int], allocations: list[int]) -> None:
    by_size = {size: new_url(f"size_{size}") for size in sizes}
    asyncio.run(compare(f"{name}: by outcomes", by_size, {size: (size, ALLOCATIONS) for size in sizes}))
    by_moves = {number: new_url(f"moves_{number}") for number in allocations}
    fills = {number: (100_000, number) for number in allocations}
    asyncio.run(compare(f"{name}: 100 000 outcomes, by allocations", by_moves, fills))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", default="1000,10000,100000,1000000")
    parser.add_argument("--allocations", default="20,200,2000")
    options = parser.parse_args()
    sizes = [int(part) for part in options.sizes.split(",")]
    allocations = [int(part) for part in options.allocations.split(",")]
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        question("SQLite", lambda name: f"sqlite:///{folder}/{name}.db", sizes, allocations)
        from tests.postgres import Postgres, PostgresUnavailable

        try:
            server = Postgres()
        except PostgresUnavailable as reason:
            print(f"\nPostgreSQL: not measured, {reason}")
            return
        question("PostgreSQL", server.create_database, sizes, allocations)
        server.stop()


if __name__ == "__main__":
    main()
