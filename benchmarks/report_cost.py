"""Does a report cost the same after a thousand outcomes and after a million?

Fills one database per size by bulk SQL (calls, three outcomes each, their counts over 20 allocations and
10 segments), reads the reports in turn and prints medians, and the part of them that the database takes.
Then the same with the outcomes fixed and more allocations: 2 016 are a week of moves every 5 minutes.

    python -m benchmarks.report_cost [--sizes 1000,10000,100000,1000000] [--allocations 20,200,2000]
"""

import argparse
import asyncio
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable

from benchmarks.filling import NOW, PROMPT, fill
from service.report import report
from storage.counts import counts_by
from storage.database import Database

ALLOCATIONS = 20
ROUNDS = 21
WARM_UP = 3  # turns that fill caches and connections


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
                whole = await timed(lambda connection=connection: report(connection, PROMPT, now=NOW))
            if turn >= WARM_UP:
                times[name].append((whole, sums))
    return {
        name: (statistics.median(w for w, _ in values), statistics.median(s for _, s in values))
        for name, values in times.items()
    }


async def compare(title: str, urls: dict[int, str], fills: dict[int, tuple[int, int]]) -> None:
    """Fill, measure, print; `fills` has outcomes and allocations per column."""
    databases = {name: Database(url, statement_timeout_ms=3_600_000) for name, url in urls.items()}
    rows = {}
    for name, database in databases.items():
        outcomes, allocations = fills[name]
        rows[name] = await fill(database, outcomes, allocations=allocations)
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
