"""Does a report cost the same after a thousand outcomes and after a million?

Fills one database per size by bulk SQL (assignments, outcomes and their counts over 20 allocations), then
reads the report of each size in turn, and prints medians and ratios to the smallest size.

    python -m benchmarks.report_cost [--sizes 1000,10000,100000,1000000]
"""

import argparse
import asyncio
import datetime as dt
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import sqlalchemy as sa

from domain.experiments import NewExperiment, NewPolicy, NewVariant
from domain.prompts import NewVersion
from engine.version import ENGINE_VERSION
from migrations import migrate
from service.create_version import create_version
from service.report import report
from service.start_experiment import start_experiment
from service.verify import verify
from storage.allocations import append_allocation
from storage.database import Database
from storage.schema import assignments, counts, outcomes

NOW = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
ALLOCATIONS = 20
CHUNK = 5_000
ROUNDS = 15


async def fill(database: Database, size: int) -> None:
    """An experiment with three variants and `size` resolved calls, one outcome each."""
    await migrate(database)
    async with database.writing() as connection:
        versions = [
            await create_version(connection, NewVersion(name="p", system_prompt=f"v{i}"), actor="bench", now=NOW)
            for i in range(3)
        ]
        new = NewExperiment(
            key="bench",
            prompt="p",
            control="a",
            variants=[NewVariant(key=k, version_id=v.id) for k, v in zip("abc", versions, strict=True)],
            policy=NewPolicy(name="thompson"),
            min_days=0.0,
        )
        experiment = await start_experiment(connection, new, actor="bench", now=NOW)
        split = {"a": 3_334, "b": 3_333, "c": 3_333}
        allocations = [
            await append_allocation(
                connection,
                experiment_id=experiment.id,
                split=split,
                probability_best=None,
                policy="thompson",
                counts={},
                engine_version=ENGINE_VERSION,
                now=NOW,
            )
            for _ in range(ALLOCATIONS)
        ]
    variants = experiment.variants
    for start in range(0, size, CHUNK):
        numbers = range(start, min(start + CHUNK, size))
        async with database.writing() as connection:
            await connection.execute(
                sa.insert(assignments),
                [
                    {
                        "prompt_id": experiment.prompt_id,
                        "unit_id": f"call-{i}",
                        "version_id": variants[i % 3].version_id,
                        "experiment_id": experiment.id,
                        "variant_id": variants[i % 3].id,
                        "allocation_id": allocations[i % ALLOCATIONS].id,
                        "probability": 1 / 3,
                        "reason": "SPLIT",
                        "content_hash": "",
                        "assigned_at": NOW,
                    }
                    for i in numbers
                ],
            )
            await connection.execute(
                sa.insert(outcomes),
                [
                    {
                        "prompt_id": experiment.prompt_id,
                        "unit_id": f"call-{i}",
                        "metric": "resolved",
                        "value": float(i % 5 < 2),
                        "occurred_at": NOW,
                        "received_at": NOW,
                        "revision": 0,
                    }
                    for i in numbers
                ],
            )
    async with database.writing() as connection:
        await connection.execute(sa.insert(counts), _count_rows(experiment.id, variants, allocations, size))
    async with database.reading() as connection:
        found = await verify(connection)
    assert not found.differences, found.differences[0]


def _count_rows(experiment_id, variants, allocations, size):
    totals: dict[tuple[int, int, str], list[float]] = {}
    for i in range(size):
        where = allocations[i % ALLOCATIONS].id, variants[i % 3].id
        value = float(i % 5 < 2)
        for metric, total in (("assigned", 0.0), ("resolved", value)):
            row = totals.setdefault((*where, metric), [0, 0.0])
            row[0] += 1
            row[1] += total
    return [
        {
            "experiment_id": experiment_id,
            "allocation_id": allocation,
            "variant_id": variant,
            "segment": "",
            "metric": metric,
            "n": n,
            "total": total,
            "total_sq": total,
        }
        for (allocation, variant, metric), (n, total) in totals.items()
    ]


async def measure(databases: dict[int, Database]) -> dict[int, float]:
    """Median ms of a report by size; the sizes take turns, so that noise hits all alike."""
    times: dict[int, list[float]] = {size: [] for size in databases}
    for turn in range(ROUNDS + 2):
        for size, database in databases.items():
            async with database.reading() as connection:
                started = time.perf_counter()
                await report(connection, "bench", now=NOW)
                if turn >= 2:  # the first turns warm caches and connections
                    times[size].append((time.perf_counter() - started) * 1_000)
    return {size: statistics.median(values) for size, values in times.items()}


async def run(urls: dict[int, str], name: str) -> None:
    databases = {size: Database(url, statement_timeout_ms=600_000) for size, url in urls.items()}
    for size, database in databases.items():
        await fill(database, size)
    found = await measure(databases)
    smallest = found[min(found)]
    print(f"\n{name}")
    print(f"{'outcomes':>10} {'report, ms':>12} {'ratio':>7}")
    for size, ms in found.items():
        print(f"{size:>10} {ms:>12.1f} {ms / smallest:>7.2f}")
    for database in databases.values():
        await database.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", default="1000,10000,100000,1000000")
    options = parser.parse_args()
    sizes = [int(part) for part in options.sizes.split(",")]
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()}")
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run({size: f"sqlite:///{folder}/{size}.db" for size in sizes}, "SQLite"))
        from tests.postgres import Postgres, PostgresUnavailable

        try:
            server = Postgres(Path(folder))
        except PostgresUnavailable as reason:
            print(f"\nPostgreSQL: not measured, {reason}")
            return
        asyncio.run(run({size: server.create_database(f"bench_{size}") for size in sizes}, "PostgreSQL"))
        server.stop()


if __name__ == "__main__":
    main()
