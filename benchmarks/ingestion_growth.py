"""Does ingestion slow down as the database fills, or as more experiments run?

Databases with 10^3 to 10^7 stored outcomes are filled by bulk SQL (three outcomes a call, counts equal to
outcomes), then assignments and outcomes come over HTTP as in benchmarks/ingestion.py. After that the same with
few outcomes and 1 to 50 experiments that run at once, one per prompt; the load goes to one of them.

    python -m benchmarks.ingestion_growth [--quick] [--largest 7] [--rounds 5] [--write-docs]
"""

import argparse
import asyncio
import datetime as dt
import json
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial

from benchmarks.filling import UNRIPE_S, begin, fill
from benchmarks.load import (
    ABSENT,
    CONNECTIONS,
    KINDS,
    WARM_UP_S,
    Rate,
    is_installed,
    next_unit,
    put_load,
    seconds,
)
from benchmarks.rivals import QUICK, RESULTS, machine, place, rounded, spread, table, write_into_document
from benchmarks.served import (
    DATABASES,
    POSTGRES,
    environment,
    filled,
    fresh_database,
    ours,
    postgres_or_none,
    serving,
)
from storage.database import Database
from tests.postgres import free_port

EXPERIMENTS = (1, 5, 20, 50)
KINDS_HERE = ("an assignment", "an outcome")
MOST_PER_S = 20_000  # outcomes; so many calls wait for theirs

type Rates = dict[str, list[Rate]]


async def many_outcomes(database: Database, now: dt.datetime, *, outcomes: int, waiting: int) -> None:
    await fill(database, outcomes, waiting=waiting, now=now, maturity_s=UNRIPE_S)


async def many_experiments(database: Database, now: dt.datetime, *, experiments: int, waiting: int) -> None:
    """One with calls that wait for their outcomes, and others beside it."""
    await fill(database, 0, waiting=waiting, now=now, maturity_s=UNRIPE_S)
    for number in range(1, experiments):
        await begin(database, name=f"bench-{number}", now=now, maturity_s=UNRIPE_S)


def measure(kind: str, work: partial[object], rounds: int, first: int) -> Rates:
    """Rates of each kind of request, in turns, on a database of that kind after `work`."""
    with ExitStack() as stack:
        url = stack.enter_context(fresh_database(kind))
        key = asyncio.run(filled(url, work))
        port = free_port()
        served = stack.enter_context(serving(ours(port, 1), port, environment(url)))
        put_load(served, key, KINDS["an assignment"], seconds=WARM_UP_S)
        found: Rates = {name: [] for name in KINDS_HERE}
        for _ in range(rounds):
            for name, rates in found.items():
                rates.append(put_load(served, key, KINDS[name], seconds=seconds(), first=first))
                if name == "an outcome":
                    first = next_unit(rates[-1], KINDS[name], first)
    return found


def by_outcomes(kind: str, largest: int, rounds: int) -> Mapping[str, Rates]:
    waiting = int(MOST_PER_S * seconds() * rounds)
    found = {}
    for power in range(3, largest + 1):
        work = partial(many_outcomes, outcomes=10**power, waiting=waiting)
        found[f"10^{power} outcomes"] = measure(kind, work, rounds, first=10**power // 3)
        _tell(kind, found)
    return found


def by_experiments(kind: str, counts: Sequence[int], rounds: int) -> Mapping[str, Rates]:
    waiting = int(MOST_PER_S * seconds() * rounds)
    found = {}
    for count in counts:
        work = partial(many_experiments, experiments=count, waiting=waiting)
        name = "1 experiment runs" if count == 1 else f"{count} experiments run"
        found[name] = measure(kind, work, rounds, first=0)
        _tell(kind, found)
    return found


def _tell(kind: str, found: Mapping[str, Rates]) -> None:
    name, rates = list(found.items())[-1]
    told = ", ".join(f"{what} {spread([rate.per_s for rate in each])}/s" for what, each in rates.items())
    print(f"{kind}, {name}: {told}; load {os.getloadavg()[0]:.1f}", file=sys.stderr)


def tables(found: Mapping[str, Mapping[str, Rates]]) -> str:
    """One table per database and question."""
    head = ["", *(part for name in KINDS_HERE for part in (f"{name}, requests/s", "p99, ms"))]
    parts = []
    for title, by_name in found.items():
        rows = [[name, *_cells(rates)] for name, rates in by_name.items()]
        parts.append(f"**{title}**, {CONNECTIONS} connections, one worker\n\n{table(head, rows)}")
    return "\n\n".join(parts)


def _cells(rates: Rates) -> list[str]:
    return [
        cell
        for each in rates.values()
        for cell in (
            spread([rate.per_s for rate in each]),
            rounded(statistics.median(rate.p99_ms for rate in each)),
        )
    ]


def run(largest: int, rounds: int, write: bool) -> None:
    where = machine()
    found: dict[str, Mapping[str, Rates]] = {}
    with postgres_or_none():
        kinds = [kind for kind in DATABASES if kind == "SQLite" or POSTGRES in os.environ]
        for kind in kinds:
            found[f"{kind}, by stored outcomes"] = by_outcomes(kind, largest, rounds)
            counts = EXPERIMENTS if QUICK not in os.environ else EXPERIMENTS[:2]
            found[f"{kind}, by running experiments"] = by_experiments(kind, counts, rounds)
    text = f"{tables(found)}\n\n{place(where)} Median (least - most) of {rounds} rounds."
    print(text)
    RESULTS.mkdir(parents=True, exist_ok=True)
    raw = {"machine": where, "figures": found}
    (RESULTS / "ingestion_growth.json").write_text(json.dumps(raw, indent=1, default=lambda rate: rate.per_s))
    if write:
        write_into_document("ingestion_growth", text)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--largest", type=int, default=6, help="power of ten; 7 needs 10 GB and half an hour")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a first look: up to 10^4, one short round")
    parser.add_argument("--write-docs", action="store_true")
    options = parser.parse_args()
    if not is_installed():
        print(ABSENT)
        return
    if options.quick:
        os.environ[QUICK] = "1"
        options.largest, options.rounds = min(options.largest, 4), 1
    run(options.largest, options.rounds, options.write_docs)


if __name__ == "__main__":
    main()
