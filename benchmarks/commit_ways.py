"""How should a row become durable: one commit each, or whatever waits in one?

Clients are tasks of one process that store a row, wait for its commit and store the next. One question, two
databases; the ways stand in benchmarks/ways_to_commit.py. Rows are counted at the end.

    python -m benchmarks.commit_ways [--quick] [--rounds 5] [--write-docs]
"""

import asyncio
import statistics
import time
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import count

import sqlalchemy as sa
import uvloop

from benchmarks.rivals import Figures, Question, Rival, is_quick, main, rounded, spread, table
from benchmarks.served import fresh_database, postgres_or_none, rows_of
from benchmarks.ways_to_commit import CREATE, WAYS, Store

CLIENTS = (1, 16, 64, 256)
SECONDS = 2.0
WARM_UP_S = 0.3


async def put_load(store: Store, clients: int, seconds: float) -> list[float]:
    """Seconds that every row took, from so many clients; each stores one at least."""
    run, until, taken = uuid.uuid4().hex[:8], time.perf_counter() + seconds, []

    async def keep_storing(client: int) -> None:
        started = time.perf_counter()
        for number in count():
            await store((f"{run}-{client}-{number}", "resolved", 1.0))
            ended = time.perf_counter()
            taken.append(ended - started)
            if ended >= until:
                return
            started = ended

    await asyncio.gather(*(keep_storing(client) for client in range(clients)))
    return taken


async def _each_number_of_clients(database: str, way: str, url: str) -> tuple[Figures, int]:
    figures: Figures = {}
    acknowledged = 0
    async with WAYS[database][way](url) as store:
        acknowledged += len(await put_load(store, CLIENTS[-1], WARM_UP_S))
        for clients in CLIENTS:
            started = time.perf_counter()
            taken = await put_load(store, clients, 0.5 if is_quick() else SECONDS)
            per_s = len(taken) / (time.perf_counter() - started)
            figures[str(clients)] = {"per_s": per_s, "p50_ms": statistics.median(taken) * 1_000}
            acknowledged += len(taken)
    return figures, acknowledged


def measure(database: str, way: str) -> Figures:
    with fresh_database(database) as url:
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            connection.exec_driver_sql(CREATE)
        engine.dispose()
        figures, acknowledged = uvloop.run(_each_number_of_clients(database, way, url))
        stored = rows_of(url, "stored")
    if stored != acknowledged:
        raise RuntimeError(f"{acknowledged} rows were acknowledged and {stored} stored")
    return figures


def tables(rounds: Mapping[str, Sequence[Figures]]) -> str:
    """One table per database: rows a second, and the median wait."""
    head = ["rows/s acknowledged, p50", *(f"{clients} client{'s' * (clients > 1)}" for clients in CLIENTS)]
    parts = []
    for database, ways in WAYS.items():
        names = [way for way in ways if f"{database}: {way}" in rounds]
        rows = [
            [way, *(_cell(rounds[f"{database}: {way}"], clients) for clients in CLIENTS)] for way in names
        ]
        if rows:
            parts.append(f"**{database}**\n\n{table(head, rows)}")
    return "\n\n".join(parts)


def _cell(found: Sequence[Figures], clients: int) -> str:
    at = [figures[str(clients)] for figures in found]
    p50_ms = statistics.median(figure["p50_ms"] for figure in at)
    return f"{spread([figure['per_s'] for figure in at])}, {rounded(p50_ms)} ms"


QUESTION = Question(
    name="commit_ways",
    rivals={
        f"{database}: {way}": Rival(partial(measure, database, way), ("aiosqlite", "psycopg", "sqlalchemy"))
        for database, ways in WAYS.items()
        for way in ways
    },
    tables=tables,
)

if __name__ == "__main__":
    with postgres_or_none():
        main(QUESTION)
