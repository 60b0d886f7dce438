"""How many assignments and outcomes a second become durable over HTTP, and what limits them?

Load comes from wrk over 32 connections, on the same machine. Each answer of ours is given after its commit, and
afterwards the rows are counted. Beside it stand

- the same server answering a constant (benchmarks/constant_app.py): what HTTP alone costs,
- pgbench storing the same rows, and one plain row, in a transaction each: what PostgreSQL alone can do,
- a plain FastAPI service with one commit per request (benchmarks/plain_service.py).

    python -m benchmarks.ingestion [--quick] [--rounds 5] [--write-docs]
"""

import asyncio
import datetime as dt
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial

from benchmarks.filling import UNRIPE_S, fill
from benchmarks.load import (
    ABSENT,
    CONNECTIONS,
    KINDS,
    WARM_UP_S,
    Kind,
    Rate,
    is_installed,
    next_unit,
    put_load,
    seconds,
)
from benchmarks.pgbench import STATEMENTS, run_pgbench
from benchmarks.rivals import ROOT, Figures, Question, Rival, main, rounded, spread, table
from benchmarks.served import (
    DATABASES,
    DURABLE,
    environment,
    filled,
    fresh_database,
    other,
    ours,
    postgres_dsn,
    postgres_or_none,
    rows_of,
    serving,
    settle,
)
from storage.database import Database
from tests.postgres import free_port

OURS = "promptbandit"
PGBENCH = "pgbench"
PLAIN_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
PLAIN_KEY = "pb_plain"
WORKERS = (1, 2)
MOST_PER_S = 60_000  # outcomes; so many calls wait for theirs
STORED_IN = {"assignment": "assignments", "outcome": "outcomes"}


def waiting_calls() -> int:
    """As many as all the outcomes that can be told of in one run."""
    return int(MOST_PER_S * 2 * seconds())


def measure_ours(database: str, workers: int) -> Figures:
    with fresh_database(database) as url:
        key = _filled(url, waiting_calls())
        port = free_port()
        with serving(ours(port, workers), port, environment(url)) as served:
            return _each_kind(served, key, stored_at=url)


def measure_constant(workers: int) -> Figures:
    with fresh_database("SQLite") as url:
        key = _filled(url, 1)
        port = free_port()
        command = other(sys.executable, "benchmarks.constant_app:create_app", port, workers)
        with serving(command, port, environment(url)) as served:
            return _each_kind(served, key)


def measure_plain(database: str, workers: int) -> Figures:
    if not PLAIN_PYTHON.exists():
        raise ImportError("no .venv-bench; `make bench-http` makes it")
    with fresh_database(database) as url:
        _fill_plain(url)
        port = free_port()
        command = other(PLAIN_PYTHON, "benchmarks.plain_service:create_app", port, workers)
        with serving(command, port, environment(url, DURABLE | {"PLAIN_KEY": PLAIN_KEY})) as served:
            return _each_kind(served, PLAIN_KEY)


def measure_pgbench() -> Figures:
    with fresh_database("PostgreSQL") as url:
        _filled(url, 1)
        dsn = postgres_dsn(url.rsplit("/", 1)[1])
        return {
            name: asdict(run_pgbench(dsn, statement, seconds=seconds()))
            for name, (statement, _) in STATEMENTS.items()
        }


def _filled(url: str, waiting: int) -> str:
    async def work(database: Database, now: dt.datetime) -> None:
        await fill(database, 0, waiting=waiting, now=now, maturity_s=UNRIPE_S)

    return asyncio.run(filled(url, work))


def _fill_plain(url: str) -> None:
    command = [PLAIN_PYTHON, "-m", "benchmarks.plain_service", url, str(waiting_calls())]
    subprocess.run(command, cwd=ROOT, check=True, env=environment(url), capture_output=True)
    settle(url)


def _each_kind(served: str, key: str, *, stored_at: str | None = None) -> Figures:
    """Every kind of request in turn; `stored_at` is the database whose rows are counted afterwards."""
    put_load(served, key, KINDS["an assignment"], seconds=WARM_UP_S)
    figures: Figures = {}
    first = 0
    for name, kind in KINDS.items():
        before = rows_of(stored_at, STORED_IN[kind.path]) if stored_at else 0
        rate = put_load(served, key, kind, seconds=seconds(), first=first)
        if stored_at:
            _check_stored(name, kind, rate, rows_of(stored_at, STORED_IN[kind.path]) - before)
        if kind.path == "outcome":
            first = next_unit(rate, kind, first)
        figures[name] = asdict(rate)
    if stored_at and first > waiting_calls():
        raise RuntimeError(f"{first} outcomes for {waiting_calls()} calls: raise MOST_PER_S")
    return figures


def _check_stored(name: str, kind: Kind, rate: Rate, stored: int) -> None:
    acknowledged = rate.requests * kind.items
    if stored < acknowledged:
        raise RuntimeError(f"{name}: {acknowledged} rows were acknowledged and {stored} stored")


def tables(rounds: Mapping[str, Sequence[Figures]]) -> str:
    """One table per kind of request."""
    return "\n\n".join(_table(name, rounds) for name in KINDS)


def _table(name: str, rounds: Mapping[str, Sequence[Figures]]) -> str:
    items = KINDS[name].items
    head = ["", "requests/s", *(["outcomes/s"] if items > 1 else []), "p50, ms", "p99, ms", "÷ promptbandit"]
    rows = []
    for rival, found in rounds.items():
        for key in [name, "one plain row"] if rival == PGBENCH and items == 1 else [name]:
            rates = [Rate(**figures[key]) for figures in found]
            per_s = [rate.per_s for rate in rates]
            own = [Rate(**figures[name]).per_s for figures in rounds.get(_ours_beside(rival), [])]
            rows.append(
                [
                    f"{rival}, {key}" if rival == PGBENCH else rival,
                    spread(per_s),
                    *([spread([rate * items for rate in per_s])] if items > 1 else []),
                    rounded(statistics.median(rate.p50_ms for rate in rates)),
                    rounded(statistics.median(rate.p99_ms for rate in rates)),
                    _ratio(per_s, own),
                ]
            )
    return f"**{name}**, {CONNECTIONS} connections\n\n{table(head, rows)}"


def _ratio(per_s: Sequence[float], own: Sequence[float]) -> str:
    """Median over the rounds, each pair from the same round; empty where ours answered nothing."""
    if not own or not all(own):
        return ""
    return f"{statistics.median(a / b for a, b in zip(per_s, own, strict=True)):.3g}"


def _workers(number: int) -> str:
    return f"{number} worker{'s' * (number > 1)}"


def _ours_beside(rival: str) -> str:
    """What a rival is divided by: ours on its database, with as many workers."""
    database = "SQLite" if "SQLite" in rival else "PostgreSQL"
    return f"{OURS}, {database}, {_workers(2 if '2 workers' in rival else 1)}"


def rivals() -> dict[str, Rival]:
    known = ("litestar", "psycopg", "sqlalchemy", "uvicorn")
    found = {}
    for database in DATABASES:
        for workers in WORKERS:
            name = f"{database}, {_workers(workers)}"
            found[f"{OURS}, {name}"] = Rival(partial(measure_ours, database, workers), known)
            found[f"plain FastAPI service, {name}"] = Rival(partial(measure_plain, database, workers), ())
    for workers in WORKERS:
        found[f"a constant, {_workers(workers)}"] = Rival(partial(measure_constant, workers), ())
    found[PGBENCH] = Rival(measure_pgbench, ())
    return found


QUESTION = Question(name="ingestion", rivals=rivals(), tables=tables)

if __name__ == "__main__":
    if is_installed():
        with postgres_or_none():
            main(QUESTION)
    else:
        print(ABSENT)
